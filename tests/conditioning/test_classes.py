"""Class labels and their names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny import refused

from nextscale.conditioning.classes import ClassConditioner, ClassNames
from nextscale.errors import InputError
from nextscale.sampling.rng import RandomStreams

CLASSES = ClassConditioner(5)
NAMES = ClassNames(("ankle boot", "Dress", "hat", "shirt", "7"))


def streams(batch: int, seed: int = 0) -> RandomStreams:
    return RandomStreams(seed, batch, torch.device("cpu"))


@pytest.mark.parametrize(
    "labels", [[0, 5, 3], (0, 5, 3), np.array([0, 5, 3]), torch.tensor([0, 5, 3], dtype=torch.int32)]
)
def test_labels_of_any_kind_become_a_tensor(labels):
    assert CLASSES.count(labels, None) == 3
    parsed = CLASSES.parse(labels, streams(3))
    assert parsed.dtype == torch.int64 and parsed.tolist() == [0, 5, 3]


def test_random_classes_come_from_the_streams():
    a, b, c = (CLASSES.parse(None, streams(64, seed)) for seed in (1, 1, 2))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert set(a.tolist()) == set(range(5))


def test_no_class():
    labels = torch.tensor([0, 3, 5])
    assert CLASSES.parse("unconditional", streams(2)).tolist() == [5, 5]
    assert CLASSES.unconditional(labels).tolist() == [5, 5, 5]
    assert CLASSES.drop(labels, torch.tensor([False, True, False])).tolist() == [0, 5, 5]
    assert CLASSES.join(labels, labels[:1]).tolist() == [0, 3, 5, 0]


@pytest.mark.parametrize(
    ("labels", "count", "words"),
    [
        (None, None, ("num_images", "None")),
        ("unconditional", 0, ("num_images", "0")),
        ("hat", 2, ("unconditional", "'hat'")),
        ([], None, ("at least one", "none")),
        ([1, 2], 3, ("2 labels", "3 images")),
        (torch.zeros(2, 2), None, ("for each image",)),
    ],
)
def test_counts_that_cannot_be(labels, count, words):
    with refused(*words):
        CLASSES.count(labels, count)


@pytest.mark.parametrize("labels", [[0.5], [True], [[1]], ["hat"], [6], [-1]])
def test_labels_that_are_none(labels):
    with refused("label"):
        CLASSES.parse(labels, streams(len(labels)))


def test_names_give_numbers_and_back():
    assert [NAMES.id_of(name) for name in ("ankle boot", "dress", "3", "7", "none", "unconditional")] == [
        0,
        1,
        3,
        4,
        5,
        5,
    ]
    assert [NAMES.name_of(i) for i in range(6)] == [*NAMES.names, "none"]
    assert NAMES.ids(["hat", 1, "none"]) == [2, 1, 5]
    assert NAMES.ids("none") == NAMES.ids("unconditional") == "unconditional"
    assert NAMES.ids(None) is None


def test_a_class_that_is_called_none_is_a_class():
    names = ClassNames(("none", "hat"))
    assert names.id_of("none") == 0 and names.id_of("unconditional") == 2
    assert names.ids(["none"]) == [0]


@pytest.mark.parametrize(
    ("classes", "word"),
    [
        (("hat", "shirt"), "none"),
        (("none", "shirt"), "unconditional"),
        (("None", "shirt"), "unconditional"),
        (("unconditional", "shirt"), "none"),
        (("none", "Unconditional"), "2"),
    ],
)
def test_there_is_one_word_for_no_class(classes, word):
    names = ClassNames(classes)
    assert names.name_of(2) == names.no_class == word
    for spelling in {word, word.upper()}:
        assert names.id_of(spelling) == 2 and names.ids([spelling]) == [2]
        assert names.ids(spelling) == names.per_variant(spelling, 3) == "unconditional"
    for i, name in enumerate(classes):  # every class is reached by its name, in any case
        for spelling in {name, name.lower(), name.upper()}:
            assert names.id_of(spelling) == i and names.per_variant(spelling, 2) == [i, i]
    assert names.ids(None) is None and names.ids("unconditional") == "unconditional"  # no list of classes


def test_a_class_is_not_a_list_of_classes():
    for name in ("hat", "none"):
        with refused("a list of classes", f"'{name}'"):
            ClassNames(("none", "hat")).ids(name)


def test_near_misses_are_different():
    with refused("0..2 or a name such as Cat, cat"):
        ClassNames(("Cat", "dog", "cat")).id_of("CAT")
    with pytest.raises(InputError) as caught:
        ClassNames(("Cat", "dog", "cat")).id_of("catt")
    assert str(caught.value).endswith("a name such as Cat, cat")


def test_a_name_in_another_case_must_be_unambiguous():
    assert ClassNames(("Cat", "dog")).id_of("CAT") == 0
    with refused("unknown class 'CAT'"):
        ClassNames(("Cat", "cat")).id_of("CAT")


@pytest.mark.parametrize(("name", "words"), [("hats", ("'hats'", "hat")), ("5", ("5", "0..4")), ("-1", ("-1", "0..4"))])
def test_unknown_classes(name, words):
    with refused(*words):
        NAMES.id_of(name)


def test_the_classes_of_variants():
    assert NAMES.per_variant("hat", 3) == NAMES.per_variant(2, 3) == [2, 2, 2]
    assert NAMES.per_variant("hat", None) == [2]
    assert NAMES.per_variant(None, 3) == NAMES.per_variant("none", 3) == "unconditional"
    assert NAMES.per_variant(["hat", "dress"], None) == [2, 1]
