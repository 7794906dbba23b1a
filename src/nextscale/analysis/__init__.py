"""Floating-point operations of a model, and the contents of an image's token pyramid."""
