"""T5TextEncoder: prompts to features by the encoder of flan-t5-xl, through transformers (the extra ``text``).

transformers is imported when an encoder is loaded. Nothing in a downloaded folder is executed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nextscale.conditioning.prompts import check_text
from nextscale.conditioning.t5_files import CONFIG, EXTRA, T5Files, one_line
from nextscale.conditioning.t5_sizes import T5Sizes
from nextscale.conditioning.text import TextFeatures
from nextscale.errors import InputError, brief, is_out_of_memory
from nextscale.io.module_folder import build_on_meta, check_types, most_parameters
from nextscale.runtime.device import has_fast_bfloat16, one_core_each, pick_device
from nextscale.runtime.device import precision as autocast_to
from nextscale.runtime.extras import check_installed, needed
from nextscale.runtime.progress import say

FLAN_T5_XL = "google/flan-t5-xl"
"""The encoder of the official models, T = 2048."""
SHARED, COPY = "shared.weight", "encoder.embed_tokens.weight"
"""Names of the same weights: files may have either."""
MAX_TOKENS = 512
DTYPES = ("float32", "bfloat16", "float16")


class T5TextEncoder:
    """A T5 encoder that turns prompts into features.

    Each prompt is encoded alone, without padding. Its features do not depend on the other prompts.

    Args:
        source: a folder of transformers with safetensors files, or a repository on the hub, downloaded on first use.
        device: device of the encoder.
        dtype: "float32", "bfloat16" or "float16". "auto" is float16 on GPUs, as in the official code, bfloat16 on CPUs
            that are fast at it, else float32.
        keep: keep the weights in memory after encoding. If false, `encode` reads them each time.
        max_tokens: longer prompts are cut to this number of tokens, including the token for the end.
        tell: called with one sentence when a prompt is cut, once for each prompt.

    Raises:
        InputError: a package or file is missing or damaged, no network, or the device does not support the dtype.
    """

    def __init__(
        self,
        source: str | Path = FLAN_T5_XL,
        *,
        device: str | torch.device = "auto",
        dtype: str = "auto",
        keep: bool = True,
        max_tokens: int = MAX_TOKENS,
        tell: Callable[[str], None] = say,
    ):
        if max_tokens < 2:
            raise InputError(f"max_tokens must be at least 2, not {max_tokens}")
        self.device = pick_device(str(device))
        self.dtype = pick_dtype(dtype, self.device)
        check_installed("transformers", EXTRA)
        self.source, self.files = source, T5Files.find(source)
        self.keep, self.max_tokens, self.tell = keep, max_tokens, tell
        self._tokenize = self.files.load_tokenizer()
        self._model: nn.Module | None = None
        self._fingerprint = ""
        self._told: set[int] = set()
        self._lock = threading.Lock()

    @property
    def width(self) -> int:
        """T, the width of the features."""
        return self.files.width

    @property
    def fingerprint(self) -> str:
        """What the features depend on: the content of the files, the dtype and the largest number of tokens."""
        return f"{self.content}-{self.dtype}-{self.max_tokens}".replace("torch.", "")

    @property
    def content(self) -> str:
        """Fingerprint of the files alone."""
        self._fingerprint = self._fingerprint or self.files.fingerprint()
        return self._fingerprint

    @property
    def is_loaded(self) -> bool:
        """Whether the weights are in memory."""
        return self._model is not None

    @property
    def memory_to_load(self) -> int:
        """Memory in bytes that the next prompt will load; 0 if it is not known."""
        sizes = T5Sizes.of(self.files.config)
        return 0 if self.is_loaded or sizes is None else sizes.parameters * self.dtype.itemsize

    def check(self, prompts: Sequence[str]) -> None:
        """Check that the prompts can be encoded, and tell which ones will be cut.

        Raises:
            InputError: not a list of strings, or not valid Unicode.
        """
        self._tokens(prompts)

    def encode(self, prompts: Sequence[str]) -> TextFeatures:
        """Return the features of prompts, on the CPU. An empty prompt has one token, the end.

        Raises:
            InputError: not a list of strings, or the weights are damaged.
        """
        tokens = self._tokens(prompts)
        with self._lock:  # threads of a server share the weights
            model = self._model or self._load()
            try:
                features = self._all_features(model, list(dict.fromkeys(tokens)))
            finally:
                if self.keep:
                    self._model = model
                else:
                    del model
                    self.unload()
        return TextFeatures.of([features[row] for row in tokens])

    def unload(self) -> None:
        """Free the memory of the weights. The next call of `encode` reads them again."""
        self._model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _tokens(self, prompts: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each prompt, cut to the largest number."""
        if isinstance(prompts, str) or not isinstance(prompts, Sequence) or not prompts:
            raise InputError(f"the text encoder takes a list of prompts, not {brief(prompts)}")
        return [self._cut(check_text(prompt, f"prompt {i}"), f"prompt {i}") for i, prompt in enumerate(prompts)]

    def _cut(self, prompt: str, name: str) -> tuple[int, ...]:
        tokens = self._tokenize(prompt)
        if len(tokens) <= self.max_tokens:
            return tuple(tokens)
        if hash(prompt) not in self._told:
            self._told.add(hash(prompt))
            self.tell(f"note: {self._note(prompt, name, len(tokens))}")
        return (*tokens[: self.max_tokens - 1], tokens[-1])

    def _note(self, prompt: str, name: str, count: int) -> str:
        return f"{name} has {count:,} tokens and is cut to the first {self.max_tokens} ({brief(prompt, 40)})"

    def notes(self, prompts: Sequence[str], negative: str = "") -> tuple[str, ...]:
        """Return a sentence for each prompt that is cut. ``encode`` does not tell about these prompts again.

        Args:
            negative: the negative prompt.
        """
        named = [(prompt, f"prompt {i}") for i, prompt in enumerate(prompts) if prompt not in prompts[:i]]
        named += [(negative, "the negative prompt")] if negative else []
        counts = [(*each, len(self._tokenize(each[0]))) for each in named]
        cut = [each for each in counts if each[2] > self.max_tokens]
        self._told.update(hash(prompt) for prompt, *_ in cut)
        return tuple(self._note(*each) for each in cut)

    def _all_features(self, model: nn.Module, rows: list[tuple[int, ...]]) -> dict[tuple[int, ...], Tensor]:
        """Features of several prompts. On a CPU each is encoded on one core, so that its features do not depend on the
        number of cores, bit for bit."""

        def features(row: tuple[int, ...]) -> Tensor:
            return self._features(model, row)

        encoded = one_core_each(features, rows) if self.device.type == "cpu" else map(features, rows)
        return dict(zip(rows, encoded, strict=True))

    @torch.no_grad()
    def _features(self, model: nn.Module, tokens: tuple[int, ...]) -> Tensor:
        """Features of one prompt, (l, T) float32 on the CPU."""
        with torch.autocast(self.device.type, enabled=False):
            hidden = model(input_ids=torch.tensor([tokens], device=self.device)).last_hidden_state
        features = hidden[0].float().cpu()
        if not features.isfinite().all():
            raise InputError(
                f"the text encoder's features are not finite in {self.dtype}: damaged weights, or try float32"
            )
        return features

    def _load(self) -> nn.Module:
        """Read the weights. transformers would replace missing ones by random numbers: here they are an error."""
        with needed("transformers", EXTRA):
            from transformers import T5Config, T5EncoderModel
            from transformers.utils import logging
        verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        options: dict[str, Any] = {
            "torch_dtype": self.dtype,
            "attn_implementation": "eager",  # of all versions of transformers
            "use_safetensors": True,
            "local_files_only": True,
            "output_loading_info": True,
        }
        try:
            config = T5Config.from_pretrained(self.files.folder, local_files_only=True)
            check_sizes(lambda: T5EncoderModel(config), self.files)
            loaded: Any = T5EncoderModel.from_pretrained(self.files.folder, **options)
        except InputError:
            raise
        except Exception as error:  # transformers raises errors of many types
            if is_out_of_memory(error):
                raise
            raise InputError(f"cannot load the T5 encoder in {self.files.folder}: {one_line(error)}") from error
        finally:
            logging.set_verbosity(verbosity)
            if bars:
                logging.enable_progress_bar()
        model, report = loaded
        check_report(report, self.files.folder)
        return model.to(self.device).eval()


def check_sizes(build: Callable[[], nn.Module], files: T5Files) -> None:
    """Compare the encoder that ``config.json`` describes with the headers of the weights, before memory is allocated.

    Args:
        build: makes the encoder, here without memory for its weights.

    Raises:
        InputError: the files lack weights of the encoder, or a shape or a kind of numbers differs.
    """
    headers, path = files.headers(), files.folder / CONFIG
    stored = {SHARED if name == COPY else name: header.shape for name, header in headers.items()}
    model = build_on_meta(lambda _: build(), None, most_parameters(headers), path)
    parameters = {name: tensor for name, tensor in model.named_parameters() if name != COPY}
    check_types(parameters, headers, files.folder)
    expected = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
    check_complete(sorted(expected.keys() - stored.keys()), files.folder)
    other = [(name, stored[name], shape) for name, shape in sorted(expected.items()) if stored[name] != shape]
    check_shapes(other, files.folder)


def check_complete(missing: Sequence[str], folder: Path) -> None:
    """Raise InputError if weights are missing."""
    if missing:
        raise InputError(f"{folder} lacks {len(missing)} weights of the T5 encoder (first: {missing[0]})")


def check_shapes(other: Sequence[tuple[str, tuple[int, ...], tuple[int, ...]]], folder: Path) -> None:
    """Raise InputError if there are weights (name, shape, expected shape) of another shape."""
    if other:
        name, shape, expected = other[0]
        raise InputError(
            f"{folder} has {len(other)} weights of another shape than {CONFIG} says "
            f"(first: {name} {shape}, expected {expected})"
        )


def check_report(report: dict[str, Any], folder: Path) -> None:
    """Raise InputError unless the files held all weights of the encoder, and others of the decoder only."""
    check_complete(sorted(report["missing_keys"]), folder)
    if unknown := [name for name in sorted(report["unexpected_keys"]) if not name.startswith(("decoder.", "lm_head."))]:
        raise InputError(f"{folder} has {len(unknown)} weights that a T5 encoder does not have (first: {unknown[0]})")


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return the dtype with a name. See `T5TextEncoder`.

    Raises:
        InputError: the name is unknown, or the device is very slow at it.
    """
    if name == "auto":
        fast = "float16" if device.type == "cuda" else "bfloat16" if has_fast_bfloat16(device) else "float32"
        return getattr(torch, fast)
    if name not in DTYPES:
        raise InputError(f"unknown dtype {name!r} of the text encoder: expected auto, {', '.join(DTYPES)}")
    autocast_to(name, device)
    return getattr(torch, name)
