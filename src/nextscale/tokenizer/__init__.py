"""The image tokenizer: images to token pyramids and back."""
