"""What a prompt changes: that a system that follows its prompt, and one that does not, are told apart."""

from __future__ import annotations

import numpy as np
import pytest
from vta_parts import small_system

from v2a_nb.metrics.truth import ClipScore
from v2a_nb.scores import ablations, prompts, systems
from v2a_nb.scores.base import Job
from v2a_nb.systems.vta_ldm.train import ABLATIONS
from v2a_nb.world import strike_world


@pytest.fixture(scope="module")
def items():
    """Clips in which something is struck: their sounds are not listened to here."""
    return strike_world(41, 8, seconds=3.0, size=24, per_recording=2).clips


class Speaker:
    """In the place of sounds it returns the name of the material that a clip sounds like."""

    def __init__(self, items, listens: bool) -> None:
        self.own = {one.item.id: one.own for one in prompts.cases(items, 0)}
        self.listens, self.pictures = listens, []

    def generate_batch(self, clips, seeds, prompt=None, negative_prompt=None):
        assert len(seeds) == len(clips) and None in (prompt, negative_prompt)
        self.pictures += [clip.frames for clip in clips]
        words = prompt if prompt is not None and self.listens else [""] * len(clips)
        heard = [[name for name in prompts.CLASSES if name in text] for text in words]
        return [found[0] if found else self.own[clip.name] for clip, found in zip(clips, heard, strict=True)]


def score(sound, truth):
    """A score whose hits sound as ``sound`` says."""
    made = ClipScore(truth["id"], truth["recording"], 1, 1, {50: 1})
    made.materials = [(e["material"], sound) for e in truth["events"] if e["sounding"] and e["kind"] != "scrape"]
    return made


@pytest.mark.parametrize("listens", [True, False])
def test_a_system_that_listens_is_told_from_one_that_does_not(items, monkeypatch, listens):
    made = Speaker(items, listens)
    monkeypatch.setattr(prompts, "load", lambda *_: made)
    monkeypatch.setattr(prompts, "score_clip", score)
    monkeypatch.setattr(systems.TestSet, "clips", lambda self, count: items[:count])
    (table,) = prompts.prompts(Job("vta_ldm", "vta_ldm", clips=8, say=lambda _: None))
    assert len(table.subjects) == 8 and 4 <= table.about["clips"] <= 8
    plain, *ways = (f"pictures as they are: {way}" for way in prompts.WAYS)
    assert table.row("prompted_material_share", plain).value == 0 < table.row("material_accuracy", plain).value
    with pytest.raises(KeyError):
        table.row("prompted_material_change", plain)
    for way in ways[:2]:
        share, change = (table.row(f"prompted_material_{what}", way) for what in ("share", "change"))
        assert share.value == change.value == change.low == change.high == float(listens)
        assert share.low < share.high and share.n > share.value
    sharp, soft = made.pictures[0], made.pictures[-1]
    assert np.ptp(sharp, axis=3).max() > 20 and np.ptp(soft, axis=3).max() == 0
    assert np.abs(np.diff(soft[0].astype(int), axis=0)).max() < np.abs(np.diff(sharp[0].astype(int), axis=0)).max()


def test_narrations_are_of_what_is_asked_for(items):
    asked = prompts.cases(items, 0)
    assert asked and asked == prompts.cases(items, 0)
    for one in asked:
        struck = {event["material"] for event in one.item.truth["events"]}
        assert one.material not in struck and one.own in struck
        assert one.material in one.narration and not any(name in one.narration for name in struck)


def test_texts_of_an_ablation_are_those_of_its_clips(items, monkeypatch):
    others = ablations.other_narrations(items)
    assert ablations.narrations(items) == [clip.narration for clip in items]
    assert sorted(others) == sorted(ablations.narrations(items)) and others != ablations.narrations(items)
    joined = systems.TESTS["vta_ldm"].joined(2)
    assert len(joined) == 2 and all("joined" in clip.truth for clip in joined)
    monkeypatch.setattr(systems.TestSet, "joined", lambda self, count: joined)
    given, rows = [], [{"name": name, "value": 0.5} for name in ablations.SHOWN["vta_ldm"]]
    report = type("Report", (), {"metrics": rows})
    monkeypatch.setattr(ablations, "load", lambda *_: type("Model", (), {"card": {"steps": 1}}))
    monkeypatch.setattr(ablations, "evaluated", lambda model, some, **how: given.append((some, how)) or report)
    variant = ablations.Variant("told", texts={"prompt": ablations.narrations}, joined=True)
    assert len(ablations._measure("vta_ldm", variant, "vta_ldm", 2, 1, 3.0)) == 1 + len(rows)
    ((some, how),) = given
    assert some is joined and how["prompt"] == [clip.narration for clip in joined]


def test_every_row_of_the_shipped_weights_is_one_that_the_system_can_make(items):
    system, clips = small_system(), [items[0].clip.silent()]
    for variant in ablations.VARIANTS["vta_ldm"]:
        texts = {name: of([items[0]]) for name, of in variant.texts.items()}
        options = {"guidance": 3.0, **variant.options, **texts, "steps": 1}
        if not variant.trained:
            assert system.generate_batch(clips, seeds=[0], **options)[0].peak > 0
    trained = {variant.trained for variant in ablations.VARIANTS["vta_ldm"]} - {""}
    assert trained <= set(ABLATIONS)
