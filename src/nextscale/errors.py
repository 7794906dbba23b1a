"""What goes wrong: the one exception for what a user can mend, and how to tell a lack of memory."""


class InputError(ValueError):
    """Bad input, said in one sentence that names what came and what was expected.

    The command line prints it and leaves with exit code 2; library callers may catch it as a ``ValueError``.
    """


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python or PyTorch could not allocate, on a GPU or on the CPU."""
    kinds = ("MemoryError", "OutOfMemoryError")
    return type(error).__name__ in kinds or "can't allocate memory" in str(error)
