"""Kill a training run again and again, start it again with the same command, and compare with a run left alone.

    python benchmarks/kill_and_resume.py --kills 20 --out check -- train tokenizer --data photos/ --steps 300
    python benchmarks/kill_and_resume.py --kills 20 --processes 2 --out check -- train var --tokenizer starter ...

Every second kill waits until a checkpoint is being written; the others come at a random moment. All are SIGKILL, to all
processes of the run at once. The final checkpoints must agree byte for byte.
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


def command(verb: list[str], out: Path, processes: int) -> list[str]:
    """The training command, under torchrun if there are several processes."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return [sys.executable, *(launcher if processes > 1 else []), "-m", "nextscale", *verb, "--out", str(out)]


def last_step(run: Path) -> int:
    """The last step in a run's log."""
    try:
        return json.loads((run / "log.jsonl").read_text().splitlines()[-1])["step"]
    except (OSError, IndexError, ValueError):
        return 0


def is_saving(run: Path) -> bool:
    return any((run / "checkpoints").glob(".step-*.tmp"))


def live_and_die(verb: list[str], run: Path, processes: int, while_saving: bool, patience: float) -> str:
    """Start the run, kill it; says when. Empty if it was finished before."""
    before = last_step(run)
    life = subprocess.Popen(command(verb, run, processes), start_new_session=True, stderr=subprocess.DEVNULL)
    while life.poll() is None and last_step(run) == before:
        time.sleep(0.02)
    end = time.monotonic() + random.uniform(0, patience)
    while life.poll() is None and not (is_saving(run) if while_saving else time.monotonic() > end):
        time.sleep(0.0005)
    saving = is_saving(run)
    if life.poll() is not None:
        return ""
    os.killpg(life.pid, signal.SIGKILL)
    life.wait()
    return f"killed at step {last_step(run)}" + (", while saving" if saving else "")


def final_files(run: Path) -> dict[str, bytes]:
    """The content of every file of the last checkpoint."""
    folder = max((run / "checkpoints").glob("step-*"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill and resume a training run.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--patience", type=float, default=2.0, help="longest life in seconds, after its first log line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("verb", nargs="+", help="-- train tokenizer ..., without --out")
    options = parser.parse_args()
    random.seed(options.seed)
    undisturbed, disturbed = options.out / "undisturbed", options.out / "disturbed"
    subprocess.run(command(options.verb, undisturbed, options.processes), check=True, stderr=subprocess.DEVNULL)
    for kill in range(options.kills):
        what = live_and_die(options.verb, disturbed, options.processes, kill % 2 == 1, options.patience)
        if not what:
            sys.exit(f"the run was finished after {kill} kills: give it more steps")
        print(f"{kill + 1:3}  {what}", flush=True)
    subprocess.run(command(options.verb, disturbed, options.processes), check=True, stderr=subprocess.DEVNULL)
    ours, theirs = final_files(undisturbed), final_files(disturbed)
    for name in ours:
        print("identical" if ours[name] == theirs.get(name) else "DIFFERENT", name)
    sys.exit(ours != theirs)


if __name__ == "__main__":
    main()
