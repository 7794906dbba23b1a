"""What a model costs, and what is inside an image's pyramid."""
