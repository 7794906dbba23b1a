"""The script that installs the lowest supported versions reads all of them from the project file."""

from __future__ import annotations

import importlib.util
import re

import pytest
from doc_blocks import PROJECT, ROOT

SCRIPT = ROOT / ".ci" / "floors.py"
pytestmark = pytest.mark.skipif(not SCRIPT.is_file(), reason="source distributions do not contain .ci")


@pytest.fixture
def floors() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("floors", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: floor for extras in module.GROUPS for name, floor in module.read_floors(PROJECT, extras).items()}


def numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def test_every_dependency_has_a_floor(floors):
    section = PROJECT.partition("\ndependencies")[2].partition("\ndocs = ")[0]
    assert set(floors) == set(re.findall(r'"([\w-]+)[>=<]', section))
    assert {"torch", "datasets", "matplotlib", "gradio", "python-multipart", "diffusers"} <= set(floors)


def test_the_pins_are_not_below_the_floors(floors):
    constraints = (ROOT / "constraints.txt").read_text()
    for name, floor in floors.items():
        pins = re.findall(rf"^{name.replace('_', '-')}==([\w.]+)", constraints, re.MULTILINE | re.IGNORECASE)
        assert pins and all(numbers(pin) >= numbers(floor) for pin in pins)


def test_the_newest_torch_is_named_once(floors):
    assert f"PyTorch {floors['torch']} or newer" in (ROOT / "README.md").read_text()
