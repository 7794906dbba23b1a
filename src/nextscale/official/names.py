"""Rename the tensors of a state dictionary, in both directions, from one table of name pairs.

In a name, ``{n}`` stands for a number and a trailing ``*`` for any ending:

    ("blocks.{n}.attn.proj.*", "blocks.{n}.attention.proj.*")
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from nextscale.errors import InputError

State = Mapping[str, Tensor]
Names = tuple[tuple[str, str], ...]
"""Pairs of (old, new) names."""


def swapped(names: Names) -> Names:
    """The table of the reverse direction."""
    return tuple((new, old) for old, new in names)


def rename(
    state: State, names: Names, ignored: Sequence[str], source: str, as_stored: bool = False
) -> dict[str, Tensor]:
    """The state in float32 under new names.

    Args:
        ignored: Names of buffers to leave out.
        source: Description of the state for messages.
        as_stored: Keep the types of the tensors.

    Raises:
        InputError: A tensor has a name that is not in the table, or no floating-point numbers.
    """
    rules = [(pattern(old), template(new)) for old, new in names]
    dropped = [pattern(name) for name in ignored]
    renamed = {}
    for name, tensor in state.items():
        if any(regex.fullmatch(name) for regex in dropped):
            continue
        match = next(((m, new) for regex, new in rules if (m := regex.fullmatch(name))), None)
        if match is None:
            raise InputError(f"{source} has an unknown tensor {name}")
        if not tensor.is_floating_point():
            raise InputError(f"{source}: {name} is of type {tensor.dtype}, expected floating-point numbers")
        renamed[match[0].expand(match[1])] = tensor if as_stored else tensor.float()
    return renamed


def shape_of(state: State, source: str) -> Callable[[str, int], tuple[int, ...]]:
    """A function (name, number of dimensions) -> shape of that tensor, which raises InputError if it does not fit."""

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        if name not in state:
            raise InputError(f"{source} has no tensor {name}")
        if state[name].ndim != ndim:
            raise InputError(f"{source}: {name} has shape {tuple(state[name].shape)}, expected {ndim} dimensions")
        if not state[name].numel():
            raise InputError(f"{source}: {name} has shape {tuple(state[name].shape)}, expected no side of 0")
        return tuple(state[name].shape)

    return shape


def count_numbers(state: State, name: str) -> int:
    """How many of the numbers 0, 1, ... in place of {n} give the name of a tensor."""
    n = 0
    while name.replace("{n}", str(n)) in state:
        n += 1
    return n


def largest_number(state: State, name: str) -> int:
    """The largest number in place of the first {n} in the names of tensors, plus 1; 0 if there is none.

    Unlike `count_numbers` it does not end at a number that is missing. It is at most the number of tensors.
    """
    regex = pattern(name)
    numbers = [int(match[1]) for tensor in state if (match := regex.fullmatch(tensor))]
    return min(1 + max(numbers, default=-1), len(state))


def pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\{n\}", r"(\d+)").replace(r"\*", "(.+)"))


def template(name: str) -> str:
    r"""``a.{n}.*`` -> ``a.\1.\2``: the groups of `pattern`, put back."""
    groups = iter(range(1, 10))
    return re.sub(r"\{n\}|\*", lambda _: rf"\{next(groups)}", name)
