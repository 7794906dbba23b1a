"""Jobs for the engine, and the tickets that deliver their images, scale by scale, to threads or coroutines."""

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

from nextscale.conditioning.prompts import PLAIN, TextOptions
from nextscale.errors import InputError
from nextscale.imaging.images import to_pil
from nextscale.sampling.settings import SamplingSettings
from nextscale.sampling.token_edit import TokenEdit
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape
from nextscale.scales.schedule import ScaleSchedule
from nextscale.web.dataclass_fields import LARGEST_INTEGER

LARGEST_SEED = LARGEST_INTEGER


class Refused(Exception):
    """A request was rejected or stopped, for the reason in the message."""

    status = 500


class Busy(Refused):
    """The queue is full."""

    status = 429

    def __init__(self, sentence: str, retry_after: float):
        super().__init__(sentence)
        self.retry_after = max(1, math.ceil(retry_after))
        """Seconds until another attempt may succeed."""


class Closed(Refused):
    """The engine accepts no more requests, or was closed before this one was finished."""

    status = 503


class Expired(Refused):
    """The time limit has passed."""

    status = 504


class Cancelled(Refused):
    """The client has disconnected, or the request was cancelled."""

    status = 499


class Failed(Refused):
    """An error occurred during sampling."""


@dataclass(frozen=True)
class Job:
    """Images to generate, one per entry of ``wanted`` and seed."""

    wanted: tuple[int | str, ...]
    """What each image shows: class labels, where the number of classes means "no class"; or prompts, for models of
    text."""
    seeds: tuple[int, ...]
    settings: SamplingSettings
    edit: TokenEdit | None = None
    watch: bool = False
    """Deliver the images after each scale as well."""
    text: TextOptions = PLAIN
    """For text-to-image models."""
    shape: ImageShape = ANY_SHAPE
    """The shape of the images as the request states it, for their provenance."""
    schedule: ScaleSchedule | None = None
    """The scales of the images. None means those of ``shape``."""

    def __post_init__(self) -> None:
        if len(self.wanted) != len(self.seeds) or not self.wanted:
            raise InputError(
                f"expected one label or prompt and one seed per image, not {len(self.wanted)} and {len(self.seeds)}"
            )
        for seed in self.seeds:
            if not 0 <= seed <= LARGEST_SEED:
                raise InputError(
                    f"a seed must be from 0 to {LARGEST_SEED} (2^53 - 1) for every image, not {str(seed)[:40]}"
                )


@dataclass(frozen=True)
class Scale:
    """Images after a scale."""

    index: int
    """Index of the scale."""
    size: tuple[int, int]
    """(h, w) of the scale in tokens."""
    images: Tensor = field(repr=False)
    """(b, 3, H, W) in [0, 1]."""
    first: int = 0
    """Position of the first of these images in the request. It may be above 0 if a request takes several batches."""

    @property
    def pil_images(self) -> list[Image.Image]:
        return to_pil(self.images)


@dataclass(frozen=True)
class Done:
    """All images of a job."""

    images: Tensor = field(repr=False)
    """(B, 3, H, W) in [0, 1]."""
    tokens: list[Tensor] = field(repr=False)
    """K token maps: the sampled tokens, (B, n_k) int64 or bits (B, n_k, D) bool."""

    @property
    def pil_images(self) -> list[Image.Image]:
        return to_pil(self.images)


class Ticket:
    """Delivers the images of a `Job` to one reader.

    Args:
        seconds: the time limit.
        clock: returns the current time in seconds.
        begun: start of the time limit, of the same clock; None means now.
        request_id: id of the HTTP request, for logs.
    """

    def __init__(
        self,
        job: Job,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
        begun: float | None = None,
        request_id: str = "",
    ):
        self.job, self.seconds, self.clock, self.request_id = job, seconds, clock, request_id
        self.begun = clock() if begun is None else begun
        self._changed = threading.Condition()
        self._events: deque[Scale] = deque()
        self._parts: dict[int, Done] = {}
        self._outcome: Done | Exception | None = None
        self._wake: Callable[[], None] = lambda: None

    # ---- the reader's side ---------------------------------------------------------------------------------------

    def events(self) -> Iterator[Scale | Done]:
        """Yield a `Scale` after each scale if the job is watched, then `Done`.

        Raises:
            Refused: the request was rejected or stopped.
            InputError: the job does not fit the model.
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
        """Version of `events` for coroutines. Cancelling or closing the iterator cancels the job."""
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
        """Wait for the images. Raises the errors of `events`."""
        *_, last = self.events()
        assert isinstance(last, Done)
        return last

    async def aresult(self) -> Done:
        """Version of `result` for coroutines."""
        last = [event async for event in self.aevents()][-1]
        assert isinstance(last, Done)
        return last

    def cancel(self) -> None:
        """Cancel the job. No effect once it is finished."""
        self.fail(Cancelled("the request was cancelled"))

    # ---- the engine's side ---------------------------------------------------------------------------------------

    def left(self) -> float:
        """Return the seconds until the time limit."""
        return self.begun + self.seconds - self.clock()

    def waits(self) -> bool:
        """Return whether the reader is still waiting. After the time limit, fail the job and return False."""
        if self._outcome is None and self.left() <= 0:
            self.fail(Expired(f"the time limit of {self.seconds:g} s has passed before the images were finished"))
        return self._outcome is None

    def show(self, scale: Scale) -> None:
        with self._changed:
            if self._outcome is None:
                self._events.append(scale)
                self._notify()

    def deliver(self, first: int, part: Done) -> None:
        """Deliver images, starting at position ``first``. The job is finished when all images are delivered."""
        with self._changed:
            if self._outcome is not None:
                return
            self._parts[first] = part
            if sum(len(p.images) for p in self._parts.values()) < len(self.job.seeds):
                return
            parts = [self._parts[i] for i in sorted(self._parts)]
            tokens = [torch.cat(maps) for maps in zip(*(p.tokens for p in parts), strict=True)]
            self._outcome = Done(torch.cat([p.images for p in parts]), tokens)
            self._notify()

    def fail(self, error: Exception) -> None:
        """Fail the job. No effect once it is finished or has failed."""
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
