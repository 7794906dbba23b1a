"""Try the features of the installed nextscale on the starter and on a few small images, in the current folder.

    python .ci/smoke.py hf serve            # sampling, editing and training, then the features of these extras

Exits with 1 if one fails. Prints a line for each.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

NEXTSCALE = (sys.executable, "-m", "nextscale")


def run(*words: object) -> None:
    """Run a command of nextscale, and print what it wrote if it fails."""
    done = subprocess.run([*NEXTSCALE, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(f"nextscale {' '.join(map(str, words))} exits with {done.returncode}:\n{done.stdout}")


def sample() -> None:
    run("info", "starter")
    run("sample", "--labels", "dress", "hat", "--show-scales", "--out", "samples.png")
    run("sample", "--like", "samples.png", "--out", "again.png")
    run("edit", "samples.png", "--box", "0,0.5,1,1", "--label", "dress", "--out", "edited.png")
    run("reconstruct", "samples.png", "--out", "reconstruction.png")
    run("bench", "sample", "--repeats", 1)


def train() -> None:
    from PIL import Image

    for split, count in (("train", 8), ("val", 2)):
        for label in ("dark", "bright"):
            folder = Path("data", split, label)
            folder.mkdir(parents=True)
            for i in range(count):
                Image.effect_noise((80, 80), 20 + 10 * i).convert("RGB").save(folder / f"{i}.png")
    few = ("--batch-size", 4, "--workers", 1)
    run("train", "tokenizer", "--preset", "starter", "--data", "data", "--out", "runs/tokenizer", "--steps", 3, *few)
    run("tokenize", "--tokenizer", "runs/tokenizer", "--data", "data", "--out", "cache")
    run("train", "transformer", "--preset", "starter", "--data", "cache", "--out", "runs/var", "--steps", 3, *few)
    run("train", "transformer", "--preset", "starter", "--data", "cache", "--out", "runs/var", "--steps", 3, *few)
    run("sample", "--model", "runs/var", "--out", "trained.png")
    if not list(Path("runs/var/tensorboard").glob("events.*")):
        raise RuntimeError("training wrote no events for TensorBoard")


def plot() -> None:
    for name in ("curves.png", "curves.svg", "curves.pdf"):
        run("plot", "runs/var", "--compare", "d16", "--out", name)


def hf() -> None:
    import datasets

    rows = datasets.load_dataset("imagefolder", data_dir="data/train", split="train")
    rows.save_to_disk("saved")
    run("tokenize", "--tokenizer", "starter", "--data", "hf:saved", "--out", "cache-hf")


def diffusers() -> None:
    import torch

    from nextscale.integrations.diffusers import NextScalePipeline

    pipe = NextScalePipeline.from_pretrained("starter")
    pipe.set_progress_bar_config(disable=True)
    images = pipe(class_labels=["dress"], generator=torch.Generator().manual_seed(0)).images
    images[0].save("diffusers.png")
    pipe.save_pretrained("saved-pipeline")
    NextScalePipeline.from_pretrained("saved-pipeline")


def serve() -> None:
    from gradio_client import Client

    server = subprocess.Popen([*NEXTSCALE, "serve", "--port", "0"], stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout
        found = re.search(r"http://\S+", server.stdout.readline())
        if not found:
            raise RuntimeError("nextscale serve printed no address")
        address = found[0]
        body = json.dumps({"prompt": "dress", "n": 2}).encode()
        head = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{address}/v1/images/generations", body, head)
        with urllib.request.urlopen(request, timeout=60) as answer:
            if len(json.load(answer)["data"]) != 2:
                raise RuntimeError("the API did not return two images")
        for path in ("/", "/config", "/metrics", "/openapi.json"):
            urllib.request.urlopen(f"{address}{path}", timeout=60).close()
        Client(address, verbose=False)
    finally:
        server.terminate()
        server.wait(60)


def text() -> None:
    sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))
    from tiny_t5 import SENTENCES, write_t5

    from nextscale.conditioning.feature_cache import CachedEncoder
    from nextscale.conditioning.t5 import T5TextEncoder

    encoder = T5TextEncoder(write_t5(Path("t5")), device="cpu")
    if len(CachedEncoder(encoder, "features").encode(SENTENCES)) != len(SENTENCES):
        raise RuntimeError("the text encoder lost a prompt")
    (encoder.files.folder / "tokenizer.json").unlink()
    T5TextEncoder(encoder.files.folder, device="cpu").encode(SENTENCES)


def video() -> None:
    import numpy as np

    from nextscale.io.video_writer import write_video
    from nextscale.io.videos import read_frames

    frames = np.full((2, 32, 32, 3), 200, np.uint8)
    frames[..., 2] = 0  # yellow, which other colours of video would change
    for name in ("a.mp4", "a.webm"):
        write_video(name, frames, 16)
        if np.abs(np.asarray(read_frames(name, [1 / 16])[0]).astype(int) - frames[1]).max() > 4:
            raise RuntimeError(f"{name} has other colours than were written")


def main(extras: list[str]) -> None:
    features: tuple[Callable[[], None], ...] = (sample, train, plot, hf, diffusers, text, video, serve)
    failed = 0
    for feature in features:
        if feature.__name__ not in ("sample", "train", *extras):
            continue
        begun = time.monotonic()
        try:
            feature()
            print(f"{feature.__name__}: works ({time.monotonic() - begun:.0f} s)", flush=True)
        except Exception as error:
            failed += 1
            print(f"{feature.__name__}: fails: {type(error).__name__}: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main(sys.argv[1:])
