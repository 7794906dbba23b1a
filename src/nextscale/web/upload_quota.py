"""Limit the size of the studio's uploads, in a private temporary folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nextscale.web.body import Occurrences, boundary_of, run_checked
from nextscale.web.errors import refusal_of
from nextscale.web.limits import Limits

FOLDER = "GRADIO_TEMP_DIR"
"""Environment variable that Gradio reads when the studio is built, and at each upload."""
KEPT_SECONDS = 600
"""Minimum age of files that are deleted to make room. The studio and the browser read files soon after an upload."""
BLOCK = 4096
"""Bytes of the disk that even an empty file or folder takes: its entry, or one block of most file systems."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """Context manager that creates a private temporary folder for Gradio's files, and deletes it afterwards."""
    before = os.environ.get(FOLDER)
    with tempfile.TemporaryDirectory(prefix="nextscale-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ[FOLDER]
            if before is not None:
                os.environ[FOLDER] = before


class UploadQuota:
    """Middleware that rejects an upload (507) if it exceeds the folder's quota after old files were deleted, or does
    not fit on the disk.

    Files count with the bytes that they take on the disk. An upload in progress counts with its Content-Length, or with
    the largest allowed size if it has none, and with two blocks for each file that has arrived: one for its end, and
    one for the folder that Gradio makes for it.
    """

    def __init__(self, app: ASGIApp, folder: Path, limits: Limits):
        self.app, self.folder, self.limits = app, folder, limits
        self.incoming, self.finished = 0, 0
        """Bytes of the uploads in progress, and of all that have ended."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        boundary = boundary_of(headers.get("content-type", ""))
        if not boundary or scope["path"].startswith("/v1/"):
            return await self.app(scope, receive, send)
        announced = headers.get("content-length", "")
        size = int(announced[:20]) if announced.isdecimal() else self.limits.upload_bytes
        reserved, parts = 0, Occurrences(boundary)
        before, finished = 0, self.finished  # at the start

        def reserve(more: int) -> None:
            nonlocal reserved
            reserved += more
            self.incoming += more
            if before + self.finished - finished + self.incoming > self.limits.folder_bytes:
                limit = f"expected at most {self.limits.folder_bytes:,} bytes on the disk in all"
                raise full(f"the server's upload folder is full: {limit}")

        async def counted() -> Message:
            message = await receive()
            reserve(2 * BLOCK * parts.count(message.get("body", b"")))
            return message

        try:
            before = await asyncio.to_thread(make_room, self.folder, self.limits.folder_bytes - self.incoming - size)
            try:
                reserve(size)
                if self.incoming > shutil.disk_usage(self.folder).free:
                    raise full("the disk of the server's upload folder is full")
            except HTTPException as error:
                return await refusal_of(error)(scope, receive, send)
            await run_checked(self.app, scope, counted, send)
        finally:
            self.incoming -= reserved
            self.finished += reserved


def full(sentence: str) -> HTTPException:
    return HTTPException(507, sentence, {"Retry-After": str(KEPT_SECONDS)})


def make_room(folder: Path, most: int) -> int:
    """Delete old files and empty folders, oldest first, until they take at most ``most`` bytes of the disk. Return the
    bytes that are still taken."""
    found: list[tuple[float, int, Path]] = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # it may have been deleted meanwhile
            status = path.lstat()
            found.append((status.st_mtime, on_disk(status), path))
    left, old = sum(size for _, size, _ in found), time.time() - KEPT_SECONDS
    for changed, size, path in sorted(found):
        if left <= most or changed > old:
            break
        with suppress(OSError):  # a folder may not be empty
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            else:
                path.unlink()
            left -= size
    return left


def on_disk(status: os.stat_result) -> int:
    """Return the bytes that a file or folder takes on the disk: whole blocks, at least one."""
    rounded = -(-status.st_size // BLOCK) * BLOCK
    return max(BLOCK, rounded, 512 * getattr(status, "st_blocks", 0))  # Windows does not count blocks
