"""Token pyramid -> logits."""
