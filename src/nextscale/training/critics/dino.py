"""A critic with a frozen DINO backbone and small trainable heads (StyleGAN-T, arXiv 2301.09515)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.io.module_folder import fill
from nextscale.io.state_files import expect, read_state
from nextscale.training.critics.critic import CriticOutput, normed, start_norms
from nextscale.training.critics.vit import VisionTransformer, ViTConfig

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation of red, green and blue, for images in [0, 1]."""
SLOPE = 0.2
NORM_GROUPS = 32
HEAD_WIDTH = 64
"""Channels of each attention head. DINO's files do not store this number."""
TOLD_BY = ("cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
"""Tensors that identify a DINO file. Their shapes give the sizes of the network."""
HUGGING_FACE = (
    ("embeddings.cls_token", "cls_token"),
    ("embeddings.position_embeddings", "pos_embed"),
    ("embeddings.patch_embeddings.projection.", "patch_embed.proj."),
    ("encoder.layer.", "blocks."),
    (".layernorm_before.", ".norm1."),
    (".attention.output.dense.", ".attn.proj."),
    (".layernorm_after.", ".norm2."),
    (".intermediate.dense.", ".mlp.fc1."),
    (".output.dense.", ".mlp.fc2."),
    ("layernorm.", "norm."),
)
"""Replacements (Hugging Face's name, our name) in parameter names, applied in this order."""


def layer(channels: int, kernel: int) -> nn.Sequential:
    """Return the layer leaky_relu(norm(conv(x)))."""
    return nn.Sequential(
        normed(nn.Conv2d(channels, channels, kernel, padding=kernel // 2)),
        nn.GroupNorm(NORM_GROUPS, channels),
        nn.LeakyReLU(SLOPE),
    )


class Head(nn.Module):
    """Compute score((y + around(y)) / sqrt 2) with y = point(x). (B, C, h, w) -> logits (B, 1, h, w).

    ``point`` is a 1x1 layer, ``around`` a 3x3 layer, ``score`` a 1x1 convolution. All convolutions have spectral
    normalisation. They run over the grid of tokens, so that vertical and horizontal neighbours are treated alike.
    StyleGAN-T convolves the sequence of tokens instead.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.point = layer(channels, kernel=1)
        self.around = layer(channels, kernel=3)
        self.score = normed(nn.Conv2d(channels, 1, kernel_size=1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.point(x)
        return self.score((y + self.around(y)) / math.sqrt(2))


class DinoCritic(nn.Module):
    """Score images with one head for each of several layers of DINO.

    The input is images (B, 3, H, W) in [-1, 1]. The output has the logits (B, 1, h, w) of each head, and the features
    of these layers.

    The vision transformer is not a registered submodule. It moves to other devices with the critic (``_apply``), but
    it stays frozen, in evaluation mode, and outside the state dictionary.

    Args:
        vit: DINO. The critic freezes it.
        side: smaller images are enlarged until their shorter side has this many pixels; a multiple of the patch size.
        taps: indices of the blocks, from 0, whose outputs get a head. One more head gets the patch embeddings.
    """

    vit: VisionTransformer
    scale: Tensor
    shift: Tensor

    def __init__(self, vit: VisionTransformer, side: int = 224, taps: Sequence[int] = (2, 5, 8, 11)):
        super().__init__()
        if side < 1 or side % vit.config.patch:
            raise InputError(f"side must be a multiple of the patch size of {vit.config.patch} pixels, not {side}")
        if not all(0 <= tap < vit.config.depth for tap in taps):
            raise InputError(f"taps must lie in 0..{vit.config.depth - 1}, the blocks of DINO, not {tuple(taps)}")
        object.__setattr__(self, "vit", vit.requires_grad_(False).eval())
        self.side, self.taps = side, tuple(taps)
        mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
        self.register_buffer("scale", 1 / (2 * std), persistent=False)
        self.register_buffer("shift", (0.5 - mean) / std, persistent=False)
        self.heads = nn.ModuleList(Head(vit.config.width) for _ in range(1 + len(taps)))

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> DinoCritic:
        """Initialise the heads as in `PatchGAN`: normal weights with std 0.02, biases 0."""
        for module in self.heads.modules():
            if isinstance(module, nn.Conv2d):
                module.weight = torch.empty_like(module.weight).normal_(std=0.02, generator=generator)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        start_norms(self, generator)
        return self

    def forward(self, images: Tensor) -> CriticOutput:
        features = self.features(images)
        return CriticOutput([head(x).float() for head, x in zip(self.heads, features, strict=True)], features)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the features of the tapped layers: 1 + len(taps) maps (B, C, h, w).

        The class token is added to the token of each patch.
        """
        images = self.enlarge(images) * self.scale + self.shift
        layers = self.vit.layers(images)
        grid = (images.shape[2] // self.vit.config.patch, -1)
        tapped = (layers[i] for i in (0, *(tap + 1 for tap in self.taps)))
        return [(x[:, 1:] + x[:, :1]).mT.unflatten(2, grid) for x in tapped]

    def enlarge(self, images: Tensor) -> Tensor:
        """Resize images bilinearly to whole patches of p pixels.

        The new sides are p round(s H / p) and p round(s W / p) with s = max(1, side / min(H, W)).
        """
        patch = self.vit.config.patch
        ratio = max(1.0, self.side / min(images.shape[-2:]))
        size = [patch * round(ratio * side / patch) for side in images.shape[-2:]]
        if size == list(images.shape[-2:]):
            return images
        return F.interpolate(images, size=size, mode="bilinear")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DinoCritic:
        self.vit._apply(fn, recurse)
        return super()._apply(fn, recurse)


def load_dino(path: Path) -> VisionTransformer:
    """Load DINO from a local ``.pth`` or ``.safetensors`` file, with the names of its authors or of Hugging Face.

    Raises:
        InputError: the file is missing or damaged, or holds other tensors.
    """
    state = read_state(path)
    if "embeddings.cls_token" in state:
        state = from_hugging_face(state, path)
    expect(state, TOLD_BY, path, "a vision transformer with the names of DINO or Hugging Face")
    vit = VisionTransformer(config_of(state, path)).requires_grad_(False)
    return fill(vit, state, path).eval()


def config_of(state: Mapping[str, Tensor], path: Path) -> ViTConfig:
    """Return the sizes of the network, derived from the shapes of its tensors.

    Raises:
        InputError: the shapes are not those of a DINO network.
    """
    _, *shapes = (tuple(state[name].shape) for name in TOLD_BY)
    match shapes:
        case [(1, n, width), (_, 3, patch, _), (hidden, _)] if all((n, width, patch, hidden)):
            grid = math.isqrt(n - 1)
            depth = sum(name.endswith(".mlp.fc1.weight") for name in state)
            if n == 1 + grid**2 > 1 and width % HEAD_WIDTH == 0 == hidden % width:
                return ViTConfig(patch, grid, width, depth, width // HEAD_WIDTH, hidden // width)
    raise InputError(
        f"{path}: {', '.join(TOLD_BY[1:])} have shapes {', '.join(map(str, shapes))}, expected (1, 1 + g * g, C), "
        f"(C, 3, p, p), (m * C, C) with C a multiple of {HEAD_WIDTH}"
    )


def from_hugging_face(state: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Rename a state dictionary from Hugging Face's names to DINO's.

    Query, key and value are concatenated along the first axis. The pooler is dropped, because DINO does not have it.

    Raises:
        InputError: a query has no key and value of the same shape.
    """
    renamed = {}
    for name, tensor in state.items():
        for theirs, ours in HUGGING_FACE:
            name = name.replace(theirs, ours)
        if not name.startswith("pooler."):
            renamed[name] = tensor
    for query in [name for name in renamed if ".attention.attention.query." in name]:
        names = [query.replace("query", part) for part in ("query", "key", "value")]
        expect(renamed, names, path, "query, key and value of each layer")
        parts = [torch.atleast_1d(renamed.pop(name)) for name in names]
        if len({part.shape for part in parts}) > 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise InputError(f"{path}: {', '.join(names)} have shapes {shapes}, expected the same shape for all three")
        renamed[query.replace("attention.attention.query", "attn.qkv")] = torch.cat(parts)
    return renamed
