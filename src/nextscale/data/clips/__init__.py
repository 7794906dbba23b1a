"""Clips: generated videos with captions, composed of emoji sprites that move in front of backgrounds."""
