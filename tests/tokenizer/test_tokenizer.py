"""Encoding images as tokens, and decoding them."""

from __future__ import annotations

import json

import pytest
import torch
from tiny import CODES, SCHEDULES, make_tokenizer, random_images, random_tokens, refused, same

import nextscale as ns


def test_shapes(tiny_tokenizer):
    images = random_images(tiny_tokenizer)
    tokens = tiny_tokenizer.encode(images)
    assert [t.shape for t in tokens] == [(2, n) for n in tiny_tokenizer.schedule.tokens_per_scale]
    assert all(t.dtype == torch.long and t.min() >= 0 and t.max() < CODES for t in tokens)
    assert tiny_tokenizer.decode(tokens).shape == images.shape


def test_decoding_is_deterministic_and_in_range(tiny_tokenizer):
    tokens = tiny_tokenizer.encode(random_images(tiny_tokenizer))
    images = tiny_tokenizer.decode(tokens)
    assert torch.equal(images, tiny_tokenizer.decode(tokens))
    assert images.abs().max() <= 1


def test_training_mode_changes_nothing(tiny_tokenizer):
    images = random_images(tiny_tokenizer)
    tokens = tiny_tokenizer.encode(images)
    try:
        assert same(tiny_tokenizer.train().encode(images), tokens)
    finally:
        tiny_tokenizer.eval()


def test_a_image_does_not_depend_on_its_batch(tiny_tokenizer):
    images = random_images(tiny_tokenizer, batch=3)
    batch = tiny_tokenizer.encode(images)
    assert same(tiny_tokenizer.encode(images[1:2]), [t[1:2] for t in batch])


def test_decoding_is_accumulating_then_decoding_the_canvas(tiny_tokenizer):
    tokens = random_tokens(tiny_tokenizer.schedule)
    with torch.no_grad():
        images = tiny_tokenizer.decode_canvas(tiny_tokenizer.pyramid.canvas(tokens))
    assert torch.equal(tiny_tokenizer.decode(tokens), images)


def test_teacher_forcing_input_of_every_scale_but_the_first(tiny_tokenizer):
    schedule = tiny_tokenizer.schedule
    inputs = tiny_tokenizer.teacher_forcing_input(random_tokens(schedule))
    assert inputs.shape == (2, schedule.num_tokens - schedule.tokens_per_scale[0], tiny_tokenizer.config.code_dim)
    assert inputs.dtype == torch.float32


def test_the_training_pass_reconstructs_like_decode(tiny_tokenizer):
    images = random_images(tiny_tokenizer)
    result = tiny_tokenizer(images)
    assert same(result.tokens, tiny_tokenizer.encode(images))
    torch.testing.assert_close(result.images.clamp(-1, 1), tiny_tokenizer.decode(result.tokens), atol=1e-4, rtol=0)


def test_every_weight_learns(tiny_tokenizer):
    result = tiny_tokenizer(random_images(tiny_tokenizer))
    parameters = dict(tiny_tokenizer.named_parameters())
    loss = result.images.square().mean() + result.vq_loss
    gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    used_phi = set(tiny_tokenizer.pyramid.phi_of_scale)
    idle = [name for name, g in zip(parameters, gradients, strict=True) if g is None or not g.any()]
    assert all(name.startswith("pyramid.phi.") and int(name.split(".")[2]) not in used_phi for name in idle)


def test_encoding_is_in_float32_under_autocast(tiny_tokenizer):
    images = random_images(tiny_tokenizer)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = tiny_tokenizer.encode(images)
    assert same(tokens, tiny_tokenizer.encode(images))


def test_initialisation_follows_its_generator(schedule):
    config = make_tokenizer(schedule).config
    first, second = (
        ns.ImageTokenizer(config).init_weights(torch.Generator().manual_seed(4)).state_dict() for _ in range(2)
    )
    assert same(list(first.values()), list(second.values()))


@pytest.mark.parametrize("change", [{"znorm": True}, {"quant_resi": 0.0}, {"num_phi": 0}, {"num_phi": 1}])
def test_variants_go_to_a_folder_and_back(schedule, change, tmp_path):
    tokenizer = make_tokenizer(schedule, **change)
    tokenizer.save_pretrained(tmp_path)
    loaded = ns.ImageTokenizer.from_pretrained(tmp_path)
    assert loaded.config == tokenizer.config and not loaded.training
    images = random_images(tokenizer)
    tokens = tokenizer.encode(images)
    assert same(loaded.encode(images), tokens)
    assert torch.equal(loaded.decode(tokens), tokenizer.decode(tokens))


@pytest.mark.parametrize("shape", [(2, 3, 6, 6), (2, 3, 10, 6), (2, 1, 6, 10), (3, 6, 10)])
def test_images_of_another_size(shape):
    tokenizer = make_tokenizer(ns.ScaleSchedule(((1, 2), (2, 3), (3, 5))))
    for use in (tokenizer.encode, tokenizer.encode_features, tokenizer):
        with refused("(B, 3, 6, 10)", shape):
            use(torch.zeros(shape))


def test_tokens_that_do_not_fit():
    tokenizer = make_tokenizer(ns.ScaleSchedule.square((1, 2, 3, 4)))
    tokens = random_tokens(tokenizer.schedule)
    for use in (tokenizer.decode, tokenizer.teacher_forcing_input):
        with refused("4 scales", "got 3"):
            use(tokens[:3])
        with refused("scale 1", "(2, 4)", "(2, 3)"):
            use([tokens[0], tokens[1][:, :3], *tokens[2:]])
        with refused("scale 3", CODES, CODES - 1):
            use([*tokens[:3], torch.full_like(tokens[3], CODES)])
        with refused("scale 0", -1, CODES - 1):
            use([torch.full_like(tokens[0], -1), *tokens[1:]])


def test_tokens_of_different_numbers_of_images():
    tokenizer = make_tokenizer(ns.ScaleSchedule.square((1, 2, 3, 4)))
    tokens = random_tokens(tokenizer.schedule)
    with refused(2, 1):
        tokenizer.decode([*tokens[:3], tokens[3][:1]])


def test_tokens_that_are_not_integers():
    tokenizer = make_tokenizer(ns.ScaleSchedule.square((1, 2, 3, 4)))
    with refused("float32"):
        tokenizer.decode([t.float() for t in random_tokens(tokenizer.schedule)])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("channels", 40),
        ("channels", 0),
        ("num_blocks", 0),
        ("code_dim", 0),
        ("codebook_size", 0),
        ("multipliers", ()),
        ("multipliers", (1, 0)),
        ("num_phi", -1),
    ],
)
def test_impossible_configurations(field, value):
    with refused(field, value):
        ns.TokenizerConfig(**{field: value})


def test_json_makes_the_same_configuration(tmp_path):
    tokenizer = make_tokenizer(ns.ScaleSchedule.square((1, 2, 3, 4)))
    tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert ns.TokenizerConfig(**config) == tokenizer.config


def test_fresh_weights_follow_from_the_seed():
    config = make_tokenizer(SCHEDULES["square"]).config
    with torch.random.fork_rng():
        torch.manual_seed(3)
        first = ns.ImageTokenizer(config).state_dict()
        torch.manual_seed(3)
        again = ns.ImageTokenizer(config).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    size = config.codebook_size
    codes = first["pyramid.codebook.weight"]
    assert codes.abs().max() <= 1 / size and codes.std() == pytest.approx(1 / size / 3**0.5, rel=0.1)
