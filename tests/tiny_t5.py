"""A tiny random T5 encoder, with a vocabulary that sentencepiece learns from a few sentences."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import Any

import torch

SENTENCES = [
    "a fox in the snow",
    "two red cars on a wet street at night",
    "an old man reads a book under the apple tree",
    "a bowl of oranges, lemons and one green apple",
    "the quick brown fox jumps over the lazy dog",
    "a bee over a sunflower in the morning light",
    "blue mountains; a small boat (wooden) on the lake!",
    "שלום עולם, שועל בשלג",
    "ثعلب في الثلج",
]
PAD, END, UNKNOWN = 0, 1, 2
WIDTH = 16


def write_vocabulary(folder: Path) -> None:
    """Write ``spiece.model``, and the same vocabulary as a ``tokenizer.json`` in the layout of flan-t5."""
    from sentencepiece import SentencePieceTrainer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    out = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=out,
        vocab_size=200,
        hard_vocab_limit=False,
        pad_id=PAD,
        eos_id=END,
        unk_id=UNKNOWN,
        bos_id=-1,
        minloglevel=2,
    )
    (folder / "spiece.model").write_bytes(out.getvalue())
    proto: Any = importlib.import_module("sentencepiece.sentencepiece_model_pb2").ModelProto.FromString(out.getvalue())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in proto.pieces], UNKNOWN))
    tokenizer.normalizer = normalizers.Precompiled(proto.normalizer_spec.precompiled_charsmap)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # type: ignore[assignment]
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace("▁", "always")]
    )
    tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", END)])  # type: ignore[assignment]
    tokenizer.add_special_tokens(["<pad>", "</s>", "<unk>"])
    tokenizer.save(str(folder / "tokenizer.json"))


def write_t5(folder: Path, seed: int = 0, **changes: Any) -> Path:
    """Write a T5 encoder with random weights and its vocabulary, as transformers does.

    Args:
        changes: to the configuration, by name.
    """
    from transformers import T5Config, T5EncoderModel

    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder)
    shape: dict[str, Any] = {
        "d_model": WIDTH,
        "d_kv": 8,
        "num_heads": 2,
        "d_ff": 32,
        "num_layers": 2,
        "vocab_size": 256,
    }
    config = T5Config(
        **(shape | {"feed_forward_proj": "gated-gelu", "eos_token_id": END, "pad_token_id": PAD} | changes)
    )
    torch.manual_seed(seed)
    model = T5EncoderModel(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.save_pretrained(folder)
    return folder
