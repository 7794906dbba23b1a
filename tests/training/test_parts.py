"""Parts of a training step: EMA, dropping, losses, code restarts, parameter groups."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from tiny import CODES, SCHEDULES, make_tokenizer, make_var, random_images, random_tokens
from tiny_runs import TOKENIZER, TRANSFORMER
from torch import nn

from nextscale.data.content import Pixels, Tokens
from nextscale.data.loader import Batch, BatchSlice
from nextscale.training.ema import make_ema, update_ema
from nextscale.training.losses import reconstruction_loss, token_loss
from nextscale.training.optimizer import make_optimizer
from nextscale.training.presets import TRANSFORMERS
from nextscale.training.presets.var import TOKENIZERS
from nextscale.training.task import MODEL
from nextscale.training.transformer_task import TransformerTask, drop_paths
from nextscale.transformer.token_loss import token_losses

SQUARE = SCHEDULES["square"]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def whole(count: int) -> BatchSlice:
    return BatchSlice(0, count, count)


def one_weight(value: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, value)
    return model


def test_ema_starts_fast_and_slows_down():
    model, ema, expected = one_weight(1.0), one_weight(0.0), 0.0
    for step in range(200):
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        nn.init.constant_(model.weight, step)
        update_ema(ema, model, 0.9, step)
        assert ema.weight.item() == pytest.approx(expected, rel=1e-5)


def test_ema_of_constant_weights_is_constant():
    model = make_var(SQUARE)
    ema = make_ema(model, 0.999)
    for step in range(5):
        update_ema(ema, model, 0.999, step)
    for average, parameter in zip(ema.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(average, parameter, atol=0, rtol=1e-6)
        assert not average.requires_grad


def test_ema_of_statistics():
    norm = nn.BatchNorm2d(2)
    ema, expected = make_ema(norm, 0.5), torch.zeros(2)
    for step in range(20):
        norm(torch.full((1, 2, 2, 2), float(step)))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * norm.state_dict()["running_mean"]
        update_ema(ema, norm, 0.5, step)
    torch.testing.assert_close(ema.state_dict()["running_mean"], expected)
    assert ema.state_dict()["num_batches_tracked"] == 0


def labels_seen(rate: float, count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The labels of a batch, and those that the model is called with; the model of four classes knows 4 as no class."""
    task = TransformerTask(make_var(SQUARE), make_tokenizer(SQUARE), replace(TRANSFORMER, label_drop=rate))
    seen: list[torch.Tensor] = []

    class Listening(nn.Module):
        def forward(self, labels, *arguments, **keywords):
            seen.append(labels)
            raise InterruptedError

    task.networks[MODEL] = Listening()
    labels = torch.arange(count) % task.config.num_classes
    tokens = torch.zeros(count, SQUARE.num_tokens, dtype=torch.int64)
    with pytest.raises(InterruptedError):
        task.losses(Batch(Tokens(tokens), labels, (), whole(count)), 0, seeded(seed))
    return labels, seen[0]


def test_labels_are_dropped_at_their_rate():
    labels, dropped = labels_seen(0.1, 20_000)
    no_class = make_var(SQUARE).config.num_classes
    assert (dropped == no_class).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert torch.equal(dropped[dropped < no_class], labels[dropped < no_class])
    assert torch.equal(dropped, labels_seen(0.1, 20_000)[1])
    assert not torch.equal(dropped, labels_seen(0.1, 20_000, seed=1)[1])


def test_no_labels_and_all_labels_are_dropped():
    labels, dropped = labels_seen(0.0, 100)
    assert torch.equal(dropped, labels)
    assert labels_seen(1.0, 100)[1].eq(make_var(SQUARE).config.num_classes).all()


def test_drop_paths_keep_the_mean():
    factors = drop_paths(4, 0.3, whole(20_000), seeded())
    assert factors is not None and factors.shape == (4, 2, 20_000)
    for layer, rate in zip(factors, (0.0, 0.1, 0.2, 0.3), strict=True):
        assert (layer == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
        torch.testing.assert_close(layer[layer > 0].unique(), torch.tensor([1 / (1 - rate)]))
        assert layer.mean().item() == pytest.approx(1, abs=0.02)
    again = drop_paths(4, 0.3, whole(20_000), seeded())
    assert again is not None and torch.equal(again, factors)


def test_drop_paths_none_at_rate_0():
    assert drop_paths(4, 0.0, whole(3), seeded()) is None


def test_the_loss_of_a_batch_depends_on_the_generator_alone():
    task = TransformerTask(
        make_var(SQUARE), deepcopy(make_tokenizer(SQUARE)), replace(TRANSFORMER, label_drop=0.5, drop_path=0.5)
    )
    batch = Batch(Pixels(random_images(task.tokenizer, 4)), torch.tensor([0, 1, 2, 3]), (), whole(4))
    first, again, other = (task.losses(batch, 0, seeded(seed))[0][MODEL] for seed in (0, 0, 1))
    assert first == again != other


def test_token_loss_is_cross_entropy():
    tokens = random_tokens(SQUARE)
    logits = torch.randn(2, SQUARE.num_tokens, CODES, generator=seeded())
    result = token_loss(token_losses(logits, torch.cat(tokens, 1)), SQUARE)
    for k, where in enumerate(SQUARE.slices):
        torch.testing.assert_close(result.per_scale[k], F.cross_entropy(logits[:, where].transpose(1, 2), tokens[k]))
    torch.testing.assert_close(result.mean, F.cross_entropy(logits.transpose(1, 2), torch.cat(tokens, 1)))
    weights = torch.tensor(SQUARE.tokens_per_scale) / SQUARE.num_tokens
    torch.testing.assert_close(result.mean, (weights * result.per_scale).sum())


def test_token_accuracy():
    tokens = random_tokens(SQUARE)
    tokens[1] = tokens[1].clone()
    logits = F.one_hot(torch.cat(tokens, 1), CODES).float()
    tokens[1][0, 0] = (tokens[1][0, 0] + 1) % CODES
    assert token_loss(token_losses(logits, torch.cat(tokens, 1)), SQUARE).accuracy.tolist() == [1, 1 - 1 / 8, 1, 1]


def test_reconstruction_loss():
    ours, images = torch.full((1, 3, 2, 2), 0.5), torch.zeros(1, 3, 2, 2)
    assert reconstruction_loss(ours, images, l1=0.2, l2=1.0).item() == pytest.approx(0.2 * 0.5 + 0.25)


@pytest.mark.parametrize("make", [make_tokenizer, make_var])
def test_every_parameter_is_in_one_group(make):
    model = make(SQUARE)
    grouped = [id(p) for group in make_optimizer(model, TOKENIZER).param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(map(id, model.parameters()))


def test_an_average_that_forgets_at_once_is_the_model_itself():
    model = make_var(SQUARE)
    assert make_ema(model, 0.0) is model
    update_ema(model, model, 0.0, 3)
    norm = nn.BatchNorm2d(2)
    assert make_ema(norm, 0.0) is not norm


@pytest.mark.parametrize("fast", [False, True])
def test_auto_precision_is_what_the_device_is_fast_in(monkeypatch, fast):
    monkeypatch.setattr("nextscale.training.recipes.has_fast_bfloat16", lambda device: fast)
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for name, recipe in (*TOKENIZERS.items(), *TRANSFORMERS.items()):
        if name == "tiny-imagenet" or not name.startswith("tiny"):  # those are of other tests
            assert recipe.precision == "auto"
            assert recipe.on(cpu).precision == ("bfloat16" if fast else "float32")
            assert recipe.on(gpu).precision == (
                "float16" if name in ("d16", "d20", "d24", "d30", "d36") else "bfloat16"
            )
            assert replace(recipe, precision="tf32").on(cpu).precision == "tf32"
