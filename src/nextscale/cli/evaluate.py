"""``nextscale evaluate``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from nextscale.cli.evaluation import REPORT, EvaluationOptions, resumable_in
from nextscale.cli.text_flags import TextEncoderFlags
from nextscale.errors import InputError
from nextscale.evaluation.gallery import Gallery, open_images
from nextscale.evaluation.saving import NpzSaver, PngSaver, Saver
from nextscale.evaluation.target import Target
from nextscale.families.sources import load_tokenizer, only_images
from nextscale.galleries.dataset import Crop, open_crops
from nextscale.galleries.measure import measure, open_copy_check
from nextscale.galleries.reconstructed import ReconstructedImages
from nextscale.galleries.sampled import SampledImages
from nextscale.imaging.lpips import load_lpips
from nextscale.io.files import check_folder
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import processes
from nextscale.runtime.progress import SayOnce
from nextscale.sampling.settings import METRICS, SamplingSettings

IMAGES = "images"


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    """Evaluate a model by sampling images, or evaluate existing images or a tokenizer. Writes OUT/report.json.

    For text-to-image models, see --prompts, "evaluate reader" and "evaluate towers"; for tokenizers,
    --reconstruction.

    Computes FID, sFID, Inception Score, precision and recall in the same way as the ADM evaluator. Repeat the same
    command to resume an interrupted evaluation. Use torchrun to divide the work among processes. See also "evaluate
    reference", which writes reference files, and "evaluate sweep", which compares sampling settings.

    Example: nextscale evaluate --model d16 --reference VIRTUAL_imagenet256_labeled.npz --features inception.pth --out
    runs/d16-fid
    """

    images: Path | None = None
    """Evaluate these images instead of sampling: a folder of images of the same size, with or without sub-folders for
    classes, or an .npz file."""
    sampling: SamplingSettings = METRICS
    """How tokens are sampled. The defaults are the official settings for metrics. With --prompts, they are those of
    "sample" instead."""
    save: Literal["nothing", "png", "npz"] = "nothing"
    """Also save the sampled images. png: OUT/images/CLASS/*.png. npz: OUT/images.npz, for the ADM evaluator."""
    training: str = ""
    """Training images of the model. Counts the sampled images that are unusually close to one of them, and writes the
    closest pairs to OUT/closest.png. If the data has train/ and val/, train/ is used."""
    held_out: str = ""
    """Images that the model was not trained on. Their distances to the --training images show which distances are
    usual. Default: val/ of --training, or the images that training held out; see --val-fraction."""
    reconstruction: bool = False
    """Evaluate the tokenizer of the model: encode and decode the images of --data."""
    data: str = ""
    """Images for --reconstruction: a folder, a .csv table, .tar shards, or hf:NAME. If the data has train/ and val/,
    val/ is used, or the part in --split. Without --reference, these images are also the reference."""
    prompts: Path | None = None
    """Evaluate a text-to-image model on prompts: a text file with one per line, or a .jsonl file with "prompt" in each
    line. Writes the images of prompt i to OUT/0000i/samples, as GenEval expects them."""
    reader: Path | None = None
    """Folder that "evaluate reader" wrote. Tells whether the images of --prompts show what the prompts say. The lines
    of the .jsonl file also need objects, count, relation, style and background."""
    towers: Path | None = None
    """Folder that "evaluate towers" wrote: a network for images and one for captions, as in CLIP. Tells how often an
    image of --prompts is closer to its own prompt than to 99 others."""
    tries: int = 1
    """Number of images of each prompt of --prompts."""
    text: TextEncoderFlags = field(default_factory=TextEncoderFlags)
    """For text-to-image models."""
    vgg_weights: Path | None = None
    """File with the weights of torchvision's VGG16, to compute LPIPS of reconstructions."""
    lpips_weights: Path | None = None
    """File with the linear layers of LPIPS, if the file of --vgg-weights does not contain them."""


def run(options: Options) -> None:
    if options.prompts:
        from nextscale.cli import evaluate_prompts  # on demand: other evaluations do not need it

        evaluate_prompts.run(options, options.prompts)
        return
    check_flags(options)
    check_folder(options.out)
    with processes(pick_device(options.device)) as device, resumable_in(options.out):
        session, file = options.session(options.out, device), options.reference_file()
        crop, report_once = options.crop_in_use(file), SayOnce()
        gallery = open_gallery(options, crop, device, report_once)
        if isinstance(gallery, ReconstructedImages) and not options.reference:
            target = Target.of_images(session, gallery.originals, crop)
        else:
            target = options.target(session, file, gallery.size, report_once)
        copies = None
        if options.training:
            fraction = options.fraction_of(options.training, divided=True)
            given = (options.training, options.held_out, crop)
            copies = open_copy_check(session, gallery, *given, report_once, fraction)
        saver = make_saver(options, gallery)
        report = measure(session, gallery, target, copies, saver, crop if options.reconstruction else None)
        if report:
            report.write(options.out / REPORT)
            print(report.table())
            print(options.out / REPORT)


def check_flags(options: Options) -> None:
    """Raise InputError for flags that contradict each other, before anything is loaded."""
    options.check_numbers()
    if options.reader or options.towers or options.tries != 1:
        raise InputError("--reader, --towers and --tries are for --prompts: expected --prompts as well")
    if options.text != TextEncoderFlags():
        raise InputError("flags of the text encoder are for --prompts: expected --prompts as well")
    if options.images and options.reconstruction:
        raise InputError("expected --images or --reconstruction, got both")
    if options.reconstruction != bool(options.data):
        raise InputError("expected --data together with --reconstruction: the images to reconstruct")
    if options.reconstruction and options.dtype.startswith("int8"):
        raise InputError("--dtype int8 is for sampling; a tokenizer has no int8 layers: expected bfloat16")
    if options.lpips_weights and not options.vgg_weights:
        raise InputError("--lpips-weights has only the linear layers: expected --vgg-weights as well")
    if options.vgg_weights and not options.reconstruction:
        raise InputError("--vgg-weights is for LPIPS of reconstructions: expected --reconstruction")
    if options.held_out and not options.training:
        raise InputError("--held-out is compared with --training: expected both")
    if options.training and options.reconstruction:
        raise InputError("expected --training or --reconstruction, got both: reconstructions are meant to be copies")
    if options.save != "nothing" and (options.images or options.reconstruction):
        raise InputError(f"--save {options.save} saves sampled images, but nothing is sampled")


def open_gallery(options: Options, crop: Crop, device: torch.device, report: Callable[[str], None]) -> Gallery:
    """Return the images to measure."""
    if options.images:
        return open_images(options.images)
    if options.reconstruction:
        tokenizer = only_images(load_tokenizer(options.model, options.schedule()), "evaluate").to(device)
        fraction = options.fraction_of(options.data, divided=options.split is not None)
        size = tokenizer.config.image_size
        originals = open_crops(options.data, options.split, size, crop, report, "val", fraction)
        lpips = load_lpips(options.vgg_weights, options.lpips_weights).to(device) if options.vgg_weights else None
        return ReconstructedImages(originals, tokenizer, lpips, options.dtype)
    return options.sampled(options.pipeline(), options.sampling)


def make_saver(options: Options, gallery: Gallery) -> Saver | None:
    """Return the saver of the sampled images, or None without ``--save``."""
    if options.save == "nothing" or not isinstance(gallery, SampledImages):
        return None
    if options.save == "png":
        return PngSaver(options.out / IMAGES, gallery.labels, gallery.class_names)
    return NpzSaver(options.out / f"{IMAGES}.npz", (len(gallery), *gallery.size), gallery.labels, gallery.class_names)
