"""A real browser for a real server."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), ""
)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def serving(*flags: str, log: Path) -> Iterator[str]:
    """``nextscale serve`` at a free port; gives its address, and ends it by SIGTERM."""
    command = [sys.executable, "-m", "nextscale", "serve", "--port", "0", "--device", "cpu", *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert " at http://" in line, f"no server: {log.read_text()}"
        yield line.split()[-1]
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()


def save(page: Any, link: str, path: Path) -> Image.Image:
    """Follow a link to download."""
    with page.expect_download() as download:
        page.get_by_role("link", name=link, exact=True).locator("visible=true").click()
    download.value.save_as(path)
    return Image.open(path)


def repeat(command: str, folder: Path, image: str) -> Image.Image:
    """Run a command that the page shows; gives the image that it writes."""
    words = shlex.split(command.replace("\n", " "))
    assert words[0] == "nextscale"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", *words], cwd=folder, env=environment, check=True, capture_output=True)
    return Image.open(folder / image)


def code(page: Any, name: str) -> str:
    """What a block of code shows, as it is."""
    return "\n".join(page.locator(f"{name} .cm-line").all_inner_texts())


NOTE_STATUS = """() => {
  window.seen = [];
  const place = document.querySelector('#generate-status');
  new MutationObserver(() => {
    const said = place.innerText.trim();
    if (window.seen.at(-1) !== said) window.seen.push(said);
  }).observe(place, {childList: true, subtree: true, characterData: true});
}"""
"""JavaScript that collects what the status of the Generate tab says."""


def violations(page: Any) -> list[str]:
    """What axe-core finds, one line for each element: serious and critical violations, and lesser ones."""
    from axe_playwright_python.sync_playwright import Axe

    results = Axe().run(page).response
    assert results["passes"]
    return [
        f"{rule['impact']} {rule['id']}: {node['target']} {node['failureSummary']}"
        for rule in results["violations"]
        for node in rule["nodes"]
    ]


def open_all(page: Any) -> None:
    """Open every closed accordion of the visible tab."""
    closed = page.locator("button.label-wrap:not(.open)").locator("visible=true")
    while closed.count():
        closed.first.click()
