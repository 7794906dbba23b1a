"""Measure the time from the command ``nextscale sample`` to the first image, and its parts.

    python benchmarks/start_up.py --rounds 5

The model has an official size and random weights; its files are in the system's cache. In every round, one process runs
the command. Another takes the same steps one by one, measures each, and samples a second image when everything is warm.
From the latter:

- load time: from the imports to a pipeline that is ready for sampling: files mapped, models built, matrices converted
  and packed;
- sampling time: sampling and decoding an image when everything is warm.

The script prints the ratio of the command to the sum of both, also until the moment when the image is in its file,
before the process has ended. The difference consists of the interpreter, the imports, the extra cost of a first image,
the fingerprint of the weights, and writing the file. All values are medians of wall-clock seconds and of processor
seconds, which other programs on a shared machine disturb less. With one thread (``OMP_NUM_THREADS=1``), the latter
equal the former on a quiet machine.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

Seconds = tuple[float, float]
"""Wall-clock and processor seconds."""
ARGUMENTS = ["--labels", "207", "--num-images", "1", "--seed", "0"]
USUAL = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment, in which Python caches compiled modules as usual."""
LOADING = ("read and build", "convert and pack")
STAGES = ("interpreter", "imports", *LOADING, "fingerprint", "first image", "write the file", "warm image")


def now() -> Seconds:
    return time.monotonic(), time.process_time()


def take_steps(folder: str, launched: float) -> dict[str, Seconds]:
    """Take the steps of the command in this process, which was launched at ``launched`` on the monotonic clock."""
    moments = [(launched, 0.0), now()]
    from nextscale.cli.main import import_all

    import_all("tyro")
    import_all("nextscale.cli.sample")
    from nextscale.cli.sample import Options
    from nextscale.cli.sampling import write_images
    from nextscale.pipeline import Pipeline
    from nextscale.runtime.allocator import kept

    moments.append(now())
    pipeline = Pipeline.from_pretrained(folder)
    moments.append(now())
    pipeline.ready()
    moments.append(now())
    made = Options(model=folder).provenance(pipeline, ("207",), 1)
    moments.append(now())
    with kept(pipeline.device):  # as in the command
        images = pipeline([207], seed=0).images
    moments.append(now())
    out = Path(folder) / "image.png"
    write_images(images, made, Options(model=folder), out)
    moments.append(now())
    with kept(pipeline.device):
        pipeline([207], seed=0)  # warm-up: allocates the memory
        moments.append(now())
        pipeline([207], seed=0)
    moments.append(now())
    steps = list(pairwise(moments))
    del steps[-2]  # the warm-up
    return dict(zip(STAGES, ((b[0] - a[0], b[1] - a[1]) for a, b in steps), strict=True))


def run(command: Sequence[str]) -> tuple[Seconds, str]:
    """Run a command. Return its duration and the last line of its output."""
    start, before = time.monotonic(), os.times()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=USUAL)
    after = os.times()
    used = after.children_user - before.children_user + after.children_system - before.children_system
    return (time.monotonic() - start, used), done.stdout.strip().splitlines()[-1]


def seconds_to(path: Path, command: Sequence[str]) -> float:
    """Return the wall-clock seconds until a command has written a file."""
    path.unlink(missing_ok=True)
    start = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=USUAL) as process:
        while not path.exists() and process.poll() is None:
            time.sleep(0.002)
        return time.monotonic() - start


def median(found: Sequence[Seconds]) -> Seconds:
    clock, processor = zip(*found, strict=True)
    return statistics.median(clock), statistics.median(processor)


def add(*parts: Seconds) -> Seconds:
    return sum(clock for clock, _ in parts), sum(processor for _, processor in parts)


def measure(folder: str, rounds: int) -> None:
    commands: list[Seconds] = []
    images: list[float] = []
    steps: dict[str, list[Seconds]] = {stage: [] for stage in STAGES}
    out = Path(folder) / "sample.png"
    command = [sys.executable, "-m", "nextscale", "sample", "--model", folder, *ARGUMENTS, "--out", str(out)]
    run(command)  # reads the files into the cache
    for i in range(rounds):
        commands.append(run(command)[0])
        images.append(seconds_to(out, command))
        timed = run([sys.executable, __file__, "--steps", folder, "--launched", str(time.monotonic())])
        for stage, seconds in json.loads(timed[1]).items():
            steps[stage].append(tuple(seconds))
        print(
            f"round {i + 1}: {commands[-1][0]:.2f} s on the clock, {commands[-1][1]:.2f} processor seconds", flush=True
        )
    found = {stage: median(seconds) for stage, seconds in steps.items()}
    load, sampling, whole = add(*(found[stage] for stage in LOADING)), found["warm image"], median(commands)
    print(f"\n{'seconds':<22}{'clock':>9}{'processor':>11}")
    rows = {**found, "the command": whole, "load time": load, "sampling time": sampling}
    for name, (clock, processor) in rows.items():
        print(f"{name:<22}{clock:>9.2f}{processor:>11.2f}")
    begun = add(found["interpreter"], found["imports"])
    there = statistics.median(images)
    print(f"{'image in its file':<22}{there:>9.2f}")
    for name, sums in (("load and sampling", add(load, sampling)), ("with imports", add(begun, load, sampling))):
        print(
            f"the command / {name}: {whole[0] / sums[0]:.2f} on the clock, {whole[1] / sums[1]:.2f} processor seconds"
        )
        print(f"image in its file / {name}: {there / sums[0]:.2f} on the clock")


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the time from the command to the first image.")
    parser.add_argument("--size", default="d16", choices=["d16", "d20", "d24", "d30"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", default="", help="folder for the model with random weights")
    parser.add_argument("--steps", default="", help=argparse.SUPPRESS)
    parser.add_argument("--launched", type=float, default=0.0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.steps:
        print(json.dumps(take_steps(options.steps, options.launched)))
        return
    with contextlib.ExitStack() as stack:
        folder = options.folder or stack.enter_context(tempfile.TemporaryDirectory())
        if not (Path(folder) / "pipeline.json").is_file():
            from nextscale.benchmark.random_weights import write_random_model

            write_random_model(Path(folder), options.size)
        print(f"{options.size}, one image, default precision, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}")
        measure(folder, options.rounds)


if __name__ == "__main__":
    main()
