"""How to train: every number of a run in one frozen dataclass, and named recipes as data."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar, get_args

import torch

from nextscale.errors import InputError
from nextscale.io.module_folder import as_config, check_fields
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
    """What training a tokenizer and training a transformer have in common."""

    steps: int
    batch_size: int
    learning_rate: float
    """Peak. Officially 1e-4 * batch / 256 for the transformers d16 and d20, 8e-5 * batch / 256 for the larger ones."""
    seed: int = field(default=0, metadata={"least": 0})
    precision: Precision = "auto"
    """Of matrix products and convolutions; weights, losses and quantization are float32. float16 comes with the
    official loss scale (`LossScaler`); tf32 differs from float32 on GPUs only. auto is ``gpu_precision`` on GPUs; on
    the CPU bfloat16 where that is fast, else float32."""
    gpu_precision: Precision = "bfloat16"
    """What auto is on GPUs: officially float16."""
    schedule: str = "lin0"
    warmup: float = field(default=0.02, metadata=SHARE)
    """Share of the steps."""
    warmup_start: float = field(default=0.005, metadata=SHARE)
    final_ratio: float = field(default=0.1, metadata=NOT_NEGATIVE)
    """Last learning rate, as a share of the peak."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = field(default=0.05, metadata=NOT_NEGATIVE)
    weight_decay_end: float = field(default=0.05, metadata=NOT_NEGATIVE)
    clip: float = 2.0
    """Largest global norm of the gradient."""
    freeze: tuple[str, ...] = ()
    """Patterns of names of parameters that do not learn: ``blocks.*``, ``*.adaln.*``."""
    ema_decay: float = field(default=0.999, metadata=SHARE)
    flip: bool = True
    """Mirror half of the images."""

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
        """The recipe for a device: a precision that is auto becomes what it stands for."""
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
    """beta of the quantizer's loss."""
    kmeans: int = field(default=10, metadata={"least": 0})
    """Rounds of k-means on the first batch's features, from which the codebook starts."""
    restart_every: int = field(default=100, metadata={"least": 0})
    """Steps after which codes that were not used are set to features; 0 is never."""
    scale_dropout: float = field(default=0.0, metadata=SHARE)
    """Probability that an image is decoded from its first scales only, any number of them being equally likely."""
    lpips: float = field(default=0.0, metadata=NOT_NEGATIVE)
    """Weight of the perceptual distance LPIPS, which needs the next two."""
    vgg_weights: str = ""
    """File with the weights of VGG16 for LPIPS, as torchvision names them."""
    lpips_weights: str = ""
    """File with the linear layers of LPIPS."""
    adversarial: AdversarialRecipe | None = None
    """The critic; None trains without."""

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "model", as_config(TokenizerConfig, self.model))
        if self.adversarial is not None:
            object.__setattr__(self, "adversarial", as_config(AdversarialRecipe, self.adversarial))
        game, side = self.adversarial, min(self.model.image_size)
        if game and game.critic == "patchgan" and side < 3 * 2**game.layers:
            raise InputError(
                f"a PatchGAN of {game.layers} layers takes images of at least {3 * 2**game.layers} pixels a side, "
                f"not {side}"
            )
        if self.lpips and not (self.vgg_weights and self.lpips_weights):
            raise InputError(
                "lpips needs vgg_weights and lpips_weights; without these files, "
                "adversarial.feature_matching takes its place"
            )

    def losses(self) -> str:
        """What the tokenizer is trained on, in words."""
        game = self.adversarial
        if self.lpips:
            perceptual = f"LPIPS {self.lpips}"
        elif game and game.feature_matching:
            perceptual = f"no LPIPS, in its place feature matching on the critic {game.feature_matching}"
        else:
            perceptual = "no perceptual loss"
        adversarial = (
            f"adversarial loss {game.weight} by {game.critic} from {game.start:.0%} on" if game else "no critic"
        )
        return f"losses: L1 {self.l1}, L2 {self.l2}, commitment {self.commitment}, {perceptual}, {adversarial}"


@dataclass(frozen=True, kw_only=True)
class TransformerRecipe(Recipe):
    """Train a `VAR` on the tokens of a trained tokenizer, which gives schedule and codebook."""

    depth: int
    width: int
    heads: int
    shared_adaln: bool = False
    label_drop: float = field(default=0.1, metadata=SHARE)
    """Probability of training on "no class", for guidance."""
    drop_path: float = field(default=0.0, metadata=SHARE)
    """Rate at the last block, rising linearly from 0; officially 0.1 * depth / 24."""
    init_gamma: float = field(default=1e-3, metadata=NOT_NEGATIVE)
    """Initial size of AdaLN's gamma rows (``alng``)."""
    lora: int = field(default=0, metadata={"least": 0})
    """Rank of the changes that learn in place of the matrices (LoRA), for ``--init-from``; 0 learns the matrices."""
