"""Uploads to the studio are in a private folder with a size limit."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from nextscale.web.limits import Limits
from nextscale.web.upload_quota import BLOCK, FOLDER, KEPT_SECONDS, UploadQuota, make_room, private_folder


@pytest.mark.parametrize("before", [None, "elsewhere"])
def test_the_folder_is_private_and_goes(monkeypatch, before):
    monkeypatch.delenv(FOLDER, raising=False)
    if before:
        monkeypatch.setenv(FOLDER, before)
    with private_folder() as folder:
        assert os.environ[FOLDER] == str(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "a").mkdir()
        (folder / "a" / "b.png").write_bytes(b"b")
    assert not folder.exists() and os.environ.get(FOLDER) == before


def put(path: Path, size: int, age: float) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(bytes(size))
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def age(folder: Path, seconds: float) -> None:
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (time.time() - seconds, time.time() - seconds))


def test_the_oldest_files_make_room(tmp_path):
    oldest = put(tmp_path / "1", 100 * BLOCK, KEPT_SECONDS + 200)
    older = put(tmp_path / "2", 100 * BLOCK, KEPT_SECONDS + 100)
    new = put(tmp_path / "3", 100 * BLOCK, 5)
    assert make_room(tmp_path, 300 * BLOCK) == 300 * BLOCK and oldest.exists()
    assert make_room(tmp_path, 250 * BLOCK) == 200 * BLOCK and not oldest.exists() and older.exists()
    assert make_room(tmp_path, 0) == 100 * BLOCK and not older.exists() and new.exists()  # the young stay


def test_files_count_with_their_blocks_and_folders(tmp_path):
    for i in range(20):
        put(tmp_path / str(i) / "a.png", i % 2, 0)  # empty files take an entry of a folder
    assert make_room(tmp_path, 0) == 40 * BLOCK
    put(tmp_path / "0" / "b.png", BLOCK + 1, 0)
    assert make_room(tmp_path, 0) == 42 * BLOCK


def test_old_empty_folders_go_too(tmp_path):
    put(tmp_path / "a" / "1", 1, 0)
    age(tmp_path, KEPT_SECONDS + 100)
    (tmp_path / "young").mkdir()
    assert make_room(tmp_path, 0) == 2 * BLOCK  # the folder has changed just now
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["a", "young"]
    age(tmp_path / "a", KEPT_SECONDS + 100)
    assert make_room(tmp_path, 0) == BLOCK and [path.name for path in tmp_path.iterdir()] == ["young"]


FORM = {"Content-Type": "multipart/form-data; boundary=x"}
MOST = 100 * BLOCK


@pytest.fixture
def client(tmp_path) -> TestClient:
    """A server that keeps at most 100 blocks."""
    app = FastAPI()

    @app.post("/{path:path}")
    async def keep(path: str, request: Request) -> int:
        body = await request.body()
        put(tmp_path / str(time.monotonic_ns()), len(body), 0)
        return len(body)

    return TestClient(UploadQuota(app, tmp_path, Limits(folder_bytes=MOST, upload_bytes=60 * BLOCK)))


def test_uploads_beyond_the_limit_are_refused(client, tmp_path):
    assert client.post("/upload", content=bytes(60 * BLOCK), headers=FORM).status_code == 200
    assert client.post("/upload", content=bytes(40 * BLOCK), headers=FORM).status_code == 200
    refused = client.post("/upload", content=bytes(1), headers=FORM)
    assert refused.status_code == 507 and refused.json()["error"]["code"] == "insufficient_storage"
    assert f"{MOST:,} bytes" in refused.json()["error"]["message"] and int(refused.headers["retry-after"]) > 0
    assert client.post("/v1/images/edits", content=b"1", headers=FORM).status_code == 200  # which keeps nothing
    age(tmp_path, KEPT_SECONDS + 100)
    assert client.post("/upload", content=bytes(60 * BLOCK), headers=FORM).status_code == 200


def test_an_upload_of_unknown_size_needs_room_for_the_largest(client, tmp_path):
    put(tmp_path / "1", 50 * BLOCK, 0)
    form = {"Content-Type": "Multipart/form-data; boundary=x"}
    assert client.post("/upload", content=iter([b"1"]), headers=form).status_code == 507
    assert client.post("/upload", content=b"1", headers=form).status_code == 200


def parts(count: int) -> bytes:
    return b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n" * count + b"--x--\r\n"


def test_many_small_files_in_an_upload_need_room_for_their_blocks(client, tmp_path):
    assert client.post("/upload", content=parts(40), headers=FORM).status_code == 200
    (kept,) = tmp_path.iterdir()
    refused = client.post("/upload", content=parts(60), headers=FORM)
    assert refused.status_code == 507 and refused.json()["error"]["code"] == "insufficient_storage"
    assert list(tmp_path.iterdir()) == [kept]
    assert client.post("/upload", content=parts(40), headers=FORM).status_code == 200  # nothing stays reserved


def test_a_full_disk(client, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: shutil._ntuple_diskusage(100, 99, 1))
    refused = client.post("/upload", content=parts(1), headers=FORM)
    assert refused.status_code == 507
    assert refused.json()["error"]["message"] == "the disk of the server's upload folder is full"
