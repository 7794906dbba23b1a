"""Words: a small transformer over the words of prompts, which is trained together with its model.

It needs no download. What it knows are the words of the captions that it was trained with.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nextscale.conditioning.padding import Padding
from nextscale.conditioning.prompts import check_text
from nextscale.conditioning.splitting import END, UNKNOWN, make_vocabulary, split_words, unknown_words
from nextscale.conditioning.text import TextFeatures, WordIds
from nextscale.conditioning.words_config import WordsConfig
from nextscale.errors import InputError, brief

EMBEDDING_STD, POSITION_STD = 0.5, 0.5
"""Initial values: larger than what the first blocks add. With small positions, word order is learned late."""


class Words(nn.Module):
    """A pre-norm transformer over the words or subwords of prompts, in float32.

    Attention stays within a prompt and has no direction. There is no norm at the end: the model's norm of text features
    follows.
    """

    def __init__(self, config: WordsConfig):
        super().__init__()
        c = config
        self.config = config
        self.vocabulary = make_vocabulary(c.kind, c.vocabulary)
        # PyTorch's constructor of an embedding would import its compiler on the meta device
        self.embedding = nn.Embedding.from_pretrained(torch.empty(c.num_tokens, c.width), freeze=False)
        self.position = nn.Embedding.from_pretrained(torch.empty(c.max_tokens, c.width), freeze=False)
        self.blocks = nn.ModuleList(WordBlock(c.width, c.heads) for _ in range(c.depth))
        if self.device.type != "meta":
            self.init_weights()

    @torch.no_grad()
    def init_weights(self, generator: torch.Generator | None = None) -> Words:
        """Initialize matrices with a normal of std sqrt(1 / 3T), the last of each branch / sqrt(2 depth), biases 0.

        The token of unknown words starts as 0, because training changes it only if rare words were left out.

        Args:
            generator: random generator; None uses PyTorch's global one.
        """
        c = self.config
        nn.init.normal_(self.embedding.weight, std=EMBEDDING_STD, generator=generator)
        self.embedding.weight[UNKNOWN] = 0
        nn.init.normal_(self.position.weight, std=POSITION_STD, generator=generator)
        for block in self.blocks:
            assert isinstance(block, WordBlock)
            for layer in (block.query_key_value, block.out, block.expand, block.contract):
                nn.init.normal_(layer.weight, std=math.sqrt(1 / c.width / 3), generator=generator)
                nn.init.zeros_(layer.bias)
            for layer in (block.out, block.contract):
                layer.weight.div_(math.sqrt(2 * c.depth))
        return self

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def tokens(self, prompt: str) -> list[int]:
        """Return all tokens of a prompt, however long. The last one is "end"."""
        return [*(token for word in split_words(prompt) for token in self.vocabulary.tokens(word)), END]

    def ids(self, prompts: Sequence[str]) -> WordIds:
        """Return prompts as numbers, on the CPU. Prompts of more than ``max_tokens`` tokens are cut.

        Raises:
            InputError: not a list of strings, or not valid Unicode.
        """
        if isinstance(prompts, str) or not isinstance(prompts, Sequence):
            raise InputError(f"the text encoder takes a list of prompts, not {brief(prompts)}")
        rows = [self.tokens(check_text(prompt, f"prompt {i}")) for i, prompt in enumerate(prompts)]
        most = self.config.max_tokens
        rows = [row if len(row) <= most else [*row[: most - 1], END] for row in rows]
        return WordIds(torch.tensor([token for row in rows for token in row], dtype=torch.int64), map(len, rows))

    def unknown(self, prompt: str) -> list[str]:
        """Return the words of a prompt that the vocabulary lacks, in lower case and each one once."""
        return unknown_words(self.vocabulary, split_words(prompt))

    def forward(self, words: WordIds) -> TextFeatures:
        """Encode prompts, which are on the module's device.

        Raises:
            InputError: a prompt has more than ``max_tokens`` tokens.
        """
        if (most := max(words.lengths)) > self.config.max_tokens:
            i = words.lengths.index(most)
            raise InputError(f"prompt {i} has {most} tokens: this model takes at most {self.config.max_tokens}")
        with torch.autocast("cpu" if self.device.type == "meta" else self.device.type, enabled=False):
            padding = Padding.of(words.lengths, self.device)
            x = self.embedding(words.ids) + self.position(padding.columns)
            for block in self.blocks:
                x = block(x, padding)
        return TextFeatures(x, words.lengths)


class WordBlock(nn.Module):
    """Compute x += attention(norm(x)); x += mlp(norm(x)) for the tokens of packed prompts.

    Args:
        width: T.
        heads: H.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, padding: Padding) -> Tensor:
        """(sum of lengths, T) -> (sum of lengths, T)."""
        qkv = padding.pad(self.query_key_value(self.attention_norm(x)))
        q, k, v = qkv.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=None if padding.is_full else padding.mask)
        x = x + self.out(padding.pack(attended.transpose(1, 2).flatten(2)))
        return x + self.contract(F.gelu(self.expand(self.mlp_norm(x)), approximate="tanh"))
