"""Prompts as text: lists, files, and the phrase that may be added to prompts about people."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nextscale.errors import InputError, brief

PEOPLE = (
    *("man", "men", "woman", "women", "boy", "girl", "child", "children", "person", "human", "adult", "teenager"),
    *("employee", "employer", "worker", "mother", "father", "sister", "brother", "grandmother", "grandfather"),
    *("son", "daughter"),
)
"""Words for people, also with an s at the end. The official code finds them inside of other words, too."""
MENTIONS_PEOPLE = re.compile(rf"\b(?:{'|'.join(PEOPLE)})s?\b", re.IGNORECASE)
POSITIVE_PHRASE = "natural skin, clear eyes, a well-lit face with even and regular features"
"""Our phrase. The official code has another one with the same purpose."""


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Options of a request to a text-to-image model, besides its prompts.

    Raises:
        InputError: a field of the wrong type, or text that is not valid Unicode.
    """

    negative_prompt: str = ""
    """What the images should not show. In guidance it takes the place of the empty prompt."""
    positive_phrase: bool = False
    """Add a phrase about skin and faces to prompts that mention people."""

    def __post_init__(self) -> None:
        check_text(self.negative_prompt)
        if not isinstance(self.positive_phrase, bool):
            raise InputError(f"positive_phrase must be true or false, not {brief(self.positive_phrase)}")


def check_prompts(prompts: str | Sequence[str], may_be_empty: bool = False) -> list[str]:
    """Return prompts as a list. A single string is one prompt.

    Args:
        may_be_empty: accept empty prompts.

    Raises:
        InputError: There is none, or one is empty, not a string, or not valid Unicode.
    """
    prompts = [prompts] if isinstance(prompts, str) else prompts
    if not isinstance(prompts, Sequence):
        raise InputError(f"a prompt is a string or a list of strings, not {brief(prompts)}")
    if not prompts:
        raise InputError("expected at least one prompt, got none")
    for i, prompt in enumerate(prompts):
        check_text(prompt, f"prompt {i}")
        if not prompt.strip() and not may_be_empty:
            raise InputError(f"prompt {i} is empty: expected a text that describes the image")
    return list(prompts)


def check_text(text: str, what: str = "the negative prompt") -> str:
    """Return a text that may be empty, such as a negative prompt.

    Args:
        what: name of the text, for the message.

    Raises:
        InputError: Not a string, or not valid Unicode.
    """
    if not isinstance(text, str):
        raise InputError(f"{what} is a string, not {brief(text)}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{what} is not valid Unicode at position {error.start}: {brief(text)}") from error
    return text


def read_prompts(path: str | Path) -> list[str]:
    """Read a text file with one prompt per line, in UTF-8. Blank lines are skipped.

    Raises:
        InputError: The file cannot be read, is not UTF-8, or has no prompt.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path} is not a text file in UTF-8: line {line} has the byte {content[error.start]}"
        ) from error
    prompts = [line.strip() for line in text.split("\n") if line.strip()]
    if not prompts:
        raise InputError(f"{path} has no prompt: expected one per line")
    return [check_text(prompt, f"prompt {i}") for i, prompt in enumerate(prompts)]


def with_positive_phrase(prompt: str) -> str:
    """Append `POSITIVE_PHRASE` to a prompt that mentions people, and return other prompts unchanged.

    Only whole words count: "a Roman castle" does not mention a man.
    """
    return f"{prompt.rstrip(' .')}. {POSITIVE_PHRASE}" if MENTIONS_PEOPLE.search(prompt) else prompt


PLAIN = TextOptions()
"""Prompts alone."""


def duration_tag(seconds: float) -> str:
    """Return what stands in front of the prompt of a video: its whole seconds; nothing for an image."""
    return f"<<<t={int(seconds)}s>>>" if seconds >= 1 else ""
