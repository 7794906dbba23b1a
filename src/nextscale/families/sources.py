"""A name or a path -> tokenizer, transformer and class names."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from nextscale.errors import InputError
from nextscale.families.var import HUB_MODELS, HUB_REPOSITORY, HUB_TOKENIZER
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.files import read_json
from nextscale.io.hub import fetch
from nextscale.io.module_folder import is_module_folder
from nextscale.io.pth import as_state, is_trainer_checkpoint, read_pth, trainer_schedule
from nextscale.official.var import from_official, tokenizer_from_official
from nextscale.scales.schedule import OFFICIAL_256, ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.var import VAR

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
    files = pth_files(source)
    if len(files) == 1:
        return load_trainer_checkpoint(files[0], schedule)
    if files:
        return load_pth_pair(files, schedule)
    if schedule is not None:
        raise InputError(f"{source} has its own schedule: another one is for .pth files only")
    name = str(source)
    if name == "starter":
        with resources.as_file(resources.files("nextscale") / "starter") as folder:
            return load_folder(folder)
    if Path(name).is_dir():
        return load_folder(Path(name))
    published = name.removeprefix(f"{HUB_REPOSITORY}:")
    if published in HUB_MODELS:
        return load_published(published)
    raise InputError(
        f"no model {name!r}: expected starter, a folder, {HUB_REPOSITORY}:NAME with NAME one of "
        f"{', '.join(HUB_MODELS)}, a pair vae.pth,var.pth, or a .pth file of the official trainer"
    )


def load_tokenizer(source: Source, schedule: ScaleSchedule | None = None) -> ImageTokenizer:
    """The tokenizer of a source, which may be one alone: a run of ``nextscale train tokenizer``, or a .pth file."""
    files = pth_files(source)
    if len(files) == 1 and not is_trainer_checkpoint(content := read_pth(files[0])):
        return tokenizer_from_official(as_state(content, files[0]), schedule or OFFICIAL_256)
    folder = Path(str(source))
    if not files and folder.is_dir() and not (folder / INDEX).is_file():
        return ImageTokenizer.from_pretrained(folder)
    return load_source(source, schedule).tokenizer


def pth_files(source: Source) -> list[Path]:
    """The files of a source that is made of .pth files: a sequence of paths, or paths with commas between them."""
    if isinstance(source, tuple | list):
        return [Path(part) for part in source]
    parts = [part.strip() for part in str(source).split(",")]
    return [Path(part) for part in parts] if all(part.endswith((".pth", ".pt", ".ckpt")) for part in parts) else []


def load_folder(folder: Path) -> Parts:
    """A folder of `Pipeline.save_pretrained`, or a run of ``nextscale train var`` (its newest EMA weights)."""
    if not (folder / INDEX).is_file():
        kind = "holds a tokenizer or a transformer alone" if is_module_folder(folder) else "holds no model"
        raise InputError(f"{folder} {kind}: expected a folder with {INDEX}, or a run of train var")
    transformer = folder if newest_checkpoint(folder) else folder / TRANSFORMER
    if not transformer.is_dir():
        raise InputError(f"{folder} is a training run without a checkpoint yet")
    index = read_json(folder / INDEX)
    names = index.get("class_names", []) if isinstance(index, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder / INDEX} must hold an object with class_names, a list of strings")
    return Parts(ImageTokenizer.from_pretrained(folder / TOKENIZER), VAR.from_pretrained(transformer), tuple(names))


def load_pth_pair(paths: Sequence[Path], schedule: ScaleSchedule | None = None) -> Parts:
    """Official files of a tokenizer and a transformer."""
    if len(paths) != 2:
        raise InputError(f"expected a pair of .pth files, tokenizer and transformer, got {len(paths)}")
    tokenizer_state, var_state = (as_state(read_pth(path), path) for path in paths)
    return Parts(*from_official(tokenizer_state, var_state, schedule=schedule), ())


def load_trainer_checkpoint(path: Path, schedule: ScaleSchedule | None = None) -> Parts:
    """A checkpoint of the official trainer, which holds both models."""
    content = read_pth(path)
    if not is_trainer_checkpoint(content):
        raise InputError(
            f"{path} is not a checkpoint of the official trainer; for one model's weights give the pair vae.pth,var.pth"
        )
    schedule = schedule or trainer_schedule(content)
    states = (as_state(content["trainer"][part], path) for part in ("vae_local", "var_wo_ddp"))
    return Parts(*from_official(*states, schedule=schedule), ())


def load_published(name: str) -> Parts:
    """An official model from the hub."""
    published = HUB_MODELS[name]
    paths = [fetch(HUB_REPOSITORY, file) for file in (HUB_TOKENIZER, published.file)]
    parts = load_pth_pair(paths, published.model.schedule)
    if parts.model.config.depth != published.model.depth:
        raise InputError(f"{paths[1]} is of depth {parts.model.config.depth}, but {name} has {published.model.depth}")
    return parts
