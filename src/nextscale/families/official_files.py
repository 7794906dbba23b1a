"""Official files on disk: pairs of tokenizer and transformer, sharded folders, and checkpoints of the trainers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from nextscale.errors import InputError, brief
from nextscale.families.source_files import PTH, SAFETENSORS
from nextscale.io.files import read_json
from nextscale.io.pth import as_state, read_pth
from nextscale.io.tensor_files import read_tensors
from nextscale.official.families import from_official, tokenizer_from_official
from nextscale.official.infinity import is_infinity
from nextscale.official.infinity_star import is_infinity_star, is_video_tokenizer
from nextscale.runtime.progress import say
from nextscale.scales.schedule import OFFICIAL_256, ScaleSchedule
from nextscale.transformer.infinity_config import SIZES

INDEX_FILES = "*.index.json"

TRAINED = {
    "var_wo_ddp": "model",
    "gpt_ema_fsdp": "ema",
    "gpt_ema_for_vis": "ema",
    "gpt_fsdp": "model",
    "gpt_wo_ddp": "model",
}
"""Names of the transformer in the official trainers' checkpoints. The first one that a file has is used."""
TOKENIZER = "vae_local"

Files = Sequence[Path]


def load_files(paths: Files, schedule: ScaleSchedule | None = None, as_stored: bool = False) -> tuple[Any, Any]:
    """Load a pair of official files, or one checkpoint of an official trainer, which contains both models.

    Args: see `load_pair`.
    """
    if len(paths) == 1:
        return load_trainer_file(paths[0], schedule)
    return load_pair(paths, schedule, as_stored)


def load_pair(paths: Files, schedule: ScaleSchedule | None = None, as_stored: bool = False) -> tuple[Any, Any]:
    """Load the official files of a tokenizer and a transformer.

    Args:
        as_stored: keep the types of the transformer's weights, if it is an Infinity or InfinityStar.

    Raises:
        InputError: a file is missing or damaged, or the two do not belong together.
    """
    if len(paths) != 2:
        raise InputError(f"expected a pair of .pth files, tokenizer and transformer, got {len(paths)}")
    tokenizer_state, state = read_state(paths[0]), read_state(paths[1], as_stored)
    warn_about_pair(paths, state)
    kept = {"as_stored": as_stored} if is_infinity(state) or is_infinity_star(state) else {}
    return from_official(tokenizer_state, state, schedule=schedule, **kept)


def load_trainer_file(path: Path, schedule: ScaleSchedule | None = None) -> tuple[Any, Any]:
    """Load a checkpoint of an official trainer, which contains both models."""
    content = read_pth(path)
    if transformer_part(content) is None:
        raise InputError(
            f"{path} is not a checkpoint of the official trainer; for one model's weights give the pair vae.pth,var.pth"
        )
    tokenizer = content["trainer"].get(TOKENIZER)
    if not isinstance(tokenizer, Mapping):
        raise InputError(f"{path} holds no tokenizer: give the pair vae.pth,{path.name}")
    schedule = schedule or trainer_schedule(content)
    return from_official(as_state(tokenizer, path), as_state(trained(content, path), path), schedule=schedule)


def load_tokenizer_file(path: Path, schedule: ScaleSchedule | None = None) -> Any:
    """Load a single file of a tokenizer."""
    return tokenizer_from_official(read_state(path), schedule or OFFICIAL_256)


def is_trainer_file(path: Path) -> bool:
    """Whether a file is a checkpoint of an official trainer."""
    return path.suffix in PTH and path.is_file() and transformer_part(read_pth(path)) is not None


def is_of_videos(paths: Files) -> bool:
    """Whether official files are those of a model of videos. Reads the tokenizer's."""
    return len(paths) == 2 and paths[0].is_file() and is_video_tokenizer(read_state(paths[0]))


def read_state(path: Path, as_stored: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a transformer or a tokenizer: a file, a folder of shards, or a checkpoint of the trainer.

    Args:
        as_stored: keep the types of the tensors, instead of converting them to float32.
    """
    if path.is_dir():
        return read_shards(path, as_stored)
    if path.suffix == SAFETENSORS:
        return as_state(read_tensors(path), path, as_stored)
    content = read_pth(path)
    if transformer_part(content) is not None:
        content = dict(trained(content, path))
    elif isinstance(nested := content.get("vae"), Mapping):  # the tokenizers of Infinity
        content = dict(nested)
    return as_state(content, path, as_stored)


def read_shards(folder: Path, as_stored: bool = False) -> dict[str, Tensor]:
    """Read the tensors of a folder of shards with an index, as transformers and diffusers write it.

    Raises:
        InputError: there is no index, or a shard is missing, damaged, or lacks a tensor of the index.
    """
    indices = sorted(folder.glob(INDEX_FILES))
    if len(indices) != 1:
        raise InputError(f"{folder} has {len(indices)} index files: expected one, such as model.safetensors.index.json")
    index = read_json(indices[0])
    names = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        raise InputError(f"{indices[0]} must hold an object with weight_map, the file of each tensor")
    state: dict[str, Tensor] = {}
    for file in sorted(set(names.values())):
        shard = folder / Path(file).name
        if not shard.is_file():
            raise InputError(f"{folder} lacks {shard.name}, one of {len(set(names.values()))} shards")
        state |= read_state(shard, as_stored)
    if missing := sorted(set(names) - set(state)):
        raise InputError(f"{folder} lacks {len(missing)} of {len(names)} tensors (first: {missing[0]})")
    return state


def transformer_part(content: Mapping[str, Any]) -> str | None:
    """The name of the transformer in a checkpoint of an official trainer; None for other files."""
    trainer = content.get("trainer")
    if not isinstance(trainer, Mapping):
        return None
    return next((name for name in TRAINED if isinstance(trainer.get(name), Mapping) and trainer[name]), None)


def trained(content: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The transformer in a checkpoint of an official trainer: its EMA weights if there are any."""
    part = transformer_part(content)
    assert part is not None, "the caller has checked it"
    if TRAINED[part] == "ema":
        say(f"note: {path} holds EMA weights and the last ones: the EMA weights are used")
    return content["trainer"][part]


def trainer_schedule(content: Mapping[str, Any]) -> ScaleSchedule | None:
    """The schedule in a trainer checkpoint, or None if it has none."""
    config = content["trainer"].get("config")
    sides = config.get("patch_nums") if isinstance(config, Mapping) else None
    return ScaleSchedule.square(sides) if isinstance(sides, tuple | list) else None


def warn_about_pair(paths: Files, state: Mapping[str, Tensor]) -> None:
    """Say so if a transformer of the 2B model comes with a tokenizer of the right sizes that it was not trained with.
    Only the name of the file tells them apart."""
    name = paths[0].name
    if not is_infinity(state) or "d32" not in name or "reg" in name:
        return
    width = state["start_embedding"].shape[-1] if "start_embedding" in state else state["pos_start"].shape[-1]
    if width == SIZES["2b"]["width"]:
        say(
            f"warning: the 2B model was trained with infinity_vae_d32reg.pth, not {brief(name)}: the sizes are equal, "
            "but images will be poor"
        )
