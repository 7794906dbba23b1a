"""Critics: networks that classify images as real or reconstructed."""
