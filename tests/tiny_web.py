"""A tiny model for the server, whose sampling can be paused and made to fail."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

import nextscale as ns
from nextscale.pipeline import PipelineResult
from nextscale.sampling.run import SamplingRun
from nextscale.sampling.settings import FOR_IMAGES
from nextscale.web.server import Server
from nextscale.web.tickets import Job

CLASSES = ("Ankle boot", "dress", "hat", "shirt", "shoes")
SETTINGS = FOR_IMAGES


@dataclass
class Served:
    """A server in a thread."""

    address: str
    server: Server

    @property
    def place(self) -> tuple[str, int]:
        host, port = self.address.removeprefix("http://").split(":")
        return host, int(port)


class HeldPipeline(ns.Pipeline):
    """A pipeline that records its batches, and samples a scale only while ``go`` is set."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.batches: list[list[int]] = []
        self.scales_sampled = 0
        self.trouble: Callable[[list[int]], Exception | None] = lambda seeds: None

    def scales(self, labels: Any = None, **arguments: Any) -> SamplingRun:
        seeds = list(arguments["seed"])
        self.batches.append(seeds)
        self.begun.set()
        assert self.go.wait(20)
        if (error := self.trouble(seeds)) is not None:
            raise error
        run = super().scales(labels, **arguments)
        run._steps = self._held(run._steps)
        return run

    def _held(self, steps: Iterator[Any]) -> Iterator[Any]:
        for step in steps:
            assert self.go.wait(20)
            self.scales_sampled += 1
            yield step


def job(*seeds: int, label: int = 2, **changes: Any) -> Job:
    """An image of one class for each seed."""
    return replace(Job((label,) * len(seeds), seeds, SETTINGS), **changes)


def occupy(engine, pipeline):
    """A request that is being sampled, so that others wait."""
    ticket = engine.submit(job(99, label=0))
    assert pipeline.begun.wait(10)
    return ticket


def alone(pipeline: ns.Pipeline, label: int, seed: int, **changes: Any) -> PipelineResult:
    """What a pipeline generates without an engine."""
    plain = ns.Pipeline(pipeline.tokenizer, pipeline.model, pipeline.class_names)
    return plain([label], seed=[seed], **{**vars(SETTINGS), **changes})


def pixels(images: Sequence[Image.Image]) -> list[bytes]:
    return [image.tobytes() for image in images]


def png(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An image as a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
