"""Image <-> token pyramid."""
