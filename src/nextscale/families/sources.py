"""Load a tokenizer and a transformer from a name or a path."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from nextscale.errors import InputError
from nextscale.families import var
from nextscale.families.family import Family, PublishedModel
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.files import read_json
from nextscale.io.hub import fetch
from nextscale.io.module_folder import is_module_folder
from nextscale.io.pth import as_state, is_trainer_checkpoint, read_pth, trainer_schedule
from nextscale.official.var import tokenizer_from_official
from nextscale.protocols import Transformer
from nextscale.scales.schedule import OFFICIAL_256, ScaleSchedule

INDEX = "pipeline.json"
TOKENIZER = "tokenizer"
TRANSFORMER = "transformer"

FAMILIES: tuple[Family, ...] = (var.FAMILY,)

STARTER = "starter"
"""The embedded model."""
EMBEDDED = {STARTER: STARTER, "clothes": STARTER}
"""Names of embedded models, and their folders in the package."""

Source = str | Path | tuple[str | Path, str | Path]


class Parts(NamedTuple):
    """A loaded model."""

    tokenizer: Any
    """A `nextscale.protocols.Tokenizer`."""
    model: Any
    """A `nextscale.protocols.Transformer`."""
    class_names: tuple[str, ...]


def family_of(model: Transformer) -> Family:
    """The family of a transformer."""
    for family in FAMILIES:
        if isinstance(model, family.transformer):
            return family
    raise InputError(f"a pipeline cannot load a {type(model).__name__} yet: sample it with nextscale.sample")


def find_published(name: str) -> PublishedModel | None:
    """The official model of a name such as "d16" or "FoundationVision/var:d16", if there is one."""
    for family in FAMILIES:
        if published := family.published.get(name.removeprefix(f"{family.repository}:")):
            return published
    return None


def load_source(source: Source, schedule: ScaleSchedule | None = None) -> Parts:
    """Load a model from any of the sources that `Pipeline.from_pretrained` documents."""
    files = pth_files(source)
    if len(files) == 1:
        return load_trainer_checkpoint(files[0], schedule)
    if files:
        return load_pth_pair(files, schedule)
    if schedule is not None:
        raise InputError(f"{source} defines its own schedule: only .pth files take one")
    name = str(source)
    if name in EMBEDDED:
        with resources.as_file(resources.files("nextscale") / EMBEDDED[name]) as folder:
            return load_folder(folder)
    if name and Path(name).is_dir():
        return load_folder(Path(name))
    for family in FAMILIES:
        published = name.removeprefix(f"{family.repository}:")
        if published in family.published:
            return load_published(family, published)
    hub = "; ".join(f"{family.repository}:NAME with NAME one of {', '.join(family.published)}" for family in FAMILIES)
    raise InputError(
        f"no model {name!r}: expected {', '.join(EMBEDDED)}, a folder, {hub}, a pair vae.pth,var.pth, "
        "or a .pth file of the official trainer"
    )


def load_tokenizer(source: Source, schedule: ScaleSchedule | None = None) -> Any:
    """Load the tokenizer of a model, of a run of ``nextscale train tokenizer``, or of a single .pth file.

    Returns:
        A `nextscale.protocols.Tokenizer`.
    """
    files = pth_files(source)
    if len(files) == 1 and not is_trainer_checkpoint(content := read_pth(files[0])):
        return tokenizer_from_official(as_state(content, files[0]), schedule or OFFICIAL_256)
    folder = Path(str(source))
    if not files and folder.is_dir() and not (folder / INDEX).is_file():
        return var.FAMILY.tokenizer.from_pretrained(folder)
    return load_source(source, schedule).tokenizer


def pth_files(source: Source) -> list[Path]:
    """The files of a source that consists of .pth files: a sequence of paths, or a text with commas between paths."""
    if isinstance(source, tuple | list):
        return [Path(part) for part in source]
    parts = [part.strip() for part in str(source).split(",")]
    return [Path(part) for part in parts] if all(part.endswith((".pth", ".pt", ".ckpt")) for part in parts) else []


def load_folder(folder: Path) -> Parts:
    """Load a folder of `Pipeline.save_pretrained`, or the newest EMA weights of a training run."""
    if not (folder / INDEX).is_file():
        kind = "holds a tokenizer or a transformer alone" if is_module_folder(folder) else "holds no model"
        raise InputError(f"{folder} {kind}: expected a folder with {INDEX}, or a run of train transformer")
    transformer = folder if newest_checkpoint(folder) else folder / TRANSFORMER
    if not transformer.is_dir():
        raise InputError(f"{folder} is a training run without a checkpoint yet")
    index = read_json(folder / INDEX)
    names = index.get("class_names", []) if isinstance(index, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{folder / INDEX} must hold an object with class_names, a list of strings")
    names = [name.encode("utf-8", "backslashreplace").decode() for name in names]  # some texts of JSON are no text
    family = var.FAMILY
    tokenizer = family.tokenizer.from_pretrained(folder / TOKENIZER)
    return Parts(tokenizer, family.transformer.from_pretrained(transformer), tuple(names))


def load_pth_pair(paths: Sequence[Path], schedule: ScaleSchedule | None = None) -> Parts:
    """Load the official files of a tokenizer and a transformer."""
    if len(paths) != 2:
        raise InputError(f"expected a pair of .pth files, tokenizer and transformer, got {len(paths)}")
    tokenizer_state, var_state = (as_state(read_pth(path), path) for path in paths)
    return Parts(*var.FAMILY.from_official(tokenizer_state, var_state, schedule=schedule), ())


def load_trainer_checkpoint(path: Path, schedule: ScaleSchedule | None = None) -> Parts:
    """Load a checkpoint of the official trainer, which contains both models."""
    content = read_pth(path)
    if not is_trainer_checkpoint(content):
        raise InputError(
            f"{path} is not a checkpoint of the official trainer; for one model's weights give the pair vae.pth,var.pth"
        )
    schedule = schedule or trainer_schedule(content)
    states = (as_state(content["trainer"][part], path) for part in ("vae_local", "var_wo_ddp"))
    return Parts(*var.FAMILY.from_official(*states, schedule=schedule), ())


def load_published(family: Family, name: str) -> Parts:
    """Load an official model from the hub."""
    published = family.published[name]
    paths = [fetch(family.repository, file) for file in (family.tokenizer_file, published.file)]
    parts = load_pth_pair(paths, published.model.schedule)
    if parts.model.config.depth != published.model.depth:
        raise InputError(f"{paths[1]} is of depth {parts.model.config.depth}, but {name} has {published.model.depth}")
    return parts
