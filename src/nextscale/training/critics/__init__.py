"""Pictures -> real or reconstructed."""
