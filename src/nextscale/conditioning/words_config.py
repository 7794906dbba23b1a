"""The configuration of a text encoder that is trained together with its model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from nextscale.errors import InputError, brief
from nextscale.io.config import LARGEST_TABLE, LARGEST_WIDTH, as_config, check_fields

if TYPE_CHECKING:
    from nextscale.conditioning.words import Words

Kind = Literal["words", "subwords"]
KINDS = get_args(Kind)
LEAST_COUNT = 2
"""A word that occurs only once is often a misspelling, and is not learned from one image."""
MOST_WORDS, MOST_TOKENS = 20_000, 128
"""Bounds for vocabularies that are made from captions, and for the length of prompts."""


@dataclass(frozen=True)
class WordsConfig:
    """Vocabulary and sizes of a `nextscale.conditioning.words.Words`."""

    vocabulary: tuple[str, ...] = field(repr=False)
    """The words, or the subwords in the order in which they are merged. The tokens "end" and "unknown" are added."""
    kind: Kind = "words"
    """words: one token for each word. subwords: a word is divided into pieces of the vocabulary."""
    width: int = field(default=256, metadata={"most": LARGEST_WIDTH})
    """T, the width of the features."""
    depth: int = field(default=2, metadata={"most": 1024})
    heads: int = 4
    max_tokens: int = field(default=64, metadata={"least": 2, "most": LARGEST_TABLE})
    """Longest prompt in tokens, including the token for its end. Longer ones are cut."""

    def __post_init__(self) -> None:
        if isinstance(self.vocabulary, list):  # JSON
            object.__setattr__(self, "vocabulary", tuple(self.vocabulary))
        check_fields(self)
        if self.kind not in KINDS:
            raise InputError(f"unknown kind of vocabulary {brief(self.kind)}: expected one of {', '.join(KINDS)}")
        if self.width % self.heads:
            raise InputError(f"width must be a multiple of heads, not {self.width} with {self.heads}")
        check_vocabulary(self.vocabulary)

    @property
    def num_tokens(self) -> int:
        """Number of different tokens."""
        return len(self.vocabulary) + 2


def make_words(config: WordsConfig | None) -> Words | None:
    """Return the text encoder of a model, if it has one. Its code is imported for such models only."""
    if config is None:
        return None
    from nextscale.conditioning.words import Words

    return Words(config)


def settle_words(config: Any) -> None:
    """Set ``text_width`` and ``text_rows`` of a transformer's configuration to those of its text encoder ``words``.

    Raises:
        InputError: they are set to other values.
    """
    if config.words is None:
        return
    object.__setattr__(config, "words", as_config(WordsConfig, config.words))
    for name, size in (("text_width", config.words.width), ("text_rows", config.words.max_tokens)):
        if getattr(config, name) not in (getattr(type(config), name), size):
            raise InputError(f"{name} is {getattr(config, name)}, but the model's own text encoder has {size}")
        object.__setattr__(config, name, size)


def check_vocabulary(vocabulary: object) -> None:
    """Raise InputError unless this is a tuple of different texts, which are not empty."""
    if not isinstance(vocabulary, tuple) or not vocabulary:
        raise InputError(f"vocabulary must be one or more words, not {brief(vocabulary)}")
    if len(vocabulary) > LARGEST_TABLE:
        raise InputError(f"vocabulary must be at most {LARGEST_TABLE:,} words, not {len(vocabulary):,}")
    seen: set[str] = set()
    for word in vocabulary:
        if not isinstance(word, str) or not word or not is_unicode(word):
            raise InputError(f"a word of the vocabulary must be a text that is not empty, not {brief(word)}")
        if word in seen:
            raise InputError(f"the vocabulary has {brief(word)} twice: expected different words")
        seen.add(word)


def is_unicode(text: str) -> bool:
    """Return whether a text is valid Unicode. Some texts of JSON files are not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
