"""Logits -> pictures."""
