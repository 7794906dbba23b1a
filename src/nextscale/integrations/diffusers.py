"""NextScalePipeline: our models behind the interface of a diffusers pipeline (the extra ``diffusers``).

Importing this module imports diffusers, which takes seconds; nothing else of nextscale does.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from nextscale.errors import InputError
from nextscale.families.sources import Source, load_source
from nextscale.imaging.images import to_pil
from nextscale.pipeline import Pipeline
from nextscale.runtime.device import pick_device, precision
from nextscale.sampling.sampler import ScaleStep
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.var import VAR

try:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
except ImportError as error:
    raise ImportError("diffusers is not installed: run pip install 'nextscale[diffusers]'") from error

Generators = torch.Generator | Sequence[torch.Generator] | None
Callback = Callable[["NextScalePipeline", int, tuple[int, int], dict[str, Tensor]], object]
"""(pipeline, k, (h_k, w_k), tensors); what it returns is not used: a scale that is drawn stays."""

OUTPUT_TYPES = ("pil", "np", "pt")


class NextScalePipeline(DiffusionPipeline):
    """Class-conditional images, with the arguments of diffusers' ``DiTPipeline``.

    The components are ``tokenizer`` and ``transformer``; ``config``, ``components``, ``from_pipe`` and the progress bar
    are the base class's. Weights are read and written in nextscale's own formats, are float32 and stay so: the type
    of ``to`` and ``torch_dtype`` is that of matrix products and convolutions. Offloading and ``push_to_hub`` are
    refused, for they rest on diffusers' own kinds of modules and files.

    Args:
        class_names: one for each class; without them, classes go by number.

    Raises:
        InputError: parts that do not fit together.
    """

    _callback_tensor_inputs = ("tokens", "logits", "canvas", "images")

    def __init__(self, tokenizer: ImageTokenizer, transformer: VAR, class_names: Sequence[str] = ()):
        super().__init__()
        self._autocast = torch.float32
        self._interrupt = False
        self.register_modules(tokenizer=tokenizer, transformer=transformer)
        self.register_to_config(class_names=list(class_names))
        self._pipeline()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: Source = "starter",
        *,
        torch_dtype: torch.dtype = torch.float32,
        schedule: ScaleSchedule | None = None,
    ) -> NextScalePipeline:
        """Load a model onto the CPU, from where ``to`` takes it to a GPU.

        Args:
            pretrained_model_name_or_path: what `nextscale.Pipeline.from_pretrained` takes: "starter", a folder,
                "FoundationVision/var:d16", a pair of .pth files.
            torch_dtype: float32, bfloat16, or on a GPU, by ``to``, float16.
            schedule: for .pth files of a schedule other than the official ones.

        Raises:
            InputError: no such model, or a type that the CPU has not.
        """
        return cls(*load_source(pretrained_model_name_or_path, schedule)).to(torch_dtype)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, dtype: torch.dtype | None = None
    ) -> None:
        """Write a folder that this class and `nextscale.Pipeline` read; ``dtype`` stores in less precision."""
        self._pipeline().save_pretrained(save_directory, dtype)

    def to(
        self,
        device: str | torch.device | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> NextScalePipeline:
        """Move the model, or set the type of matrix products and convolutions, or both. Returns this pipeline.

        Raises:
            InputError: not a device or a type, or one that this machine lacks.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        place = self.device if device is None else pick_device(str(device))
        dtype = dtype or self._autocast
        precision(dtype_name(dtype), place)
        self.tokenizer.to(place)
        self.transformer.to(place)
        self._autocast = dtype
        return self

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.transformer.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Of matrix products and convolutions."""
        return self._autocast

    @property
    def labels(self) -> dict[str, int]:
        """The class names and their numbers."""
        return {name: i for i, name in enumerate(self._pipeline().class_names)}

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """The numbers of some classes, or of one, by name.

        Raises:
            InputError: an unknown name.
        """
        return [self._pipeline().class_id(name) for name in ([label] if isinstance(label, str) else label)]

    @property
    def interrupt(self) -> bool:
        """Whether a callback has set ``_interrupt``, which ends drawing with the images as they are."""
        return self._interrupt

    def __call__(
        self,
        class_labels: int | str | Sequence[int | str] | Tensor,
        guidance_scale: float = 5.0,
        num_inference_steps: int | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("canvas",),
        top_k: int = 900,
        top_p: float = 0.95,
    ) -> Any:
        """Draw images. Returns an ``ImagePipelineOutput``, whose ``images`` are a list of images or an array.

        Args:
            class_labels: names or numbers of classes, or one alone; the number of classes itself means "no class".
            guidance_scale: g of unconditional + g (conditional - unconditional). It is reached at the last scale, to
                which guidance grows from none at the first: ours is (1 + cfg) conditional - cfg unconditional, so
                g = cfg + 1. 1 or less is no guidance.
            num_inference_steps: for code that passes it. The steps are the model's scales; another number is warned of
                and has no effect.
            num_images_per_prompt: images of each label, which come one after another.
            generator: one from which a seed is drawn for every image, or a list with one for each image; None is
                PyTorch's global one. See `seeds_from`.
            output_type: "pil", images; "np", (B, H, W, 3) in [0, 1]; "pt", (B, 3, H, W) in [0, 1].
            return_dict: False returns a tuple with the images alone.
            callback_on_step_end: called after each scale with the pipeline, k, (h_k, w_k) and the tensors below.
            callback_on_step_end_tensor_inputs: of "tokens" (B, n_k), "logits" (B, n_k, V), "canvas" (B, D, h_K, w_K)
                and "images" (B, 3, H, W), the images so far, which cost a decoding for each scale.
            top_k, top_p: as `nextscale.Pipeline` has them.

        Raises:
            InputError: an unknown class, or an argument out of range.
        """
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
        if unknown := set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise InputError(
                f"a callback gets some of {', '.join(self._callback_tensor_inputs)}, not {', '.join(sorted(unknown))}"
            )
        pipeline = self._pipeline()
        scales = pipeline.tokenizer.schedule.num_scales
        if num_inference_steps not in (None, scales):
            warnings.warn(
                f"num_inference_steps={num_inference_steps} has no effect: an image takes {scales} scales",
                stacklevel=2,
            )
        labels = repeat_labels(class_labels, num_images_per_prompt)
        seeds = seeds_from(generator, len(labels))
        run = pipeline.scales(labels, seed=seeds, cfg=guidance_to_cfg(guidance_scale), top_k=top_k, top_p=top_p)
        step = None
        self._interrupt = False
        with self.progress_bar(total=scales) as bar:  # type: ignore[call-arg]
            for step in run:
                bar.update()
                if callback_on_step_end:
                    tensors = {name: self._tensor(step, name) for name in callback_on_step_end_tensor_inputs}
                    callback_on_step_end(self, step.index, step.size, tensors)
                if self._interrupt:
                    break
        assert step
        if output_type != "pil":
            images = self._tensor(step, "images")
            images = images.permute(0, 2, 3, 1).cpu().numpy() if output_type == "np" else images
        elif self._interrupt:
            images = pipeline.images(step)
        else:
            images = to_pil(run.result().images)
        return ImagePipelineOutput(images) if return_dict else (images,)  # type: ignore[arg-type]

    def push_to_hub(self, *args: object, **kwargs: object) -> NoReturn:  # type: ignore[override]
        """Refused: diffusers would make a repository before it finds that our files are not its own."""
        raise InputError("push_to_hub is for diffusers' files: use save_pretrained and huggingface_hub.upload_folder")

    def enable_model_cpu_offload(self, *args: object, **kwargs: object) -> NoReturn:
        """Refused: our modules hand over weights and not only outputs, which the hooks do not see."""
        raise InputError("a nextscale model is moved as a whole: use to(device) instead of offloading")

    enable_sequential_cpu_offload = enable_group_offload = enable_model_cpu_offload

    def _pipeline(self) -> Pipeline:
        """The components as they are now."""
        names, dtype = self.config["class_names"], dtype_name(self._autocast)
        return Pipeline(self.tokenizer, self.transformer, names, device=str(self.device), dtype=dtype)

    def _tensor(self, step: ScaleStep, name: str) -> Tensor:
        if name != "images":
            return getattr(step, name)
        with precision(dtype_name(self._autocast), self.device):
            return step.image()


def guidance_to_cfg(guidance_scale: float) -> float:
    """diffusers' guidance as ours: g - 1, and 0 where g is 1 or less, which is none.

    Raises:
        InputError: not a number.
    """
    if not isinstance(guidance_scale, int | float) or guidance_scale != guidance_scale:
        raise InputError(f"guidance_scale must be a number, not {guidance_scale!r}")
    return max(0.0, guidance_scale - 1)


def seeds_from(generator: Generators, count: int) -> list[int]:
    """The seeds of ``count`` images, which draw the same with `nextscale.Pipeline`, in any batch.

    A generator moves on by one draw for each image, so that the next call gives other images.

    Args:
        generator: one for all, one for each, or None, PyTorch's global one.

    Raises:
        InputError: another number of generators than of images.
    """
    generators = list(generator) if isinstance(generator, Sequence) else [generator] * count
    if len(generators) != count:
        raise InputError(f"expected one generator, or one for each of the {count} images, got {len(generators)}")
    for g in generators:
        if not isinstance(g, torch.Generator | None):
            raise InputError(f"expected a torch.Generator, got {g!r}")
    return [int(torch.randint(2**63 - 1, (), generator=g, device=None if g is None else g.device)) for g in generators]


def repeat_labels(labels: int | str | Sequence[int | str] | Tensor, times: int) -> list[int | str]:
    """A list with each label so many times, one after another.

    Raises:
        InputError: fewer than once.
    """
    if not isinstance(times, int) or times < 1:
        raise InputError(f"num_images_per_prompt must be an integer of at least 1, not {times!r}")
    if isinstance(labels, Tensor):
        labels = labels.reshape(-1).tolist()
    each = [labels] if isinstance(labels, int | str) else list(labels)
    return [label for label in each for _ in range(times)]


def dtype_name(dtype: Any) -> str:
    """torch.float32 -> "float32"."""
    return str(dtype).removeprefix("torch.")
