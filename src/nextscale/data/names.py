"""Names of splits and classes, for all kinds of data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from nextscale.errors import InputError

TRAIN_NAMES = ("train", "training")
VAL_NAMES = ("val", "validation", "test")
LISTED = 10


def pick_splits(names: Iterable[str]) -> tuple[str | None, str | None]:
    """Return the names of the training and validation splits, ignoring case; None for a missing one."""
    known = {name.casefold(): name for name in names}
    train, val = (next((known[word] for word in words if word in known), None) for words in (TRAIN_NAMES, VAL_NAMES))
    return train, val


def sort_classes(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct labels, in numerical order if all are integers, else in alphabetical order."""
    distinct = set(labels)
    try:
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(distinct))


def number_labels(labels: Sequence[str], class_names: tuple[str, ...], root: Path | str) -> tuple[int, ...]:
    """Return the index of each label in ``class_names``.

    Raises:
        InputError: a label is unknown.
    """
    numbers = {name: i for i, name in enumerate(class_names)}
    if unknown := next((label for label in labels if label not in numbers), None):
        raise InputError(
            f"{root} has a class {unknown!r} that is not in training: expected one of {list_names(class_names)}"
        )
    return tuple(numbers[label] for label in labels)


def list_names(names: Sequence[str]) -> str:
    """Return the first ten names as text: ``dress, hat, ...``."""
    return ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
