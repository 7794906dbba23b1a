"""Logs -> images: how a training run went, and whether that is normal."""
