"""Official files of InfinityStar: the hub, pairs, folders of shards, and checkpoints of the trainer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import make_tokenizer as make_image_tokenizer
from tiny import make_var, refused
from tiny_star import make_model, make_tokenizer
from torch import Tensor

import nextscale as ns
from nextscale.families import sources
from nextscale.families.infinity_star import FAMILY, FOR_INTERACTION, PUBLISHED
from nextscale.families.sources import find_family, load_source, load_tokenizer, media_of


@pytest.fixture(scope="module")
def states() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    return ns.to_official(make_tokenizer(), make_model())


@pytest.fixture(scope="module")
def hub(states, tmp_path_factory) -> Path:
    """The files of the hub, with the small model."""
    folder = tmp_path_factory.mktemp("hub")
    torch.save({"vae": states[0]}, folder / "infinitystar_videovae.pth")
    for published in PUBLISHED.values():
        shards = folder / published.file
        shards.mkdir()
        names = sorted(states[1])
        files = {name: f"model-{i % 2:05d}-of-00002.safetensors" for i, name in enumerate(names)}
        for file in set(files.values()):
            save_file({name: states[1][name].clone() for name in names if files[name] == file}, shards / file)
        (shards / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


def same_weights(parts) -> bool:
    pairs = ((parts.tokenizer, make_tokenizer()), (parts.model, make_model()))
    return all(
        torch.equal(tensor, other.state_dict()[name])
        for one, other in pairs
        for name, tensor in one.state_dict().items()
    )


@pytest.mark.parametrize(
    ("key", "file", "size"),
    [
        ("480p", "infinitystar_8b_480p_weights", (480, 848)),
        ("720p", "infinitystar_8b_720p_weights", (720, 1280)),
        ("interact", "InfinityStarInteract_24K_iters", (480, 848)),
    ],
)
def test_published_models(monkeypatch, hub, key, file, size):
    asked: list[str] = []

    def fetch(repository: str, name: str) -> Path:
        assert repository == "FoundationVision/InfinityStar"
        return hub / name

    monkeypatch.setattr(sources, "fetch", fetch)
    monkeypatch.setattr(sources, "fetch_folder", lambda repository, patterns: asked.append(*patterns) or hub)
    small = replace(PUBLISHED[key], model=make_model().config)
    monkeypatch.setitem(PUBLISHED, key, small)
    for name in (f"FoundationVision/InfinityStar:{key}", f"infinitystar-{key}"):
        assert media_of(name) == "video" and find_family(name) == (FAMILY, key)
    parts = load_source(f"FoundationVision/InfinityStar:{key}")
    assert same_weights(parts) and parts.text_encoder == "google/flan-t5-xl"
    assert parts.tokenizer.schedule.image_size == size and parts.tokenizer.schedule.frames == 81
    assert parts.settings == (FOR_INTERACTION if key == "interact" else None)
    assert asked == [f"{file}/*"]
    monkeypatch.setitem(PUBLISHED, key, replace(small, model=replace(small.model, depth=4)))
    with refused("depth 2", "has 4"):
        load_source(f"infinitystar-{key}")


def test_local_files(hub, states, tmp_path):
    vae, shards = hub / "infinitystar_videovae.pth", hub / "infinitystar_8b_480p_weights"
    assert same_weights(load_source((vae, shards))) and media_of((vae, shards)) == "video"
    pipe = ns.Pipeline.from_pretrained(f"{vae},{shards}", "cpu")
    assert pipe.family.name == "infinity-star" and pipe.tokenizer.schedule == ns.ScaleSchedule.spacetime()
    assert isinstance(load_tokenizer(vae), ns.VideoTokenizer)
    trainer = {"trainer": {"gpt_fsdp": states[1]}}
    torch.save(trainer, tmp_path / "checkpoint.pth")
    assert same_weights(load_source((vae, tmp_path / "checkpoint.pth")))
    with refused("holds no tokenizer: give the pair vae.pth,checkpoint.pth"):
        load_source(str(tmp_path / "checkpoint.pth"))
    torch.save({name: t.bfloat16() for name, t in states[1].items()}, tmp_path / "half.pth")
    assert load_source((vae, tmp_path / "half.pth"), as_stored=True).model.head.weight.dtype == torch.bfloat16


def test_files_that_do_not_belong_together(hub, states, tmp_path):
    scales = ns.ScaleSchedule.square([1, 2])
    image, var = ns.to_official(make_image_tokenizer(scales), make_var(scales))
    for name, state in {"image": image, "var": var, "star": states[1]}.items():
        torch.save(state, tmp_path / f"{name}.pth")
    with refused("expects a video tokenizer"):
        load_source((tmp_path / "image.pth", tmp_path / "star.pth"))
    with refused("a video tokenizer belongs to an InfinityStar transformer"):
        load_source((hub / "infinitystar_videovae.pth", tmp_path / "var.pth"))
    more = states[1] | {"mystery.weight": torch.zeros(2)}
    torch.save(more, tmp_path / "more.pth")
    with refused("mystery.weight"):
        load_source((hub / "infinitystar_videovae.pth", tmp_path / "more.pth"))


def test_unknown_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with refused("infinitystar-1080p", "FoundationVision/InfinityStar:NAME with NAME one of 480p, 720p, interact"):
        load_source("infinitystar-1080p")
