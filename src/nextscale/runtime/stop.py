"""Signals that ask long work to stop: Ctrl-C (SIGINT), SIGTERM of batch systems, SIGHUP of a closed terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from nextscale.runtime.interrupt import INTERRUPTED, raise_interrupt
from nextscale.runtime.progress import is_terminal, say

SIGNALS = {signal.SIGINT: "Ctrl-C", signal.SIGTERM: "SIGTERM"} | (
    {signal.SIGHUP: "SIGHUP"} if hasattr(signal, "SIGHUP") else {}  # not on Windows
)
"""The signals, and their names in messages."""
SAME_PRESS_SECONDS = 0.1
"""SIGINTs that arrive within this time count as one. A process and a child may both report the same Ctrl-C."""
TORCHRUN_SECONDS = 3.0
"""The same under torchrun, which sends a SIGINT in addition to that of the terminal."""


class StopRequest:
    """Signals received so far."""

    asked = False
    """Whether any of the signals has arrived."""
    interrupted_at: float | None = None
    """Time of the first Ctrl-C."""

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C has arrived."""
        return self.interrupted_at is not None


@contextmanager
def stop_on_signals(note: str = "") -> Iterator[StopRequest]:
    """Context manager in which the first signal sets a flag instead of ending the process.

    A second Ctrl-C ends a ``nextscale`` command at once, even during a long computation; otherwise it raises
    KeyboardInterrupt. More signals of other kinds have no effect. Signals that the process ignored before are still
    ignored. No effect outside the main thread.

    Args:
        note: what happens now, printed at the first signal: ``saving a checkpoint after this step``. Empty prints
            nothing.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    earlier = {number: signal.getsignal(number) or signal.SIG_DFL for number in SIGNALS}
    handled = [number for number, handler in earlier.items() if handler is not signal.SIG_IGN]
    is_command = earlier[signal.SIGINT] is raise_interrupt

    def handle(number: int, frame: FrameType | None) -> None:
        request.asked = True
        if number == signal.SIGINT:
            first, now = request.interrupted_at, time.monotonic()
            if first is None:
                request.interrupted_at = now
            elif not is_command and now - first > same_press():
                raise KeyboardInterrupt

    # Python calls handlers between two operations of the main thread only; the other thread reacts at once.
    received, sent = socket.socketpair()
    sent.setblocking(False)
    watcher = threading.Thread(target=watch, args=(received, handled, note, is_command), daemon=True)
    for number in handled:
        signal.signal(number, handle)
    earlier_wakeup = signal.set_wakeup_fd(sent.fileno(), warn_on_full_buffer=False)
    watcher.start()
    try:
        yield request
    finally:
        signal.set_wakeup_fd(earlier_wakeup)
        for number in handled:
            signal.signal(number, earlier[number])
        sent.shutdown(socket.SHUT_WR)  # close is not enough: processes that load data have a copy
        watcher.join()
        sent.close()
        received.close()


def watch(received: socket.socket, handled: list[signal.Signals], note: str, is_command: bool) -> None:
    """Print the note for the first signal, and end a command at the second Ctrl-C. ``received`` gets their numbers."""
    asked, interrupted_at = False, None
    while numbers := received.recv(64):
        for number in numbers:
            if number not in handled:
                continue
            now, is_interrupt = time.monotonic(), number == signal.SIGINT
            if is_interrupt and is_command and interrupted_at is not None and now - interrupted_at > same_press():
                tell(note and f"{below_echo()}Ctrl-C again: stopped at once, without saving")
                os._exit(INTERRUPTED)
            if not asked or (is_interrupt and interrupted_at is None):
                again = "; press Ctrl-C again to stop at once, without saving" if is_interrupt else ""
                line = f"{SIGNALS[signal.Signals(number)]}: {note}{again}"
                tell(note and (below_echo() if is_interrupt else "") + line)
            asked = True
            if is_interrupt and interrupted_at is None:
                interrupted_at = now


def tell(text: str) -> None:
    """Print a line, if it is not empty and the terminal still exists."""
    with contextlib.suppress(OSError, ValueError):
        if text:
            say(text)


def below_echo() -> str:
    """Return the start of a message after Ctrl-C: a terminal has written ^C to the current line."""
    return "\n" if is_terminal() else ""


def same_press() -> float:
    """Return the time in seconds within which several SIGINTs count as one."""
    return TORCHRUN_SECONDS if "TORCHELASTIC_RUN_ID" in os.environ else SAME_PRESS_SECONDS


@contextmanager
def resumable(note: str) -> Iterator[None]:
    """Context manager that prints on Ctrl-C what is kept and how to go on. An empty note prints nothing."""
    try:
        yield
    except KeyboardInterrupt:
        tell(note and f"{below_echo()}stopped: {note}")
        raise
