"""What goes wrong: the one exception for what a user can mend, and how messages say it."""


class InputError(ValueError):
    """Bad input, said in one sentence that names what came and what was expected.

    The command line prints it and leaves with exit code 2; library callers may catch it as a ``ValueError``.
    """


def brief(value: object, most: int = 100) -> str:
    """A value as a message shows it, a text in quotes, cut after ``most`` characters: files of strangers say a lot."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python or PyTorch could not allocate, on a GPU or on the CPU."""
    kinds = ("MemoryError", "OutOfMemoryError")
    return type(error).__name__ in kinds or "can't allocate memory" in str(error)
