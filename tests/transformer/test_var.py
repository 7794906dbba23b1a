"""Teacher forcing and sampling with a cache give the same logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import pytest
import torch
from tiny import CLASSES, CODES, DIM, make_var, randomise, refused

import nextscale as ns
from nextscale.scales.schedule import Visit
from nextscale.transformer.var import VAR

VARIANTS = ({}, {"shared_adaln": True}, {"l2_norm": False}, {"shared_adaln": True, "l2_norm": False})
LABELS = torch.tensor([0, CLASSES])


@pytest.fixture(params=VARIANTS, ids=str)
def model(request, schedule):
    with torch.no_grad():
        yield make_var(schedule, **request.param)


def random_inputs(model: VAR, batch: int = 2) -> torch.Tensor:
    schedule = model.schedule
    length = schedule.num_tokens - schedule.tokens_per_scale[0]
    return torch.randn(batch, length, DIM, generator=torch.Generator().manual_seed(0))


def scale_by_scale(model: VAR, labels: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
    condition, cache, logits = model.condition(labels), model.make_cache(model.schedule, len(labels)), []
    start = model.schedule.tokens_per_scale[0]
    for visit, part in zip(model.schedule.visits, model.schedule.slices, strict=True):
        look = inputs[:, part.start - start : part.stop - start] if visit.index else None
        logits.append(model.logits(model.forward_scale(visit, look, condition, cache), visit))
    return torch.cat(logits, dim=1)


def test_the_cache_equals_the_mask(model):
    inputs = random_inputs(model)
    logits = model(LABELS, inputs)
    assert logits.shape == (2, model.schedule.num_tokens, CODES) and logits.dtype == torch.float32
    torch.testing.assert_close(scale_by_scale(model, LABELS, inputs), logits, atol=1e-5, rtol=0)


@dataclass(frozen=True)
class Sparse(ns.ScaleSchedule):
    """Scales that see only some of the earlier ones."""

    @cached_property
    def visits(self) -> tuple[Visit, ...]:
        sees = ((), (), (0,), (2,), (0, 3), (1, 4))
        return tuple(Visit(k, (1, h, w), sees[k]) for k, (h, w) in enumerate(self.sizes))


@pytest.mark.parametrize("merged", [0, 128], ids=["a span for each scale", "merged spans"])
def test_the_cache_equals_the_mask_where_scales_see_only_some(monkeypatch, merged):
    monkeypatch.setattr("nextscale.transformer.visibility.MAX_MERGED_TOKENS", merged)
    schedule = Sparse(((1, 1), (2, 2), (2, 3), (3, 3), (3, 4), (4, 4)))
    with torch.no_grad():
        model = make_var(schedule)
        inputs = random_inputs(model)
        logits = model(LABELS, inputs)
        torch.testing.assert_close(scale_by_scale(model, LABELS, inputs), logits, atol=1e-5, rtol=0)
        changed = inputs.clone()
        changed[:, schedule.slices[2].start - 1] += 1  # a token of scale 2
        difference = (model(LABELS, changed) - logits).abs().amax(dim=(0, 2))
    for k, part in enumerate(schedule.slices):
        assert (difference[part].max() > 0) == (k in (2, 3, 4)), k  # two layers: scale 4 by way of 3


def test_a_scale_sees_itself_and_the_earlier_ones_only(model):
    inputs, schedule = random_inputs(model), model.schedule
    logits, start = model(LABELS, inputs), schedule.tokens_per_scale[0]
    for part in schedule.slices[1:]:
        changed = inputs.clone()
        changed[:, part.start - start] += 1
        difference = (model(LABELS, changed) - logits).abs().amax(dim=(0, 2))
        assert difference[: part.start].max() == 0
        assert difference[part.start :].min() > 1e-6


def test_training_mode_changes_nothing(model):
    inputs = random_inputs(model)
    logits = model(LABELS, inputs)
    try:
        assert torch.equal(model.train()(LABELS, inputs), logits)
    finally:
        model.eval()


def test_every_class_has_its_own_logits(model):
    labels = torch.arange(CLASSES + 1)
    logits = model(labels, random_inputs(model, 1).expand(CLASSES + 1, -1, -1))
    gaps = (logits[:, None] - logits[None]).abs().amax(dim=(2, 3))
    assert gaps[~torch.eye(CLASSES + 1, dtype=torch.bool)].min() > 0.1


def test_a_image_does_not_depend_on_its_batch(model):
    inputs = random_inputs(model, 3)
    labels = torch.tensor([1, 2, 3])
    torch.testing.assert_close(model(labels[1:2], inputs[1:2]), model(labels, inputs)[1:2], atol=1e-5, rtol=0)


def test_path_scale_of_one_drops_nothing(model):
    inputs = random_inputs(model)
    ones = torch.ones(model.config.depth, 2, 2)
    assert torch.equal(model(LABELS, inputs, ones), model(LABELS, inputs))


def test_path_scale_of_zero_leaves_only_the_head(model):
    inputs = random_inputs(model)
    dropped = torch.zeros(model.config.depth, 2, 2)
    dropped[:, :, 1] = 1
    logits = model(LABELS, inputs, dropped)
    assert torch.equal(logits[1], model(LABELS, inputs)[1])
    changed = inputs.clone()
    changed[:, :1] += 1
    first = model.schedule.tokens_per_scale[0]
    elsewhere = [i for i in range(model.schedule.num_tokens) if i != first]
    assert torch.equal(model(LABELS, changed, dropped)[0, elsewhere], logits[0, elsewhere])


@pytest.mark.parametrize("kind", ["together", "drawn anew"])
def test_dropped_branches_are_as_if_every_image_were_alone(schedule, kind):
    model, inputs, labels = make_var(schedule), random_inputs(make_var(schedule), 3), torch.tensor([0, 1, CLASSES])
    generator = torch.Generator().manual_seed(2)
    paths = 1.5 * (torch.rand(model.config.depth, 2, 3, generator=generator) < 0.5)
    if kind == "together":  # each branch is left out by all images or by none
        paths = paths[..., :1].expand(-1, -1, 3)
    logits = model(labels, inputs, paths)
    alone = torch.cat([model(labels[i, None], inputs[i, None], paths[..., i, None]) for i in range(3)])
    torch.testing.assert_close(logits, alone, atol=1e-5, rtol=0)

    found, expected = (torch.autograd.grad(x.square().mean(), list(model.parameters())) for x in (logits, alone))
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-6, rtol=1e-4)


def test_every_weight_learns(schedule):
    model = make_var(schedule, shared_adaln=True)
    parameters = dict(model.named_parameters())
    loss = model(LABELS, random_inputs(model)).square().mean()
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    idle = {name for name, g in zip(parameters, gradients, strict=True) if g is None or not g.any()}
    words = {"word_embedding.weight", "word_embedding.bias"} if schedule.num_scales == 1 else set()
    assert idle == words


def test_attention_scores_are_capped():
    schedule = ns.ScaleSchedule.square((1, 2))
    capped, huge = (randomise(VAR(make_var(schedule).config)) for _ in range(2))
    for model, log_scale in ((capped, math.log(100)), (huge, 50.0)):
        for block in model.blocks:
            block.attention.log_scale.data.fill_(log_scale)
    inputs = random_inputs(huge)
    torch.testing.assert_close(capped(LABELS, inputs), huge(LABELS, inputs))


def test_bfloat16_logits_are_float32_and_near(model):
    inputs = random_inputs(model)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(LABELS, inputs)
    assert logits.dtype == torch.float32
    exact = model(LABELS, inputs)
    assert 0 < (logits - exact).square().mean().sqrt() < 0.01 * exact.std()


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_initialisation(variant):
    config = ns.VARConfig.of_depth(4, num_classes=50, codebook_size=200, **variant)
    model = VAR(config).init_weights(torch.Generator().manual_seed(0), gamma=1e-3)
    std = math.sqrt(1 / config.width / 3)
    expected = {
        "word_embedding.weight": std,
        "class_embedding.weight": std,
        "position_embedding": std,
        "head.weight": 0.02 * std,
        "head_adaln.weight": 0.5 * std,
        "blocks.1.attention.qkv.weight": std,
        "blocks.1.attention.proj.weight": std / math.sqrt(8),
        "blocks.1.mlp.up.weight": std,
        "blocks.1.mlp.down.weight": std / math.sqrt(8),
    }
    state = model.state_dict()
    for name, value in expected.items():
        assert state[name].std().item() == pytest.approx(value, rel=0.05), name
    if config.shared_adaln:
        vectors, std = state["adaln_offset.1"].flatten(0, 2), 1 / math.sqrt(config.width)
    else:
        vectors = state["adaln.1.weight"].unflatten(0, (6, -1))
    assert vectors[:2].std().item() == pytest.approx(1e-3 * std, rel=0.06)
    assert vectors[2:].std().item() == pytest.approx(0.5 * std, rel=0.06)
    for name, tensor in state.items():
        assert not name.endswith("bias") or not tensor.any(), name


def test_initialisation_follows_its_generator(schedule):
    first, second = (VAR(make_var(schedule).config).init_weights(torch.Generator().manual_seed(4)) for _ in range(2))
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_folder_and_back(model, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = VAR.from_pretrained(tmp_path)
    assert loaded.config == model.config and not loaded.training
    inputs = random_inputs(model)
    assert torch.equal(loaded(LABELS, inputs), model(LABELS, inputs))


@pytest.mark.parametrize("field", ["depth", "width", "heads", "num_classes", "codebook_size", "code_dim"])
def test_impossible_configurations(field):
    with refused(field, 0):
        ns.VARConfig(**{field: 0})  # type: ignore[arg-type]


def test_heads_share_the_width():
    with refused(100, 16):
        ns.VARConfig(width=100, heads=16)


def test_official_proportions():
    config = ns.VARConfig.of_depth(20)
    assert (config.depth, config.width, config.heads) == (20, 1280, 20)
