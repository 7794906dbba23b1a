from __future__ import annotations

import json
from typing import Any

import torch
from golden_infinity_star import FOLDER, Golden
from tiny import refused

import nextscale as ns
from nextscale.official.infinity_star import (
    infinity_star_from_official,
    infinity_star_to_official,
    is_infinity_star,
    video_tokenizer_from_official,
    video_tokenizer_to_official,
)

LAYOUTS = json.loads((FOLDER / "official_checkpoint_layouts.json").read_text())
UNUSED = ("sos_token", "quantizer.", "quantize.", "proj_down_two.", "proj_up_two.")


def on_meta(name: str) -> dict[str, torch.Tensor]:
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (dtype, *shape) in LAYOUTS[name].items()
    }


def test_the_8b_model_maps_both_ways():
    state = on_meta("infinitystar_8b")
    assert is_infinity_star(state)
    model = infinity_star_from_official(state)
    assert model.config == ns.InfinityStarConfig.named("8b")
    total = LAYOUTS["notes"]["parameters"]["infinitystar_8b"]
    assert sum(p.numel() for p in model.parameters()) == total - state["sos_token"].numel()
    assert (
        sum(p.numel() for p in model.blocks[0].parameters()) == LAYOUTS["notes"]["parameters"]["infinitystar_8b_block"]
    )
    back = infinity_star_to_official(model)
    assert {n: t.shape for n, t in back.items()} == {n: t.shape for n, t in state.items() if not n.startswith(UNUSED)}


def test_the_video_tokenizer_maps_both_ways():
    nested: Any = {"vae": on_meta("infinitystar_videovae")}
    tokenizer = video_tokenizer_from_official(nested)
    assert tokenizer.config == ns.VideoTokenizerConfig()
    totals = LAYOUTS["notes"]["parameters"]
    for part in ("encoder", "decoder"):
        count = sum(p.numel() for p in getattr(tokenizer, part).parameters())
        assert count == totals[f"infinitystar_videovae_{part}"]


def test_older_files_and_other_numbers_of_rows():
    case = Golden("base")
    older = {
        ("semantic_head" + name[14:] if name.startswith("semantic_head2") else name): t
        for name, t in case.transformer_state.items()
    }
    model = infinity_star_from_official(older)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), case.transformer.parameters(), strict=True))
    fewer = infinity_star_from_official(case.transformer_state, text_rows=8)
    assert torch.equal(fewer.unconditional_text, case.transformer.unconditional_text[:8])
    more = infinity_star_from_official(case.transformer_state, text_rows=520)
    assert torch.equal(more.unconditional_text[:512], case.transformer.unconditional_text)


def test_damaged_files():
    case = Golden("base")
    for part, load in (("transformer", infinity_star_from_official), ("tokenizer", video_tokenizer_from_official)):
        state = getattr(case, f"{part}_state")
        last = [name for name in state if not name.startswith(UNUSED)][-1]
        with refused("lacks 1 of", last):
            load({name: tensor for name, tensor in state.items() if name != last})
        with refused("unknown tensor", "other.weight"):
            load(state | {"other.weight": torch.zeros(1)})
    with refused("no blocks"):
        infinity_star_from_official({"cfg_uncond": torch.zeros(1)})


def test_stored_types_are_kept():
    state = {name: tensor.bfloat16() for name, tensor in Golden("base").transformer_state.items()}
    assert infinity_star_from_official(state, as_stored=True).head.weight.dtype == torch.bfloat16
    assert infinity_star_from_official(state).head.weight.dtype == torch.float32


def test_one_pair_by_the_public_name():
    case = Golden("base")
    tokenizer, model = ns.from_official(case.tokenizer_state, case.transformer_state)
    assert isinstance(tokenizer, ns.VideoTokenizer) and isinstance(model, ns.InfinityStar)
    vae, star = ns.to_official(tokenizer, model)
    assert (
        vae.keys() == video_tokenizer_to_official(case.tokenizer).keys()
        and star.keys() == infinity_star_to_official(case.transformer).keys()
    )
