"""The engine: draws what many ask for, several requests at once.

Requests that wait at the same time and have equal settings are drawn in one batch. Every image has its own seed, and
so it is the same whatever it shares a batch with.

On a CPU several workers draw, each a batch of its own. Two batches with one core each are sooner ready than one after
the other with two: most steps are too small to be shared out. A batch that is alone has all cores.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nextscale.errors import InputError, is_out_of_memory
from nextscale.pipeline import Pipeline
from nextscale.runtime.allocator import trim
from nextscale.runtime.device import use_cores
from nextscale.sampling.sampler import ScaleStep
from nextscale.sampling.token_edit import TokenEdit
from nextscale.web.limits import Limits
from nextscale.web.tickets import Busy, Closed, Done, Failed, Scale, Ticket, Work

log = logging.getLogger(__name__)

MOST_WORKERS = 4
"""On CPUs with many cores, of which each worker then takes several: each batch at work needs memory of its own."""

NEW_SEEDS = 2**31
TIDY_SECONDS = 10.0

LAST_WORD_SECONDS = 5.0
"""How long a closed engine may take to notice, between two scales, that nobody wants its images any more."""


@dataclass(frozen=True)
class Part:
    """Images ``start`` to ``stop`` of a request, which fit into one batch."""

    ticket: Ticket
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def labels(self) -> tuple[int, ...]:
        return self.ticket.work.labels[self.start : self.stop]

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.ticket.work.seeds[self.start : self.stop]


@dataclass(frozen=True)
class BatchReport:
    """What became of a batch, for those who measure."""

    images: int
    waited: tuple[float, ...]
    """Seconds from a request's arrival to the batch, one for each request in it."""
    seconds: float
    """Drawing and decoding."""


def count_workers(device: torch.device) -> int:
    """How many batches are best drawn at once."""
    return min(torch.get_num_threads(), MOST_WORKERS) if device.type == "cpu" else 1


class Engine:
    """Draws for many at once.

    Args:
        pipeline: the model; nobody else draws with it.
        name: of the model, for those who ask.
        on_batch: called when a batch is decoded, in one of the engine's threads.
        workers: batches that are drawn at once; None for what suits the device.
        seed: of the seeds that requests without one get, in the order in which they come; None is chance.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        limits: Limits | None = None,
        on_batch: Callable[[BatchReport], None] = lambda report: None,
        workers: int | None = None,
        seed: int | None = None,
    ):
        self.pipeline, self.name, self.limits, self.on_batch = pipeline, name, limits or Limits(), on_batch
        self._seeds = random.Random(seed)
        self._tidied = time.monotonic()
        self._queue: deque[Part] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._at_work: list[Sequence[Part]] = []
        self._seconds_per_image = 0.0
        self._cores = torch.get_num_threads()
        pipeline.ready()  # before several threads ask for it
        self._workers = [
            threading.Thread(target=self._run, name=f"nextscale-engine-{i}", daemon=True)
            for i in range(workers or count_workers(pipeline.device))
        ]
        for worker in self._workers:
            worker.start()

    def submit(self, work: Work) -> Ticket:
        """Queue a request.

        Raises:
            InputError: more images than a request may have, or an edit that does not fit.
            Busy: the queue is full.
            Closed: the engine takes no more.
        """
        count, limits = len(work.labels), self.limits
        self.check_count(count)
        if work.edit is not None:
            self.pipeline.tokenizer.check_tokens(work.edit.tokens)
            work.edit.check(self.pipeline.tokenizer.schedule, count)
        ticket = Ticket(work, limits.seconds)
        parts = [Part(ticket, i, min(i + limits.batch_images, count)) for i in range(0, count, limits.batch_images)]
        with self._changed:
            if self._closed:
                raise Closed("the server is shutting down and takes no more requests")
            waiting = self.waiting
            if waiting + count > limits.queue_images:
                raise Busy(
                    f"the queue is full: {waiting} of at most {limits.queue_images} images wait, {count} more came",
                    retry_after=waiting * self._seconds_per_image,
                )
            self._queue.extend(parts)
            self._changed.notify_all()
        return ticket

    def new_seed(self) -> int:
        """For the first image of a request that brings none."""
        return self._seeds.randrange(NEW_SEEDS)

    def check_count(self, count: int) -> None:
        """Raises InputError for more images than a request may have."""
        most = min(self.limits.request_images, self.limits.queue_images)
        if count > most:
            raise InputError(f"a request may have at most {most} images, not {count}")

    @property
    def waiting(self) -> int:
        """Images that wait."""
        with self._changed:
            self._queue = deque(part for part in self._queue if part.ticket.waits())
            return sum(map(len, self._queue))

    @property
    def is_ready(self) -> bool:
        """Whether it takes requests."""
        return not self._closed and all(worker.is_alive() for worker in self._workers)

    def close(self, drain_seconds: float | None = None) -> None:
        """Take no more, finish what waits within the drain time, refuse the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._join(self.limits.drain_seconds if drain_seconds is None else drain_seconds)
        with self._changed:
            for part in (*self._queue, *(part for parts in self._at_work for part in parts)):
                part.ticket.fail(Closed("the server shut down before it came to this request's images"))
        self._join(LAST_WORD_SECONDS)
        if self.pipeline.device.type == "cpu":
            use_cores(self._cores)  # MKL has one number for the whole process

    def _join(self, seconds: float) -> None:
        """Wait until all workers have ended, so long at most."""
        end = time.monotonic() + seconds
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))

    # ---- the workers ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while parts := self._next_batch():
            try:
                self._draw(parts)
            finally:
                with self._changed:
                    self._at_work.remove(parts)
            self._tidy()

    def _tidy(self) -> None:
        """Give memory back now and then, so that a rare large batch does not stay in use for ever."""
        if time.monotonic() - self._tidied > TIDY_SECONDS:
            self._tidied = time.monotonic()
            trim()

    def _next_batch(self) -> Sequence[Part]:
        """The first request that waits, and those that go with it; none once the engine is closed and nobody waits.

        It is no more than a worker's even share of all that waits or is at work.
        """
        with self._changed:
            while not (waiting := self.waiting):
                if self._closed:
                    return ()
                self._changed.wait()
            at_work = sum(len(part) for parts in self._at_work for part in parts)
            share = math.ceil((waiting + at_work) / len(self._workers))
            first, count = self._queue[0], 0
            room = max(len(first), min(share, self.limits.batch_images))
            chosen: list[Part] = []
            for part in self._queue:
                if goes_with(first.ticket.work, part.ticket.work) and count + len(part) <= room:
                    chosen.append(part)
                    count += len(part)
            self._queue = deque(part for part in self._queue if part not in chosen)
            self._at_work.append(chosen)
            return chosen

    def _draw(self, parts: Sequence[Part]) -> None:
        """Draw a batch, in halves where memory does not suffice. What goes wrong is said to those who asked."""
        try:
            self._attempt(parts)
            return
        except Exception as error:
            if not is_out_of_memory(error) or sum(map(len, parts)) == 1:
                self._fail(parts, error)
                return
        torch.cuda.empty_cache()
        for half in halves(parts):
            self._draw(half)

    def _attempt(self, parts: Sequence[Part]) -> None:
        """Draw a batch; stops between two scales when nobody wants it any more."""
        begun = time.monotonic()
        self._take_cores()
        run = self.pipeline.scales(
            [label for part in parts for label in part.labels],
            seed=[seed for part in parts for seed in part.seeds],
            settings=parts[0].ticket.work.settings,
            edit=join_edits(parts),
        )
        for step in run:
            if not any(part.ticket.waits() for part in parts):
                return
            self._take_cores()
            if step.is_last:
                self._deliver(parts, step, run.tokens, run.result().images.cpu(), begun)
                return
            for part, rows in with_rows(parts):
                if part.ticket.work.watch and part.ticket.waits():
                    image = replace(step, canvas=step.canvas[rows]).image().cpu()
                    part.ticket.show(Scale(step.index, step.size, image, part.start))

    def _take_cores(self) -> None:
        """Share the cores with the batches that are at work just now."""
        if self.pipeline.device.type == "cpu":
            use_cores(max(1, self._cores // len(self._at_work)))

    def _deliver(
        self, parts: Sequence[Part], step: ScaleStep, tokens: list[Tensor], images: Tensor, begun: float
    ) -> None:
        """Hand out a finished batch."""
        seconds = time.monotonic() - begun
        self._seconds_per_image = seconds / len(images) / len(self._at_work)
        self.on_batch(BatchReport(len(images), tuple(begun - part.ticket.begun for part in parts), seconds))
        for part, rows in with_rows(parts):
            if part.ticket.work.watch:
                part.ticket.show(Scale(step.index, step.size, images[rows], part.start))
            part.ticket.deliver(part.start, Done(images[rows], [t[rows].cpu() for t in tokens], part.labels))

    def _fail(self, parts: Sequence[Part], error: Exception) -> None:
        """Say to those who asked that there will be no images."""
        if not isinstance(error, InputError):
            log.error("a batch of %d images failed", sum(map(len, parts)), exc_info=error)
        for part in parts:
            sentence = f"drawing failed ({type(error).__name__}); the server's log says more"
            part.ticket.fail(InputError(str(error)) if isinstance(error, InputError) else Failed(sentence))


def with_rows(parts: Sequence[Part]) -> Iterator[tuple[Part, slice]]:
    """Each part of a batch, and where in the batch its images are."""
    row = 0
    for part in parts:
        yield part, slice(row, row + len(part))
        row += len(part)


def goes_with(work: Work, other: Work) -> bool:
    """Whether two requests may be drawn in one batch."""
    if work.settings != other.settings:
        return False
    if work.edit is None or other.edit is None:
        return work.edit is other.edit
    return rules(work.edit) == rules(other.edit)


def rules(edit: TokenEdit) -> dict[str, Any]:
    """What of an edit is one for all images of a batch: all but tokens and mask."""
    return {name: value for name, value in vars(edit).items() if name not in ("tokens", "keep")}


def join_edits(parts: Sequence[Part]) -> TokenEdit | None:
    """One edit for all images of a batch."""
    edits = [(part, part.ticket.work.edit) for part in parts if part.ticket.work.edit is not None]
    if not edits:
        return None
    rows = [(edit, range(part.start, part.stop)) for part, edit in edits]
    tokens = [
        torch.cat([pick(edit.tokens[k], chosen) for edit, chosen in rows]) for k in range(len(edits[0][1].tokens))
    ]
    keep = torch.cat([pick(edit.keep.reshape(-1, *edit.keep.shape[-2:]), chosen) for edit, chosen in rows])
    return replace(edits[0][1], tokens=tokens, keep=keep)


def pick(rows: Tensor, chosen: range) -> Tensor:
    """Some rows of (B, ...); those of (1, ...) are the same for all."""
    return rows[chosen.start : chosen.stop] if len(rows) > 1 else rows.expand(len(chosen), *rows.shape[1:])


def halves(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """A batch of at least two images as two batches."""
    left = sum(map(len, parts)) // 2
    first: list[Part] = []
    second: list[Part] = []
    for part in parts:
        middle = part.start + min(left, len(part))
        first += [replace(part, stop=middle)] if middle > part.start else []
        second += [replace(part, start=middle)] if middle < part.stop else []
        left -= middle - part.start
    return first, second
