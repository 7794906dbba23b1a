"""Uploads to the studio are in a private folder with a size limit."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient

from nextscale.web.limits import Limits
from nextscale.web.upload_quota import FOLDER, KEPT_SECONDS, UploadQuota, make_room, private_folder


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


def test_the_oldest_files_make_room(tmp_path):
    oldest = put(tmp_path / "a" / "1", 100, KEPT_SECONDS + 200)
    older = put(tmp_path / "b" / "2", 100, KEPT_SECONDS + 100)
    new = put(tmp_path / "c" / "3", 100, 5)
    assert make_room(tmp_path, 300) == 300 and oldest.exists()
    assert make_room(tmp_path, 250) == 200 and not oldest.exists() and older.exists()
    assert make_room(tmp_path, 0) == 100 and not older.exists() and new.exists()  # the young stay


@pytest.fixture
def client(tmp_path) -> TestClient:
    """A server that keeps at most 1000 bytes."""
    app = FastAPI()

    @app.post("/{path:path}")
    async def keep(path: str, request: Request) -> int:
        body = await request.body()
        put(tmp_path / "kept" / str(time.monotonic_ns()), len(body), 0)
        return len(body)

    return TestClient(UploadQuota(app, tmp_path, Limits(folder_bytes=1000, upload_bytes=600)))


def test_uploads_beyond_the_limit_are_refused(client, tmp_path):
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    assert client.post("/upload", content=bytes(600), headers=form).status_code == 200
    assert client.post("/upload", content=bytes(400), headers=form).status_code == 200
    refused = client.post("/upload", content=bytes(1), headers=form)
    assert refused.status_code == 507 and refused.json()["error"]["code"] == "insufficient_storage"
    assert "1,000 bytes" in refused.json()["error"]["message"] and int(refused.headers["retry-after"]) > 0
    assert client.post("/v1/images/edits", content=b"1", headers=form).status_code == 200  # which keeps nothing
    for path in tmp_path.rglob("*"):
        os.utime(path, (0, 0))
    assert client.post("/upload", content=bytes(600), headers=form).status_code == 200


def test_an_upload_of_unknown_size_needs_room_for_the_largest(client, tmp_path):
    put(tmp_path / "kept" / "1", 500, 0)
    form = {"Content-Type": "Multipart/form-data; boundary=x"}
    assert client.post("/upload", content=iter([b"1"]), headers=form).status_code == 507
    assert client.post("/upload", content=b"1", headers=form).status_code == 200
