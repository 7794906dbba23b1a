"""Images -> real or reconstructed."""
