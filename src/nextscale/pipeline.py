"""Pipeline: a model by name or path, images out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from nextscale.acceleration.compiled import compile_parts
from nextscale.acceleration.precision import Precision
from nextscale.acceleration.ready import make_ready
from nextscale.conditioning.classes import UNCONDITIONAL, ClassNames, NamedLabels
from nextscale.editing.masks import Mask
from nextscale.editing.plan import EditPlan, check_label, plan_edit
from nextscale.editing.spec import Box, EditSpec, Fit, Mode
from nextscale.errors import InputError
from nextscale.families.sources import INDEX, TOKENIZER, TRANSFORMER, Source, family_of, load_source
from nextscale.imaging.images import to_pil
from nextscale.io.files import write_json
from nextscale.io.fingerprint import quick_fingerprint
from nextscale.io.module_folder import check_no_run, save_module
from nextscale.protocols import Tokenizer, Transformer
from nextscale.runtime.device import pick_device
from nextscale.sampling.recorded import RecordedSampler
from nextscale.sampling.run import SamplingRun
from nextscale.sampling.sampler import SampleResult, ScaleStep, check_match, sample_scales
from nextscale.sampling.settings import SamplingSettings
from nextscale.scales.schedule import ScaleSchedule

HOOKS = ("edit", "guidance", "logits_processor")
"""Arguments of the sampler that are neither settings nor seeds."""


@dataclass(frozen=True)
class PipelineResult:
    """Generated images."""

    images: list[Image.Image]
    tokens: list[Tensor]
    """K LongTensors (B, n_k): the sampled tokens."""
    labels: list[int]
    """The class label of each image; the number of classes means "no class"."""


@dataclass(frozen=True)
class EditResult(PipelineResult):
    """Edited images. Tokens are the sampled ones, before the kept ones replaced them."""

    plan: EditPlan


class Pipeline:
    """A tokenizer, a transformer and the names of its classes, on a device.

    Args:
        class_names: one per class; None numbers them.
        device: "auto" (a CUDA GPU if there is one), "cpu" or "cuda".
        dtype: Precision of matrix products and convolutions: "float32", "bfloat16", on a GPU also "float16". "auto" is
            bfloat16 where it is faster and changes little. "int8" (CPUs with AVX512-VNNI) rounds the large matrices of
            the blocks to 8 bits at scales of 64 tokens or more, which is faster and less exact; the rest runs in the
            faster of float32 and bfloat16. "int8-float32" and "int8-bfloat16" name the precision of the rest.
        compile: On a CUDA GPU, run the blocks and the decoder through torch.compile.
        cuda_graph: On a CUDA GPU, record the work of each batch size and settings once and replay it.

    Raises:
        InputError: The parts do not fit together, or the device does not support an option.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        model: Transformer,
        class_names: Sequence[str] = (),
        device: str = "auto",
        dtype: str = "auto",
        compile: bool = False,
        cuda_graph: bool = False,
    ):
        check_match(tokenizer, model)
        self.family = family_of(model)
        count = model.config.num_classes
        if class_names and len(class_names) != count:
            raise InputError(f"the transformer has {count} classes, but {len(class_names)} names were given")
        self.device = pick_device(device)
        for option, asked in (("compile", compile), ("cuda_graph", cuda_graph)):
            if asked and self.device.type != "cuda":
                raise InputError(f"{option} needs a CUDA GPU, not {self.device}")
        self.precision = Precision.parse(dtype, model.config.width, self.device)
        self.dtype = self.precision.name
        self.tokenizer: Any = tokenizer.to(self.device).eval()
        self.model: Any = model.to(self.device).eval()
        self.class_names = list(class_names) or [str(i) for i in range(count)]
        self.classes = ClassNames(tuple(self.class_names))
        self._compile, self._cuda_graph = compile, cuda_graph
        self._ready: tuple[list[tuple[int, int]], tuple[Any, Any]] | None = None
        self._recorded: dict[tuple[int, SamplingSettings, bool], RecordedSampler] = {}

    @classmethod
    def from_pretrained(
        cls,
        source: Source = "starter",
        device: str = "auto",
        dtype: str = "auto",
        schedule: ScaleSchedule | None = None,
        **options: bool,
    ) -> Pipeline:
        """Load a model.

        Args:
            source: "starter" (also "clothes"), which comes with the package; a folder of `save_pretrained` or of
                ``nextscale train transformer``; "FoundationVision/var:d16" ... ":d36" from the hub, or "d16" ... "d36"
                for short; a pair of official .pth files (tokenizer, transformer), also written "vae.pth,var.pth"; one
                .pth file of the official trainer. A folder named "d16" takes precedence over the hub's model.
            schedule: for .pth files whose schedule is not an official one.
            options: ``compile`` and ``cuda_graph``.

        Raises:
            InputError: There is no such model, the weights are damaged or belong to another model or schedule, or
                there is no network.
        """
        return cls(*load_source(source, schedule), device=device, dtype=dtype, **options)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a folder that `from_pretrained` reads. ``dtype`` stores the weights in lower precision."""
        folder = check_no_run(Path(folder))
        save_module(folder / TOKENIZER, self.tokenizer.config, self.tokenizer, dtype)
        save_module(folder / TRANSFORMER, self.model.config, self.model, dtype)
        write_json(folder / INDEX, {"class_names": self.class_names})

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the weights."""
        return f"{quick_fingerprint(self.tokenizer)} {quick_fingerprint(self.model)}"

    def ready(self) -> tuple[Any, Any]:
        """Tokenizer and transformer in the pipeline's precision, prepared for fast sampling on first use.

        The pipeline's own modules are not changed. If their weights change, they are prepared again.
        """
        weights = [p for module in (self.tokenizer, self.model) for p in module.parameters()]
        versions = [(id(p), p._version) for p in weights]
        if self._ready is None or self._ready[0] != versions:
            self._ready = None  # frees the old copy before there is a new one
            self._recorded.clear()
            parts = make_ready(self.tokenizer, self.model, self.precision)
            if self._compile:
                compile_parts(*parts)
            self._ready = versions, parts
        return self._ready[1]

    # ---- sampling ------------------------------------------------------------------------------------------------

    def __call__(self, labels: NamedLabels = None, **arguments: Any) -> PipelineResult:
        """Generate images.

        Args:
            labels: Class names or numbers, one per image, where "none" and "unconditional" mean no class. Or, with
                ``num_images``: None for random classes, or "unconditional" (or "none"). A class called "none" or
                "unconditional" takes precedence in a list.
            arguments: ``num_images``, ``seed``, ``edit``, ``guidance``, ``logits_processor`` as in
                `nextscale.sample_scales`; ``settings``, or single ones such as ``cfg=4.0, temperature=1.0, top_k=900,
                top_p=0.95`` (the defaults). One seed per image makes an image independent of its batch.

        Raises:
            InputError: An unknown class, or an argument out of range.
        """
        result = self._replayed(labels, arguments) if self._cuda_graph else None
        return self._packed(result or self.scales(labels, **arguments).result())

    def scales(
        self,
        labels: NamedLabels = None,
        *,
        seed: int | Sequence[int] = 0,
        settings: SamplingSettings | None = None,
        num_images: int | None = None,
        **arguments: Any,
    ) -> SamplingRun:
        """Generate scale by scale, in the pipeline's precision. Arguments as in `__call__`.

        Returns:
            An iterator over `ScaleStep`; its ``result()`` gives the finished images (B, 3, H, W) in [0, 1].
        """
        tokenizer, model = self.ready()
        hooks = {name: arguments.pop(name) for name in HOOKS if name in arguments}
        settings = (settings or self.family.settings).changed(**arguments)
        steps = sample_scales(
            tokenizer, model, self.classes.ids(labels), num_images=num_images, seed=seed, settings=settings, **hooks
        )
        seed_per_image = isinstance(seed, Sequence)
        return SamplingRun(steps, tokenizer, hooks.get("edit"), exact=seed_per_image and not settings.more_smooth)

    def _replayed(self, labels: NamedLabels, arguments: dict[str, Any]) -> SampleResult | None:
        """Replay a CUDA graph, which is recorded on first use. None for calls with hooks: they are not recorded."""
        if any(arguments.get(name) is not None for name in HOOKS):
            return None
        changes = dict(arguments)
        num_images, seed = changes.pop("num_images", None), changes.pop("seed", 0)
        settings = (changes.pop("settings", None) or self.family.settings).changed(
            **{name: value for name, value in changes.items() if name not in HOOKS}
        )
        ids = self.classes.ids(labels)
        key = self.model.conditioner.count(ids, num_images), settings, isinstance(seed, Sequence)
        parts = self.ready()
        if key not in self._recorded:
            self._recorded[key] = RecordedSampler(*parts, *key)
        return self._recorded[key](ids, seed)

    def _packed(self, result: SampleResult) -> PipelineResult:
        return PipelineResult(to_pil(result.images), result.tokens, result.labels.tolist())

    # ---- editing -------------------------------------------------------------------------------------------------

    def edit(
        self,
        image: Image.Image | str | Path,
        mask: Mask | None = None,
        *,
        box: Box | None = None,
        mode: Mode = "inpaint",
        labels: NamedLabels | int = None,
        leak_free: bool = True,
        softness: float = 0,
        composite: bool = True,
        fit: Fit = "crop",
        full_size: bool = False,
        **arguments: Any,
    ) -> EditResult:
        """Generate a part of an image anew.

        ``leak_free=False, composite=False`` with a box is exactly the official zero-shot editing.

        Args:
            image: An image or its path, of any size. It is resized to the model's size, and cropped at the centre
                unless ``fit`` is "pad".
            mask, box, mode, leak_free, softness, fit, full_size: See `nextscale.editing.spec.EditSpec`. Mode "class"
                needs a class.
            labels: A class name or number for all variants, or one per variant. None, "none" and "unconditional" mean
                no class.
            composite: Paste the generated part into the image, whose other pixels stay unchanged.
            arguments: As in `__call__`; ``num_images`` is the number of variants.

        Raises:
            InputError: An image, mask or argument that does not fit.
        """
        ids = self.classes.per_variant(labels, arguments.get("num_images"))
        check_label(mode, ids, len(self.classes))
        region = {"mode": mode, "box": box, "leak_free": leak_free, "softness": softness, "composite": composite}
        spec = EditSpec(**region, fit=fit, full_size=full_size)
        return self.carry_out(plan_edit(spec, self.tokenizer, image, mask), labels, **arguments)

    def continue_from(
        self,
        image: Image.Image | str | Path,
        scales: int | None = None,
        *,
        labels: NamedLabels | int = None,
        fit: Fit = "crop",
        **arguments: Any,
    ) -> EditResult:
        """Keep the first scales of an image and generate the others.

        Args:
            scales: The number of scales to keep. None, for an image smaller than the model's, keeps those that it
                contains (super-resolution).
            labels, fit, arguments: As in `edit`.
        """
        spec = EditSpec(upscale=True, fit=fit) if scales is None else EditSpec(scales_kept=scales, fit=fit)
        return self.carry_out(plan_edit(spec, self.tokenizer, image), labels, **arguments)

    def carry_out(
        self, plan: EditPlan, labels: NamedLabels | int = None, *, composite: bool = True, **arguments: Any
    ) -> EditResult:
        """Generate the open part of a plan. Arguments as in `edit`; ``composite=False`` returns the decoded images."""
        num_images = arguments.pop("num_images", None)
        ids = self.classes.per_variant(labels, num_images)
        if ids == UNCONDITIONAL and num_images is None:
            num_images = 1
        result = self.scales(ids, num_images=num_images, **arguments, edit=plan.edit).result()
        images = plan.finish(result.images) if composite else to_pil(result.images)
        return EditResult(images, result.tokens, result.labels.tolist(), plan)

    def images(self, step: ScaleStep, plan: EditPlan | None = None) -> list[Image.Image]:
        """The images after a scale, at the model's size, pasted into the image of a plan if there is one."""
        return plan.preview(step.image()) if plan else to_pil(step.image())

    def class_id(self, name: str) -> int:
        """The number of a class; see `ClassNames.id_of`."""
        return self.classes.id_of(name)
