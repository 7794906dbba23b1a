"""Parameters and floating-point operations of models, counted on the meta device, where nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from nextscale.conditioning.text import TextFeatures, WordIds
from nextscale.protocols import Schedule
from nextscale.scales.schedule import Visit
from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.infinity_config import InfinityConfig
from nextscale.transformer.var import VAR, VARConfig

PROMPT_TOKENS = 32
"""Length of the prompt that costs refer to. A sentence of 20 words has about 30 tokens."""


@dataclass(frozen=True)
class ModelCost:
    """GFLOP of one image, and parameters in millions.

    A multiply-add of a matrix product or convolution counts as 2; other operations do not count.
    """

    tokenizer_parameters: float
    transformer_parameters: float
    encoder: float
    decoder: float
    """As defined. When sampling it takes about a tenth less: see `nextscale.acceleration.upsample`."""
    condition: float
    """AdaLN and, for text-to-image models, their own text encoder, the pooled text and its keys and values; once per
    image."""
    transformer: float
    """All scales without guidance. Guidance doubles this and `condition`, except for the head."""

    @property
    def sampling(self) -> float:
        """The transformer's work for one image without guidance."""
        return self.condition + self.transformer


@torch.no_grad()
def count_flops(
    tokenizer: Any, model: Any, schedule: Schedule | None = None, prompt_tokens: int = PROMPT_TOKENS
) -> ModelCost:
    """Count the parameters of both models and the operations for one image or video.

    Args:
        tokenizer, model: configurations of the tokenizer and the transformer of one family.
        schedule: the scales of the image; None means those of the tokenizer.
        prompt_tokens: length of the prompt, unless the model takes fewer tokens, for text-to-image models.
    """
    schedule = schedule or tokenizer.schedule
    with torch.device("meta"):
        tokens, transformer = build_tokenizer(tokenizer), build_transformer(model)
        one, two = (_sampling_gflop(model, depth, schedule, tokens, prompt_tokens) for depth in (1, 2))
        encoder, decoder = _coding(tokens, schedule)
        return ModelCost(
            tokenizer_parameters=_millions(tokens),
            transformer_parameters=_millions(transformer),
            encoder=encoder,
            decoder=decoder,
            condition=one[0] + (model.depth - 1) * (two[0] - one[0]),
            transformer=one[1] + (model.depth - 1) * (two[1] - one[1]),
        )


def _coding(tokens: Any, schedule: Schedule) -> tuple[float, float]:
    """Count the GFLOP of encoding and of decoding one image or video."""
    h, w = tokens.config.image_size_of(schedule)
    if isinstance(tokens, ImageTokenizer):
        image, canvas = torch.empty(1, 3, h, w), tokens.pyramid.empty_canvas(1, schedule=schedule)
        return _gflop(lambda: tokens.encode_features(image, schedule)), _gflop(lambda: tokens.decode_canvas(canvas))
    video = torch.empty(1, 3, schedule.frames, h, w)
    stream, decoding, count = tokens.decoding_stream(), 0.0, 0
    while count < schedule.latent_frames:  # the first latent frame, then a pair, which stands for all pairs, and a rest
        pairs, size = (schedule.latent_frames - count) // 2, 1 if count == 0 else min(2, schedule.latent_frames - count)
        latents, times = torch.empty(1, tokens.config.code_dim, size, *schedule.final_size), pairs if size == 2 else 1
        decoding += times * _gflop(lambda latents=latents: stream.frames(latents))
        count += times * size
    return _gflop(lambda: tokens.moments(video)), decoding


def _sampling_gflop(model: Any, depth: int, schedule: Schedule, tokens: Any, prompt_tokens: int) -> tuple[float, float]:
    """Count `ModelCost.condition` and `ModelCost.transformer` for a model with ``depth`` blocks.

    Every block costs the same, so two blocks tell the cost of all, and so do visits of the same size that see as much.
    Counting takes milliseconds per operation.
    """
    takes_text = not isinstance(model, VARConfig)
    changes = {"depth": depth, "chunks": 1} if takes_text else {"depth": depth}
    transformer = build_transformer(replace(model, **changes))
    conditions: Any = torch.empty(1, dtype=torch.long)
    if takes_text:
        length = min(prompt_tokens, model.text_rows)
        conditions = TextFeatures(torch.empty(length, model.text_width), [length])
        if getattr(model, "words", None) is not None:
            conditions = WordIds(torch.zeros(length, dtype=torch.int64), [length])
    cache = transformer.make_cache(schedule, 1)
    made: list[Any] = []

    def sample(visit: Visit) -> None:
        look = torch.empty(1, visit.num_tokens, tokens.pyramid.codebook.dim) if visit.index else None
        transformer.logits(transformer.forward_scale(visit, look, made[0], cache), visit)

    condition = _gflop(lambda: made.append(transformer.condition(conditions)))
    lengths = schedule.tokens_per_visit
    kinds: dict[Any, list[Visit]] = {}
    for visit in schedule.visits:
        kinds.setdefault((visit.size, visit.quantizer, sum(lengths[k] for k in visit.sees)), []).append(visit)
    return condition, sum(len(visits) * _gflop(lambda: sample(visits[-1])) for visits in kinds.values())  # noqa: B023


def build_tokenizer(config: Any) -> Any:
    """Return the tokenizer of a configuration."""
    if isinstance(config, TokenizerConfig):
        return ImageTokenizer(config)
    from nextscale.tokenizer.video_tokenizer import VideoTokenizer  # most models generate images

    return VideoTokenizer(config)


def build_transformer(config: Any) -> Any:
    """Return the transformer of a configuration."""
    if isinstance(config, VARConfig | InfinityConfig):
        return Infinity(config) if isinstance(config, InfinityConfig) else VAR(config)
    from nextscale.transformer.infinity_star import InfinityStar  # most models generate images

    return InfinityStar(config)


def block_parameters(model: VARConfig) -> int:
    """Return N of the scaling laws: the size of the matrices of the blocks and their AdaLN, as the paper counts.

    depth * (4 C^2 of attention + 8 C^2 of the MLP + 6 C^2 of AdaLN), 73,728 depth^3 for the official proportions (VAR,
    section 4.2). Embeddings, head and biases do not count: their share falls with size, which would bend a law, and
    most of it depends on the codebook and the classes. A shared AdaLN counts once.
    """
    hidden = round(model.width * model.mlp_ratio)
    adaln = 1 if model.shared_adaln else model.depth
    return model.width * (model.depth * (4 * model.width + 2 * hidden) + adaln * 6 * model.width)


@torch.no_grad()
def training_flops(model: VARConfig) -> float:
    """Return the GFLOP of training a transformer on the tokens of one image: 3 times the forward pass.

    The backward pass computes each product twice, for the gradients of both factors. Recomputation and encoding the
    image do not count.
    """
    with torch.device("meta"):
        transformer = VAR(model)
        unseen = model.schedule.num_tokens - model.schedule.tokens_per_scale[0]
        label, inputs = torch.empty(1, dtype=torch.long), torch.empty(1, unseen, model.code_dim)
        return 3 * _gflop(lambda: transformer(label, inputs))


def _millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def _gflop(run: Callable[[], object]) -> float:
    from torch.utils.flop_counter import FlopCounterMode  # takes longer to import than all of this module

    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9
