"""NextScalePipeline: nextscale models as a diffusers pipeline (the extra ``diffusers``).

Only this module imports diffusers, which takes seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from nextscale.conditioning.feature_cache import TextEncoder
from nextscale.errors import InputError
from nextscale.families.sources import Source, load_source, only_images
from nextscale.imaging.images import to_pil
from nextscale.pipeline import Pipeline
from nextscale.runtime.device import pick_device, precision
from nextscale.runtime.extras import import_failure
from nextscale.sampling.sampler import ScaleStep
from nextscale.sampling.settings import SamplingSettings
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.var import VAR

try:
    from diffusers.pipelines.pipeline_utils import DiffusionPipeline, ImagePipelineOutput
except Exception as error:  # broken packages raise other exceptions, too
    raise ImportError(import_failure(error, "diffusers", "diffusers")) from error

Generators = torch.Generator | Sequence[torch.Generator] | None
Callback = Callable[["NextScalePipeline", int, tuple[int, int], dict[str, Tensor]], object]
"""(pipeline, k, (h_k, w_k), tensors). The return value is ignored: sampled scales cannot be changed."""

OUTPUT_TYPES = ("pil", "np", "pt")


class NextScalePipeline(DiffusionPipeline):
    """Image generation from classes, with the arguments of diffusers' ``DiTPipeline``, or from text, with those of its
    text-to-image pipelines.

    The components are ``tokenizer`` and ``transformer``. ``config``, ``components``, ``from_pipe`` and the progress bar
    are those of the base class. Weights are read and written in nextscale's formats and stay float32: the dtype of
    ``to`` and ``torch_dtype`` applies to matrix products and convolutions. Offloading and ``push_to_hub`` are not
    supported, as they require diffusers' own modules and files.

    Args:
        class_names: one per class. Without names, classes are numbers.
        text_encoder: for text-to-image models, see `nextscale.Pipeline`.
        settings: default settings of sampling; None means those of the family.

    Raises:
        InputError: components that do not fit together.
    """

    _callback_tensor_inputs = ("tokens", "logits", "canvas", "images")

    def __init__(
        self,
        tokenizer: ImageTokenizer,
        transformer: VAR | Infinity,
        class_names: Sequence[str] = (),
        text_encoder: TextEncoder | str | Path = "",
        settings: SamplingSettings | None = None,
    ):
        super().__init__()
        self._autocast = torch.float32
        self._interrupt = False
        self.register_modules(tokenizer=tokenizer, transformer=transformer)
        self.register_to_config(class_names=list(class_names), text_encoder=text_encoder, settings=settings)
        self._pipeline()

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: Source = "starter",
        *,
        torch_dtype: torch.dtype = torch.float32,
        schedule: ScaleSchedule | None = None,
    ) -> NextScalePipeline:
        """Load a model onto the CPU. Use ``to`` to move it to a GPU.

        Args:
            pretrained_model_name_or_path: see `nextscale.Pipeline.from_pretrained`: "starter", a folder,
                "FoundationVision/var:d16", a pair of .pth files.
            torch_dtype: float32 or bfloat16. For float16, move the pipeline to a GPU first.
            schedule: for .pth files with an unofficial schedule.

        Raises:
            InputError: no such model, or a dtype that the CPU does not support.
        """
        parts = load_source(pretrained_model_name_or_path, schedule)
        only_images(parts.tokenizer, "NextScalePipeline")
        return cls(*parts).to(torch_dtype)

    def save_pretrained(  # type: ignore[override]
        self, save_directory: str | Path, dtype: torch.dtype | None = None
    ) -> None:
        """Write a folder that this class and `nextscale.Pipeline` load. ``dtype`` stores weights in lower precision."""
        self._pipeline().save_pretrained(save_directory, dtype)

    def to(
        self,
        device: str | torch.device | torch.dtype | None = None,
        dtype: torch.dtype | None = None,
    ) -> NextScalePipeline:
        """Move the model, set the dtype of matrix products and convolutions, or both. Returns this pipeline.

        Raises:
            InputError: not a device or dtype, or one that this machine does not support.
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
        """Device of the model."""
        return self.transformer.head.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of matrix products and convolutions."""
        return self._autocast

    @property
    def labels(self) -> dict[str, int]:
        """Class names and their numbers."""
        return {name: i for i, name in enumerate(self._pipeline().class_names)}

    def get_label_ids(self, label: str | Sequence[str]) -> list[int]:
        """Return the numbers of classes, given one name or several.

        Raises:
            InputError: an unknown name.
        """
        return [self._pipeline().class_id(name) for name in ([label] if isinstance(label, str) else label)]

    @property
    def interrupt(self) -> bool:
        """Whether a callback has set ``_interrupt``. Sampling then stops with the images so far."""
        return self._interrupt

    def __call__(
        self,
        class_labels: int | str | Sequence[int | str] | Tensor | None = None,
        guidance_scale: float | None = None,
        num_inference_steps: int | None = None,
        num_images_per_prompt: int = 1,
        generator: Generators = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: Callback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("canvas",),
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str = "",
        height: int | None = None,
        width: int | None = None,
        **settings: Any,
    ) -> Any:
        """Generate images. Returns an ``ImagePipelineOutput``, whose ``images`` are a list of images or an array.

        Args:
            class_labels: names or numbers of classes, or a single one. The number of classes means "no class".
            guidance_scale: g in unconditional + g (conditional - unconditional). 1 or less turns guidance off. For
                class-conditional models it is reached at the last scale and grows linearly from none at the first
                scale; in nextscale's terms, g = cfg + 1, and the default is 5. For text-to-image models it is
                nextscale's cfg, the same at all scales.
            num_inference_steps: accepted for compatibility. The steps are the model's scales; other numbers only cause
                a warning.
            num_images_per_prompt: number of images per label, in consecutive rows.
            generator: one generator, which yields a seed for every image, or a list with one per image. None uses
                PyTorch's global generator. See `seeds_from`.
            output_type: "pil", images; "np", (B, H, W, 3) in [0, 1]; "pt", (B, 3, H, W) in [0, 1].
            return_dict: False returns a tuple that contains only the images.
            callback_on_step_end: called after each scale with the pipeline, k, (h_k, w_k) and the tensors below.
            callback_on_step_end_tensor_inputs: any of "tokens" (B, n_k), "logits" (B, n_k, V), "canvas"
                (B, D, h_K, w_K) and "images" (B, 3, H, W). The images are decoded after every scale.
            prompt: one or more texts, for text-to-image models.
            negative_prompt: what the images should not show, for text-to-image models.
            height, width: size in pixels, for text-to-image models. The nearest size of the model is used.
            settings: any of `SamplingSettings` but cfg: ``temperature``, ``top_k``, ``top_p``,
                ``more_smooth``, ``guidance_blocks``.

        Raises:
            InputError: an unknown class, or an argument out of range.
        """
        if output_type not in OUTPUT_TYPES:
            raise InputError(f"output_type must be one of {', '.join(OUTPUT_TYPES)}, not {output_type!r}")
        if unknown := set(callback_on_step_end_tensor_inputs) - set(self._callback_tensor_inputs):
            raise InputError(
                f"callback tensors are {', '.join(self._callback_tensor_inputs)}, not {', '.join(sorted(unknown))}"
            )
        if "cfg" in settings:
            raise InputError("use guidance_scale instead of cfg")
        pipeline = self._pipeline()
        wanted = repeat_labels(class_labels if prompt is None else prompt, num_images_per_prompt)
        options: dict[str, Any] = {"negative_prompt": negative_prompt, "size": size_text(height, width, pipeline)}
        chosen = pipeline.settings.changed(**guidance(guidance_scale, pipeline)).changed(**settings)
        run = pipeline.scales(wanted, seed=seeds_from(generator, len(wanted)), settings=chosen, **options)
        scales = run.schedule.num_scales
        if num_inference_steps not in (None, scales):
            warnings.warn(
                f"num_inference_steps={num_inference_steps} has no effect: an image takes {scales} scales",
                stacklevel=2,
            )
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
        """Not supported: diffusers would create a repository before it notices that our files are not its own."""
        raise InputError(
            "push_to_hub supports only diffusers' files: use save_pretrained and huggingface_hub.upload_folder"
        )

    def enable_model_cpu_offload(self, *args: object, **kwargs: object) -> NoReturn:
        """Not supported: some of our modules share weights, which the offloading hooks do not see."""
        raise InputError("offloading is not supported: use to(device) to move the whole model")

    enable_sequential_cpu_offload = enable_group_offload = enable_model_cpu_offload

    def _pipeline(self) -> Pipeline:
        """Return a nextscale pipeline of the current components."""
        names, dtype = self.config["class_names"], dtype_name(self._autocast)
        text = {name: self.config[name] for name in ("text_encoder", "settings")}
        return Pipeline(self.tokenizer, self.transformer, names, device=str(self.device), dtype=dtype, **text)

    def _tensor(self, step: ScaleStep, name: str) -> Tensor:
        if name != "images":
            return getattr(step, name)
        with precision(dtype_name(self._autocast), self.device):
            return step.image()


def guidance(guidance_scale: float | None, pipeline: Pipeline) -> dict[str, float]:
    """Convert diffusers' guidance scale to the setting cfg of a model; to nothing for None, the model's default.

    Raises:
        InputError: not a number.
    """
    if guidance_scale is None:
        return {}
    cfg = guidance_to_cfg(guidance_scale)
    return {"cfg": cfg if pipeline.family.takes == "class" else cfg + 1}


def guidance_to_cfg(guidance_scale: float) -> float:
    """Convert diffusers' guidance scale g to the cfg of a class-conditional model: g - 1, at least 0.

    Raises:
        InputError: not a number.
    """
    if not isinstance(guidance_scale, int | float) or guidance_scale != guidance_scale:
        raise InputError(f"guidance_scale must be a number, not {guidance_scale!r}")
    return max(0.0, guidance_scale - 1)


def size_text(height: int | None, width: int | None, pipeline: Pipeline) -> str:
    """Return the size that a call asks for as WIDTHxHEIGHT; empty if it names none. One side alone keeps the other."""
    own_height, own_width = pipeline.tokenizer.config.image_size
    return "" if height is None and width is None else f"{width or own_width}x{height or own_height}"


def seeds_from(generator: Generators, count: int) -> list[int]:
    """Return one seed per image. `nextscale.Pipeline` generates the same images from them, in any batch.

    A generator advances by one random number per image, so that the next call gives other images.

    Args:
        generator: one for all images, one per image, or None for PyTorch's global generator.

    Raises:
        InputError: the number of generators differs from the number of images.
    """
    generators = list(generator) if isinstance(generator, Sequence) else [generator] * count
    if len(generators) != count:
        raise InputError(f"expected one generator, or one for each of the {count} images, got {len(generators)}")
    for g in generators:
        if not isinstance(g, torch.Generator | None):
            raise InputError(f"expected a torch.Generator, got {g!r}")
    return [int(torch.randint(2**63 - 1, (), generator=g, device=None if g is None else g.device)) for g in generators]


def repeat_labels(labels: int | str | Sequence[int | str] | Tensor | None, times: int) -> list[int | str]:
    """Return a list that contains each label or prompt ``times`` times in a row.

    Raises:
        InputError: there are none, or ``times`` is less than 1.
    """
    if labels is None:
        raise InputError("expected class_labels or a prompt, got neither")
    if not isinstance(times, int) or times < 1:
        raise InputError(f"num_images_per_prompt must be an integer of at least 1, not {times!r}")
    if isinstance(labels, Tensor):
        labels = labels.reshape(-1).tolist()
    each = [labels] if isinstance(labels, int | str) else list(labels)
    return [label for label in each for _ in range(times)]


def dtype_name(dtype: Any) -> str:
    """Return "float32" for torch.float32."""
    return str(dtype).removeprefix("torch.")
