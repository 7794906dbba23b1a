"""Compare methods of editing: how the hidden part is encoded, and whether the first scale is kept.

    nextscale evaluate classifier --data clothes --size 64 --out runs/classifier
    python benchmarks/editing.py --data clothes --classifier runs/classifier

The script generates a box of held-out images with their true class. For each method it prints the agreement of the
classifier with the class, the colour difference across the border of the box relative to that of the original, and the
PSNR of the box, which is high if the result depends on the hidden part. With --figure, it writes example images
instead.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

import nextscale as ns
from nextscale.data.splits import find_sources
from nextscale.editing.plan import EditPlan, encode, plan_edit
from nextscale.editing.spec import EditSpec
from nextscale.evaluation.classifier import load_classifier
from nextscale.imaging.images import caption, grid, save_image, to_pil, to_tensor
from nextscale.imaging.psnr_ssim import psnr
from nextscale.sampling.token_edit import ALWAYS_KEPT

BOXES = {"middle": (0.25, 0.25, 0.75, 0.75), "right half": (0.0, 0.5, 1.0, 1.0)}

Plan = Callable[[ns.Pipeline, Image.Image, tuple[float, float, float, float]], EditPlan]


def official(pipe: ns.Pipeline, image: Image.Image, box: tuple[float, float, float, float]) -> EditPlan:
    """Encode the whole image."""
    return plan_edit(EditSpec(box=box, leak_free=False), pipe.tokenizer, image)


def membrane(pipe: ns.Pipeline, image: Image.Image, box: tuple[float, float, float, float]) -> EditPlan:
    """Fill the hidden part smoothly."""
    return plan_edit(EditSpec(box=box), pipe.tokenizer, image)


def mean(pipe: ns.Pipeline, image: Image.Image, box: tuple[float, float, float, float]) -> EditPlan:
    """Fill the hidden part with the mean colour of the rest."""
    plan = official(pipe, image, box)
    pixels = to_tensor(plan.image)
    colour = pixels[:, ~plan.hidden].mean(1)[:, None, None]
    base = to_pil(torch.where(plan.hidden, colour, pixels).add(1).mul(0.5)[None])[0]
    return replace(plan, base=base, edit=replace(plan.edit, tokens=encode(pipe.tokenizer, base)))


def always_kept(plan: Plan, tokens: int) -> Plan:
    """Keep scales of at most ``tokens`` tokens completely."""

    def changed(*arguments) -> EditPlan:
        made = plan(*arguments)
        return replace(made, edit=replace(made.edit, always_kept=tokens))

    return changed


METHODS: Mapping[str, Plan] = {
    "whole image": official,
    "whole image, 1x1 generated": always_kept(official, 0),
    "mean": mean,
    "membrane": membrane,
    "membrane, 1x1 generated": always_kept(membrane, 0),
    "membrane, 2x2 kept": always_kept(membrane, ALWAYS_KEPT + 1),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="labelled images with a validation split")
    parser.add_argument("--classifier", required=True, type=Path)
    parser.add_argument("--model", default="starter")
    parser.add_argument("--images", type=int, default=50, help="number of images, evenly spaced in the data")
    parser.add_argument("--seeds", type=int, default=2, help="variants per image")
    parser.add_argument("--figure", type=Path, help="write this image instead of the table")
    options = parser.parse_args()
    pipe, classifier = ns.Pipeline.from_pretrained(options.model, "cpu"), load_classifier(options.classifier)
    source = find_sources(options.data)[1]
    if source is None:
        parser.error(f"{options.data} has no validation split")
    chosen = [i * len(source) // options.images for i in range(options.images)]
    images = [source.read(i) for i in chosen]
    labels = [source.class_names[source.labels[i]] for i in chosen]
    if options.figure:
        rows = [image for pair in zip(images, labels, strict=True) for image in row(pipe, *pair)]
        save_image(grid(rows, columns=len(rows) // len(images)), options.figure)
        return
    for where, box in BOXES.items():
        print(f"{where}, {len(images)} images x {options.seeds} seeds: agreement, jump at the border, PSNR of the box")
        plans = [membrane(pipe, image, box) for image in images]
        truth = torch.stack([to_tensor(plan.image) for plan in plans])
        show("untouched", truth, truth, plans[0].hidden, [pipe.class_id(label) for label in labels], classifier)
        for name, method in METHODS.items():
            generated, truths, classes = [], [], []
            for i, (image, label) in enumerate(zip(images, labels, strict=True)):
                seeds = [i * options.seeds + s for s in range(options.seeds)]
                result = pipe.carry_out(method(pipe, image, box), label, num_images=len(seeds), seed=seeds)
                generated += [to_tensor(image) for image in result.images]
                truths += [truth[i]] * len(seeds)
                classes += result.labels
            show(name, torch.stack(generated), torch.stack(truths), plans[0].hidden, classes, classifier)


def row(pipe: ns.Pipeline, image: Image.Image, label: str) -> list[Image.Image]:
    """Return edits of an image, with captions: of an ellipse in the middle, or of the finer scales."""
    mask = Image.new("L", (256, 256))
    ImageDraw.Draw(mask).ellipse((56, 56, 200, 200), fill=255)
    other = pipe.class_names[pipe.class_id(label) - 3]
    hidden = pipe.edit(image, mask, labels=label, seed=0)
    shown = {"image": [hidden.plan.image], "mask": [to_pil(hidden.plan.weight.expand(1, 3, -1, -1))[0]]}
    official = pipe.edit(image, mask, labels=label, leak_free=False, composite=False, seed=0)
    shown["official"] = official.images
    shown["official, pasted"] = pipe.edit(image, mask, labels=label, leak_free=False, seed=0).images
    shown["leak-free"] = hidden.images
    shown["softness 4"] = pipe.edit(image, mask, labels=label, softness=4, seed=0).images
    shown[f"to {other}"] = pipe.edit(image, mask, mode="class", labels=other, softness=4, seed=0).images
    for scales in (3, 4):
        shown[f"{scales} scales kept"] = pipe.continue_from(image, scales, labels=label, seed=0).images
    shown["32 pixels, upscaled"] = pipe.continue_from(hidden.plan.image.resize((32, 32)), labels=label).images
    size = [2 * side for side in pipe.tokenizer.config.image_size]
    return [caption(images[0].resize((size[1], size[0]), Image.Resampling.BICUBIC), t) for t, images in shown.items()]


def show(name: str, generated: Tensor, truth: Tensor, hidden: Tensor, classes: list[int], classifier) -> None:
    guesses = classifier(generated.add(1).mul(127.5).round().byte()).probabilities.argmax(1)
    agreement = (guesses == torch.tensor(classes)).float().mean()
    box = psnr(generated[..., hidden], truth[..., hidden]).mean()
    print(
        f"  {name:<26} {agreement:6.1%} {jump(generated, hidden) / jump(truth, hidden):6.2f} {box:6.2f} dB", flush=True
    )


def jump(images: Tensor, hidden: Tensor) -> float:
    """Return the mean absolute difference of neighbouring pixels of which one is hidden."""
    across, down = hidden[:, 1:] != hidden[:, :-1], hidden[1:] != hidden[:-1]
    steps = (images.diff(dim=3)[..., across].abs().flatten(), images.diff(dim=2)[..., down].abs().flatten())
    return torch.cat(steps).mean().item()


if __name__ == "__main__":
    main()
