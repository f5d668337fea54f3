"""Truth metrics: golden numbers, properties, and what the true sound itself scores."""

from __future__ import annotations

import math

import mir_eval
import numpy as np
import pytest

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics import truth
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.world import strike_world

RATE = 16000


def tick(times, seconds=3.0, level=1e-3, seed=0):
    """Decaying bursts at ``times`` over steady noise of ``level`` RMS."""
    rng = np.random.default_rng(seed)
    wave = level * rng.standard_normal(int(seconds * RATE))
    for time in times:
        start = round(time * RATE)
        n = min(1600, len(wave) - start)
        wave[start : start + n] += 0.4 * rng.standard_normal(n) * np.exp(-np.arange(n) / 200)
    return Sound(wave, RATE)


def entry(times, near=(), seconds=3.0, level=-60.0, kind="strike", name="a", recording="r0"):
    events = [{"time_s": t, "kind": kind, "material": "wood", "sounding": True} for t in times]
    events += [{"time_s": t, "kind": "near_miss", "material": "wood", "sounding": False} for t in near]
    return {
        "id": name, "recording": recording, "duration_s": seconds, "events": events,
        "ambient": {"kind": "hiss", "level_dbfs": level},
    }  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return strike_world(404, 60, size=16)


@pytest.fixture(scope="module")
def true_scores(world):
    return [truth.score_clip(item.stems["mix"], item.truth, reference=item.stems["mix"]) for item in world]


def test_golden_onsets():
    """Reference .5 1 1.5 2, estimate .53 1.06 1.49 2 2.5: F1 0.6667 at 50 ms, median offset 10 ms there."""
    true = np.array([0.5, 1, 1.5, 2])
    found = np.array([0.53, 1.06, 1.49, 2, 2.5])
    score = truth.ClipScore("a", "r", 4, 5, {w: len(truth.match_onsets(true, found, w / 1000)) for w in (25, 50, 100)})
    assert truth.pool([score], "onset_f1_50ms") == pytest.approx(2 / 3)
    assert truth.pool([score], "onset_f1_25ms") == pytest.approx(4 / 9)
    assert truth.pool([score], "onset_f1_100ms") == pytest.approx(8 / 9)
    pairs = truth.nearest_pairs(true, found, 0.05)
    score.offsets = [found[j] - true[i] for i, j in pairs]
    assert truth.pool([score], "onset_offset_abs_ms") == pytest.approx(10)
    score.offsets = [found[j] - true[i] for i, j in truth.nearest_pairs(true, found, truth.GATE_S)]
    assert truth.pool([score], "onset_offset_abs_ms") == pytest.approx(20)  # +30, +60, -10, 0: nothing hidden
    assert truth.pool([score], "onset_offset_signed_ms") == pytest.approx(15)


def test_golden_details():
    """The same lists: precision 0.6 and recall 0.75 at 50 ms; within 250 ms, one onset has no event."""
    found = np.array([0.53, 1.06, 1.49, 2, 2.5])
    score = truth.compare_onsets(np.array([0.5, 1, 1.5, 2]), found, "a", "r")
    golden = {
        "precision_25ms": 0.4, "precision_50ms": 0.6, "precision_100ms": 0.8, "recall_25ms": 0.5, "recall_50ms": 0.75,
        "recall_100ms": 1.0, "miss_rate": 0.0, "false_alarm_rate": 0.2, "count_error": 1.0,
    }  # fmt: skip
    assert {f"onset_{name}" for name in golden} == set(truth.DETAILS)
    for name, value in golden.items():
        assert truth.pool([score], f"onset_{name}") == pytest.approx(value), name
    silent = truth.compare_onsets(np.array([1.0, 2.0, 3.0, 4.0]), np.zeros(0), "b", "r")
    assert math.isnan(truth.pool([silent], "onset_precision_50ms"))  # no onset can be right or wrong
    assert truth.pool([silent], "onset_miss_rate") == 1 and truth.pool([silent], "onset_recall_100ms") == 0
    both = [score, silent]
    assert truth.pool(both, "onset_recall_100ms") == 0.5 and truth.count(both, "onset_recall_100ms") == 8
    assert truth.pool(both, "onset_precision_50ms") == 0.6 and truth.count(both, "onset_precision_50ms") == 5
    assert truth.pool(both, "onset_count_error") == 2.5 and truth.count(both, "onset_count_error") == 2
    # a count is right, and a machine gun misses nothing, with every onset at a wrong time or without reason
    late = truth.compare_onsets(np.array([1.0, 2.0]), np.array([1.4, 2.4]), "c", "r")
    assert truth.pool([late], "onset_count_error") == 0 and truth.pool([late], "onset_miss_rate") == 1
    gun = truth.compare_onsets(np.array([1.0, 2.0]), np.arange(0, 3, 0.1), "d", "r")
    assert truth.pool([gun], "onset_miss_rate") == 0 and truth.pool([gun], "onset_precision_50ms") < 0.1


def test_precision_and_recall_are_those_of_mir_eval():
    rng = np.random.default_rng(2)
    for _ in range(50):
        true, found = (np.sort(rng.uniform(0, 3, rng.integers(1, 9))) for _ in range(2))
        score = truth.compare_onsets(true, found, "a", "r")
        for window in truth.WINDOWS_MS:
            f1, precision, recall = mir_eval.onset.f_measure(true, found, window=window / 1000)
            assert truth.pool([score], f"onset_f1_{window}ms") == pytest.approx(f1, abs=1e-12)
            assert truth.pool([score], f"onset_precision_{window}ms") == pytest.approx(precision, abs=1e-12)
            assert truth.pool([score], f"onset_recall_{window}ms") == pytest.approx(recall, abs=1e-12)


def test_without_truth_onsets_are_compared_with_those_of_the_true_sound():
    true, metric = tick([0.6, 1.3, 2.1]), truth.OnsetMetrics()
    clips = [
        ScoredClip(f"c{k}", f"r{k}", tick([0.6 + late, 1.3], seed=1), reference=true) for k, late in ((0, 0), (1, 0.04))
    ]
    assert all(metric.can_score(clip) for clip in clips)
    rows = metric.results([metric.score(c) for c in clips], ["r0", "r1"], ["onset_f1_25ms", "onset_recall_50ms"])
    assert [row["value"] for row in rows] == pytest.approx([2 * 3 / 10, 4 / 6])
    assert {row["extractor"] for row in rows} == {"mel-rise against reference"}
    known = ScoredClip("c", "r", true, entry([0.6, 1.3, 2.1]), true)  # the truth goes before what can be detected
    (row,) = metric.results([metric.score(known)], ["r"], ["onset_f1_25ms"])
    assert row["extractor"] == "mel-rise" and row["value"] == 1
    alone = ScoredClip("c", "r", true)
    assert not metric.can_score(alone)
    with pytest.raises(UsageError, match="neither true events nor a true sound"):
        metric.score(alone)


def test_pairs_are_as_many_as_mir_evals_and_nearest():
    rng = np.random.default_rng(1)
    for _ in range(200):
        true, found = (np.sort(rng.uniform(0, 3, rng.integers(1, 9))) for _ in range(2))
        pairs = truth.nearest_pairs(true, found, 0.25)
        greedy = truth.match_onsets(true, found, 0.25)
        assert len(pairs) == len(greedy) == len(mir_eval.util.match_events(true, found, 0.25))
        assert len({j for _, j in pairs}) == len(pairs)
        away = sum(abs(found[j] - true[i]) for i, j in pairs)
        assert away <= sum(abs(found[j] - true[i]) for i, j in greedy) + 1e-9
    assert truth.nearest_pairs(np.array([1.0]), np.array([0.8, 1.0]), 0.25) == [(0, 1)]
    assert truth.nearest_pairs(np.array([]), found, 0.25) == []


@pytest.mark.parametrize("shift_ms", [-120, -40, 0, 40, 180])
def test_a_shift_comes_back_with_its_sign(shift_ms):
    times = [0.6, 1.3, 2.1]
    score = truth.score_clip(tick([t + shift_ms / 1000 for t in times]), entry(times))
    assert truth.pool([score], "onset_offset_signed_ms") == pytest.approx(shift_ms, abs=4)
    assert truth.pool([score], "onset_offset_abs_ms") == pytest.approx(abs(shift_ms), abs=4)
    assert truth.pool([score], "onset_f1_25ms") == (abs(shift_ms) < 25)
    assert truth.pool([score], "onset_f1_50ms") == (abs(shift_ms) < 50)


def test_pooling_weighs_events_not_clips():
    full = truth.score_clip(tick([0.5, 1.0, 1.5]), entry([0.5, 1.0, 1.5]))
    missed = truth.score_clip(tick([]), entry([1.0]))
    assert truth.pool([full, missed], "onset_f1_50ms") == pytest.approx(2 * 3 / (4 + 3))
    assert truth.count([full, missed], "onset_f1_50ms") == 4


def test_nothing_to_count_is_nan_and_n_is_zero():
    score = truth.score_clip(tick([]), entry([]))
    for name in truth.NAMES:
        if name != "ambience_error_db":
            assert math.isnan(truth.pool([score], name)), name
            assert truth.count([score], name) == 0
    assert all(math.isnan(truth.pool([score], name)) for name in truth.SHARES)
    assert truth.count([score], "ambience_error_db") == 1
    full = truth.score_clip(tick([1.0]), entry([1.0]))
    assert truth.pool([full, score], "onset_f1_50ms") == 1  # an empty clip changes nothing
    for ask in (truth.pool, truth.count):
        with pytest.raises(UsageError, match="onset_f1_50ms"):
            ask([score], "onset_f1")
    assert math.isnan(truth.pool([], "onset_f1_50ms")) and truth.count([], "material_accuracy") == 0


def test_all_truth_metrics_are_rows_of_a_report():
    scores = [truth.score_clip(tick([0.6, t]), entry([0.6, t], recording=f"r{t}")) for t in (1.0, 1.4, 1.8)]
    rows = truth.summarize(scores)
    assert [row["name"] for row in rows] == list(truth.NAMES)
    assert rows[1]["value"] == truth.pool(scores, "onset_f1_50ms") and rows[1]["n"] == 6
    extractors = [row["extractor"].split("@")[0] for row in rows[5:]]
    assert extractors == ["mel-rise", "strike-material", "quiet-level", "rms", "rms", "spectra", "spectra"]


def test_near_misses():
    judge = entry([0.6], near=[1.5, 2.2])
    assert truth.pool([truth.score_clip(tick([0.6]), judge)], "near_miss_silent") == 1
    fired = truth.score_clip(tick([0.6, 1.55]), judge)
    assert truth.pool([fired], "near_miss_silent") == 0.5
    assert truth.count([fired], "near_miss_silent") == 2
    far = truth.score_clip(tick([0.6, 1.75]), judge)  # a false onset, but not the near miss's
    assert truth.pool([far], "near_miss_silent") == 1
    beside = truth.score_clip(tick([0.6]), entry([0.6], near=[0.7]))
    assert beside.near_misses == 0  # the hit's own onset may not be held against it


def test_quiet_level_is_the_ambience_under_the_hits():
    for level in (-60, -45, -30):
        rms = 10 ** (level / 20)
        judge = entry([0.6, 1.3, 2.1], level=level)
        assert abs(truth.score_clip(tick([0.6, 1.3, 2.1], level=rms), judge).ambience_error) < 0.5
        louder = truth.score_clip(tick([0.6, 1.3, 2.1], level=2 * rms), judge)
        assert louder.ambience_error == pytest.approx(6.02, abs=0.5)
    assert truth.quiet_level(np.zeros(RATE)) == -120
    assert truth.quiet_level(np.full(RATE, 0.1)) == pytest.approx(-20, abs=1e-6)
    assert truth.quiet_level(np.zeros(3)) == -120


def test_only_the_clip_is_scored():
    judge = entry([0.6], seconds=1.0)
    assert truth.score_clip(tick([0.6, 2.0]), judge).onsets == 1  # what follows the clip's end is not
    short = truth.score_clip(tick([0.3], seconds=0.5), entry([0.3, 0.8], seconds=1.0))
    assert (short.events, short.hits[50]) == (2, 1)  # the missing half counts as missed
    assert len(short.materials) == 2 and short.materials[1] == ("wood", "nothing")


def test_other_rates_and_stereo():
    judge = entry([0.6, 1.3])
    sound = tick([0.6, 1.3]).resample(44100)
    both = Sound(np.repeat(sound.samples, 2, axis=0), 44100)
    for variant in (sound, both):
        score = truth.score_clip(variant, judge)
        assert truth.pool([score], "onset_f1_25ms") == 1
        assert abs(score.ambience_error) < 1.0


def test_the_true_sound_scores_near_the_top(true_scores):
    """The ceiling of each metric: the detector's, the classifier's and the level's own errors."""
    value = {name: truth.pool(true_scores, name) for name in truth.NAMES}
    assert value["onset_f1_50ms"] > 0.95
    assert value["onset_f1_25ms"] > 0.95
    assert value["onset_offset_abs_ms"] < 2
    assert abs(value["onset_offset_signed_ms"]) < 1
    assert value["near_miss_silent"] > 0.97
    # sixteen recordings: one object that rings like another material is 7 % of the hits here
    assert value["material_accuracy"] > 0.9
    assert value["ambience_error_db"] < 0.8
    assert np.median([abs(s.ambience_error) for s in true_scores]) < 0.2
    for name in truth.NAMES[8:]:
        assert value[name] == 0
    assert truth.count(true_scores, "stuck_share") == 60
    assert truth.count(true_scores, "decay_error_db") > 0.8 * truth.count(true_scores, "material_accuracy")


def test_controls_are_in_order(world, true_scores):
    """Silence, noise, the ambience alone and a wrong clip's sound: each fails where it should."""
    clips = list(world)
    quiet = [truth.score_clip(Sound(np.zeros(40960), RATE), c.truth) for c in clips]
    assert truth.pool(quiet, "onset_f1_100ms") == 0
    assert truth.pool(quiet, "material_accuracy") == 0
    assert truth.pool(quiet, "ambience_error_db") > 40
    room = [truth.score_clip(c.stems["ambient"], c.truth) for c in clips]
    assert truth.pool(room, "onset_f1_50ms") < 0.05  # an absolute threshold hears no hits in noise
    assert truth.pool(room, "near_miss_silent") > 0.97
    assert truth.pool(room, "ambience_error_db") < 0.3
    wrong = [
        truth.score_clip(clips[i - 30].stems["mix"], c.truth, reference=c.stems["mix"]) for i, c in enumerate(clips)
    ]
    assert truth.pool(wrong, "onset_f1_50ms") < 0.30
    assert truth.pool(wrong, "material_accuracy") < 0.5
    assert truth.pool(wrong, "onset_offset_abs_ms") > 10 * truth.pool(true_scores, "onset_offset_abs_ms")
    assert truth.pool(wrong, "ambience_error_db") > 3
    assert truth.pool(wrong, "decay_error_db") > 3 and truth.pool(wrong, "event_mel_distance") > 0.2
