"""Image editing: the description of an edit, its mask, and its plan."""
