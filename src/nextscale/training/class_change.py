"""The classes of a fine-tuned model: which are kept from the initial model, which are added, and which are dropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nextscale.data.dataset import Example, Examples
from nextscale.data.names import list_names
from nextscale.errors import InputError


@dataclass(frozen=True)
class ClassChange:
    """The classes of a run that starts from a trained model.

    Attributes:
        before: class names of the initial model; empty if it has none.
        data: class names of the training data.
        keep: whether classes of the initial model that the data does not have are kept.
        count: number of classes of the initial model.
    """

    before: tuple[str, ...]
    data: tuple[str, ...]
    keep: bool
    count: int

    def __post_init__(self) -> None:
        if self.keep and not self.before:
            raise InputError(
                f"the {self.count} classes of the initial model have no names, so they cannot be matched with those of "
                "the data: expected a model with class names for --keep-classes"
            )

    @property
    def after(self) -> tuple[str, ...]:
        """Class names of the trained model. With ``keep``, those of the initial model come first."""
        return (*self.before, *self.added) if self.keep else self.data

    @property
    def kept(self) -> tuple[str, ...]:
        """Classes of the initial model that the trained model has."""
        return tuple(name for name in self.before if self.keep or name in self.data)

    @property
    def added(self) -> tuple[str, ...]:
        """Classes that the initial model does not have. Without names, as many classes are matched by their numbers."""
        if not self.before and self.count == len(self.data):
            return ()
        return tuple(name for name in self.data if name not in self.before)

    @property
    def dropped(self) -> tuple[str, ...]:
        """Classes of the initial model that the trained model does not have."""
        return tuple(name for name in self.before if name not in self.kept)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The number in ``after`` of each class of the data."""
        return tuple(self.after.index(name) for name in self.data)

    @property
    def without_images(self) -> tuple[str, ...]:
        """Kept classes that the data does not have."""
        return tuple(name for name in self.kept if name not in self.data)

    def record(self) -> dict[str, list[str]]:
        """Return the names as values of a log line."""
        return {f"classes_{what}": list(getattr(self, what)) for what in ("kept", "added", "dropped")}

    def lines(self) -> list[str]:
        """Return messages about the classes. There are none if the model and the data have the same classes."""
        lines = []
        if self.added or self.dropped:
            lines += [described("classes kept", self.kept), described("classes added", self.added)]
            dropped = described("classes dropped", self.dropped)
            if not self.before:
                dropped = f"classes dropped: all {self.count} of the initial model, which have no names"
            elif self.dropped:
                dropped += ". The trained model cannot generate them; --keep-classes keeps them"
            lines.append(dropped)
        if self.without_images:
            lines.append(described("classes kept without training images", self.without_images))
        return lines

    def relabelled(self, examples: Examples) -> Examples:
        """Return a data set with the numbers of the trained model as labels."""
        if self.numbers == tuple(range(len(self.data))):
            return examples
        return Relabelled(
            examples, self.numbers, RelabelledSource(examples.source.root, self.after, examples.source.notes)
        )


def described(what: str, names: Sequence[str]) -> str:
    """Return ``classes added: 2 (boot, cap)``."""
    return f"{what}: {len(names)} ({list_names(names)})" if names else f"{what}: none"


@dataclass(frozen=True)
class RelabelledSource:
    """The name of a data set, and the classes of the model."""

    root: Path | str
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Relabelled:
    """A data set whose labels are replaced: label i becomes ``numbers[i]``."""

    examples: Examples
    numbers: tuple[int, ...]
    source: RelabelledSource

    @property
    def seed(self) -> int:
        return self.examples.seed

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, key: tuple[int, int]) -> Example:
        example = self.examples[key]
        return example._replace(label=self.numbers[example.label])
