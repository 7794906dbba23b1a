"""Size and work of models, counted on the meta device, where nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig
from nextscale.transformer.var import VAR, VARConfig


@dataclass(frozen=True)
class Work:
    """GFLOP of one image, 2 for each multiply-add of matrix products and convolutions, and parameters in millions."""

    tokenizer_parameters: float
    transformer_parameters: float
    encoder: float
    decoder: float
    """As it is defined. Without gradients it does with about a tenth less, see `Upsample`."""
    condition: float
    """AdaLN, once per image."""
    transformer: float
    """All scales, without guidance, which doubles this and `condition`: as it is defined, though one head is enough."""


@torch.no_grad()
def count_work(tokenizer: TokenizerConfig, model: VARConfig) -> Work:
    """Count both models' parameters, and what one image costs them."""
    with torch.device("meta"):
        tokens, transformer = ImageTokenizer(tokenizer), VAR(model)
        image = torch.empty(1, 3, *tokenizer.image_size)
        label = torch.empty(1, dtype=torch.long)
        canvas = tokens.pyramid.empty_canvas(1)
        condition = transformer.condition(label)
        cache = transformer.make_cache(model.schedule, 1)

        def all_scales() -> None:
            for visit in model.schedule.visits:
                look = tokens.pyramid.look(canvas, visit) if visit.index else None
                transformer.logits(transformer.forward_scale(visit, look, condition, cache), visit)

        return Work(
            tokenizer_parameters=_millions(tokens),
            transformer_parameters=_millions(transformer),
            encoder=_gflop(lambda: tokens.encode_features(image)),
            decoder=_gflop(torch.enable_grad()(lambda: tokens.decode_canvas(canvas))),
            condition=_gflop(lambda: transformer.condition(label)),
            transformer=_gflop(all_scales),
        )


def block_parameters(model: VARConfig) -> int:
    """N of the scaling laws: the matrices of the blocks and their AdaLN, as the paper counts them.

    depth * (4 C^2 of attention + 8 C^2 of the MLP + 6 C^2 of AdaLN), 73,728 depth^3 for the official proportions (VAR,
    section 4.2). Embeddings, head and biases are left out: their share falls with size, which would bend a law, and
    most of them depends on the codebook and the classes rather than on the size. A shared AdaLN counts once.
    """
    hidden = round(model.width * model.mlp_ratio)
    adaln = 1 if model.shared_adaln else model.depth
    return model.width * (model.depth * (4 * model.width + 2 * hidden) + adaln * 6 * model.width)


@torch.no_grad()
def training_work(model: VARConfig) -> float:
    """GFLOP of training a transformer on an image's tokens: 3 times the forward pass under teacher forcing.

    The backward pass does each product twice, for the gradients of both factors; what is computed again there is not
    counted, nor is making the tokens.
    """
    with torch.device("meta"):
        transformer = VAR(model)
        unseen = model.schedule.num_tokens - model.schedule.tokens_per_scale[0]
        label, inputs = torch.empty(1, dtype=torch.long), torch.empty(1, unseen, model.code_dim)
        return 3 * _gflop(lambda: transformer(label, inputs))


def _millions(module: nn.Module) -> float:
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def _gflop(run: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9
