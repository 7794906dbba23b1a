"""Training commands on ``scenes:PATH``."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_scenes import write_sprites

from nextscale.data.scenes import dataset
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.tokenizer.tokenizer import ImageTokenizer


@pytest.fixture(autouse=True)
def few(place, monkeypatch) -> None:
    monkeypatch.setattr(dataset, "EPOCH", 12)
    monkeypatch.setattr(dataset, "VALIDATION", 3)
    write_sprites(Path("sprites"))


def common(*more: object) -> tuple[object, ...]:
    return ("--preset", "tiny", "--data", "scenes:sprites", "--batch-size", 4, "--dtype", "float32", *more)


def test_a_resumed_tokenizer_is_the_same_as_one_that_processes_load(call):
    code, _, err = call("train", "tokenizer", *common("--steps", 5, "--out", "whole", "--save-every", 2))
    assert code == 0 and "12 images in 1 classes (scenes), 3 validation images" in err, err
    assert call("train", "tokenizer", *common("--steps", 5, "--out", "other", "--workers", 1)).code == 0
    newest = max(Path("whole/checkpoints").iterdir(), key=lambda folder: folder.name)
    shutil.rmtree(newest)
    assert "resuming whole at step 4" in call("train", "tokenizer", *common("--steps", 5, "--out", "whole")).err
    prints = [weights_fingerprint(ImageTokenizer.from_pretrained(name)) for name in ("whole", "other")]
    assert prints[0] == prints[1]


def test_a_transformer_learns_the_tokens_of_scenes(call):
    assert call("train", "tokenizer", *common("--steps", 1, "--out", "tokenizer")).code == 0
    code, _, err = call("train", "transformer", *common("--steps", 1, "--tokenizer", "tokenizer", "--out", "var"))
    assert code == 0, err
    assert call("sample", "--model", "var", "--num-images", 2, "--out", "s.png").code == 0


def test_other_sprites_are_other_data(call):
    assert call("train", "tokenizer", *common("--steps", 1, "--out", "run")).code == 0
    write_sprites(Path("second"))
    arguments = [str(part).replace("scenes:sprites", "scenes:second") for part in common("--steps", 1, "--out", "run")]
    code, _, err = call("train", "tokenizer", *arguments)
    assert code == 2 and "scenes:" in err and "second" in err
    code, _, err = call("train", "tokenizer", *[part.replace("second", "none") for part in arguments])
    assert code == 2 and "cannot read none as a folder or .tar archive of sprites" in err
