"""``nextscale tokenize``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nextscale.families.sources import load_tokenizer
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import is_main, processes
from nextscale.training.cache_parts import CacheSettings
from nextscale.training.token_cache import make_cache


@dataclass(frozen=True, kw_only=True)
class Options:
    """Encode the images of a data set into a cache of tokens.

    "train transformer" reads the cache instead of the images, which is faster. Repeat the same command to finish an
    incomplete cache. Under torchrun, the processes divide the work.

    With a bitwise tokenizer (Infinity), the cache also has the captions of the images. With a video tokenizer
    (InfinityStar), it has the latents of videos, and their captions.

    Example: nextscale tokenize --data photos/ --tokenizer runs/tokenizer --crops 4 --flip --out cache
    """

    data: str
    """Images, in any form that "train tokenizer" accepts."""
    tokenizer: str
    """Folder of a "train tokenizer" run, or a model whose tokenizer to use (starter, d16, a folder, ...)."""
    out: Path
    """Folder to write the cache to."""
    text_encoder: str = ""
    """Also store the features of all captions: folder or Hugging Face name of the T5 text encoder, such as
    google/flan-t5-xl. "train transformer" reads them instead of encoding captions."""
    text_tokens: int = 512
    """Largest number of tokens of a caption, as in the recipe of the transformer; longer ones are cut."""
    device: str = "auto"
    """auto, cpu or cuda. auto uses a GPU if there is one."""
    cache: CacheSettings = field(default_factory=CacheSettings)
    """Random crops, batch size and number of processes."""


def run(options: Options) -> None:
    with processes(pick_device(options.device)) as device:
        encoder = None
        if options.text_encoder:
            from nextscale.conditioning.on_demand import as_encoder  # most caches need none

            encoder = as_encoder(options.text_encoder, options.text_tokens)
        make_cache(options.data, options.out, load_tokenizer(options.tokenizer), options.cache, device, encoder)
    if is_main():
        print(options.out)
