"""The T5 encoder: features of a prompt do not depend on padding, batch or load; and what is wrong with files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import refused
from tiny_t5 import END, SENTENCES, WIDTH, write_t5

import nextscale as ns
from nextscale.conditioning.t5 import MAX_TOKENS, T5TextEncoder, pick_dtype
from nextscale.runtime.extras import not_installed

pytest.importorskip("sentencepiece")
transformers = pytest.importorskip("transformers")

PROMPTS = [*SENTENCES, "🦊 in ❄️", "مرحبا 🌍 world", "", "  two \t spaces\nand lines "]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_t5(tmp_path_factory.mktemp("t5"))


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    """A folder to damage."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def make(folder: Path | str, **options: Any) -> T5TextEncoder:
    return T5TextEncoder(folder, **{"device": "cpu", "dtype": "float32", **options})


def test_features_are_those_of_transformers_with_padding(folder):
    text = make(folder).encode(PROMPTS)
    tokens = [torch.tensor(make(folder)._tokens([prompt])[0]) for prompt in PROMPTS]
    assert text.lengths == tuple(len(row) for row in tokens) and all(row[-1] == END for row in tokens)
    assert text.features.shape[1] == make(folder).width == WIDTH and text.features.dtype == torch.float32
    padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    mask = torch.arange(padded.shape[1]) < torch.tensor(text.lengths)[:, None]
    model = transformers.T5EncoderModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model(input_ids=padded, attention_mask=mask.long()).last_hidden_state[mask]
    assert text.features.std() > 0.1
    torch.testing.assert_close(text.features, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_prompt_does_not_depend_on_the_others(folder, dtype):
    encoder = make(folder, dtype=dtype)
    together = encoder.encode(PROMPTS).split()
    for prompt, features in zip(PROMPTS, together, strict=True):
        assert torch.equal(encoder.encode([prompt]).features, features)
    swapped = encoder.encode([PROMPTS[3], PROMPTS[0], PROMPTS[3]]).split()
    assert all(torch.equal(a, together[i]) for a, i in zip(swapped, (3, 0, 3), strict=True))
    assert not torch.equal(together[0][0], together[2][0])


def test_bfloat16_is_close_to_float32(folder):
    exact, half = (make(folder, dtype=dtype).encode(SENTENCES).features for dtype in ("float32", "bfloat16"))
    error = (half - exact).norm() / exact.norm()
    assert 1e-4 < error < 0.05 and half.dtype == torch.float32


def test_autocast_outside_changes_nothing(folder):
    encoder = make(folder)
    with torch.autocast("cpu", torch.bfloat16):
        inside = encoder.encode(SENTENCES)
    assert torch.equal(inside.features, encoder.encode(SENTENCES).features)


def test_both_vocabularies_give_the_same_tokens(folder, copy):
    (copy / "tokenizer.json").unlink()
    fast, slow = make(folder), make(copy)
    for prompt in PROMPTS:
        assert fast._tokens([prompt]) == slow._tokens([prompt])
    assert fast._tokens([""]) == [(END,)]


def test_long_prompts_are_cut_and_said_once(folder):
    said: list[str] = []
    encoder = make(folder, tell=said.append)
    prompt = " ".join(["snow"] * 10_000)
    count = len(encoder._tokenize(prompt))
    text = encoder.encode(["a fox", prompt])
    assert text.lengths[1] == MAX_TOKENS == 512 and count > 10_000
    encoder.check([prompt])
    encoder.encode([prompt, prompt])
    assert len(said) == 1 and "prompt 1" in said[0] and f"{count:,} tokens" in said[0] and "first 512" in said[0]
    assert encoder._tokens([prompt])[0] == (*encoder._tokenize(prompt)[:511], END)
    encoder.encode([f"{prompt} fox"])
    assert len(said) == 2


def test_a_prompt_of_exactly_the_limit_is_whole(folder):
    said: list[str] = []
    count = len(make(folder)._tokenize(SENTENCES[0]))
    assert make(folder, max_tokens=count, tell=said.append).encode(SENTENCES[:1]).lengths == (count,) and not said
    assert make(folder, max_tokens=count - 1, tell=said.append).encode(SENTENCES[:1]).lengths == (count - 1,)
    assert f"{count} tokens" in said[0] and f"first {count - 1}" in said[0]
    with refused("max_tokens must be at least 2", "1"):
        make(folder, max_tokens=1)


def test_weights_are_kept_or_unloaded(folder):
    kept, unloaded = make(folder), make(folder, keep=False)
    assert not kept.is_loaded
    assert torch.equal(kept.encode(SENTENCES).features, unloaded.encode(SENTENCES).features)
    assert kept.is_loaded and not unloaded.is_loaded
    first = kept.encode(SENTENCES)
    kept.unload()
    assert not kept.is_loaded and torch.equal(kept.encode(SENTENCES).features, first.features)


@pytest.mark.parametrize("prompts", ["a fox", [], None, ["a fox", 3], ["a \udcff fox"]])
def test_not_a_list_of_prompts(folder, prompts):
    with refused("prompt"):
        make(folder).encode(prompts)


def test_precisions(folder, monkeypatch):
    for fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr("nextscale.conditioning.t5.has_fast_bfloat16", lambda _, fast=fast: fast)
        assert pick_dtype("auto", CPU) == make(folder, dtype="auto").dtype == expected
    assert pick_dtype("auto", torch.device("cuda")) == torch.float16
    with refused("float16", "200 times slower"):
        make(folder, dtype="float16")
    with refused("unknown dtype 'int8'", "bfloat16"):
        make(folder, dtype="int8")
    with refused("no device 'tpu'"):
        make(folder, device="tpu")


def test_the_fingerprint_follows_everything_that_matters(folder, copy, tmp_path):
    prints = [
        make(folder).fingerprint,
        make(folder, dtype="bfloat16").fingerprint,
        make(folder, max_tokens=77).fingerprint,
        make(write_t5(tmp_path / "other", seed=1)).fingerprint,
    ]
    assert len(set(prints)) == 4 and all(len(Path(name).parts) == 1 for name in prints)
    assert make(copy).fingerprint == prints[0]
    (copy / "tokenizer.json").unlink()
    assert make(copy).fingerprint not in prints


def test_loading_says_nothing(folder, capfd):
    make(folder).encode(SENTENCES[:1])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("embedding", ["shared.weight", "encoder.embed_tokens.weight"])
def test_a_whole_t5_in_the_layout_of_flan(copy, embedding):
    config = transformers.T5Config(**(json.loads((copy / "config.json").read_text()) | {"tie_word_embeddings": False}))
    whole = transformers.T5ForConditionalGeneration(config).eval()
    tokens = torch.tensor(make(copy)._tokens(PROMPTS[:1]))
    with torch.no_grad():
        expected = whole.encoder(input_ids=tokens).last_hidden_state[0]
    state = {name: tensor.clone() for name, tensor in whole.state_dict().items()}
    assert "decoder.final_layer_norm.weight" in state and "lm_head.weight" in state
    for name in {"shared.weight", "encoder.embed_tokens.weight", "decoder.embed_tokens.weight"} - {embedding}:
        state.pop(name)
    save_file(state, copy / "model.safetensors", {"format": "pt"})
    (copy / "config.json").write_text(
        json.dumps(json.loads((copy / "config.json").read_text()) | {"tie_word_embeddings": False})
    )
    torch.testing.assert_close(make(copy).encode(PROMPTS[:1]).features, expected, rtol=1e-5, atol=1e-6)


def save(folder: Path, change) -> None:
    """Write the weights of a folder after a change."""
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", {"format": "pt"})


def test_weights_that_do_not_fit_are_never_random(copy):
    name = "encoder.block.1.layer.0.SelfAttention.q.weight"
    whole = (copy / "model.safetensors").read_bytes()
    save(copy, lambda state: state.pop(name))
    with refused("lacks 1 weights of the T5 encoder", name):
        make(copy).encode(SENTENCES)
    (copy / "model.safetensors").write_bytes(whole)
    save(copy, lambda state: state.update({"head.weight": torch.ones(4)}))
    with refused("1 weights that a T5 encoder does not have", "head.weight"):
        make(copy).encode(SENTENCES)
    (copy / "model.safetensors").write_bytes(whole)
    save(copy, lambda state: state.update({name: torch.ones(3, 3)}))
    with refused("1 weights of another shape", name, "(3, 3)", f"({WIDTH}, {WIDTH})"):
        make(copy).encode(SENTENCES)
    (copy / "model.safetensors").write_bytes(whole)
    save(copy, lambda state: state.update({name: state[name].to(torch.int8)}))
    with refused(name, "of type int8", "expected floating-point numbers"):
        make(copy).encode(SENTENCES)
    (copy / "model.safetensors").write_bytes(whole)
    save(copy, lambda state: state[name].fill_(float("nan")))
    with refused("not finite", "float32"):
        make(copy).encode(SENTENCES)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"num_layers": 3}, ("lacks 9 weights of the T5 encoder", "encoder.block.2")),
        ({"num_layers": 100_000_000}, ("many more than the weights have",)),
        ({"d_model": 10**7, "d_ff": 10**7}, ("weights of another shape", "expected (16, 10000000)")),
        ({"d_model": 10**12}, ("weights of another shape", "expected (16, 1000000000000)")),
        ({"vocab_size": 10**9}, ("1 weights of another shape", "shared.weight", "(1000000000, 16)")),
        ({"relative_attention_num_buckets": 10**9}, ("1 weights of another shape", "(1000000000, 2)")),
        ({"num_heads": 10**6, "d_kv": 10**20}, ("sizes are too large",)),
    ],
)
def test_absurd_sizes_are_found_before_memory_is_allocated(copy, monkeypatch, changed, words):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | changed))
    monkeypatch.setattr(transformers.T5EncoderModel, "from_pretrained", None, raising=False)
    with refused(*words):
        make(copy).encode(SENTENCES)


@pytest.mark.parametrize("size", [0, -3, True, 2.5, "24", None, [8]])
@pytest.mark.parametrize("name", ["num_layers", "d_ff"])
def test_sizes_are_positive_integers(copy, name, size):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {name: size}))
    with refused("config.json", f"{name} must be a positive integer"):
        make(copy)


def test_a_cut_file_is_found_before_loading(copy):
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with refused("model.safetensors", "not a complete safetensors file"):
        make(copy)
    weights.unlink()
    with refused("lacks 1 of 1 files with weights", "model.safetensors"):
        make(copy)


def test_sharded_weights(folder, copy):
    model = transformers.T5EncoderModel.from_pretrained(copy)
    (copy / "model.safetensors").unlink()
    model.save_pretrained(copy, max_shard_size="8KB")
    shards = sorted(copy.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert torch.equal(make(copy).encode(SENTENCES).features, make(folder).encode(SENTENCES).features)
    shards[1].unlink()
    with refused(f"lacks 1 of {len(shards)} files with weights", shards[1].name):
        make(copy)
    (copy / "model.safetensors.index.json").write_text("[]")
    with refused("not an index of weights"):
        make(copy)


def test_other_files_that_are_missing_or_damaged(copy):
    config = json.loads((copy / "config.json").read_text())
    for changed, words in (
        ({"model_type": "bert"}, ("of type bert", "expected t5")),
        ({"d_model": None}, ("no number d_model",)),
        ({"vocab_size": 20}, ("only 20 tokens",)),
    ):
        (copy / "config.json").write_text(json.dumps(config | changed))
        with refused(*words):
            make(copy).check(SENTENCES)
    (copy / "config.json").unlink()
    with refused("cannot read", "config.json"):
        make(copy)
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "tokenizer.json").write_text("{}")
    with refused("tokenizer.json is not a vocabulary"):
        make(copy)
    (copy / "tokenizer.json").unlink()
    (copy / "spiece.model").write_bytes(b"no")
    with refused("spiece.model is not a vocabulary"):
        make(copy)
    (copy / "spiece.model").unlink()
    with refused("no vocabulary", "tokenizer.json or spiece.model"):
        make(copy)


def test_sources_that_are_not_there(tmp_path):
    with refused("no folder", tmp_path / "t5"):
        make(tmp_path / "t5")
    with refused("no folder weights/t5/xl", "google/flan-t5-xl"):
        make("weights/t5/xl")
    with refused("cannot download nobody/flan-t5-none from the hub", "no network?"):  # tests run offline
        make("nobody/flan-t5-none")


@pytest.mark.parametrize("package", ["transformers", "tokenizers", "sentencepiece"])
def test_packages_that_are_not_installed(copy, package, monkeypatch):
    if package == "sentencepiece":
        (copy / "tokenizer.json").unlink()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ns.InputError) as caught:
        make(copy)
    assert str(caught.value) == not_installed(package, "text")


def test_importing_the_module_imports_no_package():
    script = (
        "import sys; import nextscale.conditioning.t5, nextscale.conditioning.feature_cache\n"
        "print(sys.modules.keys() & {'transformers', 'tokenizers', 'sentencepiece'})"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"
