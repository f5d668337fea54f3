"""Scores on real clips: the table of onsets, and F1 beside controls that regular and many onsets cannot fool."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.errors import UsageError
from v2a_nb.scores import real
from v2a_nb.scores.base import Job
from v2a_nb.training.results import REAL
from v2a_nb.world import strike_world

RNG = np.random.default_rng(0)
TRUE = [np.sort(RNG.uniform(0, 5, 6)) for _ in range(6)]
SECONDS = [5.0] * 6


def values(found):
    return {(row.metric, row.subject): row for row in real.f1_rows("it", TRUE, found, SECONDS)}


def test_who_knows_the_onsets_beats_both_controls():
    rows = values([[times + 0.02] for times in TRUE])
    assert rows["onset_f1_50ms", "it"].value == 1 and rows["onset_f1_50ms", "it"].n == 36
    for control in ("onsets moved in time", "sounds of other clips"):
        assert rows["onset_f1_50ms", control].value < 0.4
        assert rows["onset_f1_100ms", control].value > rows["onset_f1_50ms", control].value


def test_many_regular_onsets_are_no_better_than_their_controls():
    rows = values([[np.arange(0, 5, 0.2)] for _ in TRUE])
    own = rows["onset_f1_100ms", "it"]
    for control in ("onsets moved in time", "sounds of other clips"):
        assert abs(own.value - rows["onset_f1_100ms", control].value) < 0.1


def test_silence_scores_nothing():
    assert values([[np.zeros(0)] for _ in TRUE])["onset_f1_50ms", "it"].value == 0


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names 0 clips"),
        ("a.mp4\timpact\tx\ty\t0.5 1.0\n", "names 1 clips"),
        ("a.mp4\timpact\tx\n", "line 1: five columns"),
        ("a.mp4\timpact\tx\ty\t0.5 soon\n", "line 1: five columns"),
        ("# words\nfile\tclass\twhat\tsource\tonsets_s\nb.mp4\timpact\tx\ty\t0.5\n", "line 3: there is no b.mp4"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, text, reason):
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "onsets.tsv").write_text(text)
    with pytest.raises(UsageError, match=reason):
        real.read_onsets(tmp_path)


def test_a_folder_of_clips_is_scored(tmp_path):
    lines = []
    for item in strike_world(9, 2, size=64):
        media.save_mp4(item.clip, item.stems["mix"], tmp_path / f"{item.id}.mp4")
        times = " ".join(f"{e['time_s']:.2f}" for e in item.truth["events"] if e["sounding"])
        lines.append(f"{item.id}.mp4\timpact\tx\tours\t{times}")
    (tmp_path / "onsets.tsv").write_text("\n".join(lines))
    table = real.real(Job("real", "", say=lambda _: None), tmp_path, systems=("retrieval",))["retrieval"]
    assert table.source == REAL and table.about["clips"] == 2 and table.subjects[0] == "retrieval"
    assert 0 <= table.row("onset_f1_100ms").value <= 1
