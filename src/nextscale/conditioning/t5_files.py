"""The files of a T5 encoder: a folder of transformers, on disk or on the Hugging Face hub."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nextscale.errors import InputError, brief
from nextscale.io.files import atomic_file, make_folder, read_json
from nextscale.io.fingerprint import files_fingerprint
from nextscale.io.hub import fetch_folder
from nextscale.io.tensor_files import Header, is_tensor_file, read_headers
from nextscale.runtime.extras import needed

EXTRA = "text"
CONFIG, TOKENIZER, SENTENCEPIECE = "config.json", "tokenizer.json", "spiece.model"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PATTERNS = (CONFIG, TOKENIZER, SENTENCEPIECE, INDEX, "model*.safetensors")
REQUIRED = ("d_model", "vocab_size")
SIZES = (*REQUIRED, "d_kv", "d_ff", "num_heads", "num_layers", "relative_attention_num_buckets")
"""Sizes in the configuration. transformers has defaults for those that are not required."""
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class T5Files:
    """A folder with a T5 encoder."""

    folder: Path
    config: dict[str, Any]
    tokenizer: Path
    weights: tuple[Path, ...]

    @classmethod
    def find(cls, source: str | Path) -> T5Files:
        """Find the files of an encoder and check that they are there, without reading the weights.

        Args:
            source: a folder, or the name of a repository on the hub, which is downloaded on first use.

        Raises:
            InputError: no such folder or repository, another kind of model, or a file is missing or damaged.
        """
        folder = find_folder(source)
        config = read_json(folder / CONFIG)
        kind = config.get("model_type") if isinstance(config, dict) else None
        if kind != "t5":
            raise InputError(f"{folder / CONFIG} describes a model of type {kind}: expected t5")
        if lacking := [name for name in REQUIRED if not isinstance(config.get(name), int)]:
            raise InputError(f"{folder / CONFIG} has no number {lacking[0]}")
        for name in SIZES:
            if type(size := config.get(name, 1)) is not int or size < 1:
                raise InputError(f"{folder / CONFIG}: {name} must be a positive integer, not {brief(size)}")
        tokenizers = [folder / name for name in (TOKENIZER, SENTENCEPIECE) if (folder / name).is_file()]
        if not tokenizers:
            raise InputError(f"{folder} has no vocabulary: expected {TOKENIZER} or {SENTENCEPIECE}")
        return cls(folder, config, tokenizers[0], find_weights(folder))

    @property
    def width(self) -> int:
        """T, the width of the features."""
        return self.config["d_model"]

    def headers(self) -> dict[str, Header]:
        """Return the shapes and types of the weights, without reading them."""
        return {name: header for path in self.weights for name, header in read_headers(path).items()}

    def copy(self, folder: Path) -> None:
        """Copy the files to another folder, unless it is the same one."""
        if folder.exists() and folder.samefile(self.folder):
            return
        index = [self.folder / INDEX] if (self.folder / INDEX).is_file() else []
        make_folder(folder)
        for path in (self.folder / CONFIG, self.tokenizer, *index, *self.weights):
            with atomic_file(folder / path.name) as temporary:
                shutil.copyfile(path, temporary)

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that identify the configuration, the vocabulary and, by pieces, the weights."""
        return files_fingerprint((self.folder / CONFIG, self.tokenizer, *self.weights))

    def load_tokenizer(self) -> Callable[[str], list[int]]:
        """Return a function from a text to its tokens, without a limit of their number. The last one is "end".

        ``tokenizer.json`` is used as it is, which is what the official code does with ``legacy=True``. (T5Tokenizer of
        transformers 5 builds another tokenizer from its vocabulary.)

        Raises:
            InputError: a package or the file is missing or damaged.
        """
        encode = fast_tokenizer(self.tokenizer) if self.tokenizer.name == TOKENIZER else sentencepiece(self.tokenizer)
        end, size = self.config.get("eos_token_id", 1), self.config["vocab_size"]

        def tokenize(text: str) -> list[int]:
            tokens = encode(text)
            if max(tokens, default=0) >= size:
                raise InputError(f"{self.tokenizer} has token {max(tokens)}, but the encoder has only {size} tokens")
            return tokens if tokens[-1:] == [end] else [*tokens, end]

        return tokenize


def find_folder(source: str | Path) -> Path:
    """Return the folder of an encoder. A name such as ``google/flan-t5-xl`` is downloaded if it is not a folder."""
    folder = Path(source)
    if folder.is_dir():
        return folder
    if isinstance(source, Path) or not HUB_NAME.fullmatch(source):
        raise InputError(
            f"no folder {source}: expected a folder with a T5 encoder, or a name such as google/flan-t5-xl"
        )
    return fetch_folder(source, PATTERNS)


def find_weights(folder: Path) -> tuple[Path, ...]:
    """Return the files with weights in a folder. Raises InputError if one is missing or incomplete."""
    if (folder / INDEX).is_file():
        index = read_json(folder / INDEX)
        try:
            names = sorted(set(index["weight_map"].values()))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder / INDEX} is not an index of weights") from error
    else:
        names = [WEIGHTS]
    paths = tuple(folder / name for name in names)
    if missing := [path.name for path in paths if not path.is_file()]:
        raise InputError(f"{folder} lacks {len(missing)} of {len(paths)} files with weights (first: {missing[0]})")
    for path in paths:
        if not is_tensor_file(path):
            raise InputError(f"{path} is not a complete safetensors file")
    return paths


def fast_tokenizer(path: Path) -> Callable[[str], list[int]]:
    """Return the tokenizer of a ``tokenizer.json``, without padding and truncation."""
    with needed("tokenizers", EXTRA):
        from tokenizers import Tokenizer
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # raised by Rust as Exception
        raise InputError(f"{path} is not a vocabulary of tokenizers ({one_line(error)})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return lambda text: tokenizer.encode(text).ids


def sentencepiece(path: Path) -> Callable[[str], list[int]]:
    """Return the tokenizer of a ``spiece.model``."""
    with needed("sentencepiece", EXTRA):
        from sentencepiece import SentencePieceProcessor
    try:
        processor = SentencePieceProcessor(model_file=str(path))
    except (OSError, RuntimeError) as error:
        raise InputError(f"{path} is not a vocabulary of sentencepiece ({one_line(error)})") from error
    return lambda text: processor.encode(text)


def one_line(error: Exception) -> str:
    """Return the message of an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
