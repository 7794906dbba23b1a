"""The schedules match the official ones at each step."""

from __future__ import annotations

import json

import pytest
from golden import FOLDER
from tiny import refused

from nextscale.training.schedules import SCHEDULES, learning_rate, weight_decay

TABLE = json.loads((FOLDER / "training.json").read_text())["schedules"]


def rate(step: int, schedule: str) -> float:
    return learning_rate(
        step,
        TABLE["total_steps"],
        peak=TABLE["peak_lr"],
        warmup=TABLE["warmup_steps"],
        warmup_start=TABLE["warmup_start"],
        final_ratio=TABLE["final_ratio"],
        schedule=schedule,
    )


@pytest.mark.parametrize("schedule", TABLE["rows"])
def test_golden_rows(schedule):
    for step, lr, decay in TABLE["rows"][schedule]:
        ours = weight_decay(step, TABLE["total_steps"], start=TABLE["weight_decay"], end=TABLE["weight_decay_end"])
        assert rate(step, schedule) == pytest.approx(lr, rel=1e-9)
        assert ours == pytest.approx(decay, rel=1e-9)


def test_all_schedules_are_in_the_table():
    assert {*SCHEDULES, "lin0.6"} == set(TABLE["rows"])


@pytest.mark.parametrize("schedule", [*SCHEDULES, "lin0.3"])
def test_rises_then_falls_to_the_final_ratio(schedule):
    rates = [rate(step, schedule) for step in range(TABLE["total_steps"])]
    peak = rates.index(max(rates))
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(TABLE["final_ratio"])


@pytest.mark.parametrize("total", [1, 2])
def test_a_run_of_one_or_two_steps_has_rates(total):
    for step in range(total):
        value = learning_rate(step, total, peak=1, warmup=0.02, warmup_start=0.005, final_ratio=0.1, schedule="lin0")
        assert 0 < value <= 1


@pytest.mark.parametrize("schedule", ["linear", "lin1", "lin-0.5", "", "cosine", "linnan", "lindrop0.5"])
def test_unknown_schedule(schedule):
    with refused("schedule", schedule):
        rate(50, schedule)


@pytest.mark.parametrize(("warmup", "steps"), [(2.4, 2), (2.6, 3), (2.5, 2), (3.5, 4), (0.4, 0)])
def test_the_warm_up_is_rounded_to_whole_steps(warmup, steps):
    """The first step at the peak is the rounded number, ties to even; one before it is below."""
    rates = [
        learning_rate(step, 100, peak=1, warmup=warmup, warmup_start=0.1, final_ratio=0.1, schedule="lin0")
        for step in range(10)
    ]
    assert rates.index(1.0) == steps
    assert rates[:steps] == pytest.approx([0.1 + 0.9 * step / max(steps, 1) for step in range(steps)])


def test_dropX_drops_once():
    """As published for tokenizers: a tenth of the rate from step 450,000 of 500,000 on."""

    def rate_at(step: int) -> float:
        return learning_rate(
            step, 500_000, peak=1e-4, warmup=0, warmup_start=0.005, final_ratio=0.1, schedule="drop0.9"
        )

    assert [rate_at(step) for step in (0, 1000, 449_999)] == [1e-4] * 3
    assert [rate_at(step) for step in (450_000, 499_999)] == pytest.approx([1e-5] * 2)
