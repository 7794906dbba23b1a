"""Provenance of the images of a job, for PNG metadata and for the commands that the studio shows."""

from __future__ import annotations

from nextscale.pipeline import Pipeline
from nextscale.provenance import EditProvenance, Provenance
from nextscale.web.tickets import Job


def provenance_of(
    job: Job,
    pipeline: Pipeline,
    model: str,
    scales: str = "",
    edit: EditProvenance | None = None,
    text_encoder: str = "",
    text_dtype: str = "auto",
) -> Provenance:
    """Return the provenance of the images of a job.

    Args:
        model: value of the command line's ``--model``.
        scales: value of ``--scales``, for .pth files with an unofficial schedule.
        text_encoder, text_dtype: values of ``--text-encoder`` and ``--text-dtype``.
    """
    words = tuple(wanted if isinstance(wanted, str) else label_word(wanted, pipeline) for wanted in job.wanted)
    is_text = pipeline.family.takes == "prompt"
    if edit is not None:  # all variants show the same; the default is no class
        words = () if job.wanted[0] == len(pipeline.classes) and not is_text else words[:1]
    elif len(set(words)) == 1:
        words = words[:1]
    prompts = words if is_text else ()
    content = pipeline.requests.encoder_of(prompts, vars(job.text))
    return Provenance(
        model=model,
        weights=pipeline.fingerprint,
        scales=scales,
        device=str(pipeline.device),
        dtype=pipeline.dtype,
        labels=() if is_text else words,
        num_images=len(job.seeds),
        seed=job.seeds,
        settings=job.settings,
        edit=edit,
        prompts=prompts,
        text=job.text,
        text_encoder=text_encoder if is_text else "",
        text_content=content,
        text_dtype=text_dtype if content else "auto",
        shape=job.shape,
    )


def label_word(label: int, pipeline: Pipeline) -> str:
    """Return a class label for commands: its name, or its number if the name is ambiguous."""
    name = pipeline.classes.name_of(label)
    if label == len(pipeline.classes):
        return name
    return name if name.isprintable() and pipeline.classes.id_of(name) == label else str(label)
