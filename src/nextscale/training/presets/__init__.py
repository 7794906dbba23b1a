"""Named recipes, as data."""
