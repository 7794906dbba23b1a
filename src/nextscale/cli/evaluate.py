"""``nextscale evaluate``."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from nextscale.acceleration.ready import INT8
from nextscale.cli.evaluation import REPORT, EvaluationOptions, make_report
from nextscale.errors import InputError
from nextscale.evaluation.closest import closest_grid
from nextscale.evaluation.gallery import Gallery, open_images
from nextscale.evaluation.memorisation import Memorisation
from nextscale.evaluation.saving import NpzSaver, PngSaver, Saver
from nextscale.evaluation.session import Session
from nextscale.evaluation.store import FeatureStore
from nextscale.evaluation.summary import Summary
from nextscale.evaluation.target import Target
from nextscale.families.sources import load_tokenizer
from nextscale.galleries.dataset import EVERY_WAY, Crop, CroppedImages, check_apart, open_crops
from nextscale.galleries.reconstructed import ReconstructedImages, fold_notes
from nextscale.galleries.sampled import SampledImages
from nextscale.imaging.images import save_image
from nextscale.imaging.lpips import LPIPS, load_lpips
from nextscale.io.files import check_folder
from nextscale.runtime.device import pick_device
from nextscale.runtime.distributed import is_main, processes
from nextscale.runtime.progress import say
from nextscale.sampling.settings import SamplingSettings

CLOSEST = "closest.png"
IMAGES = "images"
CONTROLS = 500
"""Training images that stand for remembered ones."""


@dataclass(frozen=True, kw_only=True)
class Options(EvaluationOptions):
    """Draw images, measure them, and write RUN/report.json; or measure images that are there, or a tokenizer.

    FID, sFID, Inception Score, precision and recall as the ADM evaluator defines them. Image i has the seed SEED + i,
    so that a run that was killed goes on, and processes of torchrun each draw their share. See also "evaluate
    reference", which makes references, and "evaluate sweep", which tries settings of sampling.

    Example: nextscale evaluate --model d16 --reference VIRTUAL_imagenet256_labeled.npz --features inception.pth --out
    runs/d16-fid
    """

    images: Path | None = None
    """Measure these instead of drawing: a folder of images of one size, in which folders are classes, or an .npz."""
    cfg: float = 1.5
    """Guidance: 0 is none, 1.5 is for metrics, 4 for looks."""
    top_k: int = 900
    """Draw among the k most probable tokens; 0 is all."""
    top_p: float = 0.96
    """Draw among the most probable tokens that together reach p; 0 is all."""
    save: Literal["nothing", "png", "npz"] = "nothing"
    """Also keep the drawn images: png in RUN/images/CLASS/, or npz in RUN/images.npz for the ADM evaluator."""
    training: str = ""
    """What the model was trained on (train/, where there is a val/): says how many images come close to it, and how
    many of images that are remembered would; shows the closest in RUN/closest.png."""
    held_out: str = ""
    """Images that it was not trained on, to compare with. Left out: val/ of --training."""
    reconstruction: bool = False
    """Measure the model's tokenizer: images of --data encoded and decoded, against --reference or themselves."""
    data: str = ""
    """Images to reconstruct, as training takes them. Of train/ and val/, val/, unless --split says train."""
    vgg_weights: Path | None = None
    """VGG16 as torchvision names it: also measures LPIPS of reconstructions."""
    lpips_weights: Path | None = None
    """The linear layers of LPIPS, if they are in a file of their own."""


def run(options: Options) -> None:
    check_flags(options)
    check_folder(options.out)
    with processes(pick_device(options.device)) as device:
        start = time.monotonic()
        job = Job.of(options, device)
        job.fill()
        if is_main():
            job.finish(time.monotonic() - start)


def check_flags(options: Options) -> None:
    """Raises InputError for flags that do not go together, before anything is loaded."""
    options.check_numbers()
    if options.images and options.reconstruction:
        raise InputError("expected --images or --reconstruction, got both")
    if options.reconstruction != bool(options.data):
        raise InputError("expected --data with --reconstruction, and only there: the images to reconstruct")
    if options.reconstruction and options.dtype.startswith("int8"):
        raise InputError("--dtype int8 is for drawing, and a tokenizer has nothing in int8: expected bfloat16")
    if options.lpips_weights and not options.vgg_weights:
        raise InputError("--lpips-weights are the linear layers alone: expected --vgg-weights, too")
    if options.vgg_weights and not options.reconstruction:
        raise InputError("--vgg-weights are for LPIPS of reconstructions: expected --reconstruction")
    if options.held_out and not options.training:
        raise InputError("--held-out is what to compare --training with: expected both")
    if options.training and options.reconstruction:
        raise InputError("expected --training or --reconstruction, got both: a tokenizer is meant to give images back")
    if options.save != "nothing" and (options.images or options.reconstruction):
        raise InputError(f"--save {options.save} keeps drawn images, but nothing is drawn")


@dataclass(frozen=True)
class Job:
    """What is to be looked at, and against what."""

    options: Options
    session: Session
    gallery: Gallery
    store: FeatureStore
    saver: Saver | None
    target: Target | None
    remembered: Remembered | None

    @classmethod
    def of(cls, options: Options, device: torch.device) -> Job:
        """Open all that the flags name, so that what is wrong with it is said before the work begins."""
        session, file = options.session(options.out, device), options.reference_file()
        crop = options.crop_in_use(file)
        gallery = open_gallery(options, crop, device)
        if isinstance(gallery, ReconstructedImages) and not options.reference:
            target = Target.of_images(session, gallery.originals, crop)
        else:
            target = options.target(session, file, gallery.size)
        if target:
            target.check(gallery, crop if options.reconstruction else None)
        remembered = Remembered.of(options, session, gallery, crop) if options.training else None
        store = session.open("drawn", gallery)
        return cls(options, session, gallery, store, make_saver(options, gallery), target, remembered)

    def fill(self) -> None:
        """Look at everything; every process has to call this."""
        if self.target:
            self.target.fill()
        for store in self.remembered or ():
            self.session.fill(store, f"looked at {store.gallery.name}")
        what = "drawn" if isinstance(self.gallery, SampledImages) else f"looked at {self.gallery.name}"
        self.session.fill(self.store, "reconstructed" if self.options.reconstruction else what, self.saver)

    def finish(self, seconds: float) -> None:
        """Measure, write and print."""
        if self.saver:
            self.saver.finish()
        start = time.monotonic()
        options, session = self.options, self.session
        summary = session.summarise(self.store)
        reference = self.target.finish() if self.target else None
        settings: dict[str, Any] = {"batch_size": options.batch_size, "device": str(session.device)}
        memorised = reconstruction = None
        if self.remembered:
            memorised = self._memorise(summary, self.remembered)
            settings |= {name: store.gallery.made_from for name, store in self.remembered._asdict().items()}
        if isinstance(self.gallery, ReconstructedImages):
            reconstruction = fold_notes(self.store, self.gallery.tokenizer)
        model = options.model if isinstance(self.gallery, SampledImages) else None
        seconds += time.monotonic() - start
        report = make_report(
            session, self.gallery, summary, reference, seconds, model, settings, memorised, reconstruction
        )
        report.write(options.out / REPORT)
        print(report.table())
        print(options.out / REPORT)

    def _memorise(self, summary: Summary, stores: Remembered) -> Memorisation:
        found = self.session.memorised(summary, self.gallery.class_names, *stores)
        training = stores.training.gallery
        assert isinstance(training, CroppedImages)
        save_image(closest_grid(found.pairs, self.gallery, training), self.options.out / CLOSEST)
        pairs = tuple(pair._replace(training=training.number(pair.training)) for pair in found.pairs)
        return replace(found, pairs=pairs, tokenized=isinstance(stores.control.gallery, ReconstructedImages))


class Remembered(NamedTuple):
    """What drawn images may be remembered from, and what says how much that means."""

    training: FeatureStore
    """Of every training image in several views."""
    held_out: FeatureStore
    control: FeatureStore
    """Of some training images in other views, through the model's tokenizer, if there is one."""

    @classmethod
    def of(cls, options: Options, session: Session, gallery: Gallery, crop: Crop) -> Remembered:
        training = open_crops(options.training, None, gallery.size, EVERY_WAY, say, "train")
        held_out = open_crops(options.held_out or options.training, None, gallery.size, crop, say, "val")
        check_apart(training, held_out)
        control: Gallery = training.at_random(CONTROLS, options.seed)
        if isinstance(gallery, SampledImages):
            dtype = gallery.pipeline.dtype.removeprefix(INT8)  # of decoding
            control = ReconstructedImages(control, gallery.pipeline.tokenizer, dtype=dtype, noted=False)
        galleries = {"training": training, "held-out": held_out, "control": control}
        return cls(*(session.open(name, each, ("pool",)) for name, each in galleries.items()))


def open_gallery(options: Options, crop: Crop, device: torch.device) -> Gallery:
    """The images that are to be measured."""
    if options.images:
        return open_images(options.images)
    if options.reconstruction:
        tokenizer = load_tokenizer(options.model, options.schedule()).to(device)
        originals = open_crops(options.data, options.split, tokenizer.config.image_size, crop, say, "val")
        return ReconstructedImages(originals, tokenizer, open_lpips(options, device), options.dtype)
    settings = SamplingSettings(cfg=options.cfg, top_k=options.top_k, top_p=options.top_p)
    return options.drawn(options.pipeline(), settings)


def open_lpips(options: Options, device: torch.device) -> LPIPS | None:
    return load_lpips(options.vgg_weights, options.lpips_weights).to(device) if options.vgg_weights else None


def make_saver(options: Options, gallery: Gallery) -> Saver | None:
    """What keeps the drawn images."""
    if options.save == "nothing" or not isinstance(gallery, SampledImages):
        return None
    if options.save == "png":
        return PngSaver(options.out / IMAGES, gallery.labels, gallery.class_names)
    return NpzSaver(options.out / f"{IMAGES}.npz", (len(gallery), *gallery.size), gallery.labels, gallery.class_names)
