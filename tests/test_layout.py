"""The house stays readable."""

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
