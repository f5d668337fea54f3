"""Metrics of picture and sound are asked about true sounds first, and the report says where they do not hold."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.metrics.av_sim import AvSimMetric
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.evaluate import evaluate_folder
from v2a_nb.metrics.validity import FOREIGN, LATE, controls_of

RATE, CLIPS = 16000, 12


def tick(seconds: float, pitch: float = 0.8) -> Sound:
    samples = np.zeros(RATE * 2, np.float32)
    start = int(seconds * RATE)
    samples[start : start + 800] = 0.5 * np.sin(np.arange(800) * pitch) * np.exp(-np.arange(800) / 150)
    return Sound(samples, RATE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clip k flashes and ticks at 0.3 + 0.05 k seconds; what was generated ticks 60 ms late."""
    at = tmp_path_factory.mktemp("validity")
    for k in range(CLIPS):
        seconds = 0.3 + 0.05 * k
        frames = np.zeros((100, 32, 32, 3), np.uint8)
        frames[round(seconds * 50) :] = 200
        media.save_mp4(Clip(frames, fps=50.0), None, at / "videos" / f"c{k:02}.mp4")
        media.save_sound(tick(seconds), at / "true" / f"c{k:02}.wav")
        media.save_sound(tick(seconds + 0.06), at / "made" / f"c{k:02}.wav")
    return at


class Watching(AvSimMetric):
    """Under the name of a metric whose promise is declared: minus the distance of the sound from the flash, seconds."""

    extractor = "flash"

    def distance(self, clip: ScoredClip) -> float:
        bright = np.asarray(clip.video.frames).mean(axis=(1, 2, 3))
        flash = float(clip.video.times[int(np.argmax(bright > 100))])
        return abs(int(np.argmax(np.abs(clip.fitted_sound.samples[0]) > 0.05)) / RATE - flash)

    def score(self, clip: ScoredClip) -> float:
        return -self.distance(clip)


class Backwards(Watching):
    """Likes what is late."""

    def score(self, clip: ScoredClip) -> float:
        return self.distance(clip)


class Blind(Watching):
    """A coin for every sound."""

    def score(self, clip: ScoredClip) -> float:
        return float(np.random.default_rng(abs(hash(clip.sound.samples.tobytes())) % 2**32).standard_normal())


def problems(folder, metric: Metric, **options) -> list[str]:
    names = {"av_sim"}
    report = evaluate_folder(folder / "made", folder / "true", folder / "videos", metrics=[metric], **options)
    return [p["what"] for p in report.problems if p["id"] in names]


def test_a_metric_that_holds_is_not_doubted_and_shows_its_controls(folder):
    report = evaluate_folder(folder / "made", folder / "true", folder / "videos", metrics=[Watching()])
    assert report.problems == []
    values = {name: rows[0]["value"] for name, rows in report.controls.items()}
    assert values[LATE] == pytest.approx(-0.5, abs=0.03) and values["reference"] == pytest.approx(0, abs=0.03)
    assert values[FOREIGN] < -0.08 and report["av_sim"] == pytest.approx(-0.06, abs=0.03)


def test_a_metric_that_has_it_backwards_does_not_hold(folder):
    late, foreign = problems(folder, Backwards())
    assert late.startswith("does not hold on these clips: it scores their true sounds 0.0") and "late 0.49" in late
    assert foreign.startswith("does not hold on these clips") and "those of other clips" in foreign


def test_a_metric_that_cannot_tell_is_not_shown_to_hold(folder):
    found = problems(folder, Blind())
    assert found and all(what.startswith("not shown to hold on these 12 clips") for what in found)


def test_nothing_is_asked_without_true_sounds_or_controls(folder):
    assert problems(folder, Backwards(), controls=False) == []
    report = evaluate_folder(folder / "made", videos=folder / "videos", metrics=[Backwards()])
    assert LATE not in report.controls and report.problems == []


def test_metrics_of_sounds_alone_are_not_scored_on_these_controls(folder):
    report = evaluate_folder(folder / "made", folder / "true", folder / "videos", metrics=["e_l1", Watching()])
    assert [row["name"] for row in report.controls[LATE]] == ["av_sim"]
    assert [row["name"] for row in report.controls["shuffled"]] == ["e_l1", "av_sim"]


def test_controls_keep_the_length_of_the_clip():
    clip = ScoredClip("a", "r", reference=tick(0.5))
    sounds = dict(controls_of(clip, tick(0.2).slice(0, 1.0)))
    assert sorted(sounds) == sorted((LATE, FOREIGN)) and all(s.n == 2 * RATE for s in sounds.values())
    assert int(np.argmax(np.abs(sounds[LATE].samples[0]) > 0.05)) == pytest.approx(RATE, abs=5)
    assert dict(controls_of(ScoredClip("a", "r", tick(0.5)), None)) == {}
