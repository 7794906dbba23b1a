"""Fine-tuning: changed classes, and frozen parameters."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import CLASSES, SCHEDULES, make_var, refused
from tiny_runs import TRANSFORMER, make_images, train_command
from torch import Tensor

import nextscale as ns
from nextscale.cli.main import main
from nextscale.data.content import Tokens
from nextscale.data.dataset import Example
from nextscale.training.class_change import ClassChange, RelabelledSource
from nextscale.training.finetune import freeze, with_classes

SQUARE = SCHEDULES["square"]
NAMES = ("bag", "boot", "dress", "hat", "shirt")
NONE = CLASSES
"""The label that means "no class"."""


def inputs(model: ns.VAR) -> Tensor:
    return torch.randn(1, SQUARE.num_tokens - 1, model.config.code_dim, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def logits(model: ns.VAR, label: int) -> Tensor:
    return model(torch.tensor([label]), inputs(model))


def test_classes_go_by_name():
    model = make_var(SQUARE)
    names = ("dress", "zebra", "bag", "apple")
    changed, what = with_classes(model, NAMES, names)
    table, rows = model.class_embedding.weight, changed.class_embedding.weight
    assert changed.config.num_classes == 4
    for new, old in ((0, 2), (2, 0), (4, NONE)):
        assert torch.equal(rows[new], table[old])
        assert torch.equal(logits(changed, new), logits(model, old))
    for new in (1, 3):
        torch.testing.assert_close(rows[new], table[:-1].mean(0))
    assert what == "class embedding resized from 5 to 4 classes: 2 kept by name, 2 start from the mean of all"


def test_all_else_stays():
    model = make_var(SQUARE)
    changed = with_classes(model, NAMES, ("a", "b"))[0].state_dict()
    for name, tensor in model.state_dict().items():
        assert name == "class_embedding.weight" or torch.equal(changed[name], tensor)
    assert make_var(SQUARE).config.num_classes == CLASSES


def test_the_order_of_classes_makes_no_difference():
    model = make_var(SQUARE)
    changed, what = with_classes(model, NAMES, NAMES[::-1])
    assert "5 kept by name, 0 start" in what
    for label in range(CLASSES):
        assert torch.equal(logits(changed, label), logits(model, CLASSES - 1 - label))


@pytest.mark.parametrize(("names", "new"), [(NAMES, NAMES), ((), tuple("abcde"))])
def test_the_same_classes_or_as_many_of_no_name(names, new):
    model = make_var(SQUARE)
    changed, what = with_classes(model, names, new)
    assert changed is model and what == "same 5 classes"


def test_other_classes_of_a_model_without_names():
    model = make_var(SQUARE)
    changed, what = with_classes(model, (), ("a", "b", "c"))
    assert "0 kept by name, 3 start" in what
    for row in changed.class_embedding.weight[:-1]:
        torch.testing.assert_close(row, model.class_embedding.weight[:-1].mean(0))


@pytest.mark.parametrize(
    ("patterns", "frozen"),
    [
        ((), 0),
        (("head.bias",), 1),
        (("head.*",), 2),
        (("head.*", "head.bias", "word_embedding.?ias"), 3),
        (("blocks.0.*",), 10),
        (("blocks.*", "*adaln.*"), 26),
    ],
)
def test_what_matches_a_pattern_is_frozen(patterns, frozen):
    model = deepcopy(make_var(SQUARE))
    freeze(model, patterns)
    assert sum(not p.requires_grad for p in model.parameters()) == frozen


def test_what_is_frozen_already_stays_frozen():
    model = deepcopy(make_var(SQUARE))
    model.head.requires_grad_(False)
    freeze(model, ["word_embedding.*"])
    assert not any(p.requires_grad for p in (*model.head.parameters(), *model.word_embedding.parameters()))


@pytest.mark.parametrize("pattern", ["block.*", "blocks", "HEAD.bias", ""])
def test_a_pattern_that_matches_nothing(pattern):
    model = deepcopy(make_var(SQUARE))
    with refused(repr(pattern), "head.bias"):
        freeze(model, ["head.*", pattern])
    assert all(p.requires_grad for p in model.parameters())


def test_nothing_left_to_learn():
    with refused("no parameter to train", "*"):
        freeze(deepcopy(make_var(SQUARE)), ["*"])


def newest(run: Path) -> dict[str, Tensor]:
    (state,) = (load_file(path) for path in run.glob("checkpoints/*/state/*.safetensors"))
    return {name.removeprefix("model/"): t for name, t in state.items() if name.startswith("model/")}


def test_a_run_starts_from_a_model_and_leaves_what_is_frozen(images, tokenizer_run, var_run, tmp_path, capsys):
    trained = {"tokenizer": ns.ImageTokenizer.from_pretrained(tokenizer_run), "var": ns.VAR.from_pretrained(var_run)}
    patterns = {"tokenizer": "encoder.*", "var": "blocks.*"}
    for what, model in trained.items():
        run = tmp_path / what
        start = tokenizer_run if what == "tokenizer" else var_run
        more = ("--init-from", start, "--steps", 2, "--save-every", 0, "--set", f'freeze=["{patterns[what]}"]')
        main(train_command(what, images, run, *more))
        before, after = model.state_dict(), newest(run)
        prefix = patterns[what].removesuffix("*")
        assert all(torch.equal(after[name], before[name]) for name in before if name.startswith(prefix))
        assert any(not torch.equal(after[name], before[name]) for name in before if not name.startswith(prefix))
        drift = max((after[name] - before[name]).abs().max() for name in before)
        assert drift < 0.01  # two steps of a rate of at most 1e-3, not fresh weights
    assert "same 2 classes" in capsys.readouterr().err


def test_a_run_says_what_became_of_the_classes(var_run, tmp_path, capsys):
    for i, name in enumerate(("boot", "zebra", "hat")):
        make_images(tmp_path / "data" / name, 2, seed=i)
    main(train_command("var", tmp_path / "data", tmp_path / "run", "--init-from", var_run, "--steps", 1))
    said = capsys.readouterr().err
    assert "from 2 to 3 classes: 1 kept by name, 2 start from the mean" in said
    assert "classes dropped: 1 (dress). The trained model cannot generate them; --keep-classes keeps them" in said
    assert ns.Pipeline.from_pretrained(tmp_path / "run").class_names == ["boot", "hat", "zebra"]


def test_what_becomes_of_the_classes():
    change = ClassChange(("bag", "boot", "hat"), ("boot", "cap", "tie"), keep=False, count=3)
    assert (change.kept, change.added, change.dropped) == (("boot",), ("cap", "tie"), ("bag", "hat"))
    assert change.after == ("boot", "cap", "tie") and change.numbers == (0, 1, 2)
    assert change.lines() == [
        "classes kept: 1 (boot)",
        "classes added: 2 (cap, tie)",
        "classes dropped: 2 (bag, hat). The trained model cannot generate them; --keep-classes keeps them",
    ]
    change = replace(change, keep=True)
    assert (change.kept, change.added, change.dropped) == (change.before, ("cap", "tie"), ())
    assert change.after == ("bag", "boot", "hat", "cap", "tie") and change.numbers == (1, 3, 4)
    assert change.lines() == [
        "classes kept: 3 (bag, boot, hat)",
        "classes added: 2 (cap, tie)",
        "classes dropped: none",
        "classes kept without training images: 2 (bag, hat)",
    ]
    assert change.record() == {
        "classes_kept": ["bag", "boot", "hat"],
        "classes_added": ["cap", "tie"],
        "classes_dropped": [],
    }


@pytest.mark.parametrize("keep", [False, True])
def test_nothing_is_said_of_the_same_classes(keep):
    for data in (NAMES, NAMES[::-1]):
        change = ClassChange(NAMES, data, keep, 5)
        assert change.lines() == [] and [change.after[number] for number in change.numbers] == list(data)


def test_a_model_without_class_names():
    assert ClassChange((), ("a", "b"), False, 2).lines() == []  # matched by number
    lines = ClassChange((), ("a", "b"), False, 1000).lines()
    assert lines[-1] == "classes dropped: all 1000 of the initial model, which have no names"
    with refused("1000 classes of the initial model have no names", "--keep-classes"):
        ClassChange((), ("a", "b"), True, 1000)


def test_labels_of_kept_classes():
    class Data:
        source, seed = RelabelledSource("data", ("cap", "boot")), 7

        def __len__(self) -> int:
            return 2

        def __getitem__(self, key: tuple[int, int]) -> Example:
            return Example(Tokens(torch.tensor(key)), key[1], ("unreadable",))

    data = ClassChange(("bag", "boot"), ("cap", "boot"), True, 2).relabelled(Data())
    assert data.source.class_names == ("bag", "boot", "cap") and data.source.root == "data"
    assert [data[3, i].label for i in range(len(data))] == [2, 1]
    assert data[3, 1].content.values.tolist() == [3, 1] and data[3, 1].unreadable == ("unreadable",) and data.seed == 7


def test_a_run_adds_its_classes_to_those_of_the_model(var_run, tmp_path, capsys):
    """The model knows boot and dress. Only dress and the new classes have images."""
    for i, name in enumerate(("dress", "zebra", "hat")):
        make_images(tmp_path / "data" / name, 2, seed=i)
    run = tmp_path / "run"
    more = ("--init-from", var_run, "--steps", 6, "--save-every", 0, "--keep-classes")
    command = train_command("var", tmp_path / "data", run, *more)
    main(command)
    said = capsys.readouterr().err
    assert "classes kept: 2 (boot, dress)\nclasses added: 2 (hat, zebra)\nclasses dropped: none\n" in said
    assert "classes kept without training images: 1 (boot)" in said
    pipe = ns.Pipeline.from_pretrained(run)
    assert pipe.class_names == ["boot", "dress", "hat", "zebra"] and pipe.model.config.num_classes == 4
    first = json.loads((run / "log.jsonl").read_text().splitlines()[0])
    names = {"classes_kept": ["boot", "dress"], "classes_added": ["hat", "zebra"], "classes_dropped": []}
    assert first == {"step": 0} | names
    before = ns.VAR.from_pretrained(var_run).class_embedding.weight.detach()
    after = newest(run)["class_embedding.weight"]
    moved = [float((after[i] - before[i]).abs().max()) for i in range(2)]
    assert moved[0] < 0.1 * moved[1]  # weight decay alone, and images of the class

    main(command)
    assert "already finished" in capsys.readouterr().err
    assert (run / "log.jsonl").read_text().count("classes_kept") == 1
    with pytest.raises(SystemExit):
        main(command[:-1])
    assert "keep_classes True, not False" in capsys.readouterr().err


def test_python_code_adds_classes(var_run, tmp_path, capsys):
    make_images(tmp_path / "data" / "hat", 5)  # one is held out
    more = {"init_from": var_run, "steps": 1, "keep_classes": True}
    pipe = ns.train_transformer(tmp_path / "data", tmp_path / "run", preset=TRANSFORMER, **more)
    assert pipe.class_names == ["boot", "dress", "hat"]


def test_classes_of_no_model_cannot_be_kept(images, tokenizer_run, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(train_command("var", images, tmp_path / "run", "--tokenizer", tokenizer_run, "--keep-classes"))
    assert "expected --init-from" in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_the_trained_model_brings_its_tokenizer(images, tokenizer_run, var_run, tmp_path, capsys):
    main(train_command("var", images, tmp_path / "a", "--init-from", var_run, "--steps", 1))
    assert "resuming" not in capsys.readouterr().err
    other = tmp_path / "other"
    main(train_command("tokenizer", images, other, "--steps", 1, "--seed", 1))
    with pytest.raises(SystemExit) as stopped:
        main(train_command("var", images, tmp_path / "b", "--init-from", var_run, "--tokenizer", other))
    assert stopped.value.code == 2
    assert "expected one tokenizer" in capsys.readouterr().err and not (tmp_path / "b").exists()
