"""The hiding explorer: a page of boxes, a picture to drag over, and words for what cannot be."""

from __future__ import annotations

import numpy as np
import pytest
from node_parts import check_script
from saliency_parts import Lamp, flash

import v2a_nb as v2a
from v2a_nb.errors import UsageError
from v2a_nb.widgets.explore_hiding import HEARD


def test_the_page_has_what_is_lost_and_what_is_left_of_each_box():
    made = v2a.explore_hiding(Lamp(), flash(), boxes=[(0, 0, 0.5, 1), (0.5, 0, 1, 1)])
    assert [row["label"] for row in made.table] == ["the whole picture"] + [
        f"without {a} % across, 0 to 100 % down: {heard}" for a in ("0 to 50", "50 to 100") for heard in HEARD
    ]
    left, right = made.dependence(), made.dependence(box=(0.5, 0, 1, 1))
    assert left.whole is right.whole is made.whole and not right.difference_db.any()
    numbers = made.table[1]
    assert numbers["greatest change (dB)"] == pytest.approx(left.difference_db.min()) and numbers["at (s)"] < 0.53
    assert np.array_equal(made.at(heard=HEARD[0]).sound.samples, left.lost.samples)
    assert "<script" not in made.html and made.html.count("<img") == 4 and made.html.count("<audio") == 5


def test_a_drag_makes_the_sound_again():
    made = v2a.explore_hiding(Lamp(), flash(), boxes=[(0.5, 0, 1, 1)])
    panel = made.live()
    assert set(panel.controls) == {"box", "start", "end", "heard"}
    picker = panel.controls["box"]
    assert picker.value == [0.5, 0, 1, 1] and picker.picture.startswith("data:image/png")
    before = panel.output.value
    picker.value = [0.0, 0.2, 0.4321987, 0.8]  # as the script sends it
    assert "without 0 to 43 % across, 20 to 80 % down: what is lost" in panel.status.value
    assert panel.output.value != before
    panel.controls["start"].value = 0.9
    assert "from 0.90 to 1.00 s" in panel.status.value
    panel.controls["end"].value = 0.1
    assert "Not possible" in panel.status.value and "no window" in panel.status.value


def test_what_cannot_be_hidden():
    for how, words in (
        ({"boxes": []}, "at least one box"), ({"boxes": [(0, 0, 2, 1)]}, "no part of a picture"),
        ({"boxes": ["abcd"]}, "a box is"), ({"times": (0.5,)}, "times are"), ({"seed": -1}, "seed"),
        ({"times": (0.5, 3.0)}, "no window"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            v2a.explore_hiding(Lamp(), flash(), **how)
    with pytest.raises(UsageError, match="system must be what"):
        v2a.explore_hiding(object(), flash())


def test_the_picker_by_node():
    check_script("box_picker")
