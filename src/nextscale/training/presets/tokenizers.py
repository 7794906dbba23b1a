"""All named recipes of tokenizers."""

from __future__ import annotations

from collections import ChainMap

from nextscale.training.presets.infinity_tokenizers import TOKENIZERS as BITS
from nextscale.training.presets.var import TOKENIZERS as CODES

TOKENIZERS = ChainMap(CODES, BITS)
