"""Load a tokenizer and a transformer from a name or a path."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

from nextscale.errors import InputError
from nextscale.families import var
from nextscale.families.family import Family, PublishedModel
from nextscale.families.source_files import files_of
from nextscale.io.checkpoint_folder import newest_checkpoint
from nextscale.io.config import as_config
from nextscale.io.files import read_json, write_json
from nextscale.io.hub import fetch, fetch_folder
from nextscale.io.module_folder import CONFIG, is_module_folder
from nextscale.protocols import Transformer
from nextscale.sampling.settings import SamplingSettings
from nextscale.scales.schedule import ScaleSchedule

INDEX = "pipeline.json"
TOKENIZER = "tokenizer"
TRANSFORMER = "transformer"
TEXT_ENCODER = "text_encoder"

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
    class_names: tuple[str, ...] = ()
    text_encoder: str = ""
    """Folder or name of the text encoder of a text-to-image model."""
    settings: SamplingSettings | None = None
    """Its default settings; None means those of the family."""


def families() -> Iterator[Family]:
    """Yield all families. A family is imported when it is asked for."""
    yield var.FAMILY
    from nextscale.families import infinity

    yield infinity.FAMILY
    from nextscale.families import infinity_star

    yield infinity_star.FAMILY


def family_of(model: Transformer) -> Family:
    """The family of a transformer."""
    for family in families():
        if isinstance(model, family.transformer):
            return family
    raise InputError(f"a pipeline cannot load a {type(model).__name__} yet: sample it with nextscale.sample")


def find_family(name: str) -> tuple[Family, str] | None:
    """The family and the key of a published model's name such as "d16" or "infinity-2b", if there is one."""
    for family in families():
        if (key := family.published_name(name)) is not None:
            return family, key
    return None


def find_published(name: str) -> PublishedModel | None:
    """The published model of a name, if there is one."""
    found = find_family(name)
    return found[0].published[found[1]] if found else None


def media_of(source: Source) -> str:
    """Return "image" or "video", what a model generates, without loading it. Unknown models are said to make images."""
    if files := files_of(source):
        from nextscale.families.official_files import is_of_videos

        return "video" if is_of_videos(files) else "image"
    name = str(source)
    if name not in EMBEDDED and (Path(name) / INDEX).is_file():
        index = read_json(Path(name) / INDEX)
        named = index.get("family", var.FAMILY.name) if isinstance(index, dict) else var.FAMILY.name
        return family_called(named, Path(name) / INDEX).media
    found = None if name in EMBEDDED else find_family(name)
    return found[0].media if found else "image"


def load_source(source: Source, schedule: ScaleSchedule | None = None, as_stored: bool = False) -> Parts:
    """Load a model from any of the sources that `Pipeline.from_pretrained` documents.

    Args:
        as_stored: keep the type of the stored weights of a text-to-image transformer, instead of converting them to
            float32. `nextscale.acceleration.ready` converts one matrix after another, so that a large model fits into
            memory.
    """
    files = files_of(source)
    if files:
        from nextscale.families.official_files import load_files

        return of_official(load_files(files, schedule, as_stored))
    if schedule is not None:
        raise InputError(f"{source} defines its own schedule: only .pth files take one")
    name = str(source)
    if name in EMBEDDED:
        with resources.as_file(resources.files("nextscale") / EMBEDDED[name]) as folder:
            return load_folder(folder, as_stored)
    if name and Path(name).is_dir():
        return load_folder(Path(name), as_stored)
    if found := find_family(name):
        return load_published(*found, as_stored)
    hub = "; ".join(family.names for family in families())
    raise InputError(
        f"no model {name!r}: expected {', '.join(EMBEDDED)}, a folder, {hub}, a pair vae.pth,var.pth, "
        "or a .pth file of the official trainer"
    )


def load_tokenizer(source: Source, schedule: ScaleSchedule | None = None) -> Any:
    """Load the tokenizer of a model, of a run of ``nextscale train tokenizer``, or of a single .pth file.

    Returns:
        A `nextscale.protocols.Tokenizer`.
    """
    files = files_of(source)
    if len(files) == 1:
        from nextscale.families.official_files import is_trainer_file, load_tokenizer_file

        if not is_trainer_file(files[0]):
            return load_tokenizer_file(files[0], schedule)
    folder = Path(str(source))
    if not files and folder.is_dir() and not (folder / INDEX).is_file():
        return tokenizer_class(folder).from_pretrained(folder)
    return load_source(source, schedule).tokenizer


def tokenizer_class(folder: Path) -> Any:
    """The class of the tokenizer in a folder of `save_pretrained`, or in a run of ``nextscale train tokenizer``."""
    config = read_json((newest_checkpoint(folder) or folder) / CONFIG) if is_module_folder(folder) else {}
    schedule = config.get("schedule") if isinstance(config, dict) else None
    is_video = isinstance(schedule, dict) and "latent_frames" in schedule
    return next(family.tokenizer for family in families() if not is_video or family.media == "video")


def only_images(tokenizer: Any, what: str) -> Any:
    """Return a tokenizer of images, for something that does not take videos.

    Raises:
        InputError: it is a tokenizer of videos.
    """
    if hasattr(tokenizer, "decoding_stream"):
        raise InputError(f"{what} is for models that generate images, and this one generates videos")
    return tokenizer


def load_folder(folder: Path, as_stored: bool = False) -> Parts:
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
    family = family_called(index.get("family", var.FAMILY.name), folder / INDEX)
    settings = index.get("settings")
    kept = {"as_stored": as_stored} if family.takes == "prompt" else {}
    return Parts(
        family.tokenizer.from_pretrained(folder / TOKENIZER),
        family.transformer.from_pretrained(transformer, **kept),
        tuple(names),
        text_encoder_of(index, folder),
        None if settings is None else as_config(SamplingSettings, settings),
    )


def write_index(
    folder: Path, family: Family, class_names: Sequence[str], encoder: str, settings: SamplingSettings | None
) -> None:
    """Write the file that makes a folder of a tokenizer and a transformer a model.

    Args:
        encoder: folder or name of the text encoder, for text-to-image models. A folder is copied into the model's.
        settings: the model's default settings, if they are not those of the family.
    """
    index: dict[str, Any] = {"class_names": list(class_names)}
    if family.takes == "prompt":
        index["family"] = family.name
    if encoder and Path(encoder).is_dir():
        from nextscale.conditioning.t5_files import T5Files

        T5Files.find(encoder).copy(folder / TEXT_ENCODER)
    elif encoder:
        index[TEXT_ENCODER] = encoder
    if settings is not None:
        index["settings"] = settings.record()
    write_json(folder / INDEX, index)


def family_called(name: object, path: Path) -> Family:
    """The family of a name in a file."""
    for family in families():
        if family.name == name:
            return family
    raise InputError(f"{path} names the family {str(name)[:40]!r}: expected {' or '.join(f.name for f in families())}")


def text_encoder_of(index: dict[str, Any], folder: Path) -> str:
    """The text encoder of a model folder: its own sub-folder, or the name or path in its index."""
    if (folder / TEXT_ENCODER).is_dir():
        return str(folder / TEXT_ENCODER)
    name = index.get(TEXT_ENCODER, "")
    if not isinstance(name, str):
        raise InputError(f"{folder / INDEX} must name the text encoder as a text, not {str(name)[:40]}")
    return name


def of_official(models: tuple[Any, Any]) -> Parts:
    """The parts of models that official files contain."""
    return Parts(*models, text_encoder=family_of(models[1]).text_encoder)


def load_published(family: Family, name: str, as_stored: bool = False) -> Parts:
    """Load an official model from the hub."""
    from nextscale.families.official_files import load_pair

    published = family.published[name]
    tokenizer_file = fetch(family.repository, published.tokenizer_file)
    if Path(published.file).suffix:
        file = fetch(family.repository, published.file)
    else:
        file = fetch_folder(family.repository, [f"{published.file}/*"]) / published.file
    parts = of_official(load_pair((tokenizer_file, file), published.schedule, as_stored))
    if parts.model.config.depth != published.model.depth:
        raise InputError(f"{file} is of depth {parts.model.config.depth}, but {name} has {published.model.depth}")
    return parts._replace(settings=published.settings)
