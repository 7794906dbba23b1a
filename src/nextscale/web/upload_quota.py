"""Limit the size of the studio's uploads, in a private temporary folder."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from nextscale.web.errors import refuse
from nextscale.web.limits import Limits

FOLDER = "GRADIO_TEMP_DIR"
"""Environment variable that Gradio reads when the studio is built, and at each upload."""
KEPT_SECONDS = 600
"""Minimum age of files that are deleted to make room. The studio and the browser read files soon after an upload."""


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
    """Middleware that rejects an upload (507) if it exceeds the folder's quota after old files were deleted.

    Uploads in progress count with their Content-Length, or with the largest allowed size if they have none.
    """

    def __init__(self, app: ASGIApp, folder: Path, limits: Limits):
        self.app, self.folder, self.limits, self.incoming = app, folder, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if not headers.get("content-type", "").lower().startswith("multipart/") or scope["path"].startswith("/v1/"):
            return await self.app(scope, receive, send)
        announced = headers.get("content-length", "")
        size = int(announced[:20]) if announced.isdecimal() else self.limits.upload_bytes
        self.incoming += size
        try:
            room = self.limits.folder_bytes - self.incoming
            if await asyncio.to_thread(make_room, self.folder, room) > room:
                what = f"the server's upload folder is full: expected at most {self.limits.folder_bytes:,} bytes in all"
                return await refuse(507, what, None, {"Retry-After": str(KEPT_SECONDS)})(scope, receive, send)
            await self.app(scope, receive, send)
        finally:
            self.incoming -= size


def make_room(folder: Path, most: int) -> int:
    """Delete old files, oldest first, until at most ``most`` bytes are left. Return the remaining bytes."""
    files: list[tuple[float, int, Path]] = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # the file may have been deleted meanwhile
            if not path.is_dir():
                found = path.lstat()
                files.append((found.st_mtime, found.st_size, path))
    left, old = sum(size for _, size, _ in files), time.time() - KEPT_SECONDS
    for changed, size, path in sorted(files):
        if left <= most or changed > old:
            break
        with suppress(OSError):
            path.unlink()
            left -= size
    return left
