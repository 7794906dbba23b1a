"""Pipeline: load a model by name or path, and generate images or videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from nextscale.acceleration.precision import Precision
from nextscale.acceleration.prepared import KeptModels, Preparation
from nextscale.analysis.memory_guard import MemoryGuard
from nextscale.conditioning.classes import ClassNames, NamedLabels
from nextscale.conditioning.feature_cache import TextEncoder
from nextscale.conditioning.on_demand import encoder_for
from nextscale.conditioning.text import TextFeatures
from nextscale.editing.results import EditResult, PipelineResult, as_images, finish, finish_edit
from nextscale.editing.spec import Box, EditSpec, Fit, Mode
from nextscale.errors import InputError
from nextscale.families import requests
from nextscale.families.arguments import check_call, check_parts, count_of, take_wanted
from nextscale.families.requests import OPTIONS, PromptRequests, Requests
from nextscale.families.sources import TOKENIZER, TRANSFORMER, Source, family_of, load_source, write_index
from nextscale.imaging.images import as_rgb, to_pil, to_pixels
from nextscale.io.fingerprint import quick_fingerprint
from nextscale.io.module_folder import check_no_run, save_module
from nextscale.protocols import Tokenizer, Transformer
from nextscale.runtime.device import pick_device
from nextscale.runtime.progress import SayOnce
from nextscale.sampling.recorded import replay
from nextscale.sampling.run import SamplingRun
from nextscale.sampling.sampler import SampleResult, ScaleStep, check_match, sample_scales
from nextscale.sampling.settings import SamplingSettings
from nextscale.scales.image_shape import ANY_SHAPE, ImageShape
from nextscale.scales.schedule import ScaleSchedule

if TYPE_CHECKING:  # imported by the calls that edit
    from nextscale.editing.extension import Beginning
    from nextscale.editing.masks import Mask
    from nextscale.editing.plan import EditPlan

Wanted = NamedLabels | TextFeatures
"""What to generate: class labels, as names or numbers; or one or more prompts."""

HOOKS = ("edit", "guidance", "logits_processor", "stop_after")
"""Arguments of the sampler that are neither settings nor seeds."""


class Pipeline:
    """A tokenizer, a transformer, and the names of its classes or its text encoder, on a device.

    Args:
        class_names: one per class; None numbers them. Only for class-conditional models.
        device: "auto" (a CUDA GPU if there is one), "cpu" or "cuda".
        dtype: Precision of matrix products and convolutions: "float32", "bfloat16", on a GPU also "float16". "auto" is
            bfloat16 where it is faster and changes little. "int8" (CPUs with AVX512-VNNI) rounds the large matrices of
            the blocks to 8 bits at scales of 64 tokens or more, which is faster and less exact; the rest runs in the
            faster of float32 and bfloat16. "int8-float32" and "int8-bfloat16" name the precision of the rest.
        compile: On a CUDA GPU, run the blocks and the decoder through torch.compile.
        cuda_graph: On a CUDA GPU, record the work of each batch size and settings once and replay it. Only for
            class-conditional models.
        offload: Keep each model in memory, or on the GPU, only while it is used: first the text encoder, then the
            transformer, then the decoder. Images are the same, but each call converts the weights again. Images to edit
            are encoded on the CPU.
        tiles: Decode large images in strips, in less memory. Images differ by rounding, at most by one of 255 levels.
            Not for video models, which decode a few frames at a time.
        text_encoder: For text-to-image models: an encoder such as `nextscale.conditioning.t5.T5TextEncoder`, or the
            folder or name of a T5, which is loaded when the first prompt comes. With ``offload``, the latter is freed
            after encoding. Models that were trained with a text encoder of their own take no other one.
        settings: Default settings of sampling; None means those of the family.

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
        text_encoder: TextEncoder | str | Path = "",
        settings: SamplingSettings | None = None,
        *,
        offload: bool = False,
        tiles: bool = False,
    ):
        check_match(tokenizer, model)
        self.family = family_of(model)
        switches = {"compile": compile, "cuda_graph": cuda_graph, "offload": offload, "tiles": tiles}
        check_parts(self.family, class_names, text_encoder, settings, switches)
        self.settings = settings or self.family.settings
        count = getattr(model.config, "num_classes", 0)
        if class_names and len(class_names) != count:
            raise InputError(f"the transformer has {count} classes, but {len(class_names)} names were given")
        self.device = pick_device(device)
        self.precision = Precision.parse(dtype, model.config.width, self.device)
        how = Preparation(self.precision, self.device, compile, cuda_graph, offload, tiles)
        self.dtype, self.offload, self._cuda_graph = self.precision.name, offload, cuda_graph
        self.tokenizer: Any = tokenizer.to(how.home).eval()
        self.model: Any = model.to(how.home).eval()
        self._models = how.of(self.tokenizer, self.model)
        self.class_names = list(class_names) or [str(i) for i in range(count)]
        self.classes = ClassNames(tuple(self.class_names))
        self.requests: Requests = requests.make_requests(
            self.family, self.classes, self.tokenizer, self.model, lambda: self._encoder(text_encoder)
        )
        self.tell: Callable[[str], None] = SayOnce()
        """Called with a note about a request. By default it prints each note once, to standard error."""
        stored = sum(p.nbytes for module in (self.tokenizer, self.model) for p in module.parameters())
        configs = self.tokenizer.config, self.model.config
        self._memory = MemoryGuard(*configs, self.precision, self.device, stored, offload, tiles)

    @classmethod
    def from_pretrained(
        cls,
        source: Source = "starter",
        device: str = "auto",
        dtype: str = "auto",
        schedule: ScaleSchedule | None = None,
        text_encoder: TextEncoder | str | Path = "",
        **options: bool,
    ) -> Pipeline:
        """Load a model.

        Args:
            source: "starter" (also "clothes"), which comes with the package; a folder of `save_pretrained` or of
                ``nextscale train transformer``; "FoundationVision/var:d16" ... ":d36" or
                "FoundationVision/Infinity:2b", ":8b", ":8b-512" or "FoundationVision/InfinityStar:480p", ":720p",
                ":interact" from the hub, for short "d16" ... "d36", "infinity-2b", "infinitystar-480p"
                ...; a pair of official .pth files (tokenizer, transformer), also written "vae.pth,var.pth", where the
                transformer may be a folder of shards; one .pth file of an official trainer. A folder named "d16" takes
                precedence over the hub's model.
            schedule: for .pth files whose schedule is not an official one.
            text_encoder: as in the constructor. By default that of the model.
            options: ``compile``, ``cuda_graph``, ``offload`` and ``tiles``.

        Raises:
            InputError: There is no such model, the weights are damaged or belong to another model or schedule, or
                there is no network.
        """
        parts = load_source(source, schedule, as_stored=True)
        text = {"text_encoder": text_encoder or parts.text_encoder, "settings": parts.settings}
        return cls(parts.tokenizer, parts.model, parts.class_names, device, dtype, **options, **text)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a folder that `from_pretrained` reads. ``dtype`` stores the weights in lower precision."""
        folder = check_no_run(Path(folder))
        save_module(folder / TOKENIZER, self.tokenizer.config, self.tokenizer, dtype)
        save_module(folder / TRANSFORMER, self.model.config, self.model, dtype)
        changed = self.settings if self.settings != self.family.settings else None
        write_index(folder, self.family, self.class_names, self.text_encoder, changed)

    @property
    def text_encoder(self) -> str:
        """Folder or name of the text encoder of a text-to-image model; empty for other models and encoders."""
        return str(getattr(getattr(self.requests, "encoder", None), "source", ""))

    def set_text_encoder(self, encoder: TextEncoder | str | Path) -> None:
        """Use another text encoder; see the constructor.

        Raises:
            InputError: this is not a text-to-image model, or it has a text encoder of its own.
        """
        if not isinstance(self.requests, PromptRequests):
            raise InputError("this model takes class labels: a text encoder is for text-to-image models")
        self.requests = replace(self.requests, encoder=self._encoder(encoder))

    @property
    def words(self) -> Any:
        """The text encoder that is a part of the model, see `nextscale.conditioning.words.Words`; None for others."""
        return getattr(self.model, "words", None)

    def _encoder(self, encoder: TextEncoder | str | Path) -> TextEncoder:
        """Return the text encoder to use: the model's own one, or the given one."""
        return encoder_for(self.model, encoder, not self.offload, self.ready)

    @cached_property
    def fingerprint(self) -> str:
        """Identifies the weights."""
        return f"{quick_fingerprint(self.tokenizer)} {quick_fingerprint(self.model)}"

    def ready(self) -> tuple[Any, Any]:
        """Tokenizer and transformer in the pipeline's precision, prepared for fast sampling on first use.

        The pipeline's own modules are not changed. If their weights change, they are prepared again. With ``offload``,
        the transformer is freed when the caller drops it.
        """
        return self._models.get()

    # ---- sampling ------------------------------------------------------------------------------------------------

    def __call__(self, labels: Wanted = None, **arguments: Any) -> PipelineResult:
        """Generate images or videos.

        Args:
            labels: For class-conditional models: class names or numbers, one per image, where "none" and
                "unconditional" mean no class. Or, with ``num_images``: None for random classes, or "unconditional" (or
                "none"). A class called "none" or "unconditional" takes precedence in a list. For text-to-image models:
                a prompt, with ``num_images`` for several images; or a list of prompts, one per image; or
                `TextFeatures`.
            arguments: ``num_images``, ``seed``, ``edit``, ``guidance``, ``logits_processor``, ``stop_after`` as in
                `nextscale.sample_scales`; ``settings``, or single ones such as ``cfg=4.0, temperature=1.0, top_k=900,
                top_p=0.95``. One seed per image makes an image independent of its batch. For text-to-image models also
                ``negative_prompt``, ``positive_phrase`` (see `nextscale.conditioning.prompts`), and ``aspect``,
                ``budget``, ``size``, ``seconds`` as in `nextscale.scales.image_shape.ImageShape`. For video models
                also ``image``, the first frame of the videos, or ``video``, whose beginning they continue; see
                `nextscale.editing.extension`.

        Raises:
            InputError: An unknown class, no prompt, or an argument out of range.
        """
        result = self._replayed(labels, arguments) if self._cuda_graph else None
        if result is not None:
            return PipelineResult(to_pil(result.images), result.tokens, result.labels.tolist())
        return finish(self.scales(labels, **arguments), self.family.takes == "class")

    def stream(self, labels: Wanted = None, **arguments: Any) -> Iterator[Tensor]:
        """Generate videos, and yield their frames as they are decoded, while later clips are not sampled yet.

        Args: as in `__call__`.

        Yields:
            (B, 3, T', H, W) uint8, a few frames at a time.
        """
        yield from map(to_pixels, self.scales(labels, **arguments).frames())

    def scales(
        self,
        labels: Wanted = None,
        *,
        seed: int | Sequence[int] = 0,
        settings: SamplingSettings | None = None,
        num_images: int | None = None,
        schedule: ScaleSchedule | None = None,
        **arguments: Any,
    ) -> SamplingRun:
        """Generate scale by scale, in the pipeline's precision. Arguments as in `__call__`.

        Returns:
            An iterator over `ScaleStep`; its ``result()`` gives the finished images (B, 3, H, W) in [0, 1].
        """
        check_call(num_images, schedule, settings, arguments, self.tokenizer.schedule)
        wanted = take_wanted(self.family, labels, arguments)
        given = [arguments.pop(name, None) for name in ("image", "video")]
        begin = self._begin(*given) if any(each is not None for each in given) else None
        if isinstance(arguments.get("guidance"), str):  # a setting, not a hook
            settings = (settings or self.settings).changed(guidance=arguments.pop("guidance"))
        hooks = {name: arguments.pop(name) for name in HOOKS if name in arguments}
        options = {name: arguments.pop(name) for name in OPTIONS if name in arguments}
        settings = (settings or self.settings).changed(**arguments)
        of_shape = self.requests.schedule_of(options)
        if begin is not None and schedule is None:
            of_shape = begin.schedule(self.requests, requests.shape_of(options))
        schedule = requests.one_schedule(schedule, of_shape)
        self._check_memory(wanted, num_images, schedule)
        if begin is not None:
            hooks["edit"] = begin.edit(self.tokenizer, self.tokenizer.schedule_or_own(schedule), hooks.get("edit"))
        edit = hooks.get("edit")
        early = self.ready() if self.words is not None else None  # encodes the prompts, too
        request = self.requests.at(schedule).parse(wanted, num_images, options, is_edit=edit is not None)
        for note in request.notes:
            self.tell(f"note: {note}")
        tokenizer, model = early or self.ready()
        what = {"num_images": num_images, "schedule": schedule, "negative": request.negative}
        steps = sample_scales(tokenizer, model, request.conditions, seed=seed, settings=settings, **what, **hooks)
        exact = isinstance(seed, Sequence) and not settings.more_smooth
        said = request.prompts, request.notes
        return SamplingRun(steps, tokenizer, edit, exact, schedule, *said, self._models.decoder, self.offload)

    def _begin(self, image: Any, video: Any) -> Beginning:
        """Read the image or the video with which a video begins."""
        if self.family.media != "video":
            raise InputError(f"{'image' if video is None else 'video'} is for video models: this one generates images")
        from nextscale.editing.extension import Beginning  # most calls generate images

        return Beginning.of(image, video)

    def _check_memory(self, wanted: Any, num_images: int | None, schedule: ScaleSchedule | None) -> None:
        """Refuse a call that needs more memory than there is, before a text encoder is loaded for it."""
        count = count_of(wanted, num_images)
        if count > 0:  # others are refused later
            encoder = self.requests.memory_to_load(wanted)
            self._memory.check(schedule, count, encoder, self._models.is_ready, self.requests.keeps_encoder)

    def _replayed(self, labels: Any, arguments: dict[str, Any]) -> SampleResult | None:
        """Replay a CUDA graph, which is recorded on first use. None for calls with hooks: they are not recorded."""
        if any(arguments.get(name) is not None for name in HOOKS):
            return None
        changes = dict(arguments)
        num_images, seed = changes.pop("num_images", None), changes.pop("seed", 0)
        settings = (changes.pop("settings", None) or self.settings).changed(
            **{name: value for name, value in changes.items() if name not in HOOKS}
        )
        parts, models = self.ready(), self._models
        assert isinstance(models, KeptModels)
        return replay(models.recorded, parts, self.classes.ids(labels), settings, num_images, seed)

    # ---- editing -------------------------------------------------------------------------------------------------

    def edit(
        self,
        image: Image.Image | str | Path,
        mask: Mask | None = None,
        *,
        box: Box | None = None,
        mode: Mode = "inpaint",
        labels: Wanted | int = None,
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
                needs a class or a prompt.
            labels: A class name or number, or a prompt, for all variants, or one per variant. None, "none" and
                "unconditional" mean no class; None and "" mean no prompt.
            composite: Paste the generated part into the image, whose other pixels stay unchanged.
            arguments: As in `__call__`; ``num_images`` is the number of variants. Text-to-image models use the aspect
                that is nearest to that of the image, unless ``aspect`` or ``size`` is given.

        Raises:
            InputError: An image, mask or argument that does not fit.
        """
        region = {"mode": mode, "box": box, "leak_free": leak_free, "softness": softness, "composite": composite}
        spec = EditSpec(**region, fit=fit, full_size=full_size)
        return self._edit(spec, image, mask, labels, arguments)

    def _edit(
        self, spec: EditSpec, image: Image.Image | str | Path, mask: Mask | None, labels: Any, arguments: dict[str, Any]
    ) -> EditResult:
        from nextscale.editing.plan import check_edits_images, plan_edit

        check_edits_images(self.family)
        image = as_rgb(image)
        schedule = self.schedule_for(image, requests.take_shape(arguments))
        return self.carry_out(plan_edit(spec, self.tokenizer, image, mask, schedule), labels, **arguments)

    def continue_from(
        self,
        image: Image.Image | str | Path,
        scales: int | None = None,
        *,
        labels: Wanted | int = None,
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
        return self._edit(spec, image, None, labels, arguments)

    def carry_out(
        self, plan: EditPlan, labels: Wanted | int = None, *, composite: bool = True, **arguments: Any
    ) -> EditResult:
        """Generate the open part of a plan. Arguments as in `edit`; ``composite=False`` returns the decoded images."""
        from nextscale.editing.plan import check_wanted

        num_images = arguments.pop("num_images", None)
        wanted, num_images = self.requests.variants(take_wanted(self.family, labels, arguments), num_images)
        check_wanted(plan.spec.mode, wanted, self.family.takes, len(self.classes))
        run = self.scales(wanted, num_images=num_images, **arguments, edit=plan.edit, schedule=plan.schedule)
        return finish_edit(run, plan, composite, self.family.takes == "class")

    def schedule_for(self, image: Image.Image, shape: ImageShape = ANY_SHAPE) -> ScaleSchedule | None:
        """The schedule for editing an image; None means the model's own. Text-to-image models take the aspect that is
        nearest to that of the image, unless ``shape`` names another."""
        return self.requests.schedule_for((image.height, image.width), shape)

    def images(self, step: ScaleStep, plan: EditPlan | None = None) -> list[Image.Image]:
        """The images after a scale, at the model's size, pasted into the image of a plan if there is one."""
        return plan.preview(step.image()) if plan else to_pil(as_images(step.image()))

    def class_id(self, name: str) -> int:
        """The number of a class; see `ClassNames.id_of`."""
        return self.classes.id_of(name)
