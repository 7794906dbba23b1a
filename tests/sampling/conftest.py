"""Models to sample with."""

from __future__ import annotations

import pytest
import torch
from tiny import SCHEDULES, make_tokenizer, make_var


@pytest.fixture
def models(tiny_tokenizer, tiny_var):
    with torch.no_grad():
        yield tiny_tokenizer, tiny_var


@pytest.fixture
def square():
    return make_tokenizer(SCHEDULES["square"]), make_var(SCHEDULES["square"])
