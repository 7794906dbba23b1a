"""Pipeline: a name or a path in, pictures out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from nextscale.device import pick_device, precision
from nextscale.errors import InputError
from nextscale.official import from_official
from nextscale.pictures import to_pictures
from nextscale.presets import HUB_MODELS, HUB_REPOSITORY, HUB_TOKENIZER
from nextscale.pth import read_pth, read_trainer_checkpoint
from nextscale.sampling.editing import TokenEdit
from nextscale.sampling.sampler import Labels, ScaleStep, check_match, sample_scales
from nextscale.scales import ScaleSchedule
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.transformer.transformer import VAR
from nextscale.weights import is_module_folder, make_folder, read_json, write_json
