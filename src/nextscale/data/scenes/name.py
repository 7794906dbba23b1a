"""The name of scenes as a data set: ``scenes:PATH``, with the path of the sprites."""

SCENES = "scenes:"


def is_scenes(data: str) -> bool:
    """Return whether the name of a data set is that of scenes."""
    return data.startswith(SCENES)
