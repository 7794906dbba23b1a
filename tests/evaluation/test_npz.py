"""Images in .npz files are read in parts, and no file content is trusted."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import refused
from torch import Tensor

from nextscale.evaluation import npz
from nextscale.evaluation.npz import ImageArray, read_array, read_headers, write_images

PIXELS = np.random.RandomState(0).randint(0, 256, (10, 4, 6, 3)).astype(np.uint8)


def saved(path: Path, compressed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def read_images(path: Path, batch: int = 64) -> Iterator[Tensor]:
    """All images, one batch after the other; what is wrong with the file is said at once."""
    array = ImageArray(path)
    count = array.shape[0]
    return (array.read(start, min(batch, count - start)) for start in range(0, count, batch))


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("batch", [1, 3, 10, 64])
def test_images_in_batches(tmp_path, compressed, batch):
    path = saved(tmp_path / "p.npz", compressed, arr_0=PIXELS, mu=np.zeros(3))
    parts = list(read_images(path, batch))
    assert [len(part) for part in parts] == [min(batch, 10 - start) for start in range(0, 10, batch)]
    assert torch.equal(torch.cat(parts), torch.from_numpy(PIXELS).permute(0, 3, 1, 2))
    assert all(part.dtype == torch.uint8 and part.is_contiguous() for part in parts)


def test_only_what_is_asked_for_is_read(tmp_path, monkeypatch):
    path, read = saved(tmp_path / "p.npz", arr_0=PIXELS), []
    whole = zipfile.ZipExtFile.read

    def counted(self: zipfile.ZipExtFile, n: int | None = -1) -> bytes:
        data = whole(self, n)
        read.append(len(data))
        return data

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counted)
    next(read_images(path, batch=2))
    assert sum(read) < 2 * PIXELS[:2].nbytes + 400 < PIXELS.nbytes + 400


def test_headers_and_arrays(tmp_path):
    path = saved(tmp_path / "a.npz", arr_0=PIXELS, mu=np.arange(3.0), meta=np.array("text"))
    headers = read_headers(path)
    assert {name: header.shape for name, header in headers.items()} == {"arr_0": (10, 4, 6, 3), "mu": (3,), "meta": ()}
    assert read_array(path, "mu").tolist() == [0, 1, 2] and str(read_array(path, "meta")) == "text"


def test_no_such_array(tmp_path):
    path = saved(tmp_path / "a.npz", mu=np.zeros(3), sigma=np.eye(3))
    with refused(path, "no arr_0", "mu, sigma"):
        read_images(path)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (PIXELS.astype(np.float32), ("float32", "(10, 4, 6, 3)")),
        (PIXELS[..., 0], ("(10, 4, 6)",)),
        (PIXELS.transpose(0, 3, 1, 2).copy(), ("(10, 3, 4, 6)",)),
        (PIXELS[:0], ("(0, 4, 6, 3)",)),
        (np.asfortranarray(PIXELS), ("Fortran order",)),
    ],
)
def test_what_are_no_images(tmp_path, array, words):
    path = saved(tmp_path / "a.npz", arr_0=array)
    with refused(path, "uint8 (N, H, W, 3)", *words):
        read_images(path)


def test_pickles_are_not_read(tmp_path):
    path = saved(tmp_path / "a.npz", arr_0=np.array([{"a": 1}], dtype=object))
    with refused(path, "Python objects", "refused"):
        read_headers(path)


def test_files_that_are_none(tmp_path):
    path = tmp_path / "a.npz"
    with refused(path, "no file"):
        read_headers(path)
    path.write_bytes(b"nothing")
    with refused(path, "not an .npz"):
        read_headers(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", b"nothing")
    with refused(path, "damaged"):
        read_headers(path)


def test_a_file_cut_short(tmp_path):
    path = saved(tmp_path / "a.npz", arr_0=PIXELS)
    path.write_bytes(path.read_bytes()[:-200])
    with refused(path, "damaged"):
        read_images(path)


def test_a_damaged_image(tmp_path):
    path = saved(tmp_path / "a.npz", arr_0=PIXELS)
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with refused(path, "damaged", "CRC"):
        list(read_images(path))


def test_a_shape_that_is_not_true(tmp_path):
    path, file = tmp_path / "a.npz", io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 64, 64, 3)})
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arr_0.npy", file.getvalue() + b"few")
    with refused("arr_0", path, "1000000000"):
        read_images(path)


@pytest.mark.parametrize("compressed", [False, True])
def test_images_in_any_order(tmp_path, compressed):
    array = ImageArray(saved(tmp_path / "p.npz", compressed, arr_0=PIXELS))
    for start, count in ((7, 3), (2, 1), (2, 4), (0, 10)):
        expected = torch.from_numpy(PIXELS[start : start + count]).permute(0, 3, 1, 2)
        assert torch.equal(array.read(start, count), expected)


def test_numpy_reads_what_is_written_in_parts(tmp_path):
    x, labels = torch.from_numpy(PIXELS).permute(0, 3, 1, 2), torch.arange(10)
    write_images(tmp_path / "p.npz", x.split(3), (10, 4, 6), labels)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["arr_0"], PIXELS)
        np.testing.assert_array_equal(file["arr_1"], labels)


@pytest.mark.parametrize("parts", [[], [torch.zeros(4, 3, 2, 2).byte()]])
def test_images_that_do_not_all_come(tmp_path, parts):
    with refused("of 10 images", tmp_path / "p.npz"):
        write_images(tmp_path / "p.npz", parts, (10, 2, 2))
    assert not list(tmp_path.iterdir())


def test_an_array_of_absurd_size_is_not_read(tmp_path, monkeypatch):
    """A compressed file of some kilobytes may hold gigabytes of zeros."""
    path = saved(tmp_path / "a.npz", compressed=True, mu=np.zeros(1_000_000), sigma=np.eye(3))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(npz, "LARGEST_ARRAY", 1_000_000)
    assert read_array(path, "sigma").tolist() == np.eye(3).tolist()
    with refused(path, "mu", "8,000,000 bytes", "at most 1,000,000"):
        read_array(path, "mu")


@pytest.mark.parametrize("shape", [(-1, -8), (-2, 3), (10**12, 10**12)])
def test_headers_of_absurd_shapes(tmp_path, shape):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("mu.npy", header.getvalue() + bytes(64))
    with refused(tmp_path / "a.npz", shape):
        read_array(tmp_path / "a.npz", "mu")
