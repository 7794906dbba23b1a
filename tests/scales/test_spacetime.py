from __future__ import annotations

from typing import Any

import pytest
from tiny import refused
from tiny_star import make_schedule

import nextscale as ns
from nextscale.scales.spacetime import SpacetimeSchedule, clips_of, nearest_template


def test_the_public_name():
    schedule = ns.ScaleSchedule.spacetime("0.40M", 0.5625, 5)
    assert schedule == SpacetimeSchedule.official("0.40M", 0.5625, 5)
    assert schedule.image_size == (480, 848) and schedule.frames == 81 and schedule.num_scales == 28
    assert ns.ScaleSchedule.spacetime("0.06M", 1.0, 0).clips == (1,)


def test_visits_are_numbered_through_all_clips():
    visits = make_schedule().visits
    assert [visit.index for visit in visits] == [visit.number for visit in visits] == list(range(12))
    assert [visit.scale for visit in visits] == [0, 0, 1, 2, 3, 4, 4, 5, 6, 7, 7, 8]
    assert [visit.size[0] for visit in visits] == 4 * [1] + 4 * [2] + 4 * [1]
    assert [visit.start for visit in visits] == 4 * [0] + 4 * [1] + 4 * [3]
    assert [visit.sees for visit in visits] == 4 * [()] + 4 * [(3,)] + 4 * [(7,)]
    assert [visit.quantizer for visit in visits] == [0, 0, 1, 1] + 2 * [0, 1, 1, 1]


def test_skipped_repeats_keep_their_numbers():
    visits = make_schedule(most_repeats=1).visits
    assert [visit.index for visit in visits] == list(range(9))
    assert [visit.number for visit in visits] == [0, 2, 3, 4, 5, 7, 8, 9, 11]
    assert [visit.sees for visit in visits] == 3 * [()] + 3 * [(2,)] + 3 * [(5,)]


@pytest.mark.parametrize(
    ("frames", "clips"), [(1, (1,)), (2, (1, 1)), (21, (1, 20)), (22, (1, 20, 1)), (41, (1, 20, 20))]
)
def test_clips(frames, clips):
    assert clips_of(frames) == clips


def test_bad_input():
    with refused("0.5M", "0.40M"):
        SpacetimeSchedule.official("0.5M")
    wrong: list[Any] = [11, -1, 2.5, True]
    for seconds in wrong:
        with refused("1 to 10 whole seconds", seconds):
            SpacetimeSchedule.official(seconds=seconds)
    with refused("positive number", 0):
        nearest_template(0)
    with refused("image_repeats", "3 positive integers"):
        make_schedule(image_repeats=(1, 1))
    with refused("latent_frames", 0):
        make_schedule(0)
    with refused("most_repeats", 0):
        make_schedule(most_repeats=0)
