"""The results of InfinityStar's reference in all golden cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from golden_infinity_star import Golden, normal, read, tables
from torch import Tensor

import nextscale as ns
from nextscale.official.infinity_star import (
    SCALE,
    TOKENIZER_UNUSED,
    infinity_star_to_official,
    video_tokenizer_to_official,
)
from nextscale.scales.schedule import Visit
from nextscale.scales.spacetime import BUDGETS, TEMPLATES, SpacetimeSchedule, nearest_template
from nextscale.tokenizer.spacetime_pyramid import SpacetimePyramid
from nextscale.transformer.spacetime_rope import visit_rotations
from nextscale.transformer.token_loss import token_losses

BASE, OFFICIAL = Golden("base"), Golden("official_schedule")
RUNS = BASE.info["vae_runs"]
ENCODED = [run["name"] for run in RUNS if "frames" in run]


def runs(kind: str) -> pytest.MarkDecorator:
    """Parametrize a test with all runs of one kind of both cases."""
    both = [(case, run) for case in (BASE, OFFICIAL) for run in case.info[kind]]
    return pytest.mark.parametrize(
        ("case", "run"), [pytest.param(case, run, id=f"{case.name}-{run['name']}") for case, run in both]
    )


def close(ours: Tensor, golden: Tensor, atol: float) -> None:
    torch.testing.assert_close(ours.float(), golden.float(), atol=atol, rtol=0)


def video(name: str) -> Tensor:
    run = next(run for run in RUNS if run["name"] == name)
    return normal(f"{BASE.salt}/input/{name}", 1, 3, run["frames"], *run["size"]).tanh()


@pytest.mark.parametrize("name", ENCODED)
def test_videos_become_latents(name):
    arrays, tokenizer = read("base-tokenizer"), BASE.tokenizer
    for at_once in (None, 4, 8):
        with torch.no_grad():
            mean, log_variance = tokenizer.moments(video(name), at_once)
        close(mean, arrays[f"{name}_mean"], 1e-5)
        close(log_variance, arrays[f"{name}_logvar"], 1e-5)
    close(tokenizer.encode_latents(video(name), arrays[f"{name}_noise"]), arrays[f"{name}_latent"], 1e-4)


@pytest.mark.parametrize("name", [run["name"] for run in RUNS])
def test_latents_become_videos(name):
    arrays, run = read("base-tokenizer"), next(run for run in RUNS if run["name"] == name)
    if name in ENCODED:
        latents = arrays[f"{name}_latent"]
    else:
        h, w = (side // 16 for side in run["size"])
        latents = normal(f"{BASE.salt}/input/{name}", 1, 64, run["latents"], h, w)
    for at_once in (None, 1, 2):
        decoded = BASE.tokenizer.decode_latents(latents, at_once)
        close(decoded, arrays[f"{name}_decoded"], 4e-3)
        assert float(decoded.abs().max()) == pytest.approx(run["decoded_absmax"], abs=1e-4)
        assert float(decoded.std()) == pytest.approx(run["decoded_std"], abs=1e-5)


def test_the_official_layout_of_the_tokenizer_both_ways():
    state = BASE.tokenizer_state
    ours = video_tokenizer_to_official(BASE.tokenizer)
    unused = {name for name in state if name.startswith(tuple(pattern.rstrip("*") for pattern in TOKENIZER_UNUSED))}
    assert set(ours) == set(state) - unused and len(unused) == 8
    for name, tensor in ours.items():
        used = slice(1) if name == SCALE else slice(None)
        assert tensor.shape == state[name].shape and torch.equal(tensor[used], state[name][used])


def test_templates_budgets_and_durations():
    golden = tables()
    assert list(TEMPLATES) == golden["templates"]["order"]
    assert {name: budget.num_scales for name, budget in BUDGETS.items()} == golden["scales_per_budget"]
    for key, entry in golden["schedules"].items():
        assert [list(size) for size in TEMPLATES[float(key)]] == entry["sizes"]
        for name in BUDGETS:
            image = SpacetimeSchedule.official(name, float(key), 0)
            assert list(image.image_size) == entry[name]["pixels"]
            assert sum(h * w for h, w in image.sizes) == entry[name]["image_tokens"]
            for seconds, tokens in entry[name]["tokens_by_seconds"].items():
                schedule = SpacetimeSchedule.official(name, float(key), int(seconds))
                assert sum(visit.num_tokens for visit in once(schedule).visits) == tokens
    for seconds, entry in golden["durations"].items():
        schedule = SpacetimeSchedule.official("0.40M", 9 / 16, int(seconds))
        assert (schedule.frames, schedule.latent_frames) == (entry["frames"], entry["latent_frames"])
        assert list(schedule.clips) == entry["clips"]
    for ratio, key in golden["template_choice"]:
        assert nearest_template(ratio) == key


def once(schedule: SpacetimeSchedule) -> SpacetimeSchedule:
    """The same schedule with one visit of each scale."""
    return SpacetimeSchedule(schedule.sizes, schedule.latent_frames, detail_area=schedule.detail_area)


@pytest.mark.parametrize("budget", BUDGETS)
def test_what_a_visit_sees(budget):
    for latent_frames, rows in tables()["references"][budget].items():
        if not latent_frames.isdigit():  # the third largest scale, which no released model uses
            continue
        schedule = SpacetimeSchedule.official(budget, 9 / 16, (int(latent_frames) - 1) // 4)
        visits = once(schedule).visits
        assert len(visits) == len(rows)
        for visit, row in zip(visits, rows, strict=True):
            t = visit.size[0]
            assert (visit.index, list(visit.size), visit.clip) == (row["scale"], row["size"], row["clip"])
            assert [visit.start, visit.start + t] == row["frames"] and list(visit.sees) == row["refs"]


@pytest.mark.parametrize(("name", "budget"), [("480p", "0.40M"), ("720p", "0.90M")])
def test_released_visits(name, budget):
    golden = tables()["released"][name]
    schedule = SpacetimeSchedule.official(budget)
    assert [list(schedule.image_repeats), list(schedule.clip_repeats)] == [golden["image"], golden["clip"]]
    assert schedule.detail_area == golden["detail_scale_min_tokens"]
    first = {(visit.clip, visit.scale): visit.number for visit in reversed(schedule.visits)}
    assert sorted(first.values()) == golden["first_visit_of_scale_5s"]
    for seconds, key in ((0, "image"), (5, "5s"), (10, "10s")):
        if key in golden["forward_passes"]:
            passes = len(SpacetimeSchedule.official(budget, seconds=seconds).visits) + 1  # and the text
            assert passes == golden["forward_passes"][key]
    assert sum(visit.num_tokens for visit in schedule.visits) == golden["query_tokens_5s_562"]
    for template in TEMPLATES:
        kinds = [visit.quantizer for visit in SpacetimeSchedule.official(budget, template, 0).visits]
        assert kinds.count(0) == sum(golden["image"][: golden["semantic_scales"]])


def same_bits(ours: list[Tensor], packed: Tensor) -> None:
    """Compare the bits of all visits with packed ones of the reference."""
    flat = torch.cat([bits.flatten() for bits in ours])
    assert torch.equal(flat, torch.from_numpy(np.unpackbits(packed.numpy())[: len(flat)]).bool())


@runs("quantizer_runs")
def test_features_become_bits_and_a_canvas(case, run):
    arrays, name, length = read(f"{case.name}-quantizer"), run["name"], run["latent_length"]
    schedule = case.schedule(length)
    assert [[*visit.size, (16, 64)[visit.quantizer]] for visit in schedule.visits] == run["visits"]
    pyramid = SpacetimePyramid(schedule)
    bits = pyramid.encode(case.features(length))
    assert [int(b.sum()) for b in bits] == run["ones"]
    same_bits(bits, arrays[f"{name}_bits"])
    if (canvas := arrays.get(f"{name}_canvas")) is not None:
        close(stored(pyramid.canvas(bits), case), canvas.flatten(), 1e-5)
    if (last := arrays.get(f"{name}_inputs_last")) is not None:
        inputs = inputs_of_visits(pyramid, bits, schedule)
        for repeat, expected in (("last", last), ("first", arrays[f"{name}_inputs_first"])):
            close(torch.cat([inputs[visit.index] for visit in one_of_each(schedule, repeat)], 1), expected, 1e-5)
    if (rope := arrays.get(f"{name}_rope_last")) is not None:
        close(visit_rotations(one_of_each(schedule, "last"), 16, 512), rope, 1e-5)


def inputs_of_visits(pyramid: SpacetimePyramid, bits: list[Tensor], schedule: SpacetimeSchedule) -> list[Tensor]:
    """The transformer's input of every visit."""
    inputs = []

    def choose(visit, canvas):
        inputs.append(pyramid.look(canvas, visit))
        return pyramid.quantizer(visit).codes(bits[visit.index])

    list(pyramid.walk(choose, pyramid.empty_canvas(1), schedule))
    return inputs


def stored(canvas: Tensor, case: Golden) -> Tensor:
    """The entries of a canvas that a case stores."""
    return canvas.flatten()[:: case.info["canvas_stride"]]


def one_of_each(schedule: SpacetimeSchedule, repeat: str) -> list[Visit]:
    """The first or the last visit of each scale."""
    visits = reversed(schedule.visits) if repeat == "first" else schedule.visits
    chosen = {(visit.clip, visit.scale): visit for visit in visits}
    return sorted(chosen.values(), key=lambda visit: visit.index)


def teacher_forcing(case: Golden, latent_frames: int, repeat: str) -> tuple[list[Visit], Tensor, list[Tensor]]:
    """The visits of one repeat of each scale, their inputs, and their bits."""
    schedule = case.schedule(latent_frames)
    pyramid = SpacetimePyramid(schedule)
    bits = pyramid.encode(case.features(latent_frames))
    inputs, visits = inputs_of_visits(pyramid, bits, schedule), one_of_each(schedule, repeat)
    return visits, torch.cat([inputs[v.index] for v in visits], 1), [bits[v.index] for v in visits]


@runs("teacher_forcing")
@torch.no_grad()
def test_teacher_forcing(case, run):
    arrays, logits, losses = read(f"{case.name}-transformer"), [], []
    found: list[float] = []
    for i, (latent_frames, length) in enumerate(zip(run["latent_lengths"], run["text_lengths"], strict=True)):
        visits, inputs, bits = teacher_forcing(case, latent_frames, run["repetition"])
        for one, labels in zip(case.transformer(case.text([i], [length]), inputs, visits), bits, strict=True):
            logits.append(one.flatten())
            losses.append(token_losses(one, labels.long()).loss.flatten())
            found.append(float(losses[-1].mean()))
    step = run.get("store", 1)
    golden = arrays[f"{run['name']}_logits_every" if step > 1 else f"{run['name']}_logits"]
    close(torch.cat(logits)[::step], golden, 1e-4)
    close(torch.cat(losses), arrays[f"{run['name']}_token_loss"], 1e-4)
    assert found == pytest.approx(run["scale_losses"], abs=2e-5)


def test_the_official_layout_of_the_transformer_both_ways():
    state = BASE.transformer_state
    ours = infinity_star_to_official(BASE.transformer)
    assert set(ours) == set(state) - {"sos_token"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in ours.items())


@pytest.mark.parametrize("lengths", [(5,), (5, 5), (5, 8)])
@torch.no_grad()
def test_sampling_with_a_cache_is_teacher_forcing(lengths):
    """The keys of the last visit of a scale replace those of the visits before it."""
    model, schedule, batch = BASE.transformer, BASE.schedule(9), len(lengths)
    text = BASE.text(range(batch), lengths)
    pyramid = SpacetimePyramid(schedule)
    inputs = inputs_of_visits(pyramid, pyramid.encode(BASE.features(9)), schedule)
    visits = one_of_each(schedule, "last")
    whole = model(text, torch.cat([inputs[v.index] for v in visits], 1).expand(batch, -1, -1), visits)
    prefix, cache = model.condition(text), model.make_cache(schedule, batch)
    sampled = {
        visit: model.logits(model.forward_scale(visit, inputs[visit.index].expand(batch, -1, -1), prefix, cache), visit)
        for visit in schedule.visits
    }
    for visit, logits in zip(visits, whole, strict=True):
        close(sampled[visit], logits, 2e-5)
    assert cache.keys.shape[3] == (1 + 4) * 4 * 6  # the largest scales of two clips, when that of the second is written


@runs("samples")
@torch.no_grad()
def test_samples(case, run):
    if "negative_padding" in run:
        pytest.skip("the reference lets visits see zeros behind a shorter negative prompt, which is not wanted")
    arrays, name = read(f"{case.name}-samples"), run["name"]
    schedule = replace(case.schedule(run["latent_length"]), most_repeats=run.get("max_repeat"))
    per_clip = len(schedule.sizes)
    temperature = [run["tau_image"]] * per_clip + [run["tau_clip"]] * (schedule.num_scales - per_clip)
    kept = []
    if leak := run.get("leak_scales"):
        given = case.schedule(run["leak_latent_length"])
        bits = SpacetimePyramid(given).encode(case.features(run["leak_latent_length"]))
        kept = [b for b, visit in zip(bits, given.visits, strict=True) if visit.scale < leak]
    number, length = run["text"]
    negative = run.get("negative_text")
    steps = ns.sample_scales(
        case.tokenizer,
        case.transformer,
        case.text([number], [length]),
        schedule=schedule,
        guidance=run["guidance"],
        cfg=float(run["cfg"]),
        temperature=temperature,
        top_k=1 if run["greedy"] else 0,
        top_p=0.0,
        seed=run.get("seed", 0),
        negative=case.text([negative[0]], [negative[1]]) if negative else None,
        keep_scales=kept,
    )
    drawn, step = [], None
    for step in steps:
        drawn.append(step.tokens)
        if (golden := arrays.get(f"{name}_prob_{step.index}")) is not None:
            probabilities = (step.logits / temperature[step.visit.scale]).softmax(-1)[..., 1]
            close(probabilities.flatten(), golden, 2e-4)
    assert step
    assert [int(bits.sum()) for bits in drawn] == run["ones_per_visit"]
    same_bits(drawn, arrays[f"{name}_bits"])
    close(stored(step.canvas, case), arrays[f"{name}_canvas"].flatten(), 1e-4)
    if (golden := arrays.get(f"{name}_video")) is not None:
        video = step.image()[0]
        assert video.shape[1] == run["frames"]
        close(video[:, run["frames_kept"]], golden, 2e-3)
