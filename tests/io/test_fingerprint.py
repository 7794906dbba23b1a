"""Fingerprints of weights and files."""

from __future__ import annotations

import os

import pytest
import torch
from torch import nn

from nextscale.io.fingerprint import (
    FILE_PIECE,
    FILE_PIECES,
    PIECE,
    PIECES,
    content_fingerprint,
    files_fingerprint,
    name_fraction,
    pieces,
    quick_fingerprint,
    stamp,
    stamp_of_some,
    tensors_fingerprint,
    weights_fingerprint,
)


def model(seed: int, width: int = 8) -> nn.Linear:
    module = nn.Linear(width, width)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))
    return module


@pytest.mark.parametrize("width", [8, 300])
def test_weights_are_told_apart(width):
    assert (
        quick_fingerprint(model(0, width)) == quick_fingerprint(model(0, width)) != quick_fingerprint(model(1, width))
    )
    assert quick_fingerprint(model(0, width).bfloat16()) != quick_fingerprint(model(0, width))


def test_a_single_number_of_a_small_tensor_counts():
    changed = model(0)
    changed.weight.data[3, 3] += 1
    assert quick_fingerprint(changed) != quick_fingerprint(model(0))


def counting() -> nn.Linear:
    module = nn.Linear(200, 100)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.arange(parameter.numel()).view_as(parameter))
    return module


def test_values_never_change():
    """Caches, runs, reports and images hold them."""
    assert tensors_fingerprint(counting().state_dict().values()) == "a75057a9fbf65897"
    assert weights_fingerprint(counting()) == "b0b03311015f07a3"
    assert quick_fingerprint(counting()) == "f887aa2675914166"
    assert content_fingerprint(b"nextscale") == "7436ba70b05ed0f15c38218b7561e6c6ea4ef882f63641afe45e25eaf825a764"


def test_the_value_of_a_stamp_never_changes(tmp_path):
    for name in ("a/b.png", "c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
        os.utime(tmp_path / name, ns=(0, 1234567890123456789))
    assert stamp([tmp_path / "a" / "b.png", tmp_path / "c.png", tmp_path / "none"]) == "9ae4d769566a2b7f"


def test_names_that_are_not_utf8(tmp_path):
    """Two names that differ in such a byte alone are told apart."""
    stamps = set()
    for name in (b"caf\xe9", b"caf\xe8", "café".encode()):
        place = tmp_path / os.fsdecode(name)
        place.touch()
        os.utime(place, ns=(0, 1234567890123456789))
        stamps.add(stamp([place]))
    assert len(stamps) == 3


def test_the_fraction_of_a_name_never_changes():
    """It decides which images runs hold out."""
    assert name_fraction("boot/0.png") == 0.8530816522745823
    assert name_fraction("caf\u00e9.png") == name_fraction("cafe\u0301.png") == 0.21425178809531076
    assert name_fraction(os.fsdecode(b"caf\xe9.png")) != name_fraction(os.fsdecode(b"caf\xe8.png"))
    assert stamp_of_some("9ae4d769566a2b7f", ["boot/0.png", "boot/1.png"]) == "5b6acecc50fe694b"


def test_fractions_of_names_are_uniform():
    fractions = [name_fraction(f"boot/{i}.png") for i in range(2000)]
    for low in (0, 0.25, 0.5, 0.75):
        assert 430 < sum(low <= fraction < low + 0.25 for fraction in fractions) < 570


@pytest.mark.parametrize("size", [0, 1, PIECES * PIECE, PIECES * PIECE + 1, 10**6 + 3])
def test_pieces_reach_from_the_first_number_to_the_last(size):
    found = pieces(torch.arange(size))
    assert len(found) == min(size, PIECES * PIECE)
    assert not size or (found[0] == 0 and found[-1] == size - 1)


def test_files_are_told_apart_by_content_not_by_place_or_time(tmp_path):
    size = FILE_PIECES * FILE_PIECE + 5
    contents = {"small": b"abc", "large": bytes(range(256)) * (size // 256 + 1)}
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        for name, content in contents.items():
            (tmp_path / folder / name).write_bytes(content)
        os.utime(tmp_path / folder / "small", (1, 1) if folder == "a" else None)
        found.append(files_fingerprint([tmp_path / folder / name for name in contents]))
    assert found[0] == found[1] == files_fingerprint([str(tmp_path / "a" / name) for name in reversed(contents)])
    assert found[0] == "adf6b781559a5727"


@pytest.mark.parametrize("position", [0, 5, -1])
def test_bytes_of_a_file_count(tmp_path, position):
    file = tmp_path / "weights"
    for content in (bytes(20), bytes(FILE_PIECES * FILE_PIECE + 99)):
        file.write_bytes(content)
        before = files_fingerprint([file])
        changed = bytearray(content)
        changed[position] = 1
        file.write_bytes(changed)
        assert files_fingerprint([file]) != before
        file.write_bytes(content + b"0")
        assert files_fingerprint([file]) != before
    renamed = file.rename(tmp_path / "other")
    assert files_fingerprint([renamed]) != before
