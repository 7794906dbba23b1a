"""Limits on file length, imports and other structure of the code."""

from __future__ import annotations

from pathlib import Path

import nextscale


def test_no_file_over_400_lines():
    long = {
        str(path): count
        for path in Path(nextscale.__file__).parent.rglob("*.py")
        if (count := len(path.read_text().splitlines())) > 400
    }
    assert not long


def test_models_ask_neither_the_machine_nor_the_grad_mode():
    asked = ("is_grad_enabled", "get_device_properties", "is_intel", "memory_format", "nextscale.acceleration import")
    source = Path(nextscale.__file__).parent
    found = [
        f"{path}: {word}"
        for folder in ("transformer", "tokenizer")
        for path in (source / folder).glob("*.py")
        for word in (*asked, "from nextscale.acceleration", 'type == "cpu"', 'type == "cuda"')
        if word in path.read_text()
    ]
    assert not found
