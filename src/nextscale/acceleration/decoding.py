"""Tokenizers that encode and decode without gradients, faster and in bounded memory."""

from __future__ import annotations

from itertools import chain

import torch
from torch import Tensor, nn

from nextscale.acceleration.strips import decode
from nextscale.acceleration.upsample import FourKernelUpsample
from nextscale.runtime.allocator import trim
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.autoencoder import ResidualBlock, Upsample
from nextscale.tokenizer.pyramid import ResidualConv
from nextscale.tokenizer.tokenizer import ImageTokenizer, TokenizerConfig

FULL_SIZE_TENSORS = 5
"""Number of full-size activations of an image that decoding holds at the same time."""
CPU_DECODING_BYTES = 2**28
LARGE = 2**26
"""Bytes of an activation before whose decoding free memory is returned to the system."""
GPU_SHARE = 8
"""Decoding may use 1/8 of a GPU's memory."""


@torch.no_grad()
def without_gradients(
    tokenizer: ImageTokenizer, device: torch.device | None = None, tiles: bool = False
) -> ImageTokenizer:
    """Return a tokenizer with the same results up to rounding and the same weights, but without gradients.

    SiLU and residual sums are computed in place, up-sampling uses 4 of 9 products, and images are encoded and decoded a
    few at a time, on the CPU in the channels-last format.

    Args:
        device: device of everything that decodes; None means that of the tokenizer. The encoder is not moved.
        tiles: see `FewImagesTokenizer`.
    """
    with torch.device("meta"):
        fast = FewImagesTokenizer(tokenizer.config)
    fast.tiles = tiles
    tensors = dict(chain(tokenizer.named_parameters(), tokenizer.named_buffers()))
    for name, tensor in tensors.items():
        of_encoder = name.startswith(("encoder.", "quant_conv."))
        tensors[name] = tensor.detach() if device is None or of_encoder else tensor.detach().to(device)
    fast.load_state_dict(tensors, assign=True)
    fast.requires_grad_(False).eval()
    for name, module in list(fast.named_modules()):
        if isinstance(module, nn.SiLU):  # its input, the output of a norm, is not used elsewhere
            module.inplace = True
        elif isinstance(module, ResidualBlock):
            fast.set_submodule(name, InPlaceResidualBlock(module))
        elif isinstance(module, Upsample):
            fast.set_submodule(name, FourKernelUpsample(module))
        elif isinstance(module, ResidualConv):
            fast.set_submodule(name, SteadyResidualConv(module))
    return fast


class FewImagesTokenizer(ImageTokenizer):
    """An `ImageTokenizer` that encodes and decodes a few images at a time, in the device's fastest memory format."""

    tiles = False
    """Decode large images in strips; see `nextscale.acceleration.strips`."""

    @property
    def itemsize(self) -> int:
        """Bytes per number in the decoder."""
        return self.decoder.conv_out.weight.itemsize

    def encode_features(self, images: Tensor, schedule: ScaleSchedule | None = None) -> Tensor:
        self.check_images(images, schedule)
        if images.device.type == "cpu":
            images = images.contiguous(memory_format=torch.channels_last)
        parts = images.split(images_at_once(self.config, images.device, images.shape[-2:].numel(), self.itemsize))
        return torch.cat([super(FewImagesTokenizer, self).encode_features(part, schedule) for part in parts])

    def decode_canvas(self, canvas: Tensor) -> Tensor:
        if canvas.device.type == "cpu" or self.decoder.conv_out.weight.dtype != torch.float32:
            canvas = canvas.contiguous(memory_format=torch.channels_last)
        pixels = canvas.shape[-2:].numel() * self.config.stride**2
        if canvas.device.type == "cpu" and pixels * self.config.channels * self.itemsize >= LARGE:
            trim()  # the free memory of sampling, which may not fit
        parts = canvas.split(images_at_once(self.config, canvas.device, pixels, self.itemsize))
        return torch.cat([super(FewImagesTokenizer, self).decode_canvas(part) for part in parts])

    def decode_features(self, features: Tensor) -> Tensor:
        return decode(self.decoder, features, self.tiles)


def images_at_once(tokenizer: TokenizerConfig, device: torch.device, pixels: int, itemsize: int) -> int:
    """Return the number of images to encode or decode together: as many as fit a memory budget, but at least one.

    On the CPU, more images at once are not faster. On a GPU the budget is a fraction of its total memory, not of its
    free memory, so that the same images are always decoded together, with the same rounding.

    Args:
        pixels: number of pixels of an image.
        itemsize: bytes per number.
    """
    budget = CPU_DECODING_BYTES
    if device.type == "cuda":
        budget = torch.cuda.get_device_properties(device).total_memory // GPU_SHARE
    one = FULL_SIZE_TENSORS * pixels * tokenizer.channels * itemsize
    return max(1, budget // one)


class InPlaceResidualBlock(ResidualBlock):
    """A `ResidualBlock` that adds in place, because allocating memory takes longer than the sum. Layers are shared."""

    def __init__(self, block: ResidualBlock):
        nn.Module.__init__(self)
        for name, module in block.named_children():
            self.add_module(name, module)

    def add(self, x: Tensor, h: Tensor) -> Tensor:
        return super().add(x, h) if x.dtype != h.dtype else h.add_(x)


class SteadyResidualConv(ResidualConv):
    """A `ResidualConv` whose result for an image does not depend, bit for bit, on the other images of its batch.

    Without it, the CPU would use different kernels for one image and for several. The parameters are shared.
    """

    def __init__(self, conv: ResidualConv):
        with torch.device("meta"):
            super().__init__(conv.in_channels, conv.ratio)
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, input: Tensor) -> Tensor:
        if len(input) == 1 and input.device.type == "cpu":
            return super().forward(input.expand(2, -1, -1, -1))[:1]
        return super().forward(input)
