"""The exception for bad input, and helpers for its messages."""


class InputError(ValueError):
    """Bad input. The message is one sentence that names the value and what was expected.

    The command line prints it and exits with code 2. It is a ``ValueError``.
    """


class NotEnoughMemory(InputError):
    """What was asked for needs more memory than there is. Fewer images at once may fit."""


def brief(value: object, most: int = 100) -> str:
    """Return the repr of a value for a message, cut after ``most`` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write out very long integers
        text = f"a {type(value).__name__} that is too long to write"
    return text if len(text) <= most else f"{text[:most]}..."


def is_out_of_memory(error: Exception) -> bool:
    """Return whether Python or PyTorch ran out of memory, on a GPU or on the CPU, or would have."""
    kinds = ("MemoryError", "OutOfMemoryError", NotEnoughMemory.__name__)
    return type(error).__name__ in kinds or "can't allocate memory" in str(error)
