"""Scale schedules: the sizes of the token maps."""
