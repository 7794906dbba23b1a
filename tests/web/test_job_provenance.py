"""Provenance of the images of a job."""

from __future__ import annotations

from tiny_web import CLASSES, job

import nextscale as ns
from nextscale.editing.spec import EditSpec
from nextscale.provenance import EditProvenance
from nextscale.web.job_provenance import label_word, provenance_of

EDIT = EditProvenance(spec=EditSpec(box=(0, 0, 1, 1)), image="a.png", image_sha256="ef")


def test_a_class_is_said_once(pipeline):
    assert provenance_of(job(5, 6), pipeline, "m").labels == ("hat",)
    assert provenance_of(job(5, 6, wanted=(2, 1)), pipeline, "m").labels == ("hat", "dress")
    assert provenance_of(job(5, 6, label=5), pipeline, "m").labels == ("none",)


def test_an_edit_without_a_class_says_none(pipeline):
    assert provenance_of(job(5, 6), pipeline, "m", edit=EDIT).labels == ("hat",)
    assert provenance_of(job(5, 6, label=5), pipeline, "m", edit=EDIT).labels == ()


def test_all_else_is_the_job_s(pipeline):
    made = provenance_of(job(5, 6), pipeline, "m", "1,2,3,4")
    assert (made.model, made.scales, made.seed, made.num_images) == ("m", "1,2,3,4", (5, 6), 2)
    assert (made.weights, made.device, made.dtype) == (pipeline.fingerprint, "cpu", "float32")


def test_a_name_that_others_have_is_a_number(pipeline):
    named = ns.Pipeline(pipeline.tokenizer, pipeline.model, ("crane", "crane", "a\nb", "3", *CLASSES[:1]))
    assert [label_word(label, named) for label in range(6)] == ["crane", "1", "2", "3", "Ankle boot", "none"]
