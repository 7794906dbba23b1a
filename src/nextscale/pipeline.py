"""Pipeline: a name or a path in, pictures out."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from nextscale.device import pick_device, precision
from nextscale.errors import InputError
from nextscale.files import make_folder, read_json, write_json
from nextscale.hub import fetch
from nextscale.official import from_official
from nextscale.pictures import to_pictures
from nextscale.presets import HUB_MODELS, HUB_REPOSITORY, HUB_TOKENIZER
from nextscale.pth import is_trainer_checkpoint, read_pth, read_state, trainer_schedule
from nextscale.sampling.editing import TokenEdit
from nextscale.sampling.sampler import ScaleStep, check_match, sample_scales
from nextscale.scales import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.transformer import VAR
from nextscale.weights import is_module_folder, newest_checkpoint, save_module

INDEX = "pipeline.json"
TOKENIZER = "tokenizer"
TRANSFORMER = "transformer"

Source = str | Path | tuple[str | Path, str | Path]
PipelineLabels = Sequence[int | str] | Tensor | str | None


@dataclass(frozen=True)
class PipelineResult:
    """Pictures, and how they came about."""

    images: list[Image.Image]
    tokens: list[Tensor]
    """K LongTensors (B, n_k): the tokens that were drawn."""
    labels: list[int]
    """The class of each picture; the number of classes means "no class"."""


class Parts(NamedTuple):
    """What a source holds."""

    tokenizer: ImageTokenizer
    model: VAR
    class_names: tuple[str, ...]


class Pipeline:
    """A tokenizer, a transformer and the names of its classes, on a device.

    Args:
        dtype: "float32", "bfloat16" or, on a GPU, "float16": precision of matrix products and convolutions.

    Raises:
        InputError: parts that do not fit together.
    """

    def __init__(
        self,
        tokenizer: ImageTokenizer,
        model: VAR,
        class_names: Sequence[str] = (),
        device: str = "auto",
        dtype: str = "float32",
    ):
        check_match(tokenizer, model)
        count = model.config.num_classes
        if class_names and len(class_names) != count:
            raise InputError(f"the transformer has {count} classes, but {len(class_names)} names were given")
        self.device = pick_device(device)
        self.dtype = dtype
        precision(dtype, self.device)
        self.tokenizer = tokenizer.to(self.device).eval()
        self.model = model.to(self.device).eval()
        self.class_names = list(class_names) or [str(i) for i in range(count)]

    @classmethod
    def from_pretrained(
        cls,
        source: Source = "starter",
        device: str = "auto",
        dtype: str = "float32",
        schedule: ScaleSchedule | None = None,
    ) -> Pipeline:
        """Load a model.

        Args:
            source: "starter", which comes with the package; a folder of `save_pretrained` or of ``nextscale train
                var``; "FoundationVision/var:d16" ... ":d36" from the hub, or "d16" ... "d36" for short; a pair of
                official .pth files (tokenizer, transformer), also written "vae.pth,var.pth"; one .pth file of the
                official trainer.
            schedule: for .pth files of a schedule other than the official ones.

        Raises:
            InputError: nothing there, damaged weights, weights of another model or schedule, or no network.
        """
        parts = load_parts(source, schedule)
        return cls(*parts, device=device, dtype=dtype)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Write a folder that `from_pretrained` reads; ``dtype`` stores the weights in less precision."""
        folder = make_folder(Path(folder))
        save_module(folder / TOKENIZER, self.tokenizer.config, self.tokenizer, dtype)
        save_module(folder / TRANSFORMER, self.model.config, self.model, dtype)
        write_json(folder / INDEX, {"class_names": self.class_names})

    def scales(
        self,
        labels: PipelineLabels = None,
        *,
        num_images: int | None = None,
        cfg: float = 4.0,
        top_k: int = 900,
        top_p: float = 0.95,
        seed: int | Sequence[int] = 0,
        more_smooth: bool = False,
        edit: TokenEdit | None = None,
    ) -> Iterator[ScaleStep]:
        """Draw scale by scale; arguments as in `__call__`. A step's `image` is the picture so far."""
        with precision(self.dtype, self.device):
            steps = sample_scales(
                self.tokenizer,
                self.model,
                self.class_ids(labels),
                num_images=num_images,
                cfg=cfg,
                top_k=top_k,
                top_p=top_p,
                seed=seed,
                more_smooth=more_smooth,
                edit=edit,
            )
        for _ in self.tokenizer.schedule.sizes:
            with precision(self.dtype, self.device):  # not around the yield: the caller's code is its own business
                step = next(steps)
            yield step

    def __call__(
        self,
        labels: PipelineLabels = None,
        *,
        num_images: int | None = None,
        cfg: float = 4.0,
        top_k: int = 900,
        top_p: float = 0.95,
        seed: int | Sequence[int] = 0,
        more_smooth: bool = False,
        edit: TokenEdit | None = None,
    ) -> PipelineResult:
        """Draw pictures.

        Args:
            labels: class names or numbers, one for each picture; or, with ``num_images``, None (drawn at random) or
                "unconditional".
            cfg: guidance, 0 for none; 1.5 for metrics, about 4 for looks.
            top_k, top_p: draw among the k most probable tokens, of these among the fewest that reach probability p;
                0 is off.
            seed: an int for the whole call, or one for each picture, which is then the same in any batch.
            more_smooth: smoother pictures by Gumbel-softmax; not for metrics.
            edit: tokens of a given picture to keep.

        Raises:
            InputError: an unknown class, or an argument out of range.
        """
        steps = self.scales(
            labels,
            num_images=num_images,
            cfg=cfg,
            top_k=top_k,
            top_p=top_p,
            seed=seed,
            more_smooth=more_smooth,
            edit=edit,
        )
        step = next(steps)
        tokens = [step.tokens]
        for step in steps:
            tokens.append(step.tokens)
        return PipelineResult(self.pictures(step), tokens, step.labels.tolist())

    def pictures(self, step: ScaleStep) -> list[Image.Image]:
        """The pictures as they stand after a scale."""
        with precision(self.dtype, self.device):
            return to_pictures(step.image())

    def class_ids(self, labels: PipelineLabels) -> Sequence[int] | Tensor | str | None:
        """Class names as numbers; everything else as it is.

        Raises:
            InputError: an unknown name.
        """
        if labels is None or isinstance(labels, str | Tensor):
            return labels
        return [self.class_id(label) if isinstance(label, str) else label for label in labels]

    def class_id(self, name: str) -> int:
        """The number of a class, from its name or its number in digits."""
        if name in self.class_names:
            return self.class_names.index(name)
        if name.lstrip("-").isdigit():
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


def load_parts(source: Source, schedule: ScaleSchedule | None = None) -> Parts:
    """Find out what a source is, and load it; see `Pipeline.from_pretrained`."""
    if isinstance(source, tuple | list):
        return load_pth_pair(source, schedule)
    name = str(source)
    if name == "starter":
        with resources.as_file(resources.files("nextscale") / "starter") as folder:
            return load_folder(folder)
    if Path(name).is_dir():
        return load_folder(Path(name))
    if "," in name and name.endswith(".pth"):
        return load_pth_pair(name.split(","), schedule)
    if name.endswith((".pth", ".pt", ".ckpt")):
        return load_trainer_checkpoint(Path(name), schedule)
    published = name.removeprefix(f"{HUB_REPOSITORY}:")
    if published in HUB_MODELS:
        return load_published(published)
    raise InputError(
        f"no model {name!r}: expected starter, a folder, {HUB_REPOSITORY}:NAME with NAME one of "
        f"{', '.join(HUB_MODELS)}, a pair vae.pth,var.pth, or a .pth file of the official trainer"
    )


def load_folder(folder: Path) -> Parts:
    """A folder of `Pipeline.save_pretrained`, or a run of ``nextscale train var`` (its newest EMA weights)."""
    if not (folder / INDEX).is_file():
        kind = "holds a tokenizer or a transformer alone" if is_module_folder(folder) else "holds no model"
        raise InputError(f"{folder} {kind}: expected a folder with {INDEX}")
    transformer = folder / TRANSFORMER
    if not transformer.is_dir():
        if newest_checkpoint(folder) is None:
            raise InputError(f"{folder} is a training run without a checkpoint yet")
        transformer = folder
    index = read_json(folder / INDEX)
    names = index.get("class_names", []) if isinstance(index, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder / INDEX} must hold an object with class_names, a list of strings")
    return Parts(ImageTokenizer.from_pretrained(folder / TOKENIZER), VAR.from_pretrained(transformer), tuple(names))


def load_pth_pair(paths: Sequence[str | Path], schedule: ScaleSchedule | None = None) -> Parts:
    """Official files of a tokenizer and a transformer."""
    if len(paths) != 2:
        raise InputError(f"expected a pair of .pth files, tokenizer and transformer, got {len(paths)}")
    tokenizer_state, var_state = (read_state(path) for path in paths)
    return Parts(*from_official(tokenizer_state, var_state, schedule=schedule), ())


def load_trainer_checkpoint(path: Path, schedule: ScaleSchedule | None = None) -> Parts:
    """A checkpoint of the official trainer, which holds both models."""
    content = read_pth(path)
    if not is_trainer_checkpoint(content):
        raise InputError(
            f"{path} is not a checkpoint of the official trainer; for one model's weights give the pair vae.pth,var.pth"
        )
    schedule = schedule or trainer_schedule(content)
    trainer = content["trainer"]
    return Parts(*from_official(trainer["vae_local"], trainer["var_wo_ddp"], schedule=schedule), ())


def load_published(name: str) -> Parts:
    """An official model from the hub."""
    published = HUB_MODELS[name]
    paths = [fetch(HUB_REPOSITORY, file) for file in (HUB_TOKENIZER, published.file)]
    parts = load_pth_pair(paths, published.model.schedule)
    if parts.model.config.depth != published.model.depth:
        raise InputError(f"{paths[1]} is of depth {parts.model.config.depth}, but {name} has {published.model.depth}")
    return parts
