"""What is to be drawn, and the ticket that its images come with: scale by scale, for threads and for coroutines."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from nextscale.errors import InputError
from nextscale.imaging.images import to_pil
from nextscale.sampling.settings import SamplingSettings
from nextscale.sampling.token_edit import TokenEdit

LARGEST_SEED = 2**53 - 1
"""JavaScript has no larger integers."""


class Refused(Exception):
    """A request that gets no images; the sentence says why."""

    status = 500


class Busy(Refused):
    """The queue is full."""

    status = 429

    def __init__(self, sentence: str, retry_after: float):
        super().__init__(sentence)
        self.retry_after = max(1, math.ceil(retry_after))
        """Seconds until it may be worth another try."""


class Closed(Refused):
    """The engine takes no more, or was closed before it came to this request."""

    status = 503


class Expired(Refused):
    """The time limit has passed."""

    status = 504


class Cancelled(Refused):
    """Whoever asked has gone."""

    status = 499


class Failed(Refused):
    """Drawing went wrong."""


@dataclass(frozen=True)
class Work:
    """Images to draw: one for each label and seed."""

    labels: tuple[int, ...]
    """Classes, where the number of classes means "no class"."""
    seeds: tuple[int, ...]
    settings: SamplingSettings
    edit: TokenEdit | None = None
    watch: bool = False
    """Whether the images so far are wanted after each scale."""

    def __post_init__(self) -> None:
        if len(self.labels) != len(self.seeds) or not self.labels:
            raise InputError(
                f"expected a label and a seed for each image, not {len(self.labels)} and {len(self.seeds)}"
            )
        for seed in self.seeds:
            if not 0 <= seed <= LARGEST_SEED:
                raise InputError(f"a seed is from 0 to {LARGEST_SEED} (2^53 - 1), for each image, not {str(seed)[:40]}")


@dataclass(frozen=True)
class Scale:
    """Images as they stand after a scale."""

    index: int
    """k."""
    size: tuple[int, int]
    """(h_k, w_k)."""
    images: Tensor = field(repr=False)
    """(b, 3, H, W) in [0, 1]."""
    first: int = 0
    """Which image of the request is the first of these: more than 0 where a request takes several batches."""

    @property
    def pil_images(self) -> list[Image.Image]:
        return to_pil(self.images)


@dataclass(frozen=True)
class Done:
    """All images of a request."""

    images: Tensor = field(repr=False)
    """(B, 3, H, W) in [0, 1]."""
    tokens: list[Tensor] = field(repr=False)
    """K LongTensors (B, n_k): the tokens that were drawn."""
    labels: tuple[int, ...]

    @property
    def pil_images(self) -> list[Image.Image]:
        return to_pil(self.images)


class Ticket:
    """Where the images of a `Work` arrive. One reader each.

    Args:
        seconds: until the time limit.
        clock: seconds since some moment.
    """

    def __init__(self, work: Work, seconds: float, clock: Callable[[], float] = time.monotonic):
        self.work, self.seconds, self.clock = work, seconds, clock
        self.begun = clock()
        self._changed = threading.Condition()
        self._events: deque[Scale] = deque()
        self._parts: dict[int, Done] = {}
        self._outcome: Done | Exception | None = None
        self._wake: Callable[[], None] = lambda: None

    # ---- the reader's side ---------------------------------------------------------------------------------------

    def events(self) -> Iterator[Scale | Done]:
        """A `Scale` after each scale if the work is watched, then `Done`.

        Raises:
            Refused: no images; the sentence says why.
            InputError: the work is not one for this model.
        """
        while True:
            with self._changed:
                while not self._events and self.waits():
                    self._changed.wait(max(0.0, self.left()))
                event = self._events.popleft() if self._events else self._final()
            yield event
            if isinstance(event, Done):
                return

    async def aevents(self) -> AsyncIterator[Scale | Done]:
        """`events` for coroutines. One that is cancelled, or closed early, cancels the work."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(changed.set)

        with self._changed:
            self._wake = wake
        try:
            while True:
                changed.clear()
                with self._changed:
                    ready = bool(self._events) or not self.waits()
                    event = (self._events.popleft() if self._events else self._final()) if ready else None
                if event is None:
                    try:
                        await asyncio.wait_for(changed.wait(), max(0.0, self.left()))
                    except (TimeoutError, asyncio.TimeoutError):
                        continue
                else:
                    yield event
                    if isinstance(event, Done):
                        return
        finally:
            self.cancel()

    def result(self) -> Done:
        """Wait for the images; raises as `events`."""
        *_, last = self.events()
        assert isinstance(last, Done)
        return last

    async def aresult(self) -> Done:
        """`result` for coroutines."""
        last = [event async for event in self.aevents()][-1]
        assert isinstance(last, Done)
        return last

    def cancel(self) -> None:
        """Nobody wants the images any more. Without effect once they are there."""
        self.fail(Cancelled("the request was cancelled"))

    # ---- the engine's side ---------------------------------------------------------------------------------------

    def left(self) -> float:
        """Seconds until the time limit."""
        return self.begun + self.seconds - self.clock()

    def waits(self) -> bool:
        """Whether images are still wanted; once the time limit has passed, they are not."""
        if self._outcome is None and self.left() <= 0:
            self.fail(Expired(f"the time limit of {self.seconds:g} s has passed before the images were drawn"))
        return self._outcome is None

    def show(self, scale: Scale) -> None:
        with self._changed:
            if self._outcome is None:
                self._events.append(scale)
                self._notify()

    def deliver(self, first: int, part: Done) -> None:
        """Images number ``first`` and up. The work is done when all have come."""
        with self._changed:
            if self._outcome is not None:
                return
            self._parts[first] = part
            if sum(len(p.labels) for p in self._parts.values()) < len(self.work.labels):
                return
            parts = [self._parts[i] for i in sorted(self._parts)]
            tokens = [torch.cat(maps) for maps in zip(*(p.tokens for p in parts), strict=True)]
            self._outcome = Done(torch.cat([p.images for p in parts]), tokens, self.work.labels)
            self._notify()

    def fail(self, error: Exception) -> None:
        """No images; without effect once they are there, or once it has failed."""
        with self._changed:
            if self._outcome is None:
                self._outcome = error
                self._events.clear()
                self._notify()

    def _final(self) -> Done:
        if isinstance(self._outcome, Done):
            return self._outcome
        assert self._outcome is not None
        raise self._outcome

    def _notify(self) -> None:
        self._changed.notify_all()
        self._wake()
