"""Fixtures of all tests."""

from __future__ import annotations

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var

import nextscale as ns

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_core() -> None:
    """For each test anew: MKL has one number for the whole process, which engines may have changed."""
    torch.set_num_threads(1)


@pytest.fixture(params=SCHEDULES)
def schedule(request) -> ns.ScaleSchedule:
    """Square, not square, and of a single scale."""
    return SCHEDULES[request.param]


@pytest.fixture
def tiny_tokenizer(schedule) -> ns.ImageTokenizer:
    """For every schedule; shared between tests, so do not change it."""
    return make_tokenizer(schedule)


@pytest.fixture
def tiny_var(schedule) -> ns.VAR:
    """For every schedule; shared between tests, so do not change it."""
    return make_var(schedule)
