"""The one exception for what a user can mend: a wrong argument, file, or setting."""


class InputError(ValueError):
    """Bad input, said in one sentence that names what came and what was expected.

    The command line prints it and leaves with exit code 2; library callers may catch it as a ``ValueError``.
    """
