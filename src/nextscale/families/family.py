"""A family of models as data: what the pipeline, the loader and the trainer need to know of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from nextscale.sampling.settings import SamplingSettings


@dataclass(frozen=True)
class PublishedModel:
    """Official weights on the hub, their configuration and their published results.

    The results are FID, Inception Score, precision and recall of 50,000 ImageNet samples by the ADM evaluator, with
    cfg 1.5, top-k 900, top-p 0.96, as the authors' code page states them; None where it states none.
    """

    file: str
    """The transformer's file in the repository, or a folder of files with an index."""
    tokenizer_file: str
    model: Any
    """The transformer's configuration."""
    tokenizer: Any
    """The tokenizer's configuration."""
    fid: float | None = None
    inception_score: float | None = None
    precision: float | None = None
    recall: float | None = None
    settings: SamplingSettings | None = None
    """Its official sampling settings, if they are not those of the family."""

    @property
    def schedule(self) -> Any:
        """The schedule that it was trained with: the transformer's, if that has one."""
        return getattr(self.model, "schedule", self.tokenizer.schedule)


@dataclass(frozen=True)
class Family:
    """One family of models."""

    name: str
    """In files and messages, such as "var"."""
    title: str
    """As the authors write it."""
    paper: str
    """Address of the paper."""
    media: Literal["image", "video"]
    takes: Literal["class", "prompt"]
    """Whether requests name a class of the model or contain a text."""
    tokenizer: Any
    """The tokenizer's class, with ``from_pretrained``."""
    transformer: Any
    """The transformer's class, with ``from_pretrained``."""
    transformer_config: Any
    """The class of its configuration."""
    settings: SamplingSettings
    """Default settings of a pipeline."""
    repository: str
    """The hub's repository of the official weights."""
    published: Mapping[str, PublishedModel]
    """Official models by name."""
    official_files: tuple[str, str]
    """Names for the files that ``convert --to official`` writes, tokenizer and transformer."""
    from_official: Callable[..., tuple[Any, Any]]
    """Official state dictionaries of tokenizer and transformer to our models."""
    to_official: Callable[..., tuple[dict[str, Any], dict[str, Any]]]
    """The reverse."""
    text_encoder: str = ""
    """Name of the official text encoder, for text-to-image models."""
    prefix: str = ""
    """Beginning of the short names of the published models, such as "infinity-"."""

    def published_name(self, name: str) -> str | None:
        """Return the key in ``published`` of a name such as "d16" or "FoundationVision/var:d16"; None if there is
        none."""
        for start in (f"{self.repository}:", self.prefix):
            key = name.removeprefix(start)
            if key in self.published and (key != name or not start):
                return key
        return None

    @property
    def names(self) -> str:
        """The names of its published models, for messages."""
        return f"{self.repository}:NAME with NAME one of {', '.join(self.published)}"
