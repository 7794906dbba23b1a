"""Training with recomputation has the same results and gradients as PyTorch, and stores fewer tensors."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny import CLASSES, CODES, DIM, SCHEDULES, make_tokenizer, make_var, random_images
from tiny_runs import TRANSFORMER
from torch import nn

import nextscale as ns
from nextscale.acceleration.cpu_attention import recomputed_attention
from nextscale.acceleration.recompute import recompute_cheap_parts
from nextscale.acceleration.recomputed_linear import recomputed_linear
from nextscale.data.content import Pixels
from nextscale.data.loader import Batch, BatchSlice
from nextscale.training.parallel import Execution
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.transformer_task import TransformerTask
from nextscale.transformer.token_loss import token_loss_in_parts
from nextscale.transformer.visibility import make_spans

CPU = torch.device("cpu")
LARGE = ns.ScaleSchedule(((1, 1), (2, 3), (5, 5), (11, 11), (13, 13)))
"""Two spans of one scale each, after one of several."""


def gradients(loss: torch.Tensor, *leaves: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, leaves))


def check(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert b.abs().max() > 1e-3
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("intel", [False, True])
def test_a_linear_layer(monkeypatch, intel):
    monkeypatch.setattr("nextscale.acceleration.recomputed_linear.is_intel", lambda: intel)
    torch.manual_seed(0)
    layer, x, scale = nn.Linear(8, 5), torch.randn(2, 3, 8, requires_grad=True), torch.randn(8, requires_grad=True)
    direction = torch.randn(2, 3, 5)
    leaves = (x, scale, layer.weight, layer.bias)
    lazy = recomputed_linear(lambda x, scale: F.gelu(x * scale), (x, scale), layer.weight, layer.bias)
    plain = F.linear(F.gelu(x * scale), layer.weight, layer.bias)
    torch.testing.assert_close(lazy, plain)
    check(gradients((lazy * direction).sum(), *leaves), gradients((plain * direction).sum(), *leaves))


def test_what_does_not_learn_gets_no_gradient():
    layer = nn.Linear(4, 4).requires_grad_(False)
    x = torch.randn(3, 4, requires_grad=True)
    recomputed_linear(torch.tanh, (x,), layer.weight, layer.bias).sum().backward()
    assert x.grad is not None and layer.weight.grad is None and layer.bias.grad is None
    assert not recomputed_linear(torch.tanh, (x.detach(),), layer.weight, layer.bias).requires_grad


@pytest.mark.parametrize("schedule", [SCHEDULES["square"], LARGE], ids=str)
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_attention_is_that_behind_a_mask(schedule, scale):
    torch.manual_seed(0)
    length, spans = schedule.num_tokens, make_spans(schedule.visits, schedule.slices, CPU)
    ends = [span.queries.stop for span in spans]
    assert [span.queries.start for span in spans[1:]] == ends[:-1] and ends[-1] == length
    assert [span.keys for span in spans] == [slice(0, end) for end in ends]
    q, k, v = (torch.randn(2, 3, length, 4, requires_grad=True) for _ in range(3))
    levels = torch.tensor(schedule.level_ids)
    mask = levels[:, None] >= levels[None, :]
    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale).transpose(1, 2)
    lazy = recomputed_attention(lambda *qkv: qkv, (q, k, v), spans, scale)
    direction = torch.randn_like(masked)
    expected = gradients((masked * direction).sum(), q, k, v)
    torch.testing.assert_close(lazy, masked, atol=1e-5, rtol=1e-4)
    check(gradients((lazy * direction).sum(), q, k, v), expected)


def swapped(model: ns.VAR) -> ns.VAR:
    model = deepcopy(model)
    recompute_cheap_parts(model)
    return model


def random_inputs(schedule: ns.ScaleSchedule) -> torch.Tensor:
    return torch.randn(2, schedule.num_tokens - schedule.tokens_per_scale[0], DIM)


@pytest.mark.parametrize("options", [{}, {"shared_adaln": True, "l2_norm": False}], ids=str)
@pytest.mark.parametrize("schedule", [SCHEDULES["square"], LARGE], ids=str)
def test_logits_and_gradients_are_those_of_the_plain_model(schedule, options):
    torch.manual_seed(0)
    plain = make_var(schedule, **options)
    model, labels, inputs = swapped(plain), torch.tensor([0, CLASSES]), random_inputs(schedule)
    paths = 1.5 * (torch.rand(plain.config.depth, 2, 2) < 0.7)
    direction = torch.randn(2, schedule.num_tokens, CODES)
    logits, expected = (each(labels, inputs, paths) for each in (model, plain))
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    ours, theirs = (gradients((y * direction).mean(), *m.parameters()) for y, m in ((logits, model), (expected, plain)))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_without_gradients_it_is_the_plain_model():
    plain = make_var(LARGE)
    model, labels, inputs = swapped(plain), torch.tensor([0, CLASSES]), random_inputs(LARGE)
    with torch.no_grad():
        assert torch.equal(model(labels, inputs), plain(labels, inputs))


def test_parameters_and_their_names_stay():
    model = deepcopy(make_var(LARGE))
    before = dict(model.named_parameters())
    recompute_cheap_parts(model)
    after = dict(model.named_parameters())
    assert list(before) == list(after) == list(model.state_dict())
    assert all(before[name] is after[name] for name in before)


def test_a_copy_of_a_swapped_model_computes_with_its_own_weights():
    model = swapped(make_var(SCHEDULES["square"]))
    copy, labels, inputs = deepcopy(model), torch.tensor([0, CLASSES]), random_inputs(SCHEDULES["square"])
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.mul_(0.5)
    assert (copy(labels, inputs) - model(labels, inputs)).abs().max() > 0.1
    loss = copy(labels, inputs).square().mean()
    assert all(g is not None for g in torch.autograd.grad(loss, list(copy.parameters()), allow_unused=True))


def saved_bytes(run) -> int:
    """How much autograd keeps for the backward pass, beside parameters."""
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        alive.append(tensor)
        return tensor

    alive: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(kept.values())


def test_autograd_keeps_half_as_much():
    plain = make_var(LARGE, depth=6)
    model, labels, inputs = swapped(plain), torch.tensor([0, CLASSES]), random_inputs(LARGE)
    targets = torch.zeros(2, LARGE.num_tokens, dtype=torch.int64)

    def step(of: ns.VAR) -> None:
        of(labels, inputs, None, lambda features: token_loss_in_parts(of.logits, features, targets))

    ours, theirs = saved_bytes(lambda: step(model)), saved_bytes(lambda: step(plain))
    assert ours < 0.55 * theirs
    tokens = 4 * model.config.width * LARGE.num_tokens * 2
    assert ours < (6 * 12 + 3) * tokens * 1.1  # of a block: two sums, qkv, heads, two branches, the hidden layer of 4 C


def test_the_trainer_switches_it_on_for_the_model_alone():
    recipe = replace(TRANSFORMER, precision="float32")
    tokenizer = deepcopy(make_tokenizer(LARGE))
    tasks = [TransformerTask(deepcopy(make_var(LARGE)), tokenizer, recipe) for _ in range(2)]
    state = make_state(tasks[0], recipe, Execution(), CPU)
    assert not any("forward" in vars(module) for module in state.ema.modules())
    batch = Batch(Pixels(random_images(tokenizer, 2)), torch.tensor([0, 1]), (), BatchSlice(0, 2, 2))

    def losses(task: TransformerTask) -> torch.Tensor:
        return task.losses(batch, 0, torch.Generator().manual_seed(0))[0][MODEL]

    torch.testing.assert_close(losses(tasks[0]), losses(tasks[1]))
    ours, theirs = (saved_bytes(lambda task=task: losses(task)) for task in tasks)
    assert ours < 0.6 * theirs


@pytest.mark.parametrize("swap", [False, True], ids=["plain", "with recomputation"])
def test_losses_in_parts_are_those_of_the_logits(monkeypatch, swap):
    schedule = SCHEDULES["square"]
    monkeypatch.setattr("nextscale.transformer.token_loss.ROWS", 14)
    model, labels = make_var(schedule), torch.tensor([0, CLASSES])
    model = swapped(model) if swap else model
    inputs = random_inputs(schedule)
    targets = torch.randint(CODES, (2, schedule.num_tokens))
    weights = torch.rand(2, schedule.num_tokens)
    leaves = (model.head.weight, model.head_adaln.weight, model.get_parameter("blocks.0.mlp.up.weight"))
    loss, correct = model(labels, inputs, None, lambda x: token_loss_in_parts(model.logits, x, targets))
    logits = model(labels, inputs)
    expected = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    torch.testing.assert_close(loss, expected)
    assert torch.equal(correct, logits.argmax(-1) == targets)
    ours, theirs = (torch.autograd.grad((each * weights).sum(), leaves) for each in (loss, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)
