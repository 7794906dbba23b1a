"""Pipeline: a name or a path in, images out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nextscale.acceleration.ready import drawing_dtype, make_ready, name_dtype
from nextscale.editing.masks import Mask
from nextscale.editing.plan import EditPlan, check_label, plan_edit
from nextscale.editing.spec import Box, EditSpec, Mode
from nextscale.errors import InputError
from nextscale.families.sources import INDEX, TOKENIZER, TRANSFORMER, Source, load_source
from nextscale.imaging.images import to_pil
from nextscale.io.files import write_json
from nextscale.io.fingerprint import quick_fingerprint
from nextscale.io.module_folder import check_no_run, save_module
from nextscale.runtime.device import one_core_each, pick_device
from nextscale.sampling.sampler import (
    DrawingArguments,
    Labels,
    SamplingArguments,
    ScaleStep,
    check_match,
    last_step,
    sample_scales,
)
from nextscale.sampling.token_edit import TokenEdit
from nextscale.scales.schedule import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.var import VAR

if TYPE_CHECKING:
    from typing_extensions import Unpack

FOR_LOOKS: SamplingArguments = {"cfg": 4.0, "top_k": 900, "top_p": 0.95}
"""What a pipeline draws with unless told otherwise; `sample` has the settings for metrics."""

NO_CLASS = ("none", "unconditional")
"""Names of no class."""

PipelineLabels = Sequence[int | str] | Tensor | np.ndarray | str | None


@dataclass(frozen=True)
class PipelineResult:
    """Images, and how they came about."""

    images: list[Image.Image]
    tokens: list[Tensor]
    """K LongTensors (B, n_k): the tokens that were drawn."""
    labels: list[int]
    """The class of each image; the number of classes means "no class"."""


@dataclass(frozen=True)
class EditResult(PipelineResult):
    """Edited images, and how they came about. Tokens are those drawn, before kept ones took their places."""

    plan: EditPlan


class Pipeline:
    """A tokenizer, a transformer and the names of its classes, on a device.

    Args:
        dtype: "float32", "bfloat16" or, on a GPU, "float16": precision of matrix products and convolutions. "auto" is
            bfloat16 where that is faster and changes little: see `nextscale.acceleration.ready.name_dtype`. "int8", on
            CPUs with AVX512-VNNI, rounds the large matrices of the blocks to 8 bits at scales of 64 tokens or more:
            faster, and less exact. All else is what is fast there, or as "int8-float32" and "int8-bfloat16" say.

    Raises:
        InputError: parts that do not fit together.
    """

    def __init__(
        self,
        tokenizer: ImageTokenizer,
        model: VAR,
        class_names: Sequence[str] = (),
        device: str = "auto",
        dtype: str = "auto",
    ):
        check_match(tokenizer, model)
        count = model.config.num_classes
        if class_names and len(class_names) != count:
            raise InputError(f"the transformer has {count} classes, but {len(class_names)} names were given")
        self.device = pick_device(device)
        self.dtype = name_dtype(dtype, model.config, self.device)
        drawing_dtype(self.dtype, self.device)  # refuses what the device cannot do
        self.tokenizer = tokenizer.to(self.device).eval()
        self.model = model.to(self.device).eval()
        self.class_names = list(class_names) or [str(i) for i in range(count)]
        self._ready: tuple[list[tuple[int, int]], tuple[ImageTokenizer, VAR]] | None = None

    @classmethod
    def from_pretrained(
        cls,
        source: Source = "starter",
        device: str = "auto",
        dtype: str = "auto",
        schedule: ScaleSchedule | None = None,
    ) -> Pipeline:
        """Load a model.

        Args:
            source: "starter", which comes with the package; a folder of `save_pretrained` or of ``nextscale train
                var``; "FoundationVision/var:d16" ... ":d36" from the hub, or "d16" ... "d36" for short; a pair of
                official .pth files (tokenizer, transformer), also written "vae.pth,var.pth"; one .pth file of the
                official trainer. A folder that is called "d16" goes before the hub's model.
            schedule: for .pth files of a schedule other than the official ones.

        Raises:
            InputError: nothing there, damaged weights, weights of another model or schedule, or no network.
        """
        return cls(*load_source(source, schedule), device=device, dtype=dtype)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a folder that `from_pretrained` reads; ``dtype`` stores the weights in less precision."""
        folder = check_no_run(Path(folder))
        save_module(folder / TOKENIZER, self.tokenizer.config, self.tokenizer, dtype)
        save_module(folder / TRANSFORMER, self.model.config, self.model, dtype)
        write_json(folder / INDEX, {"class_names": self.class_names})

    @cached_property
    def fingerprint(self) -> str:
        """Tells these weights from others."""
        return f"{quick_fingerprint(self.tokenizer)} {quick_fingerprint(self.model)}"

    def scales(self, labels: PipelineLabels = None, **arguments: Unpack[SamplingArguments]) -> Iterator[ScaleStep]:
        """Draw scale by scale, in the pipeline's precision; arguments as in `__call__`."""
        drawn: SamplingArguments = {**FOR_LOOKS, **arguments}
        return sample_scales(*self.ready(), self.class_ids(labels), **drawn)

    def ready(self) -> tuple[ImageTokenizer, VAR]:
        """The tokenizer and the transformer that draw, made ready when they are first asked for.

        The pipeline's own stay as they are. If their weights have changed since, they are made ready anew.
        """
        weights = [p for module in (self.tokenizer, self.model) for p in module.parameters()]
        versions = [(id(p), p._version) for p in weights]
        if self._ready is None or self._ready[0] != versions:
            self._ready = None  # before there is another
            self._ready = versions, make_ready(self.tokenizer, self.model, *drawing_dtype(self.dtype, self.device))
        return self._ready[1]

    def __call__(self, labels: PipelineLabels = None, **arguments: Unpack[SamplingArguments]) -> PipelineResult:
        """Draw images.

        Args:
            labels: class names or numbers, one for each image; or, with ``num_images``, None (drawn at random) or
                "unconditional", also called "none". In a list, both are names of no class.
            cfg: guidance, 0 for none, 1.5 for metrics; 4 unless given.
            top_k, top_p: draw among the k most probable tokens, of these among the fewest that reach probability p,
                0 is off; 900 and 0.95 unless given.
            seed: an int for the whole call, or one for each image, which is then the same in any batch.
            more_smooth: smoother images by Gumbel-softmax; not for metrics.
            edit: tokens of a given image to keep.

        Raises:
            InputError: an unknown class, or an argument out of range.
        """
        step, tokens = last_step(self.scales(labels, **arguments))
        return PipelineResult(self.finish(step, tokens, arguments), tokens, step.labels.tolist())

    def edit(
        self,
        image: Image.Image | str | Path,
        mask: Mask | None = None,
        *,
        box: Box | None = None,
        mode: Mode = "inpaint",
        labels: PipelineLabels | int = None,
        leak_free: bool = True,
        softness: float = 0,
        composite: bool = True,
        **arguments: Unpack[DrawingArguments],
    ) -> EditResult:
        """Draw part of an image anew.

        ``leak_free=False, composite=False`` with a box is the official zero-shot editing, exactly.

        Args:
            image: an image or the path of one, of any size; it is brought to the model's, and cropped in the middle.
            mask, box, mode, leak_free, softness: see `nextscale.editing.spec.EditSpec`. Mode "class" demands a class.
            labels: a class name or number for all variants, or one for each; None, "none" or "unconditional" is no
                class.
            composite: lay what is drawn over the image, whose other pixels then stay as they are.
            arguments: as in `__call__`; ``num_images`` is how many variants.

        Raises:
            InputError: an image, mask or argument that does not fit.
        """
        labels = self.variant_labels(labels, arguments.get("num_images"))
        check_label(mode, labels, self.model.config.num_classes)
        spec = EditSpec(mode=mode, box=box, leak_free=leak_free, softness=softness, composite=composite)
        plan = plan_edit(spec, self.tokenizer, image, mask)
        return self.carry_out(plan, labels, composite=composite, **arguments)

    def continue_from(
        self,
        image: Image.Image | str | Path,
        scales: int | None = None,
        *,
        labels: PipelineLabels | int = None,
        **arguments: Unpack[DrawingArguments],
    ) -> EditResult:
        """Keep the first scales of an image, and draw the others.

        Args:
            scales: how many to keep; None, for an image smaller than the model's, those that it has
                (super-resolution).
            labels, arguments: as in `edit`.
        """
        spec = EditSpec(upscale=True) if scales is None else EditSpec(scales_kept=scales)
        return self.carry_out(plan_edit(spec, self.tokenizer, image), labels, **arguments)

    def carry_out(
        self,
        plan: EditPlan,
        labels: PipelineLabels | int = None,
        *,
        composite: bool = True,
        **arguments: Unpack[DrawingArguments],
    ) -> EditResult:
        """Draw what a plan leaves open; arguments as in `edit`."""
        sampling: SamplingArguments = {**arguments, "edit": plan.edit}
        labels = self.variant_labels(labels, sampling.get("num_images"))
        if isinstance(labels, str) and sampling.get("num_images") is None:
            sampling["num_images"] = 1
        step, tokens = last_step(self.scales(labels, **sampling))
        images = self.finish(step, tokens, sampling, plan if composite else None)
        return EditResult(images, tokens, step.labels.tolist(), plan)

    def images(self, step: ScaleStep, plan: EditPlan | None = None) -> list[Image.Image]:
        """The images as they stand after a scale, laid over the image of a plan if there is one."""
        images = step.image()
        return to_pil(plan.composite(images) if plan else images)

    def finish(
        self,
        step: ScaleStep,
        tokens: Sequence[Tensor],
        arguments: SamplingArguments,
        plan: EditPlan | None = None,
    ) -> list[Image.Image]:
        """The finished images, given the last step, the tokens of all and what they were drawn with."""
        images = self.finished_images(step, tokens, arguments)
        return to_pil(plan.composite(images) if plan else images)

    @torch.no_grad()
    def finished_images(self, step: ScaleStep, tokens: Sequence[Tensor], arguments: SamplingArguments) -> Tensor:
        """The finished images, (B, 3, H, W) in [0, 1]; see `finish`.

        On the CPU those with a seed each are decoded one by one. This leaves out ``more_smooth``, whose codes are not
        of tokens. What a GPU computes depends on the batch anyway, by roundings.
        """
        each = isinstance(arguments.get("seed"), Sequence) and not arguments.get("more_smooth")
        if each and self.device.type == "cpu":
            return self.decode_each(tokens, arguments.get("edit"))
        return step.image()

    def decode_each(self, tokens: Sequence[Tensor], edit: TokenEdit | None = None) -> Tensor:
        """Decode drawn tokens image by image, so that not a bit of one depends on the others, nor on how many cores
        there are.

        In a batch, and on more cores, they differ by roundings, which show in one of four as a pixel that is a level
        off. K LongTensors (B, n_k) -> (B, 3, H, W) in [0, 1].
        """
        tokenizer, _ = self.ready()
        tokens = edit.put(tokens, tokenizer.schedule) if edit else tokens

        @torch.no_grad()
        def decode(i: int) -> Tensor:
            return tokenizer.decode_canvas(tokenizer.pyramid.canvas([t[i : i + 1] for t in tokens]))

        return torch.cat(one_core_each(decode, range(len(tokens[0])))).add(1).mul(0.5)

    def variant_labels(self, labels: PipelineLabels | int, num_images: int | None) -> Labels:
        """The class of each variant of an edit: one for all, or as given; "unconditional" for None."""
        labels = "unconditional" if labels is None else labels
        if isinstance(labels, str | int) and self.class_ids(labels) != "unconditional":  # type: ignore[arg-type]
            labels = [labels] * (1 if num_images is None else num_images)
        return self.class_ids(labels)  # type: ignore[arg-type]

    def class_ids(self, labels: PipelineLabels) -> Labels:
        """Class names as numbers, "none" alone as "unconditional"; everything else as it is.

        Raises:
            InputError: an unknown name.
        """
        if isinstance(labels, str) and labels == "none" and "none" not in self.class_names:
            return "unconditional"
        if not isinstance(labels, Sequence) or isinstance(labels, str):
            return labels
        return [self.class_id(label) if isinstance(label, str) else label for label in labels]

    def class_id(self, name: str) -> int:
        """The number of a class, from its name or its number in digits; the number of classes for "none" and
        "unconditional"."""
        if name in self.class_names:
            return self.class_names.index(name)
        if name in NO_CLASS:
            return len(self.class_names)
        if name.removeprefix("-").isdecimal():
            if not 0 <= int(name) < len(self.class_names):
                raise InputError(f"label {name} is out of range: expected 0..{len(self.class_names) - 1}")
            return int(name)
        folded = [known.casefold() for known in self.class_names]
        if folded.count(name.casefold()) == 1:
            return folded.index(name.casefold())
        close = difflib.get_close_matches(name.casefold(), folded, n=3)
        known = [self.class_names[folded.index(c)] for c in close] or self.class_names[:12]
        more = ", ..." if not close and len(self.class_names) > 12 else ""
        raise InputError(
            f"unknown class {name!r}: expected 0..{len(self.class_names) - 1} "
            f"or a name such as {', '.join(known)}{more}"
        )
