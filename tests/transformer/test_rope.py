"""Rotary positions: integer coordinates in the frame of a template, adjacent pairs, three modes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import refused
from torch import Tensor

from nextscale.scales.aspect import TEMPLATES
from nextscale.scales.schedule import ScaleSchedule, Visit
from nextscale.transformer.rope import check_rope, rotate, rotations

CPU = torch.device("cpu")
HEAD = 16
few = settings(deadline=None, max_examples=25)

COORDINATES = {
    (12, 64): [0, 5, 11, 16, 21, 27, 32, 37, 43, 48, 53, 59],
    (25, 70): [0, 3, 6, 8, 11, 14, 17, 20, 22, 25, 28, 31, 34, 36, 39, 42, 45, 48, 50, 53, 56, 59, 62, 64, 67],
    (20, 70): [0, 4, 7, 10, 14, 18, 21, 24, 28, 32, 35, 38, 42, 46, 49, 52, 56, 60, 63, 66],
}
"""(number of rows, rows of the frame) -> coordinates. The third has halves, which are rounded to even numbers."""


def table(size: tuple[int, int], frame: tuple[int, int], mode: int = 2, head: int = HEAD) -> Tensor:
    """(2, h, w, head / 2)."""
    return rotations([Visit(0, (1, *size), (), frame=frame)], head, mode, CPU).unflatten(1, size)


def by_definition(rows: list[int], columns: list[int], head: int = HEAD) -> Tensor:
    """Cos and sin of the angles [y f_0, y f_1, ..., x f_0, x f_1, ...] in float64."""
    half = head // 2
    frequencies = [10000 ** (-2 * m / half) for m in range(half // 2)]
    angles = torch.tensor(
        [[[y * f for f in frequencies] + [x * f for f in frequencies] for x in columns] for y in rows],
        dtype=torch.float64,
    )
    return torch.stack((angles.cos(), angles.sin()))


@pytest.mark.parametrize("count", COORDINATES, ids=str)
def test_coordinates_are_scaled_to_the_frame_and_rounded_half_to_even(count):
    (n, side), coordinates = count, COORDINATES[count]
    for size, frame, rows, columns in (
        ((n, 2), (side, 100), coordinates, [0, 50]),
        ((2, n), (100, side), [0, 50], coordinates),
    ):
        expected = by_definition(rows, columns)
        torch.testing.assert_close(table(size, frame).double(), expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_largest_grid_of_a_template_has_its_own_coordinates(template):
    h, w = TEMPLATES[template][-1]
    assert max(h, w) <= 128
    torch.testing.assert_close(table((h, w), (h, w)), table((h, w), (h, w), mode=0), atol=0, rtol=0)


def test_the_frame_of_a_schedule_does_not_depend_on_the_budget():
    first, last = (ScaleSchedule.infinity(budget, 1.5).visits[4] for budget in ("0.06M", "1M"))
    assert first.frame == last.frame == (78, 52)
    assert torch.equal(rotations([first], HEAD, 2, CPU), rotations([last], HEAD, 2, CPU))
    assert ScaleSchedule(((1, 1), (3, 5))).frame == (3, 5)


def test_tokens_of_several_visits_follow_each_other():
    visits = ScaleSchedule.infinity("0.06M", 0.571).visits
    together = rotations(visits, HEAD, 2, CPU)
    assert together.shape == (2, 472, HEAD // 2) and together.dtype == torch.float32
    assert torch.equal(together, torch.cat([rotations([visit], HEAD, 2, CPU) for visit in visits], dim=1))


@pytest.mark.parametrize("mode", [0, 1, 2])
def test_the_first_token_is_not_rotated(mode):
    cos, sin = rotations(ScaleSchedule.infinity().visits[:1], HEAD, mode, CPU)
    assert (cos == 1).all() and (sin == 0).all()


def test_mode_0_counts_rows_and_columns():
    expected = by_definition(list(range(5)), list(range(7)))
    torch.testing.assert_close(table((5, 7), (78, 52), mode=0).double(), expected, atol=2e-6, rtol=0)


def test_mode_1_resizes_the_tables():
    """Their corners stay where they are. A table of full size is mode 0."""
    torch.testing.assert_close(table((128, 128), (64, 64), mode=1), table((128, 128), (64, 64), mode=0))
    full = table((128, 128), (1, 1), mode=0)
    for frame, corner in (((64, 64), (127, 127)), ((78, 52), (127, 84)), ((52, 78), (84, 127)), ((70, 56), (127, 101))):
        found = table((6, 5), frame, mode=1)
        torch.testing.assert_close(found[:, 0, 0], full[:, 0, 0], atol=1e-6, rtol=0)
        torch.testing.assert_close(found[:, -1, -1], full[:, corner[0], corner[1]], atol=1e-5, rtol=0)
    half = table((1, 255), (64, 64), mode=1)[:, 0]  # twice as dense: every second token lies between two entries
    torch.testing.assert_close(half[:, ::2], full[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(half[:, 1::2], (full[:, 0, 1:] + full[:, 0, :-1]) / 2, atol=1e-5, rtol=0)


def test_adjacent_pairs_are_rotated():
    """The first half of the channels carries the row, the second the column."""
    rotation = table((2, 2), (2, 2)).flatten(1, 2)  # tokens (0, 0), (0, 1), (1, 0), (1, 1)
    x = torch.zeros(1, 1, 4, HEAD)
    x[..., 0] = x[..., HEAD // 2] = 1
    found = rotate(x, rotation)
    one = torch.tensor([math.cos(1), math.sin(1)])
    none = torch.tensor([1.0, 0.0])
    for token, row, column in ((0, none, none), (1, none, one), (2, one, none), (3, one, one)):
        torch.testing.assert_close(found[0, 0, token, :2], row)
        torch.testing.assert_close(found[0, 0, token, HEAD // 2 : HEAD // 2 + 2], column)
    rest = [c for c in range(HEAD) if c not in (0, 1, HEAD // 2, HEAD // 2 + 1)]
    assert not found[..., rest].any()


@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
@few
def test_scores_depend_on_the_distance_only(y, x, dy, dx, shift):
    generator = torch.Generator().manual_seed(y)
    q, k = torch.randn(2, 1, 1, 1, HEAD, generator=generator, dtype=torch.float64)

    def at(row: int, column: int, of: Tensor) -> Tensor:
        return rotate(of, by_definition([row], [column]).flatten(1, 2))

    first = (at(y, x, q) * at(y + dy, x + dx, k)).sum()
    second = (at(y + shift, x + 2 * shift, q) * at(y + dy + shift, x + dx + 2 * shift, k)).sum()
    torch.testing.assert_close(first, second)
    torch.testing.assert_close(at(y, x, q).norm(), q.norm())


def test_what_is_refused():
    with refused(3, "0, 1, 2"):
        check_rope(HEAD, 3)
    with refused("multiple of 4", 6):
        check_rope(6, 2)
    check_rope(12, 1)


def test_complex_products_have_the_bits_of_the_formula():
    rotation = table((3, 5), (48, 64)).flatten(1, 2)
    x = torch.randn(2, 15, 4, HEAD, generator=torch.Generator().manual_seed(0)).transpose(1, 2)
    cos, sin = rotation
    a, b = x[..., ::2], x[..., 1::2]
    rotated = rotate(x, rotation)
    assert torch.equal(rotated[..., ::2], a * cos - b * sin) and torch.equal(rotated[..., 1::2], a * sin + b * cos)
    torch.testing.assert_close(rotate(x.double(), rotation), rotated.double(), atol=1e-6, rtol=0)
