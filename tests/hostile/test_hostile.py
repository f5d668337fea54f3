"""Every input through everything: no traceback, nothing half-written, nothing of the user's changed, within limits."""

from __future__ import annotations

import os

import pytest
from hostile.films import boxes
from hostile.harness import left_behind, snapshot
from hostile.inputs import CASES
from hostile.inputs_damage import mp4_of

INPUTS = [pytest.param(n, id=f"{c.family}: {n}", marks=() if c.fast else pytest.mark.hostile) for n, c in CASES.items()]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="each input runs in a fork")


@pytest.mark.parametrize("name", INPUTS)
def test_input(name, campaign, outcomes):
    outcome = campaign.run(name)
    outcomes.append(outcome)
    if outcome.skipped:
        pytest.skip(outcome.skipped)
    if outcome.faults:
        pytest.fail("\n".join(": ".join(filter(None, fault)) for fault in outcome.faults), pytrace=False)


def test_there_are_many_and_every_family_is_in_make_test():
    assert len(CASES) >= 200
    fast = {case.family for case in CASES.values() if case.fast}
    assert fast == {case.family for case in CASES.values()}


def test_every_box_is_cut():
    for flags in ("", "+faststart", "+frag_keyframe+empty_moov"):
        found = [name for name, _, _ in boxes(mp4_of(flags))]
        assert {"ftyp", "moov", "moov/trak.0/mdia/minf/stbl/stsd", "moov/trak.1/tkhd"} <= set(found)
        assert any(name.startswith("mdat") for name in found)


def test_a_changed_a_removed_and_a_half_written_file_are_found(tmp_path):
    for name in ("kept.mp4", "changed.mp4", "removed.mp4"):
        (tmp_path / name).write_bytes(mp4_of())
    before = snapshot(tmp_path)
    assert left_behind(tmp_path, before) == []
    (tmp_path / "changed.mp4").write_bytes(b"other")
    (tmp_path / "removed.mp4").unlink()
    (tmp_path / "half.mp4").write_bytes(mp4_of()[:2000])
    (tmp_path / "half.json").write_text("{")
    (tmp_path / ".page.html.7.part").write_text("<html>")
    found = left_behind(tmp_path, before)
    assert sorted(kind for kind, _, _ in found) == ["half", "half", "half", "lost", "lost"]
