"""Rank correlations of metrics with what is known: a ruler orders, a coin does not, and a constant says nothing."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from v2a_nb.clip import Sound
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.ladder import delayed, noise_like
from v2a_nb.metrics.timing import EnvelopeLag
from v2a_nb.metrics.truth import OnsetMetrics
from v2a_nb.scores import synchrony as scores
from v2a_nb.scores.base import Job
from v2a_nb.scores.synchrony import EARLY, LATE, ORDER, f1_rows, offset_rows, rank_correlation
from v2a_nb.world import strike_world


@pytest.mark.parametrize("seed", range(4))
def test_correlation_is_scipys(seed):
    draw = np.random.default_rng(seed)
    one, two = draw.integers(0, 5, (2, 30)).astype(float)  # many ties
    assert rank_correlation(one, two) == pytest.approx(spearmanr(one, two).statistic, abs=1e-12)
    one[3], two[7] = np.nan, np.nan
    kept = np.isfinite(one) & np.isfinite(two)
    assert rank_correlation(one, two) == pytest.approx(spearmanr(one[kept], two[kept]).statistic, abs=1e-12)


def test_too_few_pairs_have_none_and_a_constant_has_zero():
    assert np.isnan(rank_correlation(np.array([1.0, 2, np.nan]), np.arange(3.0)))
    assert rank_correlation(np.arange(9.0), np.ones(9)) == 0


class Fixed(Metric):
    """The same for every sound."""

    names, needs, extractor = ("av_sim",), (), "fixed"

    def score(self, clip: ScoredClip) -> float:
        return 0.5


class Coin(Fixed):
    extractor = "coin"

    def score(self, clip: ScoredClip) -> float:
        assert clip.sound is not None
        return float(np.random.default_rng(abs(hash(clip.sound.samples.tobytes())) % 2**32).random())


class Backwards(Fixed):
    """Likes what is far from the true sound's time."""

    extractor = "backwards"

    def score(self, clip: ScoredClip) -> float:
        return abs(EnvelopeLag().score(clip))


@pytest.fixture(scope="module")
def clips():
    world = strike_world(700, 24, seconds=3.0, size=16, per_recording=1)
    return [clip for clip in world if sum(event["sounding"] for event in clip.truth["events"]) >= 2][:10]


def value(rows, metric: str, subject: str) -> float:
    (row,) = [row for row in rows if (row.metric, row.subject) == (metric, subject)]
    assert row.low is None or row.low <= row.value <= row.high
    return row.value


def test_offsets_are_ordered_by_a_ruler_and_by_nothing_else(clips):
    metrics = {"envelope_lag_abs_ms": EnvelopeLag(), "av_sim": Backwards()}
    rows = offset_rows(clips, metrics)
    for which in (LATE, EARLY):
        assert value(rows, which, "envelope_lag_abs_ms") > 0.9 and value(rows, which, "av_sim") < -0.9
    for metric, most in ((Fixed(), 0.0), (Coin(), 0.4)):
        assert abs(value(offset_rows(clips, {"av_sim": metric}), LATE, "av_sim")) <= most


def test_sounds_are_ordered_by_their_onset_f1(clips):
    true = [clip.stems["mix"] for clip in clips]
    sounds = {
        "true": true, "late": [delayed(s, 0.3) for s in true], "noise": [noise_like(s, k) for k, s in enumerate(true)],
    }  # fmt: skip
    metrics = {"onset_f1_50ms": OnsetMetrics(), "envelope_lag_abs_ms": EnvelopeLag(), "av_sim": Fixed()}
    rows = f1_rows(clips, metrics, sounds)
    assert sorted(row.subject for row in rows) == ["av_sim", "envelope_lag_abs_ms"], "F1 is not held against itself"
    assert value(rows, ORDER, "envelope_lag_abs_ms") > 0.6 and value(rows, ORDER, "av_sim") == 0
    assert all(row.n == 4 * len(clips) for row in rows), "shuffled sounds are there, too"


def test_the_table_has_a_row_for_each_metric(monkeypatch):
    class Silent:
        def generate_batch(self, clips, seeds):
            return [Sound(np.zeros(round(c.duration * 16000), np.float32), 16000) for c in clips]

    monkeypatch.setattr(scores, "load_system", lambda name: Silent())
    monkeypatch.setattr(scores, "JUDGES", ("vaas_score",))
    lines: list[str] = []
    (table,) = scores.synchrony(Job("av_sync", "av_sync", 3, say=lines.append))
    assert table.subjects == ["vaas_score", *scores.CEILINGS] and table.metrics == [LATE, EARLY, ORDER]
    assert table.about["clips"] == 3 and len(lines) == 2
    assert table.row(LATE, "vaas_score").extractor.startswith("vaas-tiny@")
