"""Caches of bits, with captions, aspect ratios and text features."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import refused
from tiny_captions import RECIPE, with_text
from tiny_infinity import WordEncoder, make_tokenizer
from tiny_runs import make_images
from tiny_scenes import write_sprites

import nextscale as ns
from nextscale.conditioning.feature_shards import ShardedEncoder
from nextscale.data import cache
from nextscale.data.cache import TEXT, TokenDataset, open_cache
from nextscale.data.cache_shards import TokenFormat, captions_path, pack, parse_captions, unpack
from nextscale.data.captions import captioned
from nextscale.data.dataset import Example, Examples
from nextscale.data.loader import TrainingBatches, validation_batches
from nextscale.data.splits import open_buckets, open_image_splits, open_splits
from nextscale.io.tensor_files import write_tensors
from nextscale.training.aspects import aspect_schedules, aspect_sizes
from nextscale.training.cache_parts import CacheSettings
from nextscale.training.token_cache import make_cache
from nextscale.training.transformer_setup import at_budget_of
from nextscale.training.vocabulary import captions_of

CPU = torch.device("cpu")
WHOLE = CacheSettings(crops=0, val_fraction=0.25)
SHAPES = {(30, 20): 6, (20, 20): 8, (21, 20): 2}
SCHEDULE = ns.ScaleSchedule.infinity("0.06M")


@pytest.fixture(scope="module")
def tokenizer() -> ns.ImageTokenizer:
    return make_tokenizer(schedule=SCHEDULE, multipliers=(1, 1))


@pytest.fixture
def photos(tmp_path, monkeypatch) -> Path:
    """Photos with captions, in shards of four. One photo is broken, another has no caption."""
    monkeypatch.setattr(cache, "IMAGES_IN_SHARD", 4)
    root = tmp_path / "photos"
    rows = []
    for i, (size, count) in enumerate(SHAPES.items()):
        make_images(root / f"{i}", count, seed=i, size=size)
        for j in range(count):
            captions = [f"photo {j}", f"{size[0]} by {size[1]}"] if (i, j) != (1, 3) else []
            rows.append({"file": f"{i}/{j}.png", "captions": captions})
    (root / "1" / "5.png").write_bytes(b"no image")
    (root / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "all.jsonl"


def examples_of(data: Examples, epochs: int = 1) -> list[Example]:
    return [data[epoch, i] for epoch in range(epochs) for i in range(len(data))]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_bits_and_captions_are_those_of_the_images(photos, tmp_path, tokenizer):
    make_cache(str(photos), tmp_path / "cache", tokenizer, WHOLE, CPU)
    size = tokenizer.config.image_size
    for ours, theirs in zip(
        open_cache(tmp_path / "cache", 0),
        open_image_splits(photos, size, 0, val_fraction=0.25, captions=True),
        strict=True,
    ):
        assert ours is not None and theirs is not None
        theirs.augment = False
        usable = [i for i in range(len(theirs)) if not theirs[0, i].unreadable]
        assert len(ours) == len(usable)
        for row, i in enumerate(usable):
            bits = ours[0, row].content.values
            assert bits.dtype == torch.bool and bits.shape == (SCHEDULE.num_tokens, 6)
            assert torch.equal(bits, torch.cat(tokenizer.encode(theirs[0, i].image[None]), dim=1)[0])
            assert ours[0, row].template is None
            captions = captioned(theirs.source).captions(i)
            assert {ours[epoch, row].caption for epoch in range(30)} == set(captions)
        assert (
            captions_of(ours)
            == ours.captions()
            == [text for i in usable for text in captioned(theirs.source).captions(i)]
        )
    index = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert index["bits"] == 6 and index["captions"] is True and index["tokens"] == SCHEDULE.num_tokens


def test_bits_take_one_bit_each(photos, tmp_path, tokenizer):
    make_cache(str(photos), tmp_path / "cache", tokenizer, CacheSettings(crops=2, flip=True), CPU)
    shard = load_file(tmp_path / "cache" / "train" / "tokens-00000.safetensors")
    assert shard["bits"].dtype == torch.uint8
    assert shard["bits"].shape[1:] == (4, -(-SCHEDULE.num_tokens * 6 // 8))
    bits = torch.rand(2, 3, 5, 7) < 0.5
    packed = pack(bits)
    assert packed.shape == (2, 3, 5) and torch.equal(unpack(packed[1, 2], TokenFormat(5, 7)), bits[1, 2])


def test_every_aspect_ratio_has_its_schedule(photos, tmp_path, tokenizer):
    settings = CacheSettings(aspects=True, val_fraction=0.25)
    make_cache(str(photos), tmp_path / "cache", tokenizer, settings, CPU)
    schedules = aspect_schedules(tokenizer)
    sizes = aspect_sizes(tokenizer)
    for ours, theirs in zip(
        open_cache(tmp_path / "cache", 5), open_buckets(photos, sizes, 5, val_fraction=0.25), strict=True
    ):
        assert ours is not None and theirs is not None
        usable = [example for example in examples_of(theirs) if not example.unreadable]
        assert len(usable) == len(ours) < len(theirs)
        assert len({len(bucket) for bucket in ours.buckets}) == 2
        for example, image in zip(examples_of(ours), usable, strict=True):
            assert example.template == image.template and image.template is not None
            schedule = schedules[image.template]
            assert example.content.values.shape == (schedule.num_tokens, 6)
            bits = torch.cat(tokenizer.encode(image.image[None], schedule), dim=1)[0]
            assert torch.equal(example.content.values, bits)


def test_batches_of_a_cache_have_one_ratio(photos, tmp_path, tokenizer):
    make_cache(str(photos), tmp_path / "cache", tokenizer, CacheSettings(aspects=True, flip=True), CPU)
    train, val = open_cache(tmp_path / "cache", 0)
    assert val is not None and train.views == 2 and val.views == 1
    batches = [batch for (batch,) in islice(TrainingBatches(train, 2, 0), 12)]
    assert {batch.template for batch in batches} == {0.666, 1.0}
    again = [batch for (batch,) in islice(TrainingBatches(train, 2, 5, workers=1), 7)]
    for ours, theirs in zip(again, batches[5:], strict=True):
        assert torch.equal(ours.content.values, theirs.content.values) and ours[2:] == theirs[2:]
    assert sum(batch.batch_slice.count for batch in validation_batches(val, 3)) == len(val)


@pytest.mark.parametrize("aspects", [False, True])
def test_an_interrupted_cache_is_finished(photos, tmp_path, tokenizer, capsys, aspects):
    settings = CacheSettings(crops=1, aspects=aspects)
    make_cache(str(photos), tmp_path / "cache", tokenizer, settings, CPU, WordEncoder())
    whole = files_of(tmp_path / "cache")
    shards = [name for name in whole if name.endswith(".safetensors") and "/model" not in name]
    assert sum("tokens-" in name for name in shards) == sum("features-" in name for name in shards) > 4
    for name in shards[::3]:
        os.truncate(tmp_path / "cache" / name, 100)
    captions_path(tmp_path / "cache" / next(name for name in shards if "tokens-" in name)).unlink()
    encoder = WordEncoder()
    for name in [name for name in shards if "tokens-" in name][:1]:
        (tmp_path / "cache" / name).unlink(missing_ok=True)
    make_cache(str(photos), tmp_path / "cache", tokenizer, settings, CPU, encoder)
    assert files_of(tmp_path / "cache") == whole
    assert 0 < len(encoder.encoded) < 40


def test_two_processes_make_the_same_files(photos, tmp_path, tokenizer, monkeypatch):
    """One after the other: they write different files."""
    settings = CacheSettings(aspects=True)
    make_cache(str(photos), tmp_path / "one", tokenizer, settings, CPU, WordEncoder())
    monkeypatch.setattr("nextscale.training.token_cache.world_size", lambda: 2)
    with monkeypatch.context() as patch:  # the captions of another process are missing, as there is no barrier
        patch.setattr("nextscale.training.token_cache.encode_captions", lambda *_: None)
        for rank in (1, 0):
            patch.setattr("nextscale.training.token_cache.rank", lambda rank=rank: rank)
            make_cache(str(photos), tmp_path / "two", tokenizer, settings, CPU, WordEncoder())
    for rank in (1, 0):
        monkeypatch.setattr("nextscale.training.token_cache.rank", lambda rank=rank: rank)
        make_cache(str(photos), tmp_path / "two", tokenizer, settings, CPU, WordEncoder())
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_a_cache_is_not_finished_with_other_settings(photos, tmp_path, tokenizer):
    make_cache(str(photos), tmp_path / "cache", tokenizer, WHOLE, CPU)
    with refused("images", "not"):
        make_cache(str(photos), tmp_path / "cache", tokenizer, CacheSettings(crops=0, aspects=True), CPU)
    other = make_tokenizer(schedule=SCHEDULE, num_blocks=2, multipliers=(1, 1))
    with refused("tokenizer", other.fingerprint(), tokenizer.fingerprint()):
        make_cache(str(photos), tmp_path / "cache", other, WHOLE, CPU)


def test_text_features_are_read_instead_of_encoded(photos, tmp_path, tokenizer):
    make_cache(str(photos), tmp_path / "cache", tokenizer, WHOLE, CPU, WordEncoder())
    encoder = WordEncoder()
    sharded = ShardedEncoder(encoder, tmp_path / "cache" / TEXT)
    train, val = open_cache(tmp_path / "cache", 0)
    assert val is not None
    captions = [example.caption for data in (train, val) for example in examples_of(data, 10)]
    text = sharded.encode(captions)
    assert encoder.encoded == [] and len(sharded) == len(set(captions))
    expected = WordEncoder().encode(captions)
    assert text.lengths == expected.lengths and torch.equal(text.features, expected.features)
    mixed = sharded.encode(["a new prompt", captions[0]])
    assert encoder.encoded == ["a new prompt"] and mixed.lengths == (3, len(captions[0].split()))


def test_text_features_of_another_encoder(photos, tmp_path, tokenizer):
    make_cache(str(photos), tmp_path / "cache", tokenizer, WHOLE, CPU, WordEncoder())
    other = WordEncoder()
    other.fingerprint = "other"
    with refused("features of the text encoder words, not of other"):
        ShardedEncoder(other, tmp_path / "cache" / TEXT)
    make_cache(str(photos), tmp_path / "cache", tokenizer, WHOLE, CPU, other)
    assert len(ShardedEncoder(other, tmp_path / "cache" / TEXT)) == len(
        ShardedEncoder(WordEncoder(), tmp_path / "cache" / TEXT)
    )
    assert len(ShardedEncoder(other, tmp_path / "none")) == 0


def test_damaged_text_features(photos, tmp_path, tokenizer):
    make_cache(str(photos), tmp_path / "cache", tokenizer, WHOLE, CPU, WordEncoder())
    path = next((tmp_path / "cache" / TEXT).rglob("features-*"))
    tensors = load_file(path)
    write_tensors(path, tensors | {"lengths": tensors["lengths"] + 1})
    with refused(path, "does not hold features"):
        ShardedEncoder(WordEncoder(), tmp_path / "cache" / TEXT)
    os.truncate(path, 200)
    with refused(path, "not a complete safetensors file"):
        ShardedEncoder(WordEncoder(), tmp_path / "cache" / TEXT)


def test_official_captions_keep_their_rule(tmp_path, tokenizer):
    folder = make_images(tmp_path / "official", 4, size=(20, 20))
    fields = {"h_div_w": 1.0, "long_caption": "One. Two. Three. Four.", "text": "A list", "long_caption_type": "x"}
    lines = [json.dumps({"image_path": f"{i}.png", **fields}) for i in range(4)]
    (folder / "1.000_000000004.jsonl").write_text("\n".join(lines))
    make_cache(str(folder), tmp_path / "cache", tokenizer, CacheSettings(crops=0, val_fraction=0), CPU)
    train, _ = open_cache(tmp_path / "cache", 3)
    images, _ = open_image_splits(folder, tokenizer.config.image_size, 3, captions=True)
    drawn = [[data[epoch, i].caption for epoch in range(30) for i in range(4)] for data in (train, images)]
    assert drawn[0] == drawn[1] and set(drawn[0]) == {"A list", "One. Two. Three", "One. Two. Three. Four"}


@pytest.mark.parametrize("line", ["", "{", "3", "[]", "[3]", '{"long": "a"}', '{"long": 1, "short": "", "kind": ""}'])
def test_damaged_captions(line):
    with refused("damaged captions"):
        parse_captions(line)


def test_captions_that_are_missing(photos, tmp_path, tokenizer):
    make_cache(str(photos), tmp_path / "cache", tokenizer, WHOLE, CPU)
    path = captions_path(tmp_path / "cache" / "train" / "tokens-00000.safetensors")
    path.write_text(path.read_text().partition("\n")[2])
    with refused(path, "captions of"):
        open_cache(tmp_path / "cache", 0)
    path.unlink()
    with refused(path, "cannot read the captions"):
        open_cache(tmp_path / "cache", 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": None}, ("tokens and bits of train",)),
        ({"bits": 3}, ("bits of shape", "expected bits (n, views, 196)")),
        ({"images": {"train/0.7": 3}}, ("no aspect ratio", "0.7")),
    ],
)
def test_an_index_of_absurd_values(photos, tmp_path, tokenizer, changes, words):
    make_cache(str(photos), tmp_path / "cache", tokenizer, WHOLE, CPU)
    path = tmp_path / "cache" / "cache.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with refused(*words):
        open_cache(tmp_path / "cache", 0)


def test_a_pixel_budget(photos, tmp_path):
    make_cache(str(photos), tmp_path / "cache", make_tokenizer(multipliers=(1, 1)), replace(WHOLE, budget="0.06M"), CPU)
    index = json.loads((tmp_path / "cache" / "cache.json").read_text())
    assert index["tokens"] == SCHEDULE.num_tokens
    stored = ns.ImageTokenizer.from_pretrained(tmp_path / "cache" / "tokenizer")
    assert stored.schedule == SCHEDULE
    recipe = with_text(RECIPE, budget="0.06M")
    assert at_budget_of(recipe, stored, str(tmp_path / "cache")).schedule == SCHEDULE
    with refused("0.25M", "token cache of the scales"):
        at_budget_of(with_text(RECIPE, budget="0.25M"), stored, str(tmp_path / "cache"))


def test_refusals(photos, tmp_path, tokenizer):
    codes = ns.ImageTokenizer(ns.TokenizerConfig(schedule=SCHEDULE, channels=32, multipliers=(1, 1), num_blocks=1))
    plain = make_images(tmp_path / "plain", 2)
    own = make_tokenizer(schedule=ns.ScaleSchedule.square((1, 2, 3)))
    with refused("no captions"):
        make_cache(str(plain), tmp_path / "new", tokenizer, WHOLE, CPU)
    with refused("aspects", "crops 0 or 1, not 2"):
        make_cache(str(photos), tmp_path / "new", tokenizer, CacheSettings(aspects=True, crops=2), CPU)
    with refused("one of Infinity's schedules, not the scales 1 2 3"):
        make_cache(str(photos), tmp_path / "new", own, CacheSettings(aspects=True), CPU)
    with refused("bitwise tokenizer", "codebook"):
        make_cache(str(photos), tmp_path / "new", codes, CacheSettings(aspects=True), CPU)
    with refused("text encoder", "codebook"):
        make_cache(str(photos), tmp_path / "new", codes, WHOLE, CPU, WordEncoder())
    assert not (tmp_path / "new").exists()


def test_a_ratio_with_broken_images_only(tmp_path, tokenizer):
    """Its shard is empty, and training does without it."""
    for name, size in (("wide", (40, 20)), ("square", (20, 20))):
        for path in make_images(tmp_path / name, 3, size=size).glob("*.png"):
            path.with_suffix(".txt").write_text(name)
            if name == "wide":
                path.write_bytes(path.read_bytes()[:100])
    make_cache(str(tmp_path), tmp_path / ".." / "cache", tokenizer, CacheSettings(aspects=True, val_fraction=0), CPU)
    train: TokenDataset = open_cache(tmp_path / ".." / "cache", 0)[0]
    assert len(train) == 3 and train.buckets == [range(0, 3)] and train[0, 0].template == 1.0


def test_scenes_of_several_epochs(tmp_path, tokenizer, monkeypatch):
    """Each scene is an image of its own, with its caption."""
    monkeypatch.setattr("nextscale.data.scenes.dataset.EPOCH", 5)
    monkeypatch.setattr("nextscale.data.scenes.dataset.VALIDATION", 3)
    data = f"scenes:{write_sprites(tmp_path / 'sprites')}"
    make_cache(data, tmp_path / "cache", tokenizer, CacheSettings(crops=2), CPU)
    size = tokenizer.config.image_size
    scenes, unseen = open_splits(data, size, 0)
    train, val = open_cache(tmp_path / "cache", 0)
    assert val is not None and unseen is not None and (len(train), len(val), train.views) == (10, 3, 1)
    for ours, theirs in ((train[0, 7], scenes[1, 2]), (val[0, 1], unseen[0, 1])):
        bits = torch.cat(tokenizer.encode(theirs.image[None]), dim=1)[0]
        assert torch.equal(ours.content.values, bits) and ours.caption == theirs.caption
    with refused("not mirrored"):
        make_cache(data, tmp_path / "new", tokenizer, CacheSettings(flip=True), CPU)
    with refused("scenes are square"):
        make_cache(data, tmp_path / "new", tokenizer, CacheSettings(aspects=True), CPU)
