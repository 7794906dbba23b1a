"""Recipes: frozen dataclasses of all values that determine a training run. `training.presets` has named recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, get_args

import torch

from nextscale.conditioning.words_config import KINDS, LEAST_COUNT, MOST_WORDS, Kind
from nextscale.errors import InputError, brief
from nextscale.io.config import LATER, as_config, check_fields
from nextscale.runtime.device import has_fast_bfloat16
from nextscale.scales.schedule import ScaleSchedule
from nextscale.scales.spacetime import SpacetimeSchedule
from nextscale.scales.video_shape import LONGEST
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.schedules import SCHEDULES, knee_of

Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
PRECISIONS = get_args(Precision)
RecipeT = TypeVar("RecipeT", bound="Recipe")
SHARE = {"least": 0.0, "most": 1.0}
NOT_NEGATIVE = {"least": 0.0}
MATRICES = ("qkv", "proj", "up", "down")
"""The layers of attention and MLP."""


@dataclass(frozen=True)
class Recipe:
    """The fields that all recipes share."""

    steps: int
    batch_size: int
    learning_rate: float
    """Peak learning rate. Officially 1e-4 * batch / 256 for d16 and d20, 8e-5 * batch / 256 for larger transformers."""
    seed: int = field(default=0, metadata={"least": 0})
    precision: Precision = "auto"
    """Precision of matrix products and convolutions. Weights, losses and quantization are always float32. float16 uses
    `LossScaler`. tf32 differs from float32 on GPUs only. auto is ``gpu_precision`` on GPUs; on CPUs it is bfloat16 if
    the CPU is fast at it, else float32."""
    gpu_precision: Precision = "bfloat16"
    """Meaning of auto on GPUs. Officially float16."""
    schedule: str = "lin0"
    warmup: float = field(default=0.02, metadata=SHARE)
    """Fraction of the steps with linear warm-up."""
    warmup_start: float = field(default=0.005, metadata=SHARE)
    final_ratio: float = field(default=0.1, metadata=NOT_NEGATIVE)
    """Last learning rate, as a fraction of the peak."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = field(default=0.05, metadata=NOT_NEGATIVE)
    weight_decay_end: float = field(default=0.05, metadata=NOT_NEGATIVE)
    clip: float = 2.0
    """Maximum norm of the gradient; larger gradients are scaled down to it."""
    freeze: tuple[str, ...] = ()
    """Patterns of names of parameters to freeze, such as ``blocks.*`` or ``*.adaln.*``."""
    ema_decay: float = field(default=0.999, metadata=SHARE)
    flip: bool = True
    """Mirror images with probability 1/2."""

    def __post_init__(self) -> None:
        for name in ("betas", "freeze"):  # JSON has lists
            if not isinstance(value := getattr(self, name), list | tuple):
                raise InputError(f"{name} must be a list, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        check_fields(self)
        if self.precision not in PRECISIONS:
            raise InputError(f"unknown precision {self.precision!r}: expected one of {', '.join(PRECISIONS)}")
        if self.gpu_precision not in PRECISIONS or self.gpu_precision == "auto":
            plain = ", ".join(name for name in PRECISIONS if name != "auto")
            raise InputError(f"unknown gpu_precision {self.gpu_precision!r}: expected one of {plain}")
        for name in ("learning_rate", "clip", "eps"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} must be a positive number, not {getattr(self, name)}")
        if self.seed >= 2**63:
            raise InputError(f"seed must be below 2^63, not {self.seed}")
        if self.schedule not in SCHEDULES:
            knee_of(self.schedule)
        if self.schedule == "exp" and self.final_ratio <= 0:
            raise InputError(f"the schedule exp needs a final_ratio above 0, not {self.final_ratio}")

    def on(self: RecipeT, device: torch.device) -> RecipeT:
        """Return the recipe for a device, with a precision of auto replaced."""
        if self.precision != "auto":
            return self
        if device.type != "cpu":
            return replace(self, precision=self.gpu_precision)
        return replace(self, precision="bfloat16" if has_fast_bfloat16(device) else "float32")


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe(Recipe):
    """Train an `ImageTokenizer`: reconstruction plus the quantizer's loss."""

    model: TokenizerConfig
    l1: float = field(default=0.2, metadata=NOT_NEGATIVE)
    l2: float = field(default=1.0, metadata=NOT_NEGATIVE)
    commitment: float = field(default=0.25, metadata=NOT_NEGATIVE)
    """Weight beta of the commitment loss."""
    quantizer_weight: float = field(default=1.0, metadata={**LATER, **NOT_NEGATIVE})
    """Weight of the quantizer's loss: commitment and, for bits, entropies."""
    entropy: float = field(default=0.0, metadata={**LATER, **NOT_NEGATIVE})
    """Bits only: weight of the entropy of single bits, minus ``diversity`` times that of the mean bit."""
    diversity: float = field(default=1.0, metadata={**LATER, **NOT_NEGATIVE})
    """Bits only: weight of the entropy of the mean bit, relative to ``entropy``."""
    diversity_images: int = field(default=8, metadata=LATER)
    """Bits only: the mean bit is the mean over this many images. The parts into which processes and accumulation divide
    a batch must be multiples of it if ``entropy`` is not 0."""
    drop_scales: float = field(default=0.0, metadata={**LATER, **SHARE})
    """Bits only: probability of dropping a scale in a step (stochastic depth). The last one is never dropped."""
    dense_scales: bool = field(default=False, metadata=LATER)
    """Bits only: train with a dense schedule of up to 28 scales, see `dense_schedule`. Everything but training uses the
    scales of the model."""
    shrink: tuple[int, ...] = field(default=(1,), metadata=LATER)
    """Bits only: each step shrinks its images by one of these factors, chosen at random, to train several sizes."""
    one_of: tuple[int, ...] = field(default=(1,), metadata=LATER)
    """Bits only: for each factor of ``shrink``, train on one of this many images, chosen at random, to save memory."""
    kmeans: int = field(default=10, metadata={"least": 0})
    """Codebook only: rounds of k-means on the features of the first batch, which initialise the codebook."""
    restart_every: int = field(default=100, metadata={"least": 0})
    """Codebook only: restart unused codes every this many steps; 0 never does."""
    scale_dropout: float = field(default=0.0, metadata=SHARE)
    """Probability of decoding an image from its first scales only; their number is uniform in 1..K."""
    lpips: float = field(default=0.0, metadata=NOT_NEGATIVE)
    """Weight of LPIPS. Requires ``vgg_weights`` and ``lpips_weights``."""
    vgg_weights: str = ""
    """File with the weights of VGG16, with the names of torchvision."""
    lpips_weights: str = ""
    """File with the weights of the linear layers of LPIPS."""
    perceptual: float = field(default=0.0, metadata={**LATER, **NOT_NEGATIVE})
    """Weight of the distance between the features of image and reconstruction in ``perceptual_network``."""
    perceptual_network: str = field(default="efficientnet-lite0", metadata=LATER)
    """efficientnet-lite0 (extra perceptual); a file with the weights of VGG16; or a function that makes the network,
    as ``module:function``. See `nextscale.training.perceptual`."""
    adversarial: AdversarialRecipe | None = None
    """Adversarial training; None trains without a critic."""

    def __post_init__(self) -> None:
        for name in ("shrink", "one_of"):
            if isinstance(value := getattr(self, name), list):  # JSON
                object.__setattr__(self, name, tuple(value))
        super().__post_init__()
        object.__setattr__(self, "model", as_config(TokenizerConfig, self.model))
        if self.adversarial is not None:
            object.__setattr__(self, "adversarial", as_config(AdversarialRecipe, self.adversarial))
        game, side = self.adversarial, min(self.model.image_size) // max(self.shrink)
        if game and game.critic == "patchgan" and side < 3 * 2**game.layers:
            raise InputError(
                f"a PatchGAN of {game.layers} layers needs images of at least {3 * 2**game.layers} pixels a side, "
                f"not {side}"
            )
        for name in ("entropy", "drop_scales", "dense_scales"):
            if getattr(self, name) and self.model.quantizer == "codebook":
                raise InputError(f"{name} needs model.quantizer bits, not codebook")
        self._check_sizes()
        if self.lpips and not (self.vgg_weights and self.lpips_weights):
            raise InputError(
                "lpips needs vgg_weights and lpips_weights; without these files, "
                "use adversarial.feature_matching instead"
            )

    def _check_sizes(self) -> None:
        """Check the fields about several sizes."""
        if (self.shrink, self.one_of) == ((1,), (1,)):
            return
        if self.model.quantizer == "codebook":
            raise InputError("shrink and one_of need model.quantizer bits, not codebook")
        if len(self.shrink) != len(self.one_of):
            raise InputError(f"one_of needs a number for each of the {len(self.shrink)} of shrink, not {self.one_of}")
        for number in self.one_of:
            if self.entropy and self.diversity_images % number:
                raise InputError(
                    f"diversity_images must be a multiple of each number in one_of, not {self.diversity_images} with "
                    f"{number}"
                )
        for factor in self.shrink:
            if any(side % (factor * self.model.stride) for side in self.model.image_size):
                h, w = self.model.image_size
                raise InputError(
                    f"images of {h} x {w} pixels cannot be shrunk {factor} times: the sides must then be multiples of "
                    f"{self.model.stride}"
                )

    def losses(self) -> str:
        """Return a description of the losses and their weights."""
        game = self.adversarial
        if self.lpips:
            perceptual = f"LPIPS {self.lpips}"
        elif game and game.feature_matching:
            perceptual = f"no LPIPS, feature matching {game.feature_matching} instead"
        else:
            perceptual = "no LPIPS" if self.perceptual else "no perceptual loss"
        if self.perceptual:
            perceptual += f", features of {self.perceptual_network} {self.perceptual}"
        adversarial = (
            f"adversarial loss {game.weight} ({game.critic}) after {game.start:.0%} of the steps"
            if game
            else "no critic"
        )
        entropy = f", entropy {self.quantizer_weight * self.entropy:g}" if self.entropy else ""
        quantizer = f"commitment {self.quantizer_weight * self.commitment:g}{entropy}"
        return f"losses: L1 {self.l1}, L2 {self.l2}, {quantizer}, {perceptual}, {adversarial}"


@dataclass(frozen=True)
class WordsRecipe:
    """A text encoder that is trained with the model. Its vocabulary comes from the captions of the data."""

    kind: Kind = "words"
    """words: one token for each word. subwords: byte-pair encoding, which can spell words that no caption has."""
    width: int = 256
    """Width of the features."""
    depth: int = 2
    heads: int = 4
    least_count: int = LEAST_COUNT
    """Words, or pairs of subwords, that occur less often in the captions are left out."""
    size: int = MOST_WORDS
    """Largest number of words or subwords."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.kind not in KINDS:
            raise InputError(f"unknown kind of vocabulary {self.kind!r}: expected one of {', '.join(KINDS)}")


@dataclass(frozen=True)
class TextRecipe:
    """The settings that only text-to-image transformers have (Infinity)."""

    tokens: int = 512
    """Largest number of tokens of a prompt; longer ones are cut. With ``words``, it is that of the longest caption if
    that is shorter."""
    words: WordsRecipe | None = None
    """A text encoder that is trained with the model. None uses a T5, which is not trained."""
    self_correction: float = field(default=0.3, metadata=SHARE)
    """Bitwise self-correction: in each step, every scale flips its bits with a random probability of 0, 0.01 ...
    up to this one. The labels are the bits that repair the canvas. 0 flips none."""
    self_correction_scales: int = 13
    """Flip bits of this many scales, from the coarsest."""
    loss_weights: Literal["scale", "token"] = "scale"
    """token: the loss is the mean over all tokens. scale: a token weighs one over the root of the number of tokens of
    its scale, so that coarse scales count more."""
    budget: str = field(default="", metadata=LATER)
    """Pixel budget of the images: 0.06M, 0.25M, 0.60M or 1M, with Infinity's scales. Empty: the scales of the
    tokenizer. The weights do not depend on it, so that a run can start from the model of a smaller budget."""
    aspects: bool = False
    """Train at the aspect ratio of each image, rounded to the nearest of Infinity's 15. Each batch has one ratio. False
    crops all images to the size of the tokenizer. A token cache has the ratios that it was made with."""
    chunks: int = 1
    """Number of groups of blocks in the names of official checkpoints. It has no other effect."""

    def __post_init__(self) -> None:
        if self.words is not None:
            object.__setattr__(self, "words", as_config(WordsRecipe, self.words))
        check_fields(self)
        if self.budget:
            ScaleSchedule.infinity(self.budget)  # refuses an unknown one
        if self.loss_weights not in ("scale", "token"):
            raise InputError(f"loss_weights must be scale or token, not {self.loss_weights!r}")


Subsets = Literal["all", "480p", "720p", "720p-largest"]


@dataclass(frozen=True)
class VideoRecipe:
    """The settings that only text-to-video transformers have (InfinityStar)."""

    kv_heads: int = field(default=0, metadata={"least": 0})
    """Heads of keys and values, which heads of queries share; 0 means as many as heads."""
    subsets: Subsets = "all"
    """Scales that a step trains. all: every scale. The others are random subsets of the released scripts: 480p for 14
    scales per clip, 720p for 15, and 720p-largest also has the largest scale of a clip. Images train all scales."""
    budget: str = ""
    """Pixel budget of the videos: 0.06M, 0.25M, 0.40M (480p) or 0.90M (720p), with the scales of the released models at
    the tokenizer's aspect ratio. Empty: the schedule of the tokenizer. The weights do not depend on it."""
    seconds: int = field(default=5, metadata={"least": 0, "most": LONGEST})
    """Duration of the videos of a budget. 0 trains on images."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.budget:
            SpacetimeSchedule.official(self.budget)  # refuses an unknown one
        if self.subsets not in get_args(Subsets):
            raise InputError(f"subsets must be one of {', '.join(get_args(Subsets))}, not {brief(self.subsets)}")


@dataclass(frozen=True, kw_only=True)
class TransformerRecipe(Recipe):
    """Train a transformer. Its schedule and vocabulary come from the tokenizer, which also decides the family."""

    depth: int
    width: int
    heads: int
    shared_adaln: bool = False
    label_drop: float = field(default=0.1, metadata=SHARE)
    """Probability of replacing a label by "no class", or a caption by "no prompt", as guidance needs."""
    drop_path: float = field(default=0.0, metadata=SHARE)
    """Drop path rate of the last block; it rises linearly from 0. Officially 0.1 * depth / 24."""
    init_gamma: float = field(default=1e-3, metadata=NOT_NEGATIVE)
    """Factor of the initial gamma rows of AdaLN (officially ``alng``)."""
    lora: int = field(default=0, metadata={"least": 0})
    """Rank of LoRA. Requires ``init_from``. 0 trains all weights."""
    lora_matrices: tuple[str, ...] = field(default=MATRICES, metadata=LATER)
    """Layers that LoRA changes: the last part of their names, such as ``qkv``, or patterns such as
    ``blocks.*.cross_attention.*``."""
    text: TextRecipe | None = field(default=None, metadata=LATER)
    """Settings of text-to-image transformers, which are trained with bitwise tokenizers. None is for classes."""
    video: VideoRecipe | None = field(default=None, metadata=LATER)
    """Settings of text-to-video transformers, which are trained with video tokenizers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.lora_matrices, list):  # JSON
            object.__setattr__(self, "lora_matrices", tuple(self.lora_matrices))
        if not isinstance(self.lora_matrices, tuple) or not all(isinstance(name, str) for name in self.lora_matrices):
            raise InputError(f"lora_matrices must be a list of names, not {brief(self.lora_matrices)}")
        if self.text is not None:
            object.__setattr__(self, "text", as_config(TextRecipe, self.text))
        if self.video is not None:
            object.__setattr__(self, "video", as_config(VideoRecipe, self.video))
