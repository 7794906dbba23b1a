"""Prompts from strings and files, and the phrase for people."""

from __future__ import annotations

import pytest
from tiny import refused

from nextscale.conditioning.prompts import (
    POSITIVE_PHRASE,
    check_prompts,
    check_text,
    read_prompts,
    with_positive_phrase,
)

TEXTS = ["a fox in the snow", "שלום עולם", "🦊 in ❄️", "two  spaces"]


def test_a_string_is_one_prompt():
    assert check_prompts("a fox") == ["a fox"]
    assert check_prompts(TEXTS) == check_prompts(tuple(TEXTS)) == TEXTS


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ([], ("at least one prompt",)),
        ("", ("prompt 0 is empty",)),
        (["a fox", " \t\n"], ("prompt 1 is empty",)),
        (["a fox", 3], ("prompt 1 is a string", "3")),
        (["a fox", None], ("prompt 1", "None")),
        (7, ("string or a list of strings", "7")),
        (["a \udcff fox"], ("prompt 0 is not valid Unicode", "position 2")),
    ],
)
def test_prompts_that_cannot_be(prompts, words):
    with refused(*words):
        check_prompts(prompts)


def test_a_negative_prompt_may_be_empty():
    assert check_text("") == ""
    with refused("the negative prompt is a string", "['blurry']"):
        check_text(["blurry"])  # type: ignore[arg-type]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_prompts_from_a_file(tmp_path, newline, mark):
    file = tmp_path / "prompts.txt"
    lines = [TEXTS[0], "", f"  {TEXTS[1]} ", "   ", *TEXTS[2:], ""]
    file.write_bytes(mark + newline.join(lines).encode())
    assert read_prompts(file) == read_prompts(str(file)) == TEXTS


def test_files_that_hold_no_prompts(tmp_path):
    with refused("cannot read", "missing.txt"):
        read_prompts(tmp_path / "missing.txt")
    with refused("cannot read", tmp_path):
        read_prompts(tmp_path)
    file = tmp_path / "prompts.txt"
    file.write_text(" \n\n")
    with refused("prompts.txt has no prompt", "one per line"):
        read_prompts(file)
    file.write_bytes("a fox\ncafé".encode("latin-1"))
    with refused("not a text file in UTF-8", "line 2", "233"):
        read_prompts(file)


@pytest.mark.parametrize(
    "prompt", ["a man", "Two WOMEN.", "the man's hat", "three girls", "children at play", "a person"]
)
def test_prompts_about_people_get_the_phrase(prompt):
    assert with_positive_phrase(prompt) == f"{prompt.rstrip('.')}. {POSITIVE_PHRASE}"


@pytest.mark.parametrize(
    "prompt", ["a Roman castle", "a mangrove.", "a song", "humanity", "personal", "a fox", "Manchester"]
)
def test_other_prompts_stay_the_same(prompt):
    assert with_positive_phrase(prompt) == prompt
