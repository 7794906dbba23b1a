"""Ctrl-C in a ``nextscale`` command: the process ends with exit code 130 and without a traceback.

A command needs this module before all others, so it imports nothing that takes time.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 + SIGINT, as in shells."""
IMPORT_SYSTEM = "<frozen importlib._bootstrap>"
"""The file name of Python's import system in a frame."""

_raised = False


def end_on_interrupt() -> None:
    """End the process at once on Ctrl-C. Call this in the main thread before anything slow is imported.

    Extension modules such as NumPy turn a KeyboardInterrupt during their import into other errors, or abort. A process
    that was started with SIGINT ignored, such as a background job of a script, still ignores it.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    block(False)  # a process that was restarted inherits the block


def leave(*_: object) -> None:
    """Signal handler: end the process at once, without cleanup."""
    os._exit(INTERRUPTED)


def raise_interrupt(number: int, frame: FrameType | None) -> None:
    """Signal handler: raise KeyboardInterrupt. The second time, or during an import, end the process at once."""
    global _raised
    if _raised:
        leave()
    while frame is not None:
        if frame.f_code.co_filename == IMPORT_SYSTEM:
            leave()
        frame = frame.f_back
    _raised = True
    raise KeyboardInterrupt


def was_raised() -> bool:
    """Return whether `raise_interrupt` has raised KeyboardInterrupt."""
    return _raised


class Interruptible:
    """Context manager in which Ctrl-C raises KeyboardInterrupt, in a process that called `end_on_interrupt`."""

    def __enter__(self) -> None:
        if signal.getsignal(signal.SIGINT) is leave:
            signal.signal(signal.SIGINT, raise_interrupt)

    def __exit__(self, *_: object) -> None:
        if signal.getsignal(signal.SIGINT) is raise_interrupt:
            signal.signal(signal.SIGINT, leave)


class InterruptBlocked:
    """Context manager in which Ctrl-C waits until the end of the block. A process started by exec inherits this."""

    def __enter__(self) -> None:
        block(True)

    def __exit__(self, *_: object) -> None:
        block(False)


def block(blocked: bool) -> None:
    """Block or unblock SIGINT. Windows has no such setting, and nothing happens."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK, [signal.SIGINT])
