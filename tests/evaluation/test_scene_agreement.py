"""Verdicts on what was read."""

from dataclasses import replace

import pytest

from nextscale.errors import InputError
from nextscale.evaluation.scene_agreement import Expected, Verdict, best_of, judge, total
from nextscale.evaluation.scene_reader import Found, Reading
from nextscale.evaluation.scene_table import read_ceiling, score_table, write_ceiling

TWO_DOGS = Expected(("dog",), 2, "", "flat", "grass")
DOG_CAT = Expected(("dog", "cat"), 1, "left of", "3d", "sea")
LINE = {"objects": ["dog"], "count": 1, "relation": "", "style": "3d", "background": "sea"}


def reading(*objects: tuple[str, int, int], style: str = "flat", background: str = "grass") -> Reading:
    return Reading(tuple(Found(*one, 0.9) for one in objects), style, background)


def test_all_right():
    assert judge(TWO_DOGS, reading(("dog", 1, 1), ("dog", 1, 5))) == Verdict(True, True, None, True, True, True)
    seen = reading(("dog", 4, 1), ("cat", 5, 6), style="3d", background="sea")
    assert judge(DOG_CAT, seen) == Verdict(True, None, True, True, True, True)


def test_each_part_can_be_wrong():
    one = judge(TWO_DOGS, reading(("dog", 1, 1), style="3d", background="sea"))
    assert one == Verdict(True, False, None, False, False, False)
    assert judge(TWO_DOGS, reading(("cat", 1, 1))) == Verdict(False, False, None, True, True, False)
    other = judge(TWO_DOGS, reading(("dog", 1, 1), ("dog", 1, 5), ("cat", 6, 6)))
    assert other == Verdict(True, True, None, True, True, False)
    twice = judge(DOG_CAT, reading(("dog", 4, 1), ("dog", 0, 7), ("cat", 5, 6), style="3d", background="sea"))
    assert twice.present and twice.relation and not twice.everything
    assert judge(DOG_CAT, reading(("dog", 4, 1))).relation is False


@pytest.mark.parametrize(
    ("relation", "dog", "cat", "right"),
    [
        ("left of", (4, 1), (5, 6), True),
        ("left of", (4, 6), (5, 1), False),
        ("right of", (4, 6), (5, 1), True),
        ("above", (1, 3), (6, 4), True),
        ("flying over", (1, 3), (6, 4), True),
        ("below", (1, 3), (6, 4), False),
        ("below", (6, 4), (1, 3), True),
        ("left of", (1, 3), (6, 4), False),
        ("above", (4, 1), (5, 6), False),
    ],
)
def test_relations(relation, dog, cat, right):
    expected = replace(DOG_CAT, relation=relation)
    assert judge(expected, reading(("dog", *dog), ("cat", *cat))).relation is right


def test_scores_count_only_images_that_were_asked():
    verdicts = [Verdict(True, True, None, True, True, True), Verdict(True, None, False, True, False, False)]
    scores = total(verdicts)
    assert scores.fractions == {
        "present": 1.0,
        "count": 1.0,
        "relation": 0.0,
        "style": 1.0,
        "background": 0.5,
        "everything": 0.5,
    }
    assert scores.counts == {"present": 2, "count": 1, "relation": 1, "style": 2, "background": 2, "everything": 2}
    assert total(verdicts[:1]).fractions["relation"] is None
    assert best_of([verdicts[::-1], [verdicts[1]] * 2]) == [0.0, 0.5]


def test_tables_show_all_columns_and_files_keep_them(tmp_path):
    scores = total([Verdict(True, None, False, True, False, False)])
    table = score_table({"images": scores, "ceiling: fresh scenes": scores}).splitlines()
    assert table[0].split() == ["images", "ceiling:", "fresh", "scenes"]
    assert table[2].split() == ["count", "right", "none", "none"]
    assert table[-1].split()[-3:] == ["0.0%", "of", "1"]
    write_ceiling(tmp_path, {"fresh scenes": scores})
    assert read_ceiling(tmp_path) == {"fresh scenes": scores}
    (tmp_path / "reader.json").write_text("[]")
    with pytest.raises(InputError, match="must be an object with scores"):
        read_ceiling(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objects": []}, r"line 3 must name one or two objects, not \[\]"),
        ({"objects": "dog"}, "line 3 must name one or two objects, not 'dog'"),
        ({"count": "2"}, "the count of line 3 must be an integer of at least 1, not '2'"),
        ({"style": None}, "relation, style and background of line 3 must be texts"),
        ({"relation": "above"}, "line 3 has 1 objects and the relation 'above'"),
    ],
)
def test_lines_that_do_not_fit_are_refused(changes, message):
    assert Expected.of(LINE, "line 3") == Expected(("dog",), 1, "", "3d", "sea")
    with pytest.raises(InputError, match=message):
        Expected.of(LINE | changes, "line 3")
    with pytest.raises(InputError, match="line 3 lacks objects, count"):
        Expected.of({"style": "3d", "background": "sea"}, "line 3")
