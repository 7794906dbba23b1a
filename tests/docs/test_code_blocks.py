"""Code in the documentation works: Python blocks and quick commands run, all other commands parse.

A block that cannot run here needs a reason in a comment above it: ``<!-- test: skip, needs the official weights -->``.
Its ``nextscale`` commands are still parsed.
"""

from __future__ import annotations

import importlib
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from doc_blocks import (
    ROOT,
    SHELL,
    Block,
    commands,
    complaint,
    find_blocks,
    nextscale_arguments,
    pages,
    read_blocks,
)
from PIL import Image

import nextscale as ns
from nextscale.cli.main import VERBS, main

QUICK = ("sample", "reconstruct", "edit", "info")
"""Verbs that run here if the model is the starter."""
SLOW = ("starter.md", "editing.md")
"""Pages whose code takes ten seconds or more."""
PHOTOS = ("photo.jpg", "other.jpg")
"""Images that pages can use, in addition to small.png, mask.png (white in the middle) and a folder ``photos``."""


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    for name in PHOTOS:
        Image.radial_gradient("L").convert("RGB").save(tmp_path / name)
    Image.radial_gradient("L").resize((32, 32)).convert("RGB").save(tmp_path / "small.png")
    mask = Image.new("L", (256, 256))
    mask.paste(255, (64, 64, 192, 192))
    mask.save(tmp_path / "mask.png")
    for i in range(16):
        photo = tmp_path / "photos" / ("dress", "hat")[i % 2] / f"{i}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        Image.effect_noise((72, 72), 50 + i).convert("RGB").save(photo)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "page", [pytest.param(page, id=page.name, marks=[pytest.mark.long] * (page.name in SLOW)) for page in pages()]
)
def test_a_page_works(page, place, monkeypatch, capsys):
    namespace: dict[str, Any] = {"__name__": "__page__"}
    for block in read_blocks(page):
        check_block(block, namespace, monkeypatch, capsys)


def check_block(block: Block, namespace: dict[str, Any], monkeypatch, capsys) -> None:
    """Run or parse a block. Fail if it can do neither and is not skipped with a reason."""
    if block.skipped:
        assert block.marker and block.marker.rest, f"{block.place}: skipped without a reason"
    if block.language in SHELL:
        for command in commands(block):
            check_command(command, block, monkeypatch)
    elif block.marker and block.marker.what == "output of":
        check_output(block, monkeypatch, capsys)
    elif block.skipped or block.language == "text":
        pass
    elif block.language == "python":
        filled = "\n" * (block.line - 1) + block.text
        exec(compile(filled, str(ROOT / block.page), "exec"), namespace)
    elif block.language == "json":
        json.loads(block.text)
    else:
        pytest.fail(
            f"{block.place}: cannot run or parse a block of language {block.language!r}: mark it "
            "<!-- test: skip, REASON -->, or use the language text"
        )


def check_command(command: list[str], block: Block, monkeypatch) -> None:
    arguments = nextscale_arguments(command)
    if arguments is None:
        if not block.skipped:
            problem = complaint(command)
            assert problem is None, f"{block.place}: {problem}"
        return
    verb, options = parse(arguments, block.place, monkeypatch)
    if verb in QUICK and not block.skipped and runs_the_starter(options):
        importlib.import_module(VERBS[verb][0]).run(with_few_images(options))


def parse(arguments: list[str], place: str, monkeypatch) -> tuple[str, Any]:
    """Return (verb, options) with the parser of the command line, without running anything."""
    verb = next((v for v in (" ".join(arguments[:2]), arguments[0]) if v in VERBS), None)
    assert verb, f"{place}: no verb {arguments[0]!r}"
    caught: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(importlib.import_module(VERBS[verb][0]), "run", caught.append)
        try:
            main(arguments)
        except SystemExit:
            pytest.fail(f"{place}: nextscale {' '.join(arguments)} does not parse")
    return verb, caught[0]


def with_few_images(options: Any) -> Any:
    """Reduce the number of images to that of the labels, unless there is a seed for each image."""
    asked = getattr(options, "num_images", None)
    if asked is None or getattr(options, "seeds", None):
        return options
    return replace(options, num_images=min(asked, max(1, len(getattr(options, "labels", ())))))


def runs_the_starter(options: Any) -> bool:
    named = [getattr(options, f.name) for f in fields(options) if f.name in ("name", "model")]
    return all(name in ("", "starter") for name in named)


def check_output(block: Block, monkeypatch, capsys) -> None:
    """Check that the block is the output of a quick command."""
    assert block.marker
    (command,) = commands(replace(block, text=block.marker.rest))
    capsys.readouterr()
    check_command(command, replace(block, marker=None), monkeypatch)
    assert capsys.readouterr().out.strip() == block.text.strip(), f"{block.place}: differs from the output"


# ---- the test itself ---------------------------------------------------------------------------------------------

WRONG = {
    "an unknown flag": "```sh\nnextscale sample --colour red\n```",
    "an unknown flag after torchrun": "```sh\ntorchrun --nproc-per-node 8 -m nextscale train var --colour red\n```",
    "an unknown flag in a skipped block": "<!-- test: skip, slow -->\n```sh\nnextscale info starter --colour red\n```",
    "an unknown verb": "```sh\nnextscale paint\n```",
    "an unknown class": "```sh\nnextscale sample --labels unicorn\n```",
    "Python that raises": "```python\nimport nextscale\nnextscale.missing\n```",
    "no language": "```\nsomething\n```",
    "an unknown language": "```yaml\na: 1\n```",
    "a foreign program": "```sh\nfrobnicate --all\n```",
    "no reason": "<!-- test: skip -->\n```yaml\na: 1\n```",
    "a marker for another block": "<!-- test: skip, slow -->\nWords.\n\n```yaml\na: 1\n```",
    "another output": "<!-- test: output of nextscale info starter -->\n```text\nclasses 11\n```",
    "no such target": "```sh\nmake coffee\n```",
    "no such extra": "```sh\npip install 'nextscale[coffee]'\n```",
    "no such extra of a clone": "```sh\npip install -c constraints.txt -e '.[plot,coffee]'\n```",
    "a package that is not on an index": "```sh\npip install 'nextscale[plot]'\n```",
    "no such file of constraints": "```sh\npip install -c coffee.txt -e .\n```",
    "an unknown option of pip": "```sh\npip install --coffee -e .\n```",
    "no such flag of a script": "```sh\npython benchmarks/training_speed.py --coffee\n```",
    "broken JSON": "```json\n{\n```",
    "an open quote": "```sh\nnextscale info 'starter\n```",
}


@pytest.mark.parametrize("markdown", WRONG.values(), ids=WRONG)
def test_mistakes_are_found(markdown, place, monkeypatch, capsys):
    (block,) = find_blocks(markdown, "page.md")
    with pytest.raises((AssertionError, pytest.fail.Exception, AttributeError, ns.InputError, json.JSONDecodeError)):
        check_block(block, {}, monkeypatch, capsys)


def test_blocks_and_their_commands():
    markdown = (
        "<!-- test: skip, needs a GPU -->\n\n"
        "```sh\nA=1 nextscale info \\\n    starter | head && make test > log # why\n"
        'python -c "\nprint(1)"\n```\n'
    )
    (block,) = find_blocks(markdown, "page.md")
    assert block.place == "page.md:4" and block.skipped and block.marker and block.marker.rest == "needs a GPU"
    assert list(commands(block)) == [
        ["nextscale", "info", "starter"],
        ["head"],
        ["make", "test"],
        ["python", "-c", "\nprint(1)"],
    ]
