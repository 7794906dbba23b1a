"""Infinity with its own text encoder."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from tiny import refused, same
from tiny_infinity import DIM, SCHEDULES, TEXT_ROWS, TEXT_WIDTH, make_infinity, make_text, make_tokenizer
from tiny_words import WORDS, make_word_model
from torch import Tensor

import nextscale as ns
from nextscale.conditioning.words import Words
from nextscale.io.fingerprint import weights_fingerprint
from nextscale.transformer.infinity import Infinity
from nextscale.transformer.infinity_config import InfinityConfig

PROMPTS = ["a red fox", "a zebra in the snow", "snow"]
SCHEDULE = SCHEDULES["square"]


def words_of(model: Infinity) -> Words:
    assert model.words is not None
    return model.words


def random_inputs(batch: int) -> Tensor:
    return torch.randn(batch, SCHEDULE.num_tokens - 1, DIM, generator=torch.Generator().manual_seed(0))


def test_ids_in_the_place_of_features():
    model, inputs = make_word_model(), random_inputs(3)
    ids = words_of(model).ids(PROMPTS)
    with torch.no_grad():
        text = words_of(model)(ids)
        assert torch.equal(model(ids, inputs), model(text, inputs))
        assert text.features.shape == (sum(ids.lengths), 32)
        assert (
            (model(ids.select([0] * 3), inputs) - model(ids, inputs)).abs().amax(dim=(1, 2, 3)) > 0.01
        ).tolist() == [
            False,
            True,
            True,
        ]


@pytest.mark.parametrize("seed", [7, [1, 2, 3]])
def test_the_sampler_takes_ids(seed):
    model, tokenizer = make_word_model(), make_tokenizer()
    ids = words_of(model).ids(PROMPTS)
    text = words_of(model)(ids)
    found = ns.sample(tokenizer, model, ids, seed=seed, cfg=2.0, negative=ids.select([2]))
    expected = ns.sample(tokenizer, model, text, seed=seed, cfg=2.0, negative=text.select([2]))
    assert same(found.tokens, expected.tokens)
    assert isinstance(found.labels, ns.TextFeatures) and not found.labels.features.requires_grad
    one = ns.sample(tokenizer, model, ids.select([1]), num_images=2, seed=[5, 6])
    assert same(one.tokens, ns.sample(tokenizer, model, ids.select([1, 1]), seed=[5, 6]).tokens)
    with refused("3 prompts", "2 images"):
        ns.sample(tokenizer, model, ids, num_images=2)


def test_a_model_without_words_takes_no_ids():
    model, ids = make_infinity(), words_of(make_word_model()).ids(PROMPTS)
    assert model.words is None
    with refused("no text encoder of its own", "TextFeatures"):
        model(ids, random_inputs(3))
    with refused("no text encoder of its own", "TextFeatures"):
        ns.sample(make_tokenizer(), model, ids)


def test_every_weight_learns():
    model = make_word_model()
    parameters = dict(model.named_parameters())
    ids = words_of(model).ids(["a red fox in the snow"])
    del parameters["unconditional_text"]
    gradients = torch.autograd.grad(model(ids, random_inputs(1)).square().mean(), list(parameters.values()))
    assert not [name for name, g in zip(parameters, gradients, strict=True) if not g.any()]
    assert any(name.startswith("words.blocks.1.") for name in parameters)


# ---- the configuration -----------------------------------------------------------------------------------------------


def test_the_encoder_determines_the_sizes_of_the_text():
    config = make_word_model().config
    assert (config.text_width, config.text_rows) == (32, 8)
    assert InfinityConfig(words=WORDS, text_width=32, width=64, heads=4).text_width == 32
    with refused("text_width is 64", "32"):
        InfinityConfig(words=WORDS, text_width=64)
    with refused("text_rows is 9", "8"):
        InfinityConfig(words=WORDS, text_rows=9)
    with refused("WordsConfig", "3"):
        InfinityConfig(words=3)  # type: ignore[arg-type]


def test_a_saved_model_brings_its_words(tmp_path):
    model = make_word_model()
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["words"]["vocabulary"][2] == "fox"
    loaded = Infinity.from_pretrained(tmp_path)
    assert loaded.config == model.config and weights_fingerprint(loaded) == weights_fingerprint(model)
    ids, inputs = words_of(loaded).ids(PROMPTS), random_inputs(3)
    with torch.no_grad():
        assert torch.equal(loaded(ids, inputs), model(words_of(model).ids(PROMPTS), inputs))


def test_folders_of_models_without_words_stay_as_they_were(tmp_path):
    model = make_infinity()
    model.save_pretrained(tmp_path)
    assert "words" not in (tmp_path / "config.json").read_text()
    assert not [name for name in model.state_dict() if "words" in name]
    assert Infinity.from_pretrained(tmp_path).config == model.config


def test_a_damaged_vocabulary_is_refused(tmp_path):
    make_word_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for vocabulary, words in ((["a"], ("words.embedding", "(10, 32)", "(3, 32)")), ([3], ("config.json", "3"))):
        config["words"]["vocabulary"] = vocabulary
        (tmp_path / "config.json").write_text(json.dumps(config))
        with refused(*words):
            Infinity.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"), [("width", 2**17), ("width", 10**12), ("depth", 1000), ("max_tokens", 10**12), ("heads", 3)]
)
def test_absurd_sizes_are_refused(tmp_path, name, value):
    make_word_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["words"][name] = value
    config |= {"text_width": config["words"]["width"], "text_rows": config["words"]["max_tokens"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with refused(tmp_path):
        Infinity.from_pretrained(tmp_path)


def test_initial_weights_of_other_models_do_not_depend_on_words():
    """Words come last in the order of random numbers."""
    more_of: list[dict[str, Any]] = [{"text_width": 32, "text_rows": 8}, {"words": WORDS}]
    plain, own = (
        Infinity(InfinityConfig(SCHEDULE, 2, 48, 3, bits=DIM, pool_heads=2, **more)).init_weights(
            torch.Generator().manual_seed(0)
        )
        for more in more_of
    )
    state = own.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in plain.state_dict().items())
    assert words_of(own).embedding.weight.std() > 0.3


def test_features_still_serve_a_model_with_words():
    text = make_text(3, 5, 8)
    assert (TEXT_WIDTH, TEXT_ROWS) == (32, 12)
    with torch.no_grad():
        assert make_word_model()(text, random_inputs(3)).shape == (3, SCHEDULE.num_tokens, DIM, 2)
