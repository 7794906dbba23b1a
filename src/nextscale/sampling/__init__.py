"""Logits -> images."""
