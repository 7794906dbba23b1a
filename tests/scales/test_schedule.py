"""Sizes, offsets and visits of scale schedules."""

from __future__ import annotations

import pytest
from tiny import refused

import nextscale as ns


@pytest.mark.parametrize(("name", "num_tokens"), [("256", 680), ("512", 2240), ("1024", 9451)])
def test_official_schedules(name, num_tokens):
    schedule = ns.ScaleSchedule.named(name)
    assert schedule.num_tokens == num_tokens
    assert schedule.final_size == (int(name) // 16,) * 2


def test_slices_tile_the_sequence(schedule):
    sequence = range(schedule.num_tokens)
    assert [i for part in schedule.slices for i in sequence[part]] == list(sequence)
    assert [len(sequence[part]) for part in schedule.slices] == [h * w for h, w in schedule.sizes]


def test_level_ids_say_whose_slice_a_token_is_in(schedule):
    assert len(schedule.level_ids) == schedule.num_tokens
    for k, part in enumerate(schedule.slices):
        assert set(schedule.level_ids[part]) == {k}


def test_position_runs_from_0_to_1():
    schedule = ns.ScaleSchedule.square((1, 2, 3, 4, 5))
    assert [schedule.position(k) for k in range(5)] == [0, 0.25, 0.5, 0.75, 1]


def test_the_only_scale_is_the_finest():
    assert ns.ScaleSchedule(((2, 3),)).position(0) == 1


def test_lists_of_json_make_the_same_schedule():
    schedule = ns.ScaleSchedule([[1, 1], [2, 3]])  # type: ignore[arg-type]
    assert schedule == ns.ScaleSchedule(((1, 1), (2, 3)))
    assert hash(schedule) == hash(ns.ScaleSchedule(((1, 1), (2, 3))))


def test_text():
    assert str(ns.ScaleSchedule(((1, 1), (2, 3), (4, 4)))) == "1 2x3 4"


@pytest.mark.parametrize("sizes", [(), ((0, 1),), ((-1, 2),), ((1, 2, 3),), ((1.5, 2),), ("ab",), (3,), 3, None])
def test_what_is_no_schedule(sizes):
    with refused("scale schedule"):
        ns.ScaleSchedule(sizes)


@pytest.mark.parametrize("sizes", [((3, 1), (2, 2)), ((1, 3), (2, 2))])
def test_no_scale_is_larger_than_the_last(sizes):
    with refused("{}x{}".format(*sizes[0]), "2x2"):
        ns.ScaleSchedule(sizes)


def test_unknown_name():
    with refused("'300'", "256, 512, 1024"):
        ns.ScaleSchedule.named("300")


def test_a_visit_sees_all_earlier_ones():
    schedule = ns.ScaleSchedule(((1, 1), (2, 3), (4, 5)))
    assert [visit.size for visit in schedule.visits] == [(1, 1, 1), (1, 2, 3), (1, 4, 5)]
    assert [visit.sees for visit in schedule.visits] == [(), (0,), (0, 1)]
    assert [visit.num_tokens for visit in schedule.visits] == list(schedule.tokens_per_scale)
    assert [visit.index for visit in schedule.visits] == [0, 1, 2]
