"""Recipes: frozen dataclasses of all values that determine a training run. `training.presets` has named recipes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, get_args

import torch

from nextscale.errors import InputError
from nextscale.io.config import LATER, as_config, check_fields
from nextscale.runtime.device import has_fast_bfloat16
from nextscale.tokenizer.tokenizer import TokenizerConfig
from nextscale.training.adversarial import AdversarialRecipe
from nextscale.training.schedules import SCHEDULES, knee_of

Precision = Literal["auto", "float32", "tf32", "bfloat16", "float16"]
PRECISIONS = get_args(Precision)
RecipeT = TypeVar("RecipeT", bound="Recipe")
SHARE = {"least": 0.0, "most": 1.0}
NOT_NEGATIVE = {"least": 0.0}


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
    kmeans: int = field(default=10, metadata={"least": 0})
    """Rounds of k-means on the features of the first batch, which initialise the codebook."""
    restart_every: int = field(default=100, metadata={"least": 0})
    """Restart unused codes every this many steps; 0 never does."""
    scale_dropout: float = field(default=0.0, metadata=SHARE)
    """Probability of decoding an image from its first scales only; their number is uniform in 1..K."""
    lpips: float = field(default=0.0, metadata=NOT_NEGATIVE)
    """Weight of LPIPS. Requires ``vgg_weights`` and ``lpips_weights``."""
    vgg_weights: str = ""
    """File with the weights of VGG16, with the names of torchvision."""
    lpips_weights: str = ""
    """File with the weights of the linear layers of LPIPS."""
    adversarial: AdversarialRecipe | None = None
    """Adversarial training; None trains without a critic."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "model", as_config(TokenizerConfig, self.model))
        if self.adversarial is not None:
            object.__setattr__(self, "adversarial", as_config(AdversarialRecipe, self.adversarial))
        game, side = self.adversarial, min(self.model.image_size)
        if game and game.critic == "patchgan" and side < 3 * 2**game.layers:
            raise InputError(
                f"a PatchGAN of {game.layers} layers needs images of at least {3 * 2**game.layers} pixels a side, "
                f"not {side}"
            )
        if self.lpips and not (self.vgg_weights and self.lpips_weights):
            raise InputError(
                "lpips needs vgg_weights and lpips_weights; without these files, "
                "use adversarial.feature_matching instead"
            )

    def losses(self) -> str:
        """Return a description of the losses and their weights."""
        game = self.adversarial
        if self.lpips:
            perceptual = f"LPIPS {self.lpips}"
        elif game and game.feature_matching:
            perceptual = f"no LPIPS, feature matching {game.feature_matching} instead"
        else:
            perceptual = "no perceptual loss"
        adversarial = (
            f"adversarial loss {game.weight} ({game.critic}) after {game.start:.0%} of the steps"
            if game
            else "no critic"
        )
        return f"losses: L1 {self.l1}, L2 {self.l2}, commitment {self.commitment}, {perceptual}, {adversarial}"


@dataclass(frozen=True)
class TextRecipe:
    """The settings that only text-to-image transformers have (Infinity)."""

    tokens: int = 512
    """Largest number of tokens of a prompt; longer ones are cut."""
    self_correction: float = field(default=0.3, metadata=SHARE)
    """Bitwise self-correction: in each step, every scale flips its bits with a probability that is drawn from 0, 0.01
    ... up to this one. The labels are the bits that repair the canvas. 0 flips none."""
    self_correction_scales: int = 13
    """Flip bits of this many scales, from the coarsest."""
    loss_weights: Literal["scale", "token"] = "scale"
    """token: the loss is the mean over all tokens. scale: a token weighs one over the root of the number of tokens of
    its scale, so that coarse scales count more."""
    aspects: bool = False
    """Train at the aspect ratio of each image, rounded to the nearest of Infinity's 15. Each batch has one ratio. False
    crops all images to the size of the tokenizer. A token cache has the ratios that it was made with."""
    chunks: int = 1
    """Number of groups of blocks in the names of official checkpoints. It has no other effect."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.loss_weights not in ("scale", "token"):
            raise InputError(f"loss_weights must be scale or token, not {self.loss_weights!r}")


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
    text: TextRecipe | None = field(default=None, metadata=LATER)
    """Settings of text-to-image transformers, which are trained with tokenizers of bits. None is for classes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.text is not None:
            object.__setattr__(self, "text", as_config(TextRecipe, self.text))
