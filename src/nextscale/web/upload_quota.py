"""Where the studio's uploads lie: a private folder with a limit, gone with the server."""

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
"""What Gradio calls it; it is read when the studio is built and for each upload."""
KEPT_SECONDS = 600
"""Younger files are not deleted to make room: the studio reads an upload at once, the browser what it shows."""


@contextmanager
def private_folder() -> Iterator[Path]:
    """A folder that no other user may read, for Gradio's files, as long as the context lasts."""
    before = os.environ.get(FOLDER)
    with tempfile.TemporaryDirectory(prefix="nextscale-", ignore_cleanup_errors=True) as folder:
        os.environ[FOLDER] = folder
        try:
            yield Path(folder)
        finally:
            del os.environ[FOLDER]
            if before is not None:
                os.environ[FOLDER] = before


class Space:
    """Refuses an upload that the folder has no room for (507), when deleting old files does not make any.

    Uploads on their way count with the size that they announce, else with the most that one may have.
    """

    def __init__(self, app: ASGIApp, folder: Path, limits: Limits):
        self.app, self.folder, self.limits, self.coming = app, folder, limits, 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else Headers()
        if not headers.get("content-type", "").lower().startswith("multipart/") or scope["path"].startswith("/v1/"):
            return await self.app(scope, receive, send)
        announced = headers.get("content-length", "")
        size = int(announced[:20]) if announced.isdecimal() else self.limits.upload_bytes
        self.coming += size
        try:
            room = self.limits.folder_bytes - self.coming
            if await asyncio.to_thread(make_room, self.folder, room) > room:
                what = f"the server keeps too many uploads: expected at most {self.limits.folder_bytes:,} bytes in all"
                return await refuse(507, what, None, {"Retry-After": str(KEPT_SECONDS)})(scope, receive, send)
            await self.app(scope, receive, send)
        finally:
            self.coming -= size


def make_room(folder: Path, most: int) -> int:
    """Delete old files, the oldest first, until at most so many bytes are left. Returns how many are."""
    files: list[tuple[float, int, Path]] = []
    for path in folder.rglob("*"):
        with suppress(OSError):  # it may just have been deleted
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
