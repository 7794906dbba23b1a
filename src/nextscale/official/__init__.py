"""Official checkpoints to our models and back."""
