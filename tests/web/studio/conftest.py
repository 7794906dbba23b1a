"""A studio model with a tiny engine."""

from __future__ import annotations

import pytest

pytest.importorskip("gradio", reason="needs the serve extra")

from nextscale.web.studio.served_model import Model


@pytest.fixture
def model(start) -> Model:
    return Model(start())
