"""CLAP score: cosines, what level changes, and whether a sound is nearest to its own text."""

from __future__ import annotations

import math

import numpy as np
import pytest
from clap_parts import small_clap

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics.base import ScoredClip, load
from v2a_nb.metrics.clap_score import ClapRecall, ClapScore, ClapScorePeak, cosine
from v2a_nb.metrics.registry import entries

TEXTS = {"one": [1.0, 0.0], "two": [0.0, 1.0], "minus one": [-1.0, 0.0]}


class Toy:
    """The vector of a sound is its first two samples; texts are in a table."""

    tag = "toy@0000"

    def __init__(self):
        self.sounds = self.lines = 0

    def __call__(self, sound):
        self.sounds += 1
        return sound.samples[:, :2].astype(float)

    def text(self, line):
        self.lines += 1
        return np.array(TEXTS[line])


def clip(samples, text, name="a"):
    return ScoredClip(name, name, Sound(np.array([*samples, 0.0, 0.0]), 4), text=text)


def test_the_score_is_a_cosine():
    for samples, value in (((0.5, 0.0), 1), ((0.0, 0.5), 0), ((-0.25, 0.0), -1), ((0.3, 0.3), math.sqrt(0.5))):
        assert ClapScore(Toy()).score(clip(samples, "one")) == pytest.approx(value, abs=1e-6)
    assert cosine(np.array([1.0, 2.0]), np.array([20.0, 40.0])) == pytest.approx(1)
    rows = [1.0, 0.0, -1.0, 0.5]
    assert ClapScore(Toy()).pool(rows, "clap") == pytest.approx(0.125)  # nothing is cut off at 0


def test_a_peak_of_minus_one_decibel_and_16_bits():
    samples = ClapScorePeak(Toy()).prepare(Sound([0.02, -0.04, 0.0], 4)).samples[0]
    assert np.abs(samples).max() == pytest.approx(10 ** (-1 / 20), abs=1 / 32767)
    assert samples * 32767 == pytest.approx(np.round(samples * 32767), abs=1e-2)
    silence = Sound([0.0, 0.0], 4)
    assert ClapScorePeak(Toy()).prepare(silence) is silence
    assert ClapScore(Toy()).prepare(silence) is silence


def test_recall_counts_the_sounds_that_are_nearest_to_their_own_text():
    model = Toy()
    recall, score = ClapRecall(model), ClapScore(model)
    clips = [clip((1, 0.1), "one", "a"), clip((0.2, 1), "two", "b"), clip((1, 0.2), "two", "c"),
             clip((0.9, 0.0), "one", "d")]  # fmt: skip
    rows = [recall.score(each) for each in clips]
    assert recall.pool(rows, "clap_r1") == 0.75 and recall.count(rows, "clap_r1") == 4
    low, high = recall.interval(rows, ["a", "b", "c", "d"], "clap_r1")
    assert 0 <= low < 0.75 < high <= 1
    assert [score.score(each) for each in clips] == [cosine(*recall.vectors(each)) for each in clips]
    assert model.sounds == model.lines == 4  # both metrics share what is computed
    assert recall.results(rows, ["a", "b", "c", "d"])[0]["extractor"] == "toy@0000"
    for few in (rows[:1], [rows[0], rows[3]], []):
        with pytest.raises(UsageError, match="no two texts"):
            recall.results(few, [])
    shuffled = [recall.score(each.with_sound(other.sound)) for each, other in zip(clips, clips[1:] + clips[:1])]
    assert recall.pool(shuffled, "clap_r1") < 0.75


def test_scores_of_a_published_layout(tmp_path):
    small_clap(tmp_path)
    (peak,), (plain,) = entries([f"clap_peak[clap-fused={tmp_path}]"]), entries([f"clap[clap={tmp_path}]"])
    noise = Sound(0.1 * np.random.default_rng(0).standard_normal(48000), 48000)
    scored = ScoredClip("a", "a", noise, text="rain")
    metric = load(plain)
    assert metric.score(scored) == pytest.approx(metric.model.clap.similarity(noise, "rain"), abs=1e-5)
    assert metric.extractor.startswith("clap@") and load(peak).extractor.startswith("clap-fused@")
    assert -1 <= load(peak).score(scored) <= 1 and metric.needs == ("text",)
    assert not metric.can_score(ScoredClip("a", "a", noise))
    with pytest.raises(UsageError, match=r"takes clap\[clap\] or"):
        entries(["clap[vggish=x]"])
