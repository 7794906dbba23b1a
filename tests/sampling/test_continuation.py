"""Interactive continuation: the golden case of the reference, and what a turn depends on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_infinity_star import Golden, normal, read
from tiny import refused
from tiny_star import make_model, make_schedule, make_text, make_tokenizer

from nextscale.sampling.continuation import continue_video, continued_text

CASE = Golden("interact")
PLAIN = {"cfg": 3.0, "temperature": 1.0, "top_k": 0, "top_p": 0.0}


@pytest.mark.parametrize("run", CASE.info["samples"], ids=lambda run: run["name"])
@torch.no_grad()
def test_turns_of_the_reference(run):
    arrays, name, found = read("interact-samples"), run["name"], {}
    schedule = CASE.schedule(21)
    past, start = (
        0.5 * normal(f"{CASE.salt}/input/{key}", 1, 64, frames, *schedule.final_size)
        for key, frames in (("former", 21), ("first", 1))
    )

    def keep(logits, visit):
        found[visit.index] = (logits / run["tau"]).softmax(-1)[..., 1].flatten()
        return logits

    number, length = run["text"]
    turn = continue_video(
        CASE.tokenizer,
        CASE.transformer,
        CASE.text([number], [length]),
        past,
        start,
        schedule=schedule,
        guidance=run["guidance"],
        cfg=float(run["cfg"]),
        temperature=run["tau"],
        top_k=1 if run["greedy"] else 0,
        top_p=0.0,
        seed=run.get("seed", 0),
        logits_processor=keep,
    )
    for visit in (0, 9):
        torch.testing.assert_close(found[visit], arrays[f"{name}_prob_{visit}"], atol=2e-4, rtol=0)
    assert [bits.numel() for bits in turn.tokens] == run["bits_per_visit"]
    bits = torch.cat([bits.flatten() for bits in turn.tokens])
    assert torch.equal(bits, torch.from_numpy(np.unpackbits(arrays[f"{name}_bits"].numpy())[: len(bits)]).bool())
    kept = turn.past.flatten()[:: CASE.info["canvas_stride"]]
    torch.testing.assert_close(kept, arrays[f"{name}_next_context"], atol=1e-4, rtol=0)
    assert turn.videos.shape == (1, 3, 80, 64, 96)
    levels = (255 * turn.videos[0]).byte()[[2, 1, 0]].movedim(0, -1)[run["frames_kept"]]  # BGR
    assert (levels.int() - arrays[f"{name}_uint8"].int()).abs().max() <= 1


def given(batch: int = 1, seed: int = 0) -> torch.Tensor:
    return torch.randn(batch, 64, 3, 2, 3, generator=torch.Generator().manual_seed(seed))


def test_turns_join_without_a_seam():
    """The frames of two turns are those of their latents, decoded in one pass."""
    tokenizer, model, past = make_tokenizer(), make_model(), given()
    first = continue_video(tokenizer, model, make_text(4), past, seed=1, **PLAIN)
    second = continue_video(tokenizer, model, make_text(6), first.past, first.start, seed=2, **PLAIN)
    assert first.videos.shape == second.videos.shape == (1, 3, 8, 32, 48)
    assert torch.equal(first.start, past[:, :, :1]) and torch.equal(first.past[:, :, 0], past[:, :, -1])
    assert torch.equal(first.past[:, :, -1], second.past[:, :, 0])
    new = torch.cat((past[:, :, 1:], first.past[:, :, 1:]), 2)
    torch.testing.assert_close(tokenizer.decode_canvas(new).add(1).mul(0.5)[:, :, -8:], first.videos)


def test_a_turn_sees_text_past_and_start():
    tokenizer, model, past = make_tokenizer(), make_model(), given()
    logits = []

    def first_logits(text, past, start):
        found = []
        continue_video(
            tokenizer,
            model,
            text,
            past,
            start,
            logits_processor=lambda x, visit: found.append(x) or x,
            stop_after=1,
            **PLAIN,
        )
        return found[0]

    changed = past.clone()
    changed[:, :, 0] += 1  # the first of the past frames is not used
    logits = [
        first_logits(text, latents, start)
        for text, latents, start in (
            (make_text(4), past, past[:, :, :1]),
            (make_text(4), changed, past[:, :, :1]),
            (make_text(4), past, past[:, :, :1] + 1),
            (make_text(4), past + 1, past[:, :, :1]),
            (make_text(4, seed=1), past, past[:, :, :1]),
        )
    ]
    assert torch.equal(logits[0], logits[1])
    assert all(not torch.equal(logits[0], other) for other in logits[2:])


def test_a_turn_does_not_depend_on_its_batch():
    tokenizer, model, past = make_tokenizer(), make_model(), given(2)
    together = continue_video(tokenizer, model, make_text(4, 6), past, seed=[3, 4], **PLAIN)
    for i, seed in enumerate((3, 4)):
        alone = continue_video(
            tokenizer, model, make_text(4, 6).select([i]), past[i : i + 1], seed=[seed], negative=None, **PLAIN
        )
        assert all(torch.equal(a[0], b[i]) for a, b in zip(alone.tokens, together.tokens, strict=True))


def test_one_video_is_continued_in_several_ways():
    tokenizer, model = make_tokenizer(), make_model()
    schedule = make_schedule().continuation()
    text = continued_text(tokenizer, make_text(4), given(), given()[:, :, :1], schedule)
    assert [visit.start for each in text.given for visit in each.visits] == [1, 0, 1]
    assert [visit.size for each in text.given for visit in each.visits] == [(2, 2, 3), (1, 2, 3), (2, 2, 3)]
    several = text.select([0, 0, 0])
    assert len(several) == 3 and [each.inputs.shape for each in several.given] == [(3, 12, 64), (3, 18, 64)]
    prefix, one = model.condition(several.join(make_text(3, 3, 3))), model.condition(text)
    assert [keys.shape[1] for keys, _ in prefix.layers[0]] == 3 * [34] + 3 * [33]
    torch.testing.assert_close(prefix.layers[1][2][0], one.layers[1][0][0])


def test_bad_input():
    tokenizer, model = make_tokenizer(), make_model()
    with refused("past", 3, 2):
        continue_video(tokenizer, model, make_text(4), given()[:, :, :2])
    with refused("start", 1, 3):
        continue_video(tokenizer, model, make_text(4), given(), given())
    with refused("continuation has 2", 4):
        make_schedule(4, continues=True)
