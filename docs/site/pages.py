"""A mkdocs hook that adds the pages outside ``docs/``.

README, CONTRIBUTING, CHANGELOG and every source file that a page links to become pages. In the files, links are plain
links between files, which work on a code host; this hook turns them into links between pages. The command-line
reference is the output of ``--help``.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
"""Page of each file outside ``docs/``. All other pages are ``docs/PAGE``."""
COMMAND_LINE = "command-line.md"
LINK = re.compile(r"\]\((?!\w+:|#)(?P<target>[^)\s#]+)(?P<anchor>#[^)\s]*)?\)")
COLUMNS = "80"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside ``docs/``."""
    written = {name: (ROOT / name).read_text() for name in ROOT_PAGES}
    for name, text in written.items():
        files.append(File.generated(config, ROOT_PAGES[name], content=text))
    files.append(File.generated(config, COMMAND_LINE, content=command_line()))
    for page in list(files.documentation_pages()):
        written[file_of(page.src_uri)] = page.content_string
    for path in sorted(set().union(*(linked_sources(name, text) for name, text in written.items()))):
        files.append(File.generated(config, page_of(path), content=source_page(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files into links between pages."""
    name = file_of(page.file.src_uri)

    def rewrite(link: re.Match[str]) -> str:
        path = target_of(name, link["target"])
        if not (ROOT / path).is_file():
            return link[0]
        page_link = posixpath.relpath(page_of(path), posixpath.dirname(page.file.src_uri) or ".")
        return f"]({page_link}{link['anchor'] or ''})"

    return LINK.sub(rewrite, markdown)


def linked_sources(name: str, text: str) -> set[str]:
    """Return the repository paths of the source files that a page links to."""
    paths = {target_of(name, link["target"]) for link in LINK.finditer(text)}
    return {path for path in paths if page_of(path).startswith("source/") and (ROOT / path).is_file()}


def target_of(name: str, target: str) -> str:
    """Return the repository path of the target of a link in the file ``name``."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))


def page_of(path: str) -> str:
    """Return the page or image of a repository file."""
    if path in ROOT_PAGES:
        return ROOT_PAGES[path]
    in_docs = path.startswith("docs/") and not path.endswith(".py")
    return path.removeprefix("docs/") if in_docs else f"source/{path}.md"


def file_of(page: str) -> str:
    """Return the repository file of a page."""
    for name, root_page in ROOT_PAGES.items():
        if page == root_page:
            return name
    return f"docs/{page}"


def source_page(path: str) -> str:
    """Return a source file or notebook as Markdown."""
    if path.endswith(".ipynb"):
        cells = json.loads((ROOT / path).read_text())["cells"]
        return "\n\n".join(notebook_cell(cell["cell_type"], "".join(cell["source"])) for cell in cells)
    language = {".py": "python", ".toml": "toml"}.get(Path(path).suffix, "text")
    return f"# {path}\n\n````{language}\n{(ROOT / path).read_text()}````\n"


def notebook_cell(kind: str, source: str) -> str:
    return source if kind == "markdown" else f"```python\n{source}\n```"


def command_line() -> str:
    """Return the command-line reference as Markdown."""
    from nextscale.cli.main import VERBS, usage

    parts = ["# Command line", f"```text\n{usage()}\n```"]
    parts += [f"## nextscale {verb}\n\n```text\n{help_of(verb)}\n```" for verb in VERBS]
    return "\n\n".join(parts) + "\n"


def help_of(verb: str) -> str:
    """Return the output of ``nextscale VERB --help``."""
    main = importlib.import_module("nextscale.cli.main").main
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = COLUMNS
    try:
        with contextlib.redirect_stdout(io.StringIO()) as output, contextlib.suppress(SystemExit):
            main([*verb.split(), "--help"])
    finally:
        os.environ.pop("COLUMNS")
        if before is not None:
            os.environ["COLUMNS"] = before
    return output.getvalue().strip()
