"""Files, configurations, weights and checkpoints on disk."""
