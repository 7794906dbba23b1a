"""Kill and resume a training run repeatedly, and compare it with an uninterrupted run.

    python benchmarks/kill_and_resume.py --kills 20 --out check -- train tokenizer --data photos/ --save-every 5
    python benchmarks/kill_and_resume.py --kills 20 --processes 2 --out check -- train transformer ...

Each time, the run is killed after a random number of steps; every second time, while a checkpoint is being written.
SIGKILL goes to all processes of the run at once. The tensors of the final checkpoints must agree bit for bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


def command(verb: list[str], out: Path, processes: int) -> list[str]:
    """Return the training command, with torchrun for several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    program = [sys.executable, *(launcher if processes > 1 else []), "-m", "nextscale"]
    return [*program, *verb, "--log-every", "1", "--out", str(out)]


def last_step(run: Path) -> int:
    """Return the last step in the log of a run."""
    try:
        return json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, IndexError, ValueError):
        return 0


def is_saving(run: Path) -> bool:
    return any((run / "checkpoints").glob(".step-*.tmp"))


def descendants(pid: int) -> list[int]:
    """Return all child processes, recursively. Linux only; the processes of torchrun form no process group."""
    lists = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for children in lists for child in children.read_text().split()]
    return children + [process for child in children for process in descendants(child)]


def is_alive(pid: int) -> bool:
    """Whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def live_and_die(verb: list[str], run: Path, processes: int, while_saving: bool, steps: int) -> str:
    """Start the run and kill it after ``steps`` new steps. Return when it was killed, or "" if it finished before."""
    end = last_step(run) + steps
    life = subprocess.Popen(command(verb, run, processes), stderr=subprocess.DEVNULL)
    while life.poll() is None and last_step(run) < end:
        time.sleep(0.001)
    while life.poll() is None and while_saving and not is_saving(run):
        pass
    saving = is_saving(run)
    if life.poll() is not None:
        return ""
    family = [life.pid, *descendants(life.pid)]
    for pid in family:
        os.kill(pid, signal.SIGKILL)
    life.wait()
    while any(is_alive(pid) for pid in family):
        time.sleep(0.001)
    return f"killed at step {last_step(run)}" + (", while saving" if saving else "")


def final_tensors(run: Path) -> dict[str, dict[str, Tensor]]:
    """Return all tensors of all files of the last checkpoint. (Their order in a file may differ.)"""
    folder = max((run / "checkpoints").glob("step-*"))
    return {str(p.relative_to(folder)): load_file(p) for p in sorted(folder.rglob("*.safetensors"))}


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill and resume a training run.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--life", type=int, default=60, help="largest number of steps between two kills")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("verb", nargs="+", help="-- train tokenizer ..., without --out; --log-every 1 is added")
    options = parser.parse_args()
    random.seed(options.seed)
    undisturbed, disturbed = options.out / "undisturbed", options.out / "disturbed"
    subprocess.run(command(options.verb, undisturbed, options.processes), check=True, stderr=subprocess.DEVNULL)
    for kill in range(options.kills):
        what = live_and_die(options.verb, disturbed, options.processes, kill % 2 == 1, random.randint(1, options.life))
        if not what:
            sys.exit(f"the run finished after {kill} kills: give it more steps")
        print(f"{kill + 1:3}  {what}", flush=True)
    subprocess.run(command(options.verb, disturbed, options.processes), check=True, stderr=subprocess.DEVNULL)
    ours, theirs = final_tensors(undisturbed), final_tensors(disturbed)
    different = [name for name in ours.keys() | theirs.keys() if not same(ours.get(name, {}), theirs.get(name, {}))]
    for name in ours:
        print("DIFFERENT" if name in different else "identical", f"{len(ours[name])} tensors in {name}")
    sys.exit(bool(different))


if __name__ == "__main__":
    main()
