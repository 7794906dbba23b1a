"""The name of clips as a data set: ``clips:PATH``, with the path of the sprites."""

CLIPS = "clips:"


def is_clips(data: str) -> bool:
    """Return whether the name of a data set is that of clips."""
    return data.startswith(CLIPS)
