"""What an image is generated from: class labels, and later prompts."""
