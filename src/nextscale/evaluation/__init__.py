"""Metrics of images: how close they are to real images, and how many are copies of training images."""
