"""Images as tensors and files, and distances between images."""
