"""Batches of the engine: combine requests to batches, and divide batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from nextscale.sampling.token_edit import TokenEdit
from nextscale.web.tickets import Job, Ticket


@dataclass(frozen=True)
class Part:
    """Images ``start`` to ``stop`` of a request, which fit into one batch."""

    ticket: Ticket
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def wanted(self) -> tuple[int | str, ...]:
        return self.ticket.job.wanted[self.start : self.stop]

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.ticket.job.seeds[self.start : self.stop]


def parts_of(ticket: Ticket, most: int) -> list[Part]:
    """Divide a request into parts of at most ``most`` images."""
    count = len(ticket.job.seeds)
    return [Part(ticket, start, min(start + most, count)) for start in range(0, count, most)]


def size_of(parts: Sequence[Part]) -> int:
    """Return the number of images in a batch."""
    return sum(map(len, parts))


def with_rows(parts: Sequence[Part]) -> Iterator[tuple[Part, slice]]:
    """Yield each part of a batch with the rows of its images."""
    row = 0
    for part in parts:
        yield part, slice(row, row + len(part))
        row += len(part)


def may_share(job: Job, other: Job) -> bool:
    """Return whether two requests may share a batch: their settings, text options and scales are equal, and both or
    neither are edits."""
    if (job.settings, job.text, job.schedule) != (other.settings, other.text, other.schedule):
        return False
    if job.edit is None or other.edit is None:
        return job.edit is other.edit
    return rules(job.edit) == rules(other.edit)


def rules(edit: TokenEdit) -> dict[str, Any]:
    """Return the fields of an edit that must be equal in a batch: all except tokens and mask."""
    return {name: value for name, value in vars(edit).items() if name not in ("tokens", "keep")}


def join_edits(parts: Sequence[Part]) -> TokenEdit | None:
    """Return one edit for all images of a batch; None if they are not edits."""
    edits = [(part, part.ticket.job.edit) for part in parts if part.ticket.job.edit is not None]
    if not edits:
        return None
    rows = [(edit, range(part.start, part.stop)) for part, edit in edits]
    tokens = [
        torch.cat([pick(edit.tokens[k], chosen) for edit, chosen in rows]) for k in range(len(edits[0][1].tokens))
    ]
    keep = torch.cat([pick(edit.keep.reshape(-1, *edit.keep.shape[-2:]), chosen) for edit, chosen in rows])
    return replace(edits[0][1], tokens=tokens, keep=keep)


def pick(rows: Tensor, chosen: range) -> Tensor:
    """Return some rows of (B, ...). A single row (1, ...) is used for all."""
    return rows[chosen.start : chosen.stop] if len(rows) > 1 else rows.expand(len(chosen), *rows.shape[1:])


def halve(parts: Sequence[Part]) -> tuple[list[Part], list[Part]]:
    """Divide a batch of at least two images into two batches."""
    left = size_of(parts) // 2
    first: list[Part] = []
    second: list[Part] = []
    for part in parts:
        middle = part.start + min(left, len(part))
        first += [replace(part, stop=middle)] if middle > part.start else []
        second += [replace(part, start=middle)] if middle < part.stop else []
        left -= middle - part.start
    return first, second
