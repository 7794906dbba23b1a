"""The reference implementation beside ours: loading it with our weights, taking turns with it, and peaks of memory."""

from __future__ import annotations

import builtins
import contextlib
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nextscale.official import to_official
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.transformer import VAR

Ways = dict[str, Callable[[], Any]]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Within, nothing is printed: the reference calls ``print`` with arguments of its own."""
    loud, builtins.print = builtins.print, lambda *_, **__: None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        builtins.print = loud


def load_reference(path: Path, tokenizer: ImageTokenizer, model: VAR) -> tuple[Any, Any]:
    """The reference's tokenizer and transformer, with our weights, where ours are."""
    sys.path.insert(0, str(path))
    import dist  # pyright: ignore[reportMissingImports]  # of the reference, as is the next

    dist.get_device = lambda: model.device
    from models import build_vae_var  # pyright: ignore[reportMissingImports]

    with quiet():
        vae, var = build_vae_var(
            device=model.device,
            patch_nums=tuple(h for h, _ in tokenizer.schedule.sizes),
            num_classes=model.config.num_classes,
            depth=model.config.depth,
            shared_aln=False,
        )
    states = to_official(tokenizer, model)
    for module, state in zip((vae, var), states, strict=True):
        module.load_state_dict(state, strict=False)
        module.eval().requires_grad_(False)
    return vae, var


def in_turn(ways: Ways, rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds (on the clock, of the processor) of each way."""
    clock: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for i in range(rounds):
        for name, run in ways.items():
            start = time.perf_counter(), time.process_time()
            run()
            clock[name].append((time.perf_counter() - start[0], time.process_time() - start[1]))
        print(f"round {i + 1}: " + ", ".join(f"{n} {t[-1][0]:.2f} s" for n, t in clock.items()), flush=True)
    return {name: (statistics.median(w for w, _ in t), statistics.median(c for _, c in t)) for name, t in clock.items()}


def own_peak(run: Callable[[], object]) -> int:
    """MiB that this process held at most while it ran."""
    Path("/proc/self/clear_refs").write_text("5")  # forget earlier peaks
    run()
    return held("VmHWM")


def held(what: str = "VmRSS") -> int:
    """MiB that this process holds, or with ``VmHWM`` has held at most."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) // 1024
