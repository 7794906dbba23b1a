"""Metrics of images: similarity to real images, and copies of training images."""
