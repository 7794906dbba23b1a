"""Helpers to compare with the reference implementation: loading it with our weights, alternating runs, peak memory."""

from __future__ import annotations

import builtins
import contextlib
import io
import multiprocessing
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import torch

from nextscale.official.var import to_official
from nextscale.runtime.allocator import kept
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.var import VAR

CPU = torch.device("cpu")
Variants = dict[str, Callable[[], Any]]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress all printing: the reference replaces ``print`` by a function with other arguments."""
    loud, builtins.print = builtins.print, lambda *_, **__: None
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        builtins.print = loud


def load_reference(path: Path, tokenizer: ImageTokenizer, model: VAR) -> tuple[Any, Any]:
    """Return the reference's tokenizer and transformer with our weights, on the device of ours."""
    sys.path.insert(0, str(path))
    import dist  # pyright: ignore[reportMissingImports]  # part of the reference, as is the next import

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


@dataclass(frozen=True)
class Took:
    """Seconds of one turn, and the values that it returned, if any."""

    clock: float
    cpu: float
    figures: dict[str, float]


def take_turns(
    make: Callable[[str], Variants], names: Sequence[str], rounds: int, ours: Mapping[str, str] = MappingProxyType({})
) -> dict[str, list[Took]]:
    """Run all variants in turn, round by round, after one warm-up round.

    The reference and nextscale run in separate processes, because our commands also change the memory allocator.

    Args:
        make: creates the variants of "reference" or "ours" in their process.
        names: of the variants; the first word is "reference" or "ours".
        ours: environment variables of our process.
    """
    spawn, pipes = multiprocessing.get_context("spawn"), {}
    for who in dict.fromkeys(name.split()[0] for name in names):
        pipes[who], theirs = spawn.Pipe()
        with patch.dict(os.environ, ours if who == "ours" else {}):
            spawn.Process(target=answer, args=(make, who, theirs), daemon=True).start()
    turns: dict[str, list[Took]] = {name: [] for name in names}
    for i in range(rounds + 1):
        for name, found in turns.items():
            pipe = pipes[name.split()[0]]
            pipe.send(name)
            found.append(pipe.recv())
        if i > 0:
            print(f"round {i}: " + ", ".join(f"{n} {t[-1].clock:.2f} s" for n, t in turns.items()), flush=True)
    for pipe in pipes.values():
        pipe.send("")
    return {name: found[1:] for name, found in turns.items()}


def answer(make: Callable[[str], Variants], who: str, pipe: Connection) -> None:
    """Run a variant for each name received, until an empty name."""
    variants = make(who)
    with kept(CPU) if who == "ours" else contextlib.nullcontext():
        while name := pipe.recv():
            clock, cpu = time.perf_counter(), time.process_time()
            result = variants[name]()
            clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
            pipe.send(Took(clock, cpu, result if isinstance(result, dict) else {}))


def median(turns: Sequence[Took], of: Callable[[Took], float]) -> float:
    return statistics.median(map(of, turns))


def own_peak(run: Callable[[], object]) -> int:
    """Return the peak memory of this process during ``run`` in MiB."""
    Path("/proc/self/clear_refs").write_text("5")  # forget earlier peaks
    run()
    return held("VmHWM")


def held(what: str = "VmRSS") -> int:
    """Return the memory of this process in MiB, or its peak with ``VmHWM``."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) // 1024
