"""JSON of untrusted files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny import refused

from nextscale.io import files
from nextscale.io.checkpoint_folder import is_complete
from nextscale.io.files import read_json
from nextscale.io.json_text import DEEPEST, parse_json
from nextscale.io.renamed import with_current_names


def nested(levels: int, opening: str = "[", closing: str = "]") -> str:
    return opening * levels + "0" + closing * levels


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a": ', "}")])
def test_nesting_is_bounded(opening, closing):
    content = parse_json(nested(DEEPEST, opening, closing))
    assert json.dumps(with_current_names(content)) == nested(DEEPEST, opening, closing)
    for levels in (DEEPEST + 1, 400, 200_000):
        with pytest.raises(ValueError, match="nested too deeply, more than 100 levels"):
            parse_json(nested(levels, opening, closing))


@pytest.mark.parametrize("text", ["[" * 200_000, "", "{", "1" * 5000])
def test_no_json(text):
    with pytest.raises(ValueError):
        parse_json(text)


def test_a_file_of_nested_json(tmp_path):
    (tmp_path / "files.json").write_text(nested(200_000))
    with refused(tmp_path / "files.json", "not valid JSON", "nested too deeply"):
        read_json(tmp_path / "files.json")
    assert not is_complete(tmp_path)


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_JSON", 10)
    (tmp_path / "a.json").write_text("[1, 2, 3]")
    assert read_json(tmp_path / "a.json") == [1, 2, 3]
    (tmp_path / "a.json").write_text("[1, 2, 3, 4]")
    monkeypatch.setattr(Path, "read_text", lambda *_: pytest.fail("it was read"))
    with refused(tmp_path / "a.json", "12 bytes", "at most 10"):
        read_json(tmp_path / "a.json")
