"""Label agreement: how often a classifier trained on real pictures gives a generated picture its own label.

A class-conditional model that ignores its label, or draws mush, scores near chance; one that draws what it is asked
for comes near the classifier's own accuracy on real held-out pictures, which is printed next to it as the yardstick.

    python benchmarks/label_agreement.py classifier --data pictures --out classifier.pt
    python benchmarks/label_agreement.py score --classifier classifier.pt --model my-model --out grid.png
    python benchmarks/label_agreement.py score --classifier classifier.pt --folder pictures/val

Pictures lie in one folder per class: `pictures/train/<class>/*` and `pictures/val/<class>/*`. On a machine that is
busy with other work, OMP_NUM_THREADS=1 trains the classifier faster than threads that wait for each other.
"""

import argparse
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from nextscale import InputError, Pipeline
from nextscale.data.folder import scan_folder
from nextscale.pictures import check_writable_picture, grid, read_picture, save_picture, to_tensor

WIDTHS = (32, 64, 128, 256)
BATCH = 64
LANCZOS = Image.Resampling.LANCZOS


def centre(picture: Image.Image, size: int) -> Image.Image:
    """The middle square of a picture at 8/9 of its shorter side, unless it already has the right size."""
    if picture.size == (size, size):
        return picture
    return ImageOps.fit(picture, (size, size), LANCZOS, bleed=1 / 18)


def random_resized_crop(picture: Image.Image, size: int, rng: random.Random) -> Image.Image:
    """A random part of a picture (30 to 100 % of its area, a little stretched), flipped half of the time."""
    area = picture.width * picture.height * rng.uniform(0.3, 1.0)
    stretch = math.exp(rng.uniform(-0.3, 0.3))
    width = min(picture.width, math.sqrt(area * stretch))
    height = min(picture.height, math.sqrt(area / stretch))
    left, top = rng.uniform(0, picture.width - width), rng.uniform(0, picture.height - height)
    box = (left, top, left + width, top + height)
    crop = picture.resize((size, size), Image.Resampling.BICUBIC, box=box)
    return ImageOps.mirror(crop) if rng.random() < 0.5 else crop


def to_batch(pictures: Sequence[Image.Image]) -> Tensor:
    """Equal-sized RGB pictures as one (N, 3, H, W) float tensor in [-1, 1]."""
    return torch.stack([to_tensor(picture) for picture in pictures])


def jitter(x: Tensor) -> Tensor:
    """Change saturation, contrast, brightness and tint of every picture, and grey out a random square of it."""
    n, _, height, width = x.shape

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return torch.empty(n, channels, 1, 1).uniform_(low, high)

    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * draw(0.0, 1.6)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * draw(0.6, 1.4) + draw(-0.3, 0.3) + draw(-0.15, 0.15, channels=3)
    rows, columns = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    inside = ((rows - draw(0, height)).abs() < height / 6) & ((columns - draw(0, width)).abs() < width / 6)
    return x.clamp(-1, 1).masked_fill(inside, 0.0)


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut (the residual block, normalised and activated beforehand)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.norm1(x))
        skip = self.shortcut(F.avg_pool2d(h, self.stride) if self.stride > 1 else x)
        return skip + self.conv2(F.relu(self.norm2(self.conv1(h))))


class Classifier(nn.Sequential):
    """A small residual network; works at half the picture's resolution from the first layer on."""

    def __init__(self, classes: int) -> None:
        blocks = []
        for inputs, outputs in zip((WIDTHS[0], *WIDTHS), WIDTHS, strict=False):
            blocks += [Block(inputs, outputs, 1 if outputs == inputs else 2), Block(outputs, outputs, 1)]
        stem = nn.Conv2d(3, WIDTHS[0], 5, 2, 2, bias=False)
        head = [nn.BatchNorm2d(WIDTHS[-1]), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        super().__init__(stem, *blocks, *head, nn.Linear(WIDTHS[-1], classes))


@torch.inference_mode()
def predict(network: nn.Module, pictures: Sequence[Image.Image]) -> Tensor:
    """The class number of every picture, by the mean of the probabilities for it and for its mirror image."""
    network.eval()
    answers = []
    for start in range(0, len(pictures), 100):
        x = to_batch(pictures[start : start + 100]).contiguous(memory_format=torch.channels_last)
        answers.append((network(x).softmax(1) + network(x.flip(3)).softmax(1)).argmax(1))
    return torch.cat(answers)


def train(pictures: Sequence[Image.Image], labels: Tensor, classes: int, size: int, steps: int, seed: int) -> nn.Module:
    """Train a classifier for `steps` steps; the answer is the moving average of its weights."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    network = Classifier(classes).to(memory_format=torch.channels_last)
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.995), use_buffers=True)
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=2e-3, total_steps=steps, pct_start=0.15, div_factor=10, cycle_momentum=False
    )
    started, order = time.perf_counter(), torch.empty(0, dtype=torch.long)
    for step in range(1, steps + 1):
        while len(order) < BATCH:
            order = torch.cat([order, torch.randperm(len(pictures))])
        chosen, order = order[:BATCH], order[BATCH:]
        x = jitter(to_batch([random_resized_crop(pictures[i], size, rng) for i in chosen.tolist()]))
        # Mixup: every picture is blended with another one of the batch, and so are the two losses.
        share, other = rng.betavariate(0.3, 0.3), torch.randperm(BATCH)
        x = torch.lerp(x[other], x, share).contiguous(memory_format=torch.channels_last)
        target = labels[chosen]
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(x)
        logits = logits.float()
        loss = share * F.cross_entropy(logits, target, label_smoothing=0.1)
        loss = loss + (1 - share) * F.cross_entropy(logits, target[other], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        average.update_parameters(network)
        if step % 200 == 0 or step == steps:
            print(f"step {step}/{steps}  loss {loss.item():.3f}  {time.perf_counter() - started:.0f} s", flush=True)
    return average.module


def report(truth: Tensor, answers: Tensor, names: Sequence[str]) -> tuple[float, Tensor]:
    """Print and answer the share of right answers and the confusion matrix (rows: truth, columns: answers)."""
    confusion = torch.bincount(truth * len(names) + answers, minlength=len(names) ** 2).view(len(names), -1)
    print("class, share given its own label, pictures given each label (in the order of the rows)")
    for name, row, right in zip(names, confusion.tolist(), confusion.diag().tolist(), strict=True):
        print(f"  {name:<16}{right / sum(row):7.1%}  " + "".join(f"{count:5d}" for count in row))
    return confusion.diag().sum().item() / len(truth), confusion


def check_names(expected: Sequence[str], found: Sequence[str], origin: str) -> None:
    """Refuse a model or folder whose class names are not the expected ones, in whatever order."""
    missing, unknown = sorted(set(expected) - set(found)), sorted(set(found) - set(expected))
    if missing or unknown:
        lists = [f"{word} {', '.join(some[:5])}" for word, some in (("without", missing), ("with", unknown)) if some]
        raise InputError(f"the classes of {origin} are not the {len(expected)} expected ones: {' and '.join(lists)}")


def run_classifier(args: argparse.Namespace) -> None:
    """Train a classifier on `train`, measure it on `val` and write it to a file."""
    folder = scan_folder(args.data / "train")
    held = scan_folder(args.data / "val", folder.class_names)
    # Training pictures are kept at twice the size that is looked at, so that small crops of them stay sharp.
    box = (2 * round(1.125 * args.size),) * 2
    pictures = [ImageOps.cover(read_picture(path), box, LANCZOS) for path in folder.paths]
    held_pictures = [centre(read_picture(path), args.size) for path in held.paths]
    names = folder.class_names
    print(f"{len(pictures)} pictures to train on, {len(held)} held out, {len(names)} classes", flush=True)
    network = train(pictures, torch.tensor(folder.labels), len(names), args.size, args.steps, args.seed)
    accuracy, confusion = report(torch.tensor(held.labels), predict(network, held_pictures), names)
    print(f"accuracy on real held-out pictures: {accuracy:.1%}")
    stored = {"state": network.state_dict(), "classes": list(names), "val_accuracy": accuracy, "size": args.size}
    torch.save(stored | {"confusion": confusion}, args.out)


def load_classifier(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """The network of a file that `classifier` wrote, and all that the file holds."""
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        network = Classifier(len(stored["classes"]))
        network.load_state_dict(stored["state"])
    except Exception as error:  # torch.load raises errors of many kinds for a file of another kind
        raise InputError(f"{path} is not a classifier that this script wrote") from error
    return network.to(memory_format=torch.channels_last), stored


def generate(args: argparse.Namespace, names: Sequence[str]) -> list[Image.Image]:
    """Pictures drawn by a model, `per_class` of them for each class name in turn."""
    pipe = Pipeline.from_pretrained(args.model)
    check_names(names, pipe.class_names, f"the model {args.model}")
    wanted = [name for name in names for _ in range(args.per_class)]
    pictures: list[Image.Image] = []
    for start in range(0, len(wanted), 50):
        labels = wanted[start : start + 50]
        seeds = [args.seed + start + i for i in range(len(labels))]
        pictures += pipe(labels=labels, cfg=args.cfg, top_k=args.top_k, top_p=args.top_p, seed=seeds).images
        print(f"{len(pictures)}/{len(wanted)} pictures drawn", flush=True)
    return pictures


def draw_grid(pictures: Sequence[Image.Image], truth: Tensor, answers: Tensor, path: Path) -> None:
    """Write the first ten pictures of every class, a row per class; a red frame marks those given another label."""
    shown = [i for label in truth.unique() for i in (truth == label).nonzero().flatten().tolist()[:10]]
    framed = [ImageOps.expand(pictures[i], 2, "white" if answers[i] == truth[i] else "red") for i in shown]
    save_picture(grid(framed, columns=10, gap=0), path)


def run_score(args: argparse.Namespace) -> None:
    """Classify the pictures of a model or a folder and compare the answers with the labels they belong to."""
    if (args.model is None) == (args.folder is None):
        raise InputError("give either --model or --folder")
    if args.out:
        check_writable_picture(args.out)
    network, stored = load_classifier(args.classifier)
    names, size = stored["classes"], stored["size"]
    if args.folder:
        folder = scan_folder(args.folder, tuple(names))
        truth = torch.tensor(folder.labels)
        pictures = [centre(read_picture(path), size) for path in folder.paths]
    else:
        truth = torch.arange(len(names)).repeat_interleave(args.per_class)
        pictures = [ImageOps.fit(picture, (size, size), LANCZOS) for picture in generate(args, names)]
    answers = predict(network, pictures)
    agreement, _ = report(truth, answers, names)
    print(f"label agreement of {len(pictures)} pictures: {agreement:.1%}")
    print(f"the classifier's accuracy on real held-out pictures: {stored['val_accuracy']:.1%}")
    if args.out:
        draw_grid(pictures, truth, answers, args.out)


def positive(text: str) -> int:
    """A whole number above zero, for argparse."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; a mistake of the caller is one sentence and exit code 2."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)

    add = commands.add_parser("classifier", help="train the classifier on pictures in class folders").add_argument
    add("--data", type=Path, required=True, help="folder with train/<class>/ and val/<class>/")
    add("--out", type=Path, required=True, help="file to write the classifier to")
    add("--size", type=positive, default=64, help="side in pixels of what it looks at (default 64)")
    add("--steps", type=positive, default=3000, help=f"steps of {BATCH} pictures (default 3000)")
    add("--seed", type=int, default=0)

    add = commands.add_parser("score", help="classify pictures of a model or a folder").add_argument
    add("--classifier", type=Path, required=True, help="file written by the classifier command")
    add("--model", help="name or folder of a nextscale pipeline to draw pictures with")
    add("--folder", type=Path, help="instead of --model: folder with <class>/ folders of pictures to classify")
    add("--per-class", type=positive, default=50, help="pictures drawn per class (default 50)")
    add("--cfg", type=float, default=4.0)
    add("--top-k", type=int, default=900)
    add("--top-p", type=float, default=0.95)
    add("--seed", type=int, default=0, help="seed of the first picture; each next one adds one")
    add("--out", type=Path, help="picture file for a grid of the first ten pictures of every class")

    args = parser.parse_args(argv)
    try:
        {"classifier": run_classifier, "score": run_score}[args.command](args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
