"""The saliency explorer: a page of maps side by side, a slider over the sound, and words for what cannot be."""

from __future__ import annotations

import pytest
from saliency_parts import small_system, the_clip

import v2a_nb as v2a
from v2a_nb.errors import UsageError


@pytest.fixture(scope="module")
def systems():
    return {"one": small_system("vaura"), "two": small_system("egosonics")}


def test_systems_and_methods_side_by_side(systems, tmp_path):
    clip, sound = the_clip()
    made = v2a.explore_saliency(systems, clip, methods=("gradient", "attention"), starts=(0.1,))
    labels = [row["label"] for row in made.table]
    assert labels == [f"{s}, {m}, from 0.10 s" for s in ("one", "two") for m in ("gradient", "attention")]
    assert all("not checked" in row["notes"] for row in made.table)
    assert made.at(system="one", method="gradient", start=0.1).sound.duration == pytest.approx(0.5)
    assert "<script" not in made.html and made.html.count("<img") == 4 and made.save(tmp_path / "a.html").exists()
    one = made.map(method="gradient", start=0.1)
    same = v2a.saliency(systems["one"], clip, sound=sound, window=(0.1, 0.6), method="gradient", check=False)
    assert one.map.tobytes() == same.map.tobytes()


def test_a_slider_moves_the_half_second(systems):
    clip, _ = the_clip()
    made = v2a.explore_saliency(systems["one"], clip, methods=("gradient",), check=True)
    panel = made.live()
    assert set(panel.controls) == {"start", "method", "system"} and panel.controls["start"].max == pytest.approx(0.3)
    before = panel.output.value
    panel.controls["start"].value = 0.2
    assert "from 0.20 s" in panel.status.value and panel.output.value != before
    assert "likeness under random weights" in panel.output.value


def test_with_and_without_a_text_side_by_side(systems):
    """Figure 3 of VTA-LDM's paper; a system that reads no text has one map."""
    clip, _ = the_clip()
    both = {"reads": small_system("vta_ldm"), "does not": systems["one"]}
    made = v2a.explore_saliency(both, clip, methods=("gradient",), prompts=("", "a stick strikes the drum"))
    labels = [row["label"] for row in made.table]
    begin = "reads, gradient, from 0.00 s"
    assert labels == [begin, f'{begin}, with "a stick strikes the drum"', "does not, gradient, from 0.00 s"]
    one, other = (made.map(system="reads", prompt=p) for p in ("", "a stick strikes the drum"))
    assert one.map.tobytes() != other.map.tobytes() and "with the text" in other.target
    assert made.live().controls["prompt"].value == "a stick strikes the drum"
    with pytest.raises(UsageError, match="does not reads no prompt"):
        made.map(system="does not", prompt="a stick")


def test_what_cannot_be(systems):
    clip, _ = the_clip()
    for how, words in (
        ({"starts": (0.5,)}, "start 0.5"), ({"starts": ()}, "at least one"), ({"methods": ("guess",)}, "no method"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            v2a.explore_saliency(systems, clip, **how)
    with pytest.raises(UsageError, match="a system, or several by name"):
        v2a.explore_saliency({"a": clip}, clip)
