"""Draw on a GPU that computes nothing: its tensors have shapes, types and a place, but no values.

    python tests/simulated_gpu.py [N]

N uses every N-th combination of settings only.
Whatever mixes devices fails, and so does whatever looks at a value, for which a real GPU would have to be waited for.
This is a program of its own, as a simulated device stays in its process for good.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from itertools import islice, product

import torch
import torch.utils.backend_registration as registration
from tiny import SCHEDULES, make_tokenizer, make_var
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import nextscale as ns
from nextscale.acceleration.ready import ready_tokenizer, ready_transformer
from nextscale.sampling.guidance import make_guidance
from nextscale.sampling.rng import RandomStreams
from nextscale.sampling.sampler import Call, generate_scales
from nextscale.sampling.settings import SamplingSettings

GPU = "gpu"
BATCH = 3


class Module(registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


class OnlyThere(TorchDispatchMode):
    """Refuses whatever has a part elsewhere, such as a transfer, which a graph cannot record."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves((args, kwargs, result)):
            if isinstance(tensor, torch.Tensor) and tensor.device.type != GPU:
                raise RuntimeError(f"{func} has a part on {tensor.device}")
        return result


class Streams(RandomStreams):
    """Without generators, of which a simulated device has none."""

    def __init__(self, device: torch.device, each: bool):
        self.generators = [None] * (BATCH if each else 1)  # type: ignore[list-item]
        self.batch, self.device = BATCH, device


def move(model: nn.Module, mode: FakeTensorMode, device: torch.device) -> nn.Module:
    """A copy on the simulated device; ``Module.to`` would ask a real one."""
    copy = deepcopy(model)
    for module in copy.modules():
        for name, p in list(module.named_parameters(recurse=False)):
            there = FakeTensor(mode, p.detach().to("meta"), device)
            module.register_parameter(name, nn.Parameter(there, requires_grad=False))
    return copy


def main(every: int = 1) -> None:
    registration._setup_privateuseone_for_python_backend(GPU, backend_module=Module())
    device, mode = torch.device(GPU, 0), FakeTensorMode(allow_non_fake_inputs=True)
    schedule = SCHEDULES["square"]
    tokenizer, model = (move(m, mode, device) for m in (make_tokenizer(schedule), make_var(schedule)))
    assert isinstance(tokenizer, ns.ImageTokenizer) and isinstance(model, ns.VAR)
    drawn = 0
    with mode, torch.no_grad():
        labels = torch.zeros(BATCH, dtype=torch.int64, device=device)
        for dtype in (torch.float32, torch.bfloat16):
            ready = ready_tokenizer(tokenizer, dtype), ready_transformer(model, dtype)
            combinations = product((0, 1.5), (0, 9), (0, 0.9), (False, True), (False, True))
            for cfg, k, p, smooth, each in islice(combinations, None, None, every):
                settings = SamplingSettings(cfg=cfg, top_k=k, top_p=p, more_smooth=smooth)
                streams = Streams(device, each)
                guidance = make_guidance(None, cfg, schedule, model)
                with OnlyThere():
                    *_, step = generate_scales(*ready, Call(labels, BATCH, settings, streams, guidance, schedule))
                    image = step.image()
                assert image.device == device and image.shape == (BATCH, 3, *tokenizer.config.image_size)
                drawn += 1
    print(f"drawn {drawn} times without a look")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
