"""The DINO critic, with a tiny vision transformer of random weights."""

from __future__ import annotations

import math
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tiny import randomise, refused
from torch import Tensor, nn

from nextscale.training.critics.dino import DinoCritic, load_dino
from nextscale.training.critics.vit import VisionTransformer, ViTConfig

CONFIG = ViTConfig(patch=4, grid=3, width=128, depth=3, heads=2)
SIDE = 12
TAPS = (0, 2)
KINDS = ("weight", "bias")

HUGGING_FACE = {
    "cls_token": "embeddings.cls_token",
    "pos_embed": "embeddings.position_embeddings",
    "patch_embed.proj.weight": "embeddings.patch_embeddings.projection.weight",
    "patch_embed.proj.bias": "embeddings.patch_embeddings.projection.bias",
    "norm.weight": "layernorm.weight",
    "norm.bias": "layernorm.bias",
} | {
    f"blocks.{i}.{ours}.{kind}": f"encoder.layer.{i}.{theirs}.{kind}"
    for i in range(CONFIG.depth)
    for kind in KINDS
    for ours, theirs in {
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.output.dense",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }.items()
}


@pytest.fixture(scope="module")
def vit() -> VisionTransformer:
    """Shared between tests: do not change it."""
    return randomise(VisionTransformer(CONFIG)).requires_grad_(False)


@pytest.fixture
def critic(vit) -> DinoCritic:
    return DinoCritic(vit, SIDE, TAPS).init_weights(seeded())


@pytest.fixture
def state(vit) -> dict[str, Tensor]:
    return dict(vit.state_dict())


@pytest.fixture
def hugging_face(state) -> dict[str, Tensor]:
    renamed = {theirs: state[ours] for ours, theirs in HUGGING_FACE.items()}
    for i in range(CONFIG.depth):
        for kind in KINDS:
            parts = state[f"blocks.{i}.attn.qkv.{kind}"].chunk(3)
            for part, tensor in zip(("query", "key", "value"), parts, strict=True):
                renamed[f"encoder.layer.{i}.attention.attention.{part}.{kind}"] = tensor.contiguous()
    return renamed


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(h: int = SIDE, w: int = SIDE, seed: int = 1) -> Tensor:
    return torch.rand(2, 3, h, w, generator=seeded(seed)) * 2 - 1


def convolutions(critic: DinoCritic) -> list[nn.Conv2d]:
    return [module for module in critic.modules() if isinstance(module, nn.Conv2d)]


def write(state: dict[str, Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def plain_block(state: dict[str, Tensor], i: int) -> nn.TransformerEncoderLayer:
    """PyTorch's own pre-norm layer, with the weights of a block."""
    layer = nn.TransformerEncoderLayer(
        128, 2, 512, dropout=0.0, activation="gelu", layer_norm_eps=1e-6, batch_first=True, norm_first=True
    )
    names = {
        "self_attn.in_proj_": "attn.qkv.",
        "self_attn.out_proj.": "attn.proj.",
        "linear1.": "mlp.fc1.",
        "linear2.": "mlp.fc2.",
        "norm1.": "norm1.",
        "norm2.": "norm2.",
    }
    layer.load_state_dict(
        {f"{theirs}{kind}": state[f"blocks.{i}.{ours}{kind}"] for theirs, ours in names.items() for kind in KINDS}
    )
    return layer


def test_the_transformer_written_out(vit, state):
    images = random_images()
    patches = F.unfold(images, 4, stride=4).mT @ state["patch_embed.proj.weight"].flatten(1).T
    patches = patches + state["patch_embed.proj.bias"]
    expected = [torch.cat((state["cls_token"].expand(2, 1, 128), patches), 1) + state["pos_embed"]]
    for i in range(CONFIG.depth):
        expected.append(plain_block(state, i)(expected[-1]))
    for ours, plain in zip(vit.layers(images), expected, strict=True):
        torch.testing.assert_close(ours, plain, atol=1e-5, rtol=1e-5)
    normed = F.layer_norm(expected[-1], (128,), state["norm.weight"], state["norm.bias"], eps=1e-6)
    torch.testing.assert_close(vit(images), normed, atol=1e-5, rtol=1e-5)


def test_the_size_of_the_official_one():
    with torch.device("meta"):
        assert sum(p.numel() for p in VisionTransformer(ViTConfig()).parameters()) == 21_665_664


def test_positions_at_the_native_grid_are_as_learned(vit):
    assert torch.equal(vit.positions(3, 3), vit.pos_embed)


def test_positions_keep_their_axes(vit):
    vit = deepcopy(vit)
    rows = torch.arange(3.0).view(1, 3, 1, 1).expand(1, 3, 3, 128)
    vit.pos_embed[:, 1:] = rows.flatten(1, 2)
    positions = vit.positions(6, 2)
    assert torch.equal(positions[:, 0], vit.pos_embed[:, 0])
    grid = positions[0, 1:].view(6, 2, 128)
    assert (grid == grid[:, :1, :1]).all()
    assert (grid[1:] > grid[:-1]).all()


def test_parts_of_patches_are_refused(vit):
    with refused("4 pixels", (2, 3, 12, 14)):
        vit(random_images(12, 14))


@pytest.mark.parametrize("fields", [{"depth": 0}, {"patch": 1.5}, {"width": 100, "heads": 3}])
def test_bad_configurations(fields):
    with refused(next(iter(fields))):
        ViTConfig(**fields)


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_both_layouts(vit, state, hugging_face, tmp_path, kind):
    images = random_images(8, 16)
    official = load_dino(write(state, tmp_path / f"dino.{kind}"))
    renamed = load_dino(write(hugging_face, tmp_path / f"model.{kind}"))
    for loaded in (official, renamed):
        assert loaded.config == CONFIG
        assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
        for name, tensor in vit.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor)
        assert torch.equal(loaded(images), vit(images))


def test_a_pooler_is_no_part_of_it(hugging_face, tmp_path):
    pooler = {"pooler.dense.weight": torch.zeros(128, 128), "pooler.dense.bias": torch.zeros(128)}
    assert load_dino(write(hugging_face | pooler, tmp_path / "model.safetensors")).config == CONFIG


@pytest.mark.parametrize("name", ["none.pth", "none.safetensors"])
def test_a_missing_file(tmp_path, name):
    with refused(tmp_path / name):
        load_dino(tmp_path / name)


@pytest.mark.parametrize(("kind", "words"), [("pth", "truncated"), ("safetensors", "complete")])
def test_a_truncated_file(state, tmp_path, kind, words):
    path = write(state, tmp_path / f"dino.{kind}")
    path.write_bytes(path.read_bytes()[:-100])
    with refused(path, words):
        load_dino(path)


def test_another_layout(tmp_path):
    path = write({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "vgg.pth")
    with refused(path, "features.0.weight", "cls_token", "DINO", "Hugging Face"):
        load_dino(path)


def test_an_empty_file(tmp_path):
    with refused("nothing", "cls_token"):
        load_dino(write({}, tmp_path / "empty.safetensors"))


def test_a_whole_training_checkpoint(state, tmp_path):
    torch.save({"student": state, "teacher": state}, tmp_path / "full.pth")
    with refused(tmp_path / "full.pth", "'student'", "dict"):
        load_dino(tmp_path / "full.pth")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"blocks.2.norm1.bias": None}, ("lacks 1 of", "blocks.2.norm1.bias")),
        ({"head.weight": torch.zeros(2, 128)}, ("1 tensors besides", "head.weight")),
        ({"blocks.1.attn.qkv.weight": torch.zeros(128, 128)}, ("blocks.1.attn.qkv.weight", "(384, 128)")),
        ({"pos_embed": torch.zeros(1, 9, 128)}, ("(1, 9, 128)", "1 + g * g")),
        ({"pos_embed": torch.zeros(1, 0, 128)}, ("(1, 0, 128)", "1 + g * g")),
        ({"pos_embed": torch.zeros(10, 128)}, ("(10, 128)", "1 + g * g")),
        ({"pos_embed": torch.zeros(1, 1, 128)}, ("(1, 1, 128)",)),
        ({"pos_embed": torch.zeros(1, 10, 100)}, ("(1, 10, 100)", "multiple of 64")),
        ({"pos_embed": torch.zeros(1, 10, 0)}, ("(1, 10, 0)", "multiple of 64")),
        ({"patch_embed.proj.weight": torch.zeros(128, 48)}, ("(128, 48)", "(C, 3, p, p)")),
        ({"patch_embed.proj.weight": torch.zeros(128, 3, 0, 0)}, ("(128, 3, 0, 0)",)),
        ({"blocks.0.mlp.fc1.weight": torch.zeros(100, 128)}, ("(100, 128)", "m * C")),
        ({"blocks.0.mlp.fc1.weight": torch.zeros(0, 128)}, ("(0, 128)", "m * C")),
    ],
)
def test_other_tensors(state, tmp_path, changes, words):
    changed = {name: tensor for name, tensor in (state | changes).items() if tensor is not None}
    path = write(changed, tmp_path / "dino.pth")
    with refused(path, *words):
        load_dino(path)


@pytest.mark.parametrize("shape", [None, (64, 128), ()])
def test_a_query_without_its_key(hugging_face, tmp_path, shape):
    name = "encoder.layer.1.attention.attention.key.weight"
    del hugging_face[name]
    if shape is not None:
        hugging_face[name] = torch.zeros(shape)
    path = write(hugging_face, tmp_path / "model.safetensors")
    with refused(path, "attention.attention.key.weight"):
        load_dino(path)


def test_logits_for_each_tap(critic):
    logits, features = critic(random_images(16, 24))
    assert [tuple(x.shape) for x in logits] == [(2, 1, 4, 6)] * 3
    assert [tuple(x.shape) for x in features] == [(2, 128, 4, 6)] * 3


def test_features_are_patches_plus_class(critic, vit):
    layers = vit.layers(random_images(12, 20) * critic.scale + critic.shift)
    for i, x in zip((0, 1, 3), critic(random_images(12, 20)).features, strict=True):
        grid = (layers[i][:, 1:] + layers[i][:, :1]).view(2, 3, 5, 128)
        assert torch.equal(x, grid.permute(0, 3, 1, 2))


def test_images_are_seen_as_imagenet_was(critic):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    for colour, expected in ((mean, 0.0), (mean + std, 1.0)):
        seen = (2 * colour - 1).view(3, 1, 1) * critic.scale + critic.shift
        torch.testing.assert_close(seen, torch.full((3, 1, 1), expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((12, 12), (12, 12)), ((20, 16), (20, 16)), ((4, 4), (12, 12)), ((6, 8), (12, 16)), ((13, 30), (12, 32))],
)
def test_small_images_are_enlarged(critic, size, expected):
    images = random_images(*size)
    enlarged = critic.enlarge(images)
    assert tuple(enlarged.shape[2:]) == expected
    if size == expected:
        assert enlarged is images
    else:
        torch.testing.assert_close(enlarged, F.interpolate(images, expected, mode="bilinear", align_corners=False))


def test_a_head_written_out(critic):
    x = torch.randn(2, 128, 3, 5, generator=seeded())
    head = critic.heads[1]
    one, three, score = (module for module in head.modules() if isinstance(module, nn.Conv2d))
    y = F.leaky_relu(F.group_norm(F.conv2d(x, one.weight), 32), 0.2)
    z = F.leaky_relu(F.group_norm(F.conv2d(y, three.weight, padding=1), 32), 0.2)
    expected = F.conv2d((y + z) / math.sqrt(2), score.weight)
    torch.testing.assert_close(head(x), expected, atol=1e-5, rtol=1e-5)


def test_weights_of_heads_have_spectral_norm_1(critic):
    assert len(convolutions(critic)) == 9
    for convolution in convolutions(critic):
        norm = torch.linalg.matrix_norm(convolution.weight.flatten(1), 2)
        assert norm.item() == pytest.approx(1, abs=0.1)


def test_fresh_heads_depend_on_the_generator_alone(vit):
    states = []
    for global_seed in (0, 1):
        torch.manual_seed(global_seed)
        states.append(DinoCritic(vit, SIDE, TAPS).init_weights(seeded()).state_dict())
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


def test_dino_stays_frozen(critic, vit):
    before, heads = deepcopy(vit.state_dict()), deepcopy(critic.state_dict())
    critic.train().requires_grad_(False)
    critic.requires_grad_(True)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.1)
    images = random_images().requires_grad_()
    torch.cat(critic(images).logits).square().mean().backward()
    optimizer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in vit.state_dict().items())
    assert not vit.training and not any(p.requires_grad or p.grad is not None for p in vit.parameters())
    assert all(not torch.equal(p, heads[name]) for name, p in critic.named_parameters())
    assert images.grad is not None and images.grad.any()


def test_dino_is_no_part_of_the_checkpoint(critic):
    assert critic.vit.config == CONFIG
    assert all(name.startswith("heads.") for name in critic.state_dict())
    assert all(name.startswith("heads.") for name, _ in critic.named_parameters())


def test_dino_moves_with_the_critic(vit):
    critic = DinoCritic(deepcopy(vit), SIDE, TAPS).double()
    assert all(p.dtype == torch.float64 for p in critic.vit.parameters())
    judged = critic(random_images().double())
    assert all(features.dtype == torch.float64 for features in judged.features)
    assert all(logits.dtype == torch.float32 for logits in judged.logits)


@pytest.mark.parametrize(
    ("options", "words"), [({"side": 14}, ("patch size of 4", "14")), ({"side": 0}, ("patch size of 4",))]
)
def test_sides_that_are_no_whole_patches(vit, options, words):
    with refused("side", *words):
        DinoCritic(vit, taps=TAPS, **options)


@pytest.mark.parametrize("taps", [(2, 5, 8, 11), (-1,)])
def test_taps_beyond_the_last_block(vit, taps):
    with refused("0..2", taps):
        DinoCritic(vit, SIDE, taps)
