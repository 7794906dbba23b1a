"""``nextscale tokenize``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nextscale.families.sources import load_tokenizer
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import is_main, processes
from nextscale.training.token_cache import CacheSettings, make_cache


@dataclass(frozen=True, kw_only=True)
class Options:
    """Encode the images of a data set into a cache of tokens.

    "train transformer" reads the cache instead of the images, which is faster. Repeat the same command to finish an
    incomplete cache. Under torchrun, the processes divide the work.

    Example: nextscale tokenize --data photos/ --tokenizer runs/tokenizer --crops 4 --flip --out cache
    """

    data: str
    """Images, in any form that "train tokenizer" accepts."""
    tokenizer: str
    """Folder of a "train tokenizer" run, or a model whose tokenizer to use (starter, d16, a folder, ...)."""
    out: Path
    """Folder to write the cache to."""
    device: str = "auto"
    """auto, cpu or cuda. auto uses a GPU if there is one."""
    settings: CacheSettings = field(default_factory=CacheSettings)
    """Random crops, batch size and number of processes."""


def run(options: Options) -> None:
    with processes(pick_device(options.device)) as device:
        make_cache(options.data, options.out, load_tokenizer(options.tokenizer), options.settings, device)
    if is_main():
        print(options.out)
