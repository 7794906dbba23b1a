"""Faster and smaller versions of models with the same results."""
