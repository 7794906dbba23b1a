"""Scenes composed of emoji sprites, rendered on demand, with exact captions."""
