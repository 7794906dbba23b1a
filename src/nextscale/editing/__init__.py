"""An edit of an image: its description, its masks and its plan."""
