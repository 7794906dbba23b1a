"""The engine generates the images of many requests, with several requests per batch.

Waiting requests with equal settings share a batch. Each image has its own seed, so it does not depend on the batch.

On a CPU, several workers each process a batch. Two batches in parallel on one core each are faster than two batches in
sequence on two cores, because most steps are too small to parallelise. A single batch uses all cores.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from nextscale.errors import InputError, is_out_of_memory
from nextscale.pipeline import Pipeline
from nextscale.runtime.allocator import trim
from nextscale.runtime.device import use_cores
from nextscale.runtime.out_of_memory import in_halves
from nextscale.sampling.sampler import SampleResult, ScaleStep, blocks_of
from nextscale.sampling.settings import SamplingSettings, per_scale
from nextscale.scales.schedule import ScaleSchedule
from nextscale.web.batches import Part, halve, join_edits, may_share, parts_of, size_of, with_rows
from nextscale.web.errors import naming
from nextscale.web.limits import Limits
from nextscale.web.request_id import Arrival
from nextscale.web.tickets import Busy, Closed, Done, Failed, Job, Scale, Ticket

log = logging.getLogger(__name__)

MOST_WORKERS = 4
"""Maximum number of workers on a CPU, because each batch needs memory. With more cores, each worker uses several."""

NEW_SEEDS = 2**31
TRIM_SECONDS = 10.0

LAST_CHECK_SECONDS = 5.0
"""Seconds that a closed engine waits for its workers, which check between two scales whether their requests failed."""


@dataclass(frozen=True)
class BatchReport:
    """Measurements of a finished batch."""

    images: int
    waited: tuple[float, ...]
    """Seconds from the arrival of each request in the batch to its start."""
    seconds: float
    """Seconds of sampling and decoding."""


def count_workers(device: torch.device) -> int:
    """Return the number of batches to process at once."""
    return min(torch.get_num_threads(), MOST_WORKERS) if device.type == "cpu" else 1


class Engine:
    """Generate images for many requests at the same time.

    Args:
        pipeline: the model. Only the engine may use it.
        name: name of the model.
        on_batch: called in a thread of the engine after each batch.
        workers: number of batches in parallel; None chooses it for the device.
        seed: seed for the seeds of requests that have none, in the order of their arrival; None chooses them randomly.
        text: the values of ``--text-encoder`` and ``--text-dtype`` in commands, ``text_encoder`` and ``text_dtype``,
            if they are not the model's own.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        name: str,
        limits: Limits | None = None,
        on_batch: Callable[[BatchReport], None] = lambda report: None,
        workers: int | None = None,
        seed: int | None = None,
        text: Mapping[str, str] | None = None,
    ):
        self.pipeline, self.name, self.limits, self.on_batch = pipeline, name, limits or Limits(), on_batch
        self.text = dict(text or {})
        pipeline.tell = lambda note: None  # prompts do not belong in the log; see `notes_of`
        self._seeds = random.Random(seed)
        self._trimmed = time.monotonic()
        self._queue: deque[Part] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._running: list[Sequence[Part]] = []
        self._seconds_per_image = 0.0
        self._cores = torch.get_num_threads()
        if not pipeline.offload:
            pipeline.ready()  # before several threads use it
        pipeline.requests.load()
        self._workers = [
            threading.Thread(target=self._run, name=f"nextscale-engine-{i}", daemon=True)
            for i in range(workers or (1 if pipeline.offload else count_workers(pipeline.device)))
        ]
        for worker in self._workers:
            worker.start()

    def submit(self, job: Job, arrival: Arrival | None = None) -> Ticket:
        """Queue a request.

        Args:
            arrival: the HTTP request that the job comes from; its time limit begins at the arrival.

        Raises:
            InputError: the request has too many images, or settings or edit do not fit the model.
            Busy: the queue is full.
            Closed: the engine accepts no more requests.
        """
        count, limits, schedule = len(job.seeds), self.limits, self.schedule_of(job)
        self.check_count(count)
        self.check_settings(job.settings, schedule)
        if job.edit is not None:
            self.pipeline.tokenizer.check_tokens(job.edit.tokens, schedule)
            job.edit.check(schedule, count)
        arrival, job = arrival or Arrival(), replace(job, schedule=schedule)
        ticket = Ticket(job, limits.seconds, begun=arrival.at, request_id=arrival.request_id)
        with self._changed:
            if self._closed:
                raise Closed("the server is shutting down and accepts no more requests")
            waiting = self.waiting
            if waiting + count > limits.queue_images:
                raise Busy(
                    f"the queue is full: {waiting} of at most {limits.queue_images} images are waiting, "
                    f"this request adds {count}",
                    retry_after=waiting * self._seconds_per_image,
                )
            self._queue.extend(parts_of(ticket, self.most_images(job)))
            self._changed.notify_all()
        return ticket

    def new_seed(self) -> int:
        """Return a seed for the first image of a request without a seed."""
        return self._seeds.randrange(NEW_SEEDS)

    def check_count(self, count: int) -> None:
        """Raise InputError if a request has too many images."""
        most = min(self.limits.request_images, self.limits.queue_images)
        if count > most:
            raise InputError(f"a request may have at most {most} images, not {count}")

    def check_settings(self, settings: SamplingSettings, schedule: ScaleSchedule) -> None:
        """Raise FieldError if settings are for another number of scales or blocks than the model has."""
        for name in ("cfg", "temperature"):
            with naming(name):
                per_scale(getattr(settings, name), schedule.num_scales, name)
        with naming("guidance_blocks"):
            blocks_of(settings.guidance_blocks, self.pipeline.model)

    def schedule_of(self, job: Job) -> ScaleSchedule:
        """Return the scales of the images of a job."""
        tokenizer = self.pipeline.tokenizer
        return job.schedule or job.shape.schedule(tokenizer.schedule, tokenizer.config.image_size)

    def most_images(self, job: Job) -> int:
        """Return the largest number of images in a batch of jobs like this one: fewer than ``batch_images`` if they
        have more tokens than the model's own scales, so that the batch needs no more memory."""
        own, tokens = self.pipeline.tokenizer.schedule.num_tokens, self.schedule_of(job).num_tokens
        return max(1, min(self.limits.batch_images, self.limits.batch_images * own // tokens))

    def notes_of(self, job: Job) -> list[str]:
        """Return sentences about what the model cannot follow in a job, such as words that it does not know."""
        return list(self.pipeline.requests.notes(job.wanted, vars(job.text)))

    @property
    def waiting(self) -> int:
        """Number of images in the queue."""
        with self._changed:
            self._queue = deque(part for part in self._queue if part.ticket.waits())
            return sum(map(len, self._queue))

    @property
    def is_ready(self) -> bool:
        """Whether the engine accepts requests."""
        return not self._closed and all(worker.is_alive() for worker in self._workers)

    def close(self, drain_seconds: float | None = None) -> None:
        """Accept no more requests, finish accepted requests within the drain time, and fail the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._join(self.limits.drain_seconds if drain_seconds is None else drain_seconds)
        with self._changed:
            for part in (*self._queue, *(part for parts in self._running for part in parts)):
                part.ticket.fail(Closed("the server shut down before this request was finished"))
        self._join(LAST_CHECK_SECONDS)
        if self.pipeline.device.type == "cpu":
            use_cores(self._cores)  # MKL has one setting for the whole process

    def _join(self, seconds: float) -> None:
        """Wait at most ``seconds`` until all workers have ended."""
        end = time.monotonic() + seconds
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))

    # ---- the workers ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while parts := self._next_batch():
            try:
                in_halves(self._attempt, parts, size_of(parts), halve)
            finally:
                with self._changed:
                    self._running.remove(parts)
            self._trim()

    def _trim(self) -> None:
        """Return unused memory to the system from time to time, so that a rare large batch does not keep it."""
        if time.monotonic() - self._trimmed > TRIM_SECONDS:
            self._trimmed = time.monotonic()
            trim()

    def _next_batch(self) -> Sequence[Part]:
        """Wait for the first request in the queue, and return it with others that may share its batch. Return no parts
        if the engine is closed and the queue is empty.

        A batch is limited to 1 / workers of all images in the queue or in progress.
        """
        with self._changed:
            while not (waiting := self.waiting):
                if self._closed:
                    return ()
                self._changed.wait()
            running = sum(len(part) for parts in self._running for part in parts)
            share = math.ceil((waiting + running) / len(self._workers))
            first, count = self._queue[0], 0
            room = max(len(first), min(share, self.most_images(first.ticket.job)))
            chosen: list[Part] = []
            for part in self._queue:
                if may_share(first.ticket.job, part.ticket.job) and count + len(part) <= room:
                    chosen.append(part)
                    count += len(part)
            self._queue = deque(part for part in self._queue if part not in chosen)
            self._running.append(chosen)
            return chosen

    def _attempt(self, parts: Sequence[Part]) -> None:
        """Process a batch. Errors fail its requests, unless a smaller batch may fit into memory."""
        try:
            self._sample(parts)
        except Exception as error:
            if is_out_of_memory(error) and size_of(parts) > 1:
                raise
            self._fail(parts, error)

    def _sample(self, parts: Sequence[Part]) -> None:
        """Generate a batch. Stops between two scales when all its requests have been cancelled."""
        begun = time.monotonic()
        self._take_cores()
        first = parts[0].ticket.job
        run = self.pipeline.scales(
            [wanted for part in parts for wanted in part.wanted],
            seed=[seed for part in parts for seed in part.seeds],
            settings=first.settings,
            edit=join_edits(parts),
            schedule=first.schedule,
            **vars(first.text),
        )
        for step in run:
            if not any(part.ticket.waits() for part in parts):
                return
            self._take_cores()
            if step.is_last:
                self._deliver(parts, step, run.result(), begun)
                return
            for part, rows in with_rows(parts):
                if part.ticket.job.watch and part.ticket.waits():
                    image = replace(step, canvas=step.canvas[rows]).image().cpu()
                    part.ticket.show(Scale(step.index, step.size, image, part.start))

    def _take_cores(self) -> None:
        """Share the cores evenly with the other batches in progress."""
        if self.pipeline.device.type == "cpu":
            use_cores(max(1, self._cores // len(self._running)))

    def _deliver(self, parts: Sequence[Part], step: ScaleStep, result: SampleResult, begun: float) -> None:
        """Deliver the images of a finished batch to its requests."""
        images, seconds = result.images.cpu(), time.monotonic() - begun
        self._seconds_per_image = seconds / len(images) / len(self._running)
        self.on_batch(BatchReport(len(images), tuple(begun - part.ticket.begun for part in parts), seconds))
        for part, rows in with_rows(parts):
            if part.ticket.job.watch:
                part.ticket.show(Scale(step.index, step.size, images[rows], part.start))
            part.ticket.deliver(part.start, Done(images[rows], [t[rows].cpu() for t in result.tokens]))

    def _fail(self, parts: Sequence[Part], error: Exception) -> None:
        """Fail the requests of a batch."""
        if not isinstance(error, InputError):
            named = ", ".join(sorted({part.ticket.request_id for part in parts} - {""}))
            log.error("a batch of %d images failed", size_of(parts), exc_info=error, extra={"request_id": named})
        for part in parts:
            sentence = f"sampling failed ({type(error).__name__}); see the server's log"
            part.ticket.fail(InputError(str(error)) if isinstance(error, InputError) else Failed(sentence))
