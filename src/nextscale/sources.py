"""A name or a path -> tokenizer, transformer and class names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from nextscale.errors import InputError
from nextscale.files import read_json
from nextscale.hub import fetch
from nextscale.official import from_official
from nextscale.presets import HUB_MODELS, HUB_REPOSITORY, HUB_TOKENIZER
from nextscale.pth import is_trainer_checkpoint, read_pth, read_state, trainer_schedule
from nextscale.scales import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.transformer import VAR
from nextscale.weights import is_module_folder, newest_checkpoint

INDEX = "pipeline.json"
TOKENIZER = "tokenizer"
TRANSFORMER = "transformer"

Source = str | Path | tuple[str | Path, str | Path]


class Parts(NamedTuple):
    """What a source holds."""

    tokenizer: ImageTokenizer
    model: VAR
    class_names: tuple[str, ...]


def load_source(source: Source, schedule: ScaleSchedule | None = None) -> Parts:
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
