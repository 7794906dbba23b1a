"""Drawing on a GPU as one CUDA graph: all sizes are known beforehand, so that a batch is a single launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.sampling.rng import RandomStreams
from nextscale.sampling.sampler import (
    Labels,
    SampleResult,
    SamplingSettings,
    ScaleStep,
    check_last,
    check_match,
    count_images,
    generate_scales,
    last_step,
    resolve_labels,
)
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.var import VAR

Result = TypeVar("Result")

WARM_UPS = 3
"""Before a graph is recorded: libraries choose their kernels then, and compiled parts are compiled."""


def capture(run: Callable[[], Result], generators: Sequence[torch.Generator]) -> Callable[[], Result]:
    """Record what ``run`` has the current GPU do. What is returned does it again, with the result in the same place.

    Args:
        generators: the sources of all randomness. Each repetition goes on from the state that they then have.

    Raises:
        InputError: they are not of a CUDA GPU.
    """
    for generator in generators:
        if generator.device.type != "cuda":
            raise InputError(f"a CUDA graph needs a CUDA GPU, not {generator.device}")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    for generator in generators:
        graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        result = run()

    def repeat() -> Result:
        graph.replay()
        return result

    return repeat


class SamplingGraph:
    """`sample` for batches of one size with one set of settings, recorded once; with the same seed it draws the same.

    Args:
        tokenizer, model: on the current GPU, made ready (`Pipeline.ready`), and compiled or not.
        batch: B.
        each: whether each image gets a seed of its own, as ``seed`` says in `sample`.

    Raises:
        InputError: not on a GPU, or a tokenizer and a transformer that do not fit together.
    """

    def __init__(
        self,
        tokenizer: ImageTokenizer,
        model: VAR,
        batch: int,
        settings: SamplingSettings = SamplingSettings(),  # noqa: B008 (frozen)
        each: bool = False,
    ):
        check_match(tokenizer, model)
        self.batch = batch
        self._classes = model.config.num_classes
        self._labels = torch.zeros(batch, dtype=torch.int64, device=model.device)
        self._streams = streams = RandomStreams([0] * batch if each else 0, batch, model.device)

        @torch.no_grad()
        def run() -> tuple[ScaleStep, list[Tensor], Tensor]:
            step, tokens = last_step(generate_scales(tokenizer, model, self._labels, settings, streams))
            return step, tokens, step.image()

        self._repeat = capture(run, streams.generators)

    def __call__(self, labels: Labels = None, seed: int | Sequence[int] = 0) -> SampleResult:
        """Draw B images.

        Args:
            labels: as in `sample`; None and "unconditional" are for all B.

        Raises:
            InputError: labels or seeds of another number than recorded, or logits that are not finite.
        """
        streams = RandomStreams(seed, self.batch, self._labels.device)
        if len(streams.generators) != len(self._streams.generators):
            kind = "one seed for each image" if len(self._streams.generators) > 1 else "one seed for all images"
            raise InputError(f"this graph was recorded with {kind}, and cannot take {len(streams.generators)}")
        count_images(labels, self.batch)
        self._labels.copy_(resolve_labels(labels, self._classes, streams))
        for mine, its in zip(self._streams.generators, streams.generators, strict=True):
            mine.set_state(its.get_state())
        step, tokens, images = self._repeat()
        check_last(step)
        return SampleResult(images.clone(), [t.clone() for t in tokens], self._labels.clone())
