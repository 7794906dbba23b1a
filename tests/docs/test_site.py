"""The website builds, strictly and without the network, and is complete."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from doc_blocks import ROOT

import nextscale as ns
from nextscale.cli.main import VERBS

OTHER_HOST = re.compile(r'<(?:script|img|iframe)[^>]* src="?(?:https?:)?//|<link[^>]* href="?(?:https?:)?//')
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return folder


def test_nothing_is_loaded_from_other_hosts(site):
    loading = [path for path in site.rglob("*.html") if OTHER_HOST.search(path.read_text())]
    assert not loading
    assert OTHER_HOST.search('<link rel="stylesheet" href="https://fonts.googleapis.com/css">')


def test_the_reference_has_every_public_name(site):
    page = (site / "reference" / "index.html").read_text()
    missing = [name for name in ns.__all__ if name != "__version__" and f'id="nextscale.{name}"' not in page]
    assert not missing


def test_the_reference_has_every_verb(site):
    page = (site / "command-line" / "index.html").read_text()
    assert all(f'id="nextscale-{verb.replace(" ", "-")}"' in page for verb in VERBS)
    assert "--more-smooth" in page and "--weight-decay" not in page


def test_readme_is_the_first_page_and_links_to_pages(site):
    page = (site / "index.html").read_text()
    assert (
        'href="training/"' in page
        and 'src="starter-samples.png"' in page
        and not re.search(r'href="[^":]*\.md["#]', page)
    )
    assert (site / "source" / "src" / "nextscale" / "curves" / "reference.py" / "index.html").exists()


@pytest.mark.long
def test_the_script_writes_all_figures_of_the_concepts(tmp_path):
    script = ROOT / "docs" / "figures" / "concepts.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True)
    shown = set(re.findall(r"\]\((concepts-\w+\.svg)\)", (ROOT / "docs" / "concepts.md").read_text()))
    written = {path.name for path in tmp_path.iterdir()}
    assert written == shown == {path.name for path in (ROOT / "docs").glob("concepts-*.svg")}
    assert all(ElementTree.parse(tmp_path / name).getroot().tag.endswith("svg") for name in written)


@pytest.mark.long
def test_the_script_writes_the_figure_of_infinity(tmp_path):
    script = ROOT / "docs" / "figures" / "infinity.py"
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True)
    assert "](infinity-and-var.svg)" in (ROOT / "docs" / "infinity.md").read_text()
    assert (tmp_path / "infinity-and-var.svg").read_bytes() == (ROOT / "docs" / "infinity-and-var.svg").read_bytes()
