"""The transformer: token pyramids to logits."""
