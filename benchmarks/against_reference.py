"""Train the reference's transformer and ours with the same tokens in the same order, the same settings and budget.

    git clone https://github.com/FoundationVision/VAR reference
    nextscale tokenize --data cifar10 --tokenizer runs/tokenizer --crops 1 --out cache
    python benchmarks/against_reference.py --reference reference --cache cache --seeds 0 1 2

Three variants: the reference's model, parameter groups and schedule; ours with these settings, the official recipe at
another size; ours with a preset. Each prints its loss on held-out tokens, without label drop.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor

from nextscale.data.cache import TOKENIZER, TokenDataset, open_cache
from nextscale.data.loader import TrainingBatches, validation_batches
from nextscale.families.sources import load_tokenizer
from nextscale.tokenizer.tokenizer import ImageTokenizer
from nextscale.training.class_setup import fresh_model
from nextscale.training.loop import training_step
from nextscale.training.optimizer import set_step
from nextscale.training.parallel import Execution
from nextscale.training.presets.var import TRANSFORMERS, official
from nextscale.training.recipes import TransformerRecipe
from nextscale.training.state import make_state
from nextscale.training.task import MODEL
from nextscale.training.transformer_task import TransformerTask

CPU = torch.device("cpu")
Logits = Callable[[Tensor, Tensor], Tensor]
"""(labels (B,), inputs (B, L - n_0, D)) -> (B, L, V)."""


def train_ours(data: TokenDataset, tokenizer: ImageTokenizer, recipe: TransformerRecipe) -> Logits:
    """Train with the steps of the training loop. Return the EMA model, which is the model itself at decay 0."""
    model = fresh_model(tokenizer, recipe, len(data.source.class_names))
    state = make_state(TransformerTask(model, tokenizer, recipe), recipe, Execution(), CPU)
    for step, parts in enumerate(islice(TrainingBatches(data, recipe.batch_size, 0), recipe.steps)):
        set_step(state.optimizers[MODEL], recipe, step)
        training_step(state, parts, recipe, step)
    return state.ema


def train_reference(data: TokenDataset, tokenizer: ImageTokenizer, recipe: TransformerRecipe) -> Logits:
    """Train with the reference's model, initialisation, parameter groups and schedule, in a loop like its own."""
    import dist  # part of the reference, as are the next two imports

    dist.get_device, dist.barrier = lambda: CPU, lambda: None
    from models.var import VAR
    from utils.lr_control import filter_params, lr_wd_annealing

    c = tokenizer.config
    sides = tuple(h for h, _ in c.schedule.sizes)
    # the parts of a tokenizer that its model uses
    vae = SimpleNamespace(Cvae=c.code_dim, vocab_size=c.codebook_size, quantize=SimpleNamespace())
    torch.manual_seed(recipe.seed)
    with contextlib.redirect_stdout(io.StringIO()):
        model = VAR(
            vae_local=vae,
            num_classes=len(data.source.class_names),
            depth=recipe.depth,
            embed_dim=recipe.width,
            num_heads=recipe.heads,
            drop_path_rate=recipe.drop_path,
            cond_drop_rate=recipe.label_drop,
            attn_l2_norm=True,
            patch_nums=sides,
            flash_if_available=False,
            fused_if_available=False,
        )
        model.init_weights(init_adaln=0.5, init_adaln_gamma=recipe.init_gamma, init_head=0.02, init_std=-1)
    without_decay = {"pos_1LC", "pos_start", "lvl_embed", "gamma", "beta", "ada_gss", "scale_mul"}
    _, _, groups = quietly(lambda: filter_params(model, nowd_keys=without_decay))
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, weight_decay=0, fused=True)
    model.train()
    for step, (batch,) in enumerate(islice(TrainingBatches(data, recipe.batch_size, 0), recipe.steps)):
        lr_wd_annealing(
            recipe.schedule,
            optimizer,
            recipe.learning_rate,
            recipe.weight_decay,
            recipe.weight_decay_end,
            step,
            recipe.warmup * recipe.steps,
            recipe.steps,
            wp0=recipe.warmup_start,
            wpe=recipe.final_ratio,
        )
        logits = model(batch.labels, inputs_of(tokenizer, batch.content.values))
        loss = F.cross_entropy(logits.flatten(0, 1), batch.content.values.flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
    model.eval()
    model.cond_drop_rate = 0.0  # the reference drops labels in evaluation, too
    return model


def quietly(run: Callable[[], tuple]) -> tuple:
    """Run without printing: the reference replaces ``print`` by a function with other arguments."""
    import builtins

    loud, builtins.print = builtins.print, lambda *_, **__: None
    try:
        return run()
    finally:
        builtins.print = loud


def inputs_of(tokenizer: ImageTokenizer, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        return tokenizer.pyramid.next_inputs(list(tokens.split(tokenizer.schedule.tokens_per_scale, dim=1)))


@torch.no_grad()
def validate(logits_of: Logits, data: TokenDataset, tokenizer: ImageTokenizer) -> float:
    """Return the mean cross-entropy of all tokens, in nats."""
    total = 0.0
    for batch in validation_batches(data, 100):
        logits = logits_of(batch.labels, inputs_of(tokenizer, batch.content.values))
        total += F.cross_entropy(logits.float().flatten(0, 1), batch.content.values.flatten()).item() * len(
            batch.labels
        )
    return total / len(data)


def variants(options: argparse.Namespace, seed: int) -> Iterator[tuple[str, Callable[..., Logits], TransformerRecipe]]:
    """Yield (name, training function, recipe)."""
    size = {"depth": options.depth, "width": options.width, "heads": options.heads}
    common = {"steps": options.steps, "batch_size": options.batch_size, "precision": "float32", "seed": seed}
    like_d16 = official(16, epochs=1, base_rate=1e-4, init_gamma=1e-3, final_ratio=0.1)
    like_d16 = replace(
        like_d16, **size, **common, learning_rate=options.learning_rate, drop_path=0.1 * options.depth / 24
    )
    yield "reference", train_reference, like_d16
    yield "ours", train_ours, like_d16
    yield f"preset {options.preset}", train_ours, replace(TRANSFORMERS[options.preset], **size, **common)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Train the reference's transformer and ours with the same tokens and settings."
    )
    parser.add_argument("--reference", type=Path, required=True, help="folder of the reference's code")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--preset", default="cifar10", choices=list(TRANSFORMERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="learning rate of the first two variants")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--heads", type=int, default=4)
    options = parser.parse_args()
    sys.path.insert(0, str(options.reference))
    tokenizer = load_tokenizer(options.cache / TOKENIZER)
    losses: dict[str, list[float]] = {}
    for seed in options.seeds:
        data, val_data = open_cache(options.cache, seed)
        if val_data is None:
            sys.exit(f"{options.cache} has no validation tokens")
        for name, train, recipe in variants(options, seed):
            loss = validate(train(data, tokenizer, recipe), val_data, tokenizer)
            losses.setdefault(name, []).append(loss)
            print(f"seed {seed}  {name:<16} {loss:.4f}", flush=True)
    for name, values in losses.items():
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(
            f"{name:<16} {statistics.mean(values):.4f} +- {spread:.4f} over seeds {', '.join(map(str, options.seeds))}"
        )


if __name__ == "__main__":
    main()
