"""Models that are in memory, or on the accelerator, only while they are used.

The weights stay where they were loaded: in main memory, memory-mapped if their file allows it. A prepared copy of the
transformer exists while it samples, then one of the decoder while it decodes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.acceleration.decoding import without_gradients
from nextscale.acceleration.on_demand import OnDemand
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.ready import make_tokenizer, make_transformer, page_out_unused
from nextscale.runtime.allocator import page_out
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer


class OffloadedTokenizer(ImageTokenizer):
    """A tokenizer whose decoder is prepared when it decodes. It encodes where its weights are.

    Args:
        source: the tokenizer with the weights.
        prepared: a copy of it that decodes on ``device``.
    """

    source: ImageTokenizer
    prepared: OnDemand[ImageTokenizer]

    def __init__(self, source: ImageTokenizer, prepared: OnDemand[ImageTokenizer], device: torch.device):
        nn.Module.__init__(self)
        self.config = source.config
        self.pyramid = without_gradients(source, device).pyramid
        self.__dict__.update(source=source, prepared=prepared)  # not as parts, whose weights would be this module's

    def decode_canvas(self, canvas: Tensor) -> Tensor:
        return self.prepared.get().decode_canvas(canvas)

    def encode_features(self, images: Tensor, schedule: ScaleSchedule | None = None) -> Tensor:
        return self.source.encode_features(images.to(self.source.device), schedule).to(images.device)


def offloaded(tokenizer: Any, prepared: OnDemand[Any], device: torch.device) -> Any:
    """Return the offloaded form of a tokenizer of images or of videos."""
    if isinstance(tokenizer, ImageTokenizer):
        return OffloadedTokenizer(tokenizer, prepared, device)
    from nextscale.acceleration.ready_video import OffloadedVideoTokenizer  # most models generate images

    return OffloadedVideoTokenizer(tokenizer, prepared)


class OffloadedModels:
    """The models of a pipeline, prepared one after another.

    Args:
        tokenizer, model: the models with the weights. They are not moved.
        device: where to sample and decode.
        tiles: see `FewImagesTokenizer`.
    """

    def __init__(self, tokenizer: Any, model: Any, precision: Precision, device: torch.device, tiles: bool = False):
        self._sources, self._device = (tokenizer, model), device

        def decoder() -> Any:
            return make_tokenizer(tokenizer, precision.dtype, device, tiles)

        def transformer() -> Any:
            ready = make_transformer(model, precision, device)
            page_out_unused((model,), (ready,))
            return ready

        decoders: OnDemand[Any] = OnDemand(lambda: self._after_release(decoder))
        self.decoder = decoders.get
        self._transformers: OnDemand[Any] = OnDemand(lambda: self._after_release(transformer))
        self._tokenizer = offloaded(tokenizer, decoders, device)

    is_ready = False

    def get(self) -> tuple[Any, Any]:
        """Return a tokenizer, and the transformer, which exists as long as the caller keeps it."""
        return self._tokenizer, self._transformers.get()

    def _after_release(self, prepare: Callable[[], Any]) -> Any:
        """Prepare a model after the memory of the last one was returned to the system."""
        page_out(parameter for module in self._sources for parameter in module.parameters())
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return prepare()
