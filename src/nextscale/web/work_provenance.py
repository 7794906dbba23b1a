"""How the images of a work are made, for their metadata and for commands."""

from __future__ import annotations

from nextscale.pipeline import Pipeline
from nextscale.provenance import EditProvenance, Provenance
from nextscale.web.tickets import Work


def provenance_of(
    work: Work, pipeline: Pipeline, model: str, scales: str = "", edit: EditProvenance | None = None
) -> Provenance:
    """How they are made.

    Args:
        model: what commands call it by.
        scales: the schedule that commands have to name, as for .pth files of an unofficial one.
    """
    words = tuple(label_word(label, pipeline) for label in work.labels)
    if edit is not None:  # one class for all variants, and no word for none
        words = () if words[0] == "none" else words[:1]
    elif len(set(words)) == 1:
        words = words[:1]
    settings = work.settings
    return Provenance(
        model=model,
        weights=pipeline.fingerprint,
        scales=scales,
        device=str(pipeline.device),
        dtype=pipeline.dtype,
        labels=words,
        num_images=len(work.labels),
        seed=work.seeds,
        cfg=settings.cfg,
        top_k=settings.top_k,
        top_p=settings.top_p,
        more_smooth=settings.more_smooth,
        edit=edit,
    )


def label_word(label: int, pipeline: Pipeline) -> str:
    """What commands call a class by: its name, unless another class has that, too."""
    if label == pipeline.model.config.num_classes:
        return "none"
    name = pipeline.class_names[label]
    return name if name.isprintable() and pipeline.class_id(name) == label else str(label)
