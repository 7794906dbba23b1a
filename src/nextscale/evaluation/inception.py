"""The Inception-v3 of 2015-12-05, which defines FID, for uint8 images."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from nextscale.errors import InputError
from nextscale.evaluation.features import INCEPTION, Features, check_images
from nextscale.evaluation.inception_blocks import BLOCKS, THREE, Block, Conv, Layer, shrink
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.io.module_folder import fill
from nextscale.io.pth import as_state, read_pth
from nextscale.io.tensor_files import read_tensors
from nextscale.runtime.device import tf32

SIDE = 299
POOL, CLASSES = 2048, 1008
SPATIAL_BLOCK, SPATIAL_CHANNELS = "Mixed_6d", 7
"""sFID uses the first 7 channels of ``mixed_6/conv``, which are the first channels of this block's output."""
SPATIAL = SPATIAL_CHANNELS * 17 * 17
MARKER = "Mixed_5b.branch1x1.conv.weight"
"""A tensor in every file with Inception's weights."""
WHERE = (
    "fetch weights-inception-2015-12-05-6726825d.pth from "
    "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/ or pt_inception-2015-12-05-6726825d.pth from "
    "https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/ and pass the path of that file"
)


class Inception(nn.Module):
    """The network as a `FeatureExtractor`, without gradients. Training and eval mode give the same results."""

    name = INCEPTION

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Layer(3, Conv(32, THREE, 2))
        self.Conv2d_2a_3x3 = Layer(32, Conv(32, THREE), padded=False)
        self.Conv2d_2b_3x3 = Layer(32, Conv(64, THREE))
        self.Conv2d_3b_1x1 = Layer(64, Conv(80))
        self.Conv2d_4a_3x3 = Layer(80, Conv(192, THREE), padded=False)
        channels = 192
        for name, branches in BLOCKS.items():
            block = Block(channels, branches)
            self.add_module(name, block)
            channels = block.channels
        self.fc = nn.Linear(channels, CLASSES)
        self.requires_grad_(False).eval()
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the weights, computed once."""
        self._fingerprint = self._fingerprint or weights_fingerprint(self)
        return self._fingerprint

    @torch.no_grad()
    def forward(self, images: Tensor) -> Features:
        """Return float32 features of uint8 images (B, 3, H, W).

        They are ``pool`` (B, 2048), ``spatial`` (B, 2023) and ``probabilities`` (B, 1008).
        ``pool`` is TensorFlow's ``pool_3``. ``spatial`` is the first 7 channels of ``mixed_6/conv``, flattened in the
        order height, width, channel. ``probabilities`` is the softmax of the logits without their bias. Images are
        resized to 299 x 299 as in TensorFlow 1, and scaled to (x - 128) / 128.

        Raises:
            InputError: the images are not uint8 (B, 3, H, W).
        """
        check_images(images)
        with torch.autocast(images.device.type, enabled=False), tf32(False):
            x = (resize(images.to(self.fc.weight.dtype), (SIDE, SIDE)) - 128) / 128
            x = shrink(self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x))))
            x = shrink(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)))
            spatial = x
            for name in BLOCKS:
                x = self.get_submodule(name)(x)
                if name == SPATIAL_BLOCK:
                    spatial = x[:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
            pool = x.mean((2, 3))
            return Features(pool.float(), spatial.float(), self.logits(pool).softmax(1).float())

    def logits(self, pool: Tensor) -> Tensor:
        """Return the logits without the bias. (B, 2048) -> (B, 1008)."""
        return pool @ self.fc.weight.T


def resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images as TensorFlow 1 does by default. (B, C, h, w) -> (B, C, H, W), floating point.

    The interpolation is bilinear, without anti-aliasing. Pixel i of n reads from position i * (old n / n), and corners
    are not aligned.
    """
    for dim, new in ((3, size[1]), (2, size[0])):
        old = images.shape[dim]
        places = torch.arange(new, dtype=torch.float32, device=images.device) * torch.tensor(old / new)
        low = places.long().clamp_max(old - 1)
        share = (places - low).to(images.dtype).view(-1, *(1,) * (3 - dim))
        start, end = images.index_select(dim, low), images.index_select(dim, (low + 1).clamp_max(old - 1))
        images = start + (end - start) * share
    return images


def load_inception(path: Path) -> Inception:
    """Load the network from a ``.pth`` or ``.safetensors`` file with the names of `BLOCKS`.

    Raises:
        InputError: the file is missing (the message contains a download link), is damaged, or has other tensors.
    """
    if not path.is_file():
        raise InputError(f"no file {path} with the weights of Inception: {WHERE}")
    state = as_state(read_tensors(path) if path.suffix == ".safetensors" else read_pth(path), path)
    state = {name: tensor for name, tensor in state.items() if not name.endswith(".num_batches_tracked")}
    if MARKER not in state:
        raise InputError(f"{path} holds {min(state, default='nothing')}, but no {MARKER}: {WHERE}")
    if "fc.weight" in state and len(state["fc.weight"]) != CLASSES:
        raise InputError(
            f"{path} is another Inception, of {len(state['fc.weight'])} classes and not {CLASSES}, with which no FID "
            f"is comparable: {WHERE}"
        )
    with torch.device("meta"):
        inception = Inception()
    return fill(inception, state, path).requires_grad_(False)
