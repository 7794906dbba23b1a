"""Requests that schemathesis makes up from the OpenAPI description: good ones, and broken in every way it knows."""

from __future__ import annotations

from collections import Counter

import pytest

pytest.importorskip("schemathesis", reason="needs the dev extra")

from fuzz import fuzz

from nextscale.web.server import build_app


def check(statuses: Counter[int], least: int) -> None:
    assert sum(statuses.values()) >= least
    assert statuses[200] and statuses[400]  # both kinds came
    assert not [status for status in statuses if status >= 500]


@pytest.mark.filterwarnings("ignore")
def test_no_request_breaks_the_server(start):
    check(fuzz(build_app(start()), cases=6), least=35)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_no_request_of_a_thousand_breaks_the_server(start):
    check(fuzz(build_app(start()), cases=200), least=1000)
