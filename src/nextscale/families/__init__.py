"""Model families as data, and the names and paths that models load from."""
