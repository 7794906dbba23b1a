"""Requests that schemathesis makes up from the OpenAPI description: good ones, and broken in every way it knows.

`benchmarks/fuzz_api.py` sends more of them.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("schemathesis", reason="needs the dev extra")
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from fuzz_api import fuzz
from nextscale.web.server import build_app


def check(statuses: Counter[int], least: int) -> None:
    assert sum(statuses.values()) >= least
    assert statuses[200] and statuses[400]  # both kinds came
    assert not [status for status in statuses if status >= 500]


@pytest.mark.filterwarnings("ignore")
def test_no_request_breaks_the_server(start):
    check(fuzz(build_app(start()), cases=12), least=50)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_no_request_of_a_thousand_breaks_the_server(start):
    check(fuzz(build_app(start()), cases=300), least=1000)
