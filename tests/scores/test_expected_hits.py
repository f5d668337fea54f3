"""Reliability of reported hits, and the tables of sensitivity and frame rates."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.clip import Sound
from v2a_nb.hits import Hits
from v2a_nb.scores import expected_hits, systems
from v2a_nb.scores.base import Job
from v2a_nb.scores.expected_hits import reliability_rows, reported
from v2a_nb.world import strike_world


class Listener:
    """Knows all events, and doubts some: near misses get 0.3, and each true hit has a faint echo 30 ms later."""

    def __init__(self, items) -> None:
        self.truth = {item.clip.frames.tobytes(): item for item in items}

    def hits(self, clip, *, sensitivity=0.5):
        found = []
        for event in self.truth[clip.frames.tobytes()].truth["events"]:
            found.append({"time_s": event["time_s"], "probability": 0.9 if event["sounding"] else 0.3})
            if event["sounding"] and event["time_s"] + 0.03 < clip.duration:
                found.append({"time_s": event["time_s"] + 0.03, "probability": 0.1})
        return Hits({**hit, "origin": "model"} for hit in found).at(sensitivity)

    def generate(self, clip, *, seed=0, sensitivity=0.5):
        """The true sound, but silent where no hit is likely enough for this sensitivity."""
        item = self.truth[clip.frames.tobytes()]
        loud = len(self.hits(clip, sensitivity=sensitivity)) > 0
        wave = item.clip.sound.samples if loud else np.zeros_like(item.clip.sound.samples)
        return Sound(wave, item.clip.sound.sample_rate)


def test_a_reported_hit_is_counted_once_and_near_misses_are_not_sounds():
    items = strike_world(8000, 12, size=32).clips
    told, sounded = reported(Listener(items), items)
    true = sum(event["sounding"] for item in items for event in item.truth["events"])
    misses = sum(not event["sounding"] for item in items for event in item.truth["events"])
    assert true > 5 and misses > 2
    assert sounded.sum() == sounded[told == 0.9].sum() == (told == 0.9).sum() == true
    assert not sounded[told == 0.1].any() and (told == 0.3).sum() == misses


def test_the_calibration_error_is_the_distance_from_the_diagonal():
    told = np.repeat([0.1, 0.7, 1.0], [100, 100, 50])
    sounded = np.concatenate([np.arange(100) < 10, np.arange(100) < 40, np.ones(50, bool)])
    rows = {(row.subject, row.metric): row for row in reliability_rows(told, sounded, "version 1")}
    assert rows["version 1, 0.0 to 0.2", "sounded"].value == pytest.approx(0.1)
    assert rows["version 1, 0.6 to 0.8", "reported"].value == pytest.approx(0.7)
    last = rows["version 1, 0.8 to 1.0", "sounded"]
    assert last.value == 1.0 and last.low < 0.95 and last.n == 50  # fifty of fifty still leave room for doubt
    assert rows["version 1", "calibration_error"].value == pytest.approx(0.3 * 100 / 250)
    assert ("version 1, 0.2 to 0.4", "sounded") not in rows
    assert reliability_rows(np.zeros(0), np.zeros(0, bool), "nothing") == []


@pytest.fixture
def listener(monkeypatch):
    """All that the tables read is known to it."""
    made = {}

    def of_world(seed, count, **options):
        items = strike_world(seed, min(count, 4), **{**options, "size": 32}).clips
        made.setdefault("system", Listener([])).truth.update({i.clip.frames.tobytes(): i for i in items})
        return type("World", (), {"clips": items})

    for module in (expected_hits, systems):
        monkeypatch.setattr(module, "strike_world", of_world)
        monkeypatch.setattr(module, "load", lambda *_: made.setdefault("system", Listener([])))
    return made


def test_tables_of_hits_and_rates_have_a_row_for_each_setting(listener):
    job = Job("vaura", "vaura", clips=4, say=lambda line: None)
    (table,) = expected_hits.reliability(job)
    assert {"version 1", "version 2"} <= set(table.subjects) and table.about["seed_wide"] == 8100
    (table,) = expected_hits.sensitivity(job)
    assert len(table.subjects) == 1 + len(expected_hits.SENSITIVITIES)
    heard = [table.row("onset_f1_50ms", f"sensitivity {s}").value for s in ("0", "0.5", "1")]
    assert heard[0] == 0.0 and heard[-1] > 0.95  # "only sure" takes 0.99 and more: this one is never so sure
    (table,) = systems.frame_rates(job)
    assert table.subjects[:2] == ["15 fps", "23.976 fps"] and table.row("onset_f1_25ms", "60 fps").value > 0.9
    (table,) = systems.wide(job)
    assert table.about["seed"] == 8100 and table.row("onset_f1_50ms").value > 0.9
