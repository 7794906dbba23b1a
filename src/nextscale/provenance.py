"""How images were made: as a shell line and as Python that make them again, and as metadata of a PNG."""

from __future__ import annotations

import json
import shlex
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from nextscale.editing.plan import Box, Mode
from nextscale.errors import InputError, brief
from nextscale.io.module_folder import as_config, check_fields
from nextscale.io.renamed import with_current_names
from nextscale.sampling.settings import SamplingSettings

KEY = "nextscale"
"""The PNG's text chunk."""
LARGEST = 2**20
"""Characters of metadata."""
MOST = 10_000
"""Images of one call."""
LONGEST_WORD, LONGEST_PATH = 200, 4096
"""Characters of a label, a hash and the like; of where a model or an image is."""


@dataclass(frozen=True, kw_only=True)
class EditProvenance:
    """What was edited, and how; see `nextscale.pipeline.Pipeline.edit` and ``continue_from``."""

    image: str
    """Its file, as it was named."""
    image_sha256: str
    mask: str = ""
    mask_sha256: str = ""
    box: Box | None = None
    mode: Mode = "inpaint"
    leak_free: bool = True
    softness: float = 0.0
    """Becomes 0 without ``composite``, where it has no effect."""
    composite: bool = True
    scales_kept: int | None = None
    """For a continuation."""
    upscale: bool = False
    """A continuation that keeps as many scales as the image has."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.composite:
            object.__setattr__(self, "softness", 0.0)
        if self.box is not None:
            numbers = isinstance(self.box, list | tuple) and len(self.box) == 4
            if not numbers or not all(type(side) in (int, float) for side in self.box):
                raise InputError(f"box must be four numbers, not {brief(self.box)}")
            object.__setattr__(self, "box", tuple(float(side) for side in self.box))
        if self.mode not in get_args(Mode):
            raise InputError(f"mode must be one of {', '.join(get_args(Mode))}, not {brief(self.mode)}")
        if self.scales_kept is not None and type(self.scales_kept) is not int:
            raise InputError(f"scales_kept must be an integer, not {brief(self.scales_kept)}")
        ways = (bool(self.mask), self.box is not None, self.scales_kept is not None, self.upscale)
        if sum(ways) != 1:
            raise InputError("an edit has one of a mask, a box, scales_kept and upscale")
        check_texts(self.image, self.mask, most=LONGEST_PATH)
        check_texts(self.image_sha256, self.mask_sha256)

    def flags(self) -> list[str]:
        """Of ``nextscale edit``, the image first."""
        if self.upscale:
            return [self.image, "--upscale"]
        if self.scales_kept is not None:
            return [self.image, "--scales-kept", str(self.scales_kept)]
        where = ["--box", ",".join(map(str, self.box))] if self.box else ["--mask", self.mask]
        leaks = [] if self.leak_free else ["--no-leak-free"]
        composite = ["--softness", str(self.softness)] if self.composite else ["--no-composite"]
        return [self.image, *where, "--mode", self.mode, *leaks, *composite]

    def call(self) -> str:
        """The Python call, open for further arguments."""
        if self.upscale or self.scales_kept is not None:
            return f"pipe.continue_from(image, scales={self.scales_kept}, "
        where = f"box={self.box}" if self.box else "mask"
        how = f"leak_free={self.leak_free}, softness={self.softness}, composite={self.composite}"
        return f"pipe.edit(image, {where}, mode={self.mode!r}, {how}, "


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """One call of ``nextscale sample`` or ``edit``, or one image of it.

    Raises:
        InputError: a field that is not of its kind, or out of range.
    """

    model: str
    weights: str
    """`Pipeline.fingerprint`."""
    scales: str = ""
    """The schedule of a model that does not know its own, 1,2,3,4."""
    device: str = "cpu"
    dtype: str = "float32"
    labels: tuple[str, ...] = ()
    """Names or numbers of classes, taking turns; none of them: random when drawing, no class when editing."""
    num_images: int = 1
    seed: int | tuple[int, ...] = 0
    """One for the call, or one for each image."""
    cfg: float = 4.0
    top_k: int = 900
    top_p: float = 0.95
    more_smooth: bool = False
    index: int | None = None
    """Which image of the call; None is all of them."""
    edit: EditProvenance | None = None

    def __post_init__(self) -> None:
        for name in ("labels", "seed"):
            if isinstance(value := getattr(self, name), list):  # JSON
                object.__setattr__(self, name, tuple(value))
        if self.edit is not None:
            object.__setattr__(self, "edit", as_config(EditProvenance, self.edit))
        SamplingSettings(cfg=self.cfg, top_k=self.top_k, top_p=self.top_p, more_smooth=self.more_smooth)
        if isinstance(self.top_k, bool):
            raise InputError(f"top_k must be an integer, not {self.top_k}")
        if not isinstance(self.more_smooth, bool):
            raise InputError(f"more_smooth must be true or false, not {brief(self.more_smooth)}")
        if type(self.num_images) is not int or not 1 <= self.num_images <= MOST:
            raise InputError(f"num_images must be an integer from 1 to {MOST}, not {brief(self.num_images)}")
        if not isinstance(self.labels, tuple) or len(self.labels) > self.num_images:
            raise InputError(
                f"labels must be at most one for each of {self.num_images} images, not {brief(self.labels)}"
            )
        seeds = self.seed if isinstance(self.seed, tuple) else (self.seed,) * self.num_images
        if len(seeds) != self.num_images:
            raise InputError(f"expected one seed for each of the {self.num_images} images, got {len(seeds)}")
        if not all(type(seed) is int for seed in seeds):
            raise InputError(f"seed must be one or more integers, not {brief(self.seed)}")
        if self.index is not None and (type(self.index) is not int or not 0 <= self.index < self.num_images):
            raise InputError(f"index must be one of the {self.num_images} images, not {brief(self.index)}")
        check_texts(self.model, most=LONGEST_PATH)
        check_texts(self.weights, self.scales, self.device, self.dtype, *self.labels)

    def of_image(self, index: int) -> Provenance:
        """How one image of the call was made.

        An image with a seed of its own is drawn alone. One that shares a generator with others is drawn with them, and
        so is one of ``more_smooth``, whose pixels depend on the batch by a rounding.
        """
        if not isinstance(self.seed, tuple) or self.more_smooth:
            return replace(self, index=index)
        labels = self.labels and (self.labels[index % len(self.labels)],)
        return replace(self, labels=labels, num_images=1, seed=(self.seed[index],))

    def command(self, out: str = "") -> str:
        """The shell line that makes the images again; one of several is then among those of ``--separate``.

        Args:
            out: the file that it writes; of itself image.png, or edited.png.
        """
        words = ["nextscale", *(["edit", *self.edit.flags()] if self.edit else ["sample"])]
        words += ["--model", self.model]
        words += ["--scales", self.scales] if self.scales else []
        if self.labels:
            words += ["--label" if self.edit else "--labels", *self.labels]
        words += ["--variants" if self.edit else "--num-images", str(self.num_images)]
        words += ["--cfg", str(self.cfg), "--top-k", str(self.top_k), "--top-p", str(self.top_p)]
        words += ["--more-smooth"] if self.more_smooth else []
        words += ["--seeds", *map(str, self.seed)] if isinstance(self.seed, tuple) else ["--seed", str(self.seed)]
        words += ["--device", self.device, "--dtype", self.dtype]
        words += ["--separate"] if self.index is not None else []
        return shlex.join([*words, "--out", out or f"{self._stem()}.png"])

    def python(self, stem: str = "") -> str:
        """The Python that makes the images again.

        Args:
            stem: a plain name, of the file STEM.png that it writes, or of STEM-000.png ... for several; of itself
                image, or edited.
        """
        one, stem = self.index if self.num_images > 1 else 0, stem or self._stem()
        schedule = f", schedule=ns.ScaleSchedule.parse({self.scales!r})" if self.scales else ""
        call = self.edit.call() if self.edit else "pipe("
        save = f"result.images[{one}].save('{stem}.png')"
        if one is None:
            save = f"for i, image in enumerate(result.images): image.save(f'{stem}-{{i:03d}}.png')"
        lines = [
            *(["from PIL import Image", ""] if self.edit else []),
            "import nextscale as ns",
            "",
            f"pipe = ns.Pipeline.from_pretrained({self.model!r}, {self.device!r}, {self.dtype!r}{schedule})",
            *([f"image = Image.open({self.edit.image!r})"] if self.edit else []),
            *([f"mask = Image.open({self.edit.mask!r})"] if self.edit and self.edit.mask else []),
            f"result = {call}{self._arguments()})",
            save,
        ]
        return "\n".join(lines) + "\n"

    def _stem(self) -> str:
        """What the files that are written are called, so that they take the place of none that is read."""
        read = [Path(path).name for path in (self.edit.image, self.edit.mask)] if self.edit else []
        stem = "edited" if self.edit else "image"
        while any(name.startswith(stem) for name in read):
            stem = f"new-{stem}"
        return stem

    def _arguments(self) -> str:
        """The arguments of a call that draws."""
        turns, rest = divmod(self.num_images, len(self.labels) or 1)
        if not self.labels:
            labels = f"num_images={self.num_images}"
        elif rest:
            labels = f"labels={[self.labels[i % len(self.labels)] for i in range(self.num_images)]}"
        else:
            labels = f"labels={list(self.labels)}" + (f" * {turns}" if turns > 1 else "")
        seed = list(self.seed) if isinstance(self.seed, tuple) else self.seed
        smooth = ", more_smooth=True" if self.more_smooth else ""
        return f"{labels}, cfg={self.cfg}, top_k={self.top_k}, top_p={self.top_p}{smooth}, seed={seed}"

    def to_png_info(self) -> PngInfo:
        """For Pillow's ``image.save(..., pnginfo=...)``."""
        info = PngInfo()
        info.add_text(KEY, json.dumps(asdict(self)))
        return info


def read_provenance(path: str | Path) -> Provenance:
    """How the images of a PNG were made.

    Raises:
        InputError: no such file, a file that does not say, or one that says something else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=("PNG",)) as image:
                text = image.info.get(KEY)
    except Exception as error:  # Pillow raises whatever it likes on broken files
        raise InputError(f"cannot read how {path} was made: {what_is_wrong(error)}") from error
    if not isinstance(text, str):
        raise InputError(f"{path} does not say how it was made: expected a PNG of nextscale sample or edit")
    try:
        if len(text) > LARGEST:
            raise InputError(f"too much metadata, {len(text):,} characters")
        return as_config(Provenance, with_current_names(json.loads(text)))
    except RecursionError as error:
        raise InputError(f"{path} says wrongly how it was made: nested too deeply") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} says wrongly how it was made: {str(error)[:300] or type(error).__name__}") from error


def what_is_wrong(error: Exception) -> str:
    """With a file that Pillow did not open as a PNG."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, UnidentifiedImageError):
        return "expected a PNG"
    if isinstance(error, ValueError) and "text" in str(error).casefold():  # more than PngImagePlugin.MAX_TEXT_...
        return "too much metadata"
    return "not a whole PNG"


def check_texts(*values: Any, most: int = LONGEST_WORD) -> None:
    """Raises InputError unless all are texts that a terminal shows as they are, of at most so many characters."""
    for value in values:
        if not isinstance(value, str) or not value.isprintable():
            raise InputError(f"expected a line of text, not {brief(value)}")
        if len(value) > most:
            raise InputError(f"expected a text of at most {most:,} characters, not {len(value):,}: {brief(value)}")
