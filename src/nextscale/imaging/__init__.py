"""Images as tensors and files, and how far two images are apart."""
