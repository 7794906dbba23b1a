"""The recipes of InfinityStar: official sizes, stages of different pixel budgets, and the small model of clips."""

from __future__ import annotations

import pytest
import torch
from tiny import refused
from tiny_clips import RECIPE, make_tokenizer, with_video

import nextscale as ns
from nextscale.training.changes import with_changes
from nextscale.training.presets import TRANSFORMERS
from nextscale.training.recipes import VideoRecipe
from nextscale.training.text_setup import fresh_model, transformer_config
from nextscale.training.video_data import at_video_budget
from nextscale.training.visit_choice import choose_scales

STAGES = {"star-192p": (1, 20), "star-480p": (1, 20), "star-480p-10s": (1, 20, 20), "star-720p": (1, 20)}


@pytest.mark.parametrize("name", STAGES)
def test_stages_have_the_official_sizes(name):
    recipe, tokenizer = TRANSFORMERS[name], ns.VideoTokenizer
    with torch.device("meta"):
        official = tokenizer(ns.VideoTokenizerConfig())
    config = transformer_config(official, recipe, {"text_width": 2048, "text_rows": 512})
    assert config == ns.InfinityStarConfig.named("8b")
    schedule = at_video_budget(recipe, official, "videos").schedule
    assert schedule.clips == STAGES[name] and schedule.image_size[0] * 16 // schedule.image_size[1] in (8, 9)
    assert recipe.video
    list(choose_scales(schedule, recipe.video.subsets, torch.Generator()))


def test_the_model_of_clips_is_small():
    model = fresh_model(make_tokenizer(), TRANSFORMERS["clips"], {"text_width": 256, "text_rows": 64})
    assert 6e6 < sum(p.numel() for p in model.parameters()) < 8e6


def test_a_pixel_budget_changes_the_schedule_and_no_weights():
    tokenizer = make_tokenizer()
    changed = at_video_budget(with_video(RECIPE, budget="0.06M", seconds=1), tokenizer, "videos")
    assert changed.schedule == ns.ScaleSchedule.spacetime("0.06M", 2 / 3, 1)
    assert changed.fingerprint() == tokenizer.fingerprint()
    assert at_video_budget(RECIPE, tokenizer, "videos") is tokenizer


def test_bad_input():
    with refused("0.5M", "0.40M"):
        VideoRecipe(budget="0.5M")
    with refused("seconds", 11):
        VideoRecipe(seconds=11)
    with refused("text.budget", "video.budget"):
        at_video_budget(with_changes(RECIPE, {"text": {"budget": "0.06M"}}), make_tokenizer(), "videos")
