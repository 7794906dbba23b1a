"""The results of the reference in all golden cases."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from golden import NAMES, Golden

import nextscale as ns
from nextscale.sampling.token_edit import box_mask

TOKENIZED = 1e-4
IMAGE = 2e-3  # the golden images are stored in half precision


@pytest.fixture(scope="module", params=NAMES)
def case(request):
    golden = Golden(request.param)
    return golden, *golden.models(), golden.arrays


def close(ours: torch.Tensor, golden: torch.Tensor, atol: float, rtol: float = 0.0) -> None:
    torch.testing.assert_close(ours.float(), golden.float(), atol=atol, rtol=rtol)


def same_tokens(ours: list[torch.Tensor], golden: list[torch.Tensor]) -> None:
    assert len(ours) == len(golden)
    for k, (a, b) in enumerate(zip(ours, golden, strict=True)):
        assert torch.equal(a, b), f"scale {k}: {(a != b).sum()} of {a.numel()} tokens differ"


def test_features(case):
    _, tokenizer, _, arrays = case
    close(tokenizer.encode_features(arrays["image"]), arrays["encoder_feature"], TOKENIZED)


def test_tokens_of_the_image(case):
    golden, tokenizer, _, arrays = case
    same_tokens(tokenizer.encode(arrays["image"]), golden.tokens())


def test_canvas_and_reconstruction(case):
    golden, tokenizer, _, arrays = case
    canvases = [step.canvas for step in tokenizer.pyramid.accumulate(golden.tokens())]
    close(canvases[0], arrays["fhat_first"], TOKENIZED)
    close(canvases[-1], arrays["fhat_last"], TOKENIZED)
    close(tokenizer.decode(golden.tokens()), arrays["reconstruction"], IMAGE)


def test_teacher_forcing_input(case):
    golden, tokenizer, _, arrays = case
    close(tokenizer.teacher_forcing_input(golden.tokens()), arrays["teacher_forcing_input"], TOKENIZED)


def test_logits_and_losses(case):
    golden, _, model, arrays = case
    logits = model(arrays["labels"], arrays["teacher_forcing_input"])
    close(logits, arrays["logits"], TOKENIZED)
    targets = torch.cat(golden.tokens(), dim=1)
    loss = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    close(loss.mean(), arrays["loss_mean"], TOKENIZED)
    close(loss[:, golden.schedule.slices[-1]].mean(), arrays["loss_last_scale"], TOKENIZED)


def test_quantizer_training(case):
    _, tokenizer, _, arrays = case
    _, canvas, loss, _ = tokenizer.pyramid.quantize(arrays["encoder_feature"])
    close(loss, arrays["train_vq_loss"], atol=0, rtol=1e-4)
    close(canvas, arrays["train_fhat"], TOKENIZED)


def test_gradient_norms(case):
    golden, _, model, arrays = case
    model.zero_grad()
    logits = model(arrays["labels"], arrays["teacher_forcing_input"])
    F.cross_entropy(logits.flatten(0, 1), torch.cat(golden.tokens(), dim=1).flatten()).backward()
    _, official = ns.to_official(golden.models()[0], gradients_of(model))
    assert set(golden.info["grad_norms"]) <= set(official)
    for name, norm in golden.info["grad_norms"].items():
        close(official[name].norm(), torch.tensor(norm), atol=1e-7, rtol=1e-4)
    total = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    close(total, arrays["grad_norm_total"], atol=0, rtol=1e-4)


def gradients_of(model: ns.VAR) -> ns.VAR:
    """A model whose weights are another one's gradients, so that they can be called by their official names."""
    with torch.device("meta"):
        copy = ns.VAR(model.config)
    copy.load_state_dict({name: p.grad for name, p in model.named_parameters()}, assign=True)
    return copy


def sampling_arguments(arguments: dict) -> dict:
    """Our arguments for a golden ``samples`` or ``edits`` entry."""
    taken = {key: arguments[key] for key in ("seed", "cfg", "top_k", "top_p")}
    labels = arguments["labels"]
    if labels is None or labels == -1:
        taken |= {"labels": "unconditional" if labels == -1 else None, "num_images": arguments["B"]}
    else:
        labels = [labels] * arguments["B"] if isinstance(labels, int) else labels
        taken["labels"] = torch.tensor(labels)
    return taken | {"more_smooth": arguments.get("more_smooth", False)}


def samples():
    return [(name, i) for name in NAMES for i in range(len(Golden(name).info["samples"]))]


def edits():
    return [(name, i) for name in NAMES for i in range(len(Golden(name).info["edits"]))]


@pytest.mark.parametrize(("name", "index"), samples())
def test_samples(name, index):
    golden = Golden(name)
    tokenizer, model = golden.models()
    steps = list(ns.sample_scales(tokenizer, model, **sampling_arguments(golden.info["samples"][index])))
    same_tokens([step.tokens for step in steps], golden.tokens(f"sample{index}_tokens"))
    close(steps[-1].image(), golden.arrays[f"sample{index}_image"], IMAGE)
    # Stored in half precision, and (other than its README says) before the filters.
    close(steps[-1].logits, golden.arrays[f"sample{index}_guided_logits_last"], atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(("name", "index"), edits())
def test_edits(name, index):
    golden = Golden(name)
    tokenizer, model = golden.models()
    arguments = golden.info["edits"][index]
    inside = box_mask((arguments["y0"], arguments["x0"], arguments["y1"], arguments["x1"]), golden.schedule)
    keep = 1 - inside if arguments["inpainting"] else inside
    close(keep, golden.arrays[f"edit{index}_mask"], atol=0)
    result = ns.sample(
        tokenizer,
        model,
        **sampling_arguments(arguments),
        edit=ns.TokenEdit(tokenizer.encode(golden.arrays["image"]), keep),
    )
    same_tokens(result.tokens, golden.tokens(f"edit{index}_sampled_tokens"))
    close(result.images, golden.arrays[f"edit{index}_image"], IMAGE)
