"""What an image is generated from: class labels or prompts."""
