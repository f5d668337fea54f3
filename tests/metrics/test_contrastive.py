"""CAVP-style and PAM-style scores: windows, golden numbers, prompts."""

from __future__ import annotations

import numpy as np
import pytest
from clap_parts import small_clap

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics import registry
from v2a_nb.metrics.base import ScoredClip, load
from v2a_nb.metrics.contrastive import PROMPTS, CavpStyle, PamStyle, chunks, pam
from v2a_nb.metrics.extractors import load_extractor

RATE = 16000


class Means:
    """An extractor whose vectors are brightness and level, each beside one."""

    tag = "means@0000"

    def look(self, clip: Clip) -> np.ndarray:
        return np.array([1.0, clip.frames.mean() / 100])

    def listen(self, sound: Sound) -> np.ndarray:
        return np.array([1.0, float(np.abs(sound.samples).mean())])


class Noisiness:
    """Sounds are as far from the good text as their level."""

    tag, scale = "noisiness@0000", 10.0

    def __call__(self, sound: Sound) -> np.ndarray:
        level = float(np.sqrt(np.mean(np.square(sound.samples))))
        return np.array([[np.cos(level), np.sin(level)]])

    def text(self, line: str) -> np.ndarray:
        return np.eye(2)[PROMPTS.index(line)]


def clip_of(levels, sound_levels) -> ScoredClip:
    frames = np.repeat(np.array(levels, np.uint8), 100)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    sound = Sound(np.repeat(np.array(sound_levels, float), 4 * RATE), RATE)
    return ScoredClip("a", "a", sound, open_video=lambda: Clip(frames, fps=25.0))


def test_each_window_has_a_cosine_of_its_own():
    fits, crossed = clip_of([0, 100], [0.0, 1.0]), clip_of([0, 100], [1.0, 0.0])  # 8 s
    assert CavpStyle(Means()).score(fits) == pytest.approx(1.0)
    assert CavpStyle(Means()).score(crossed) == pytest.approx(np.sqrt(0.5))  # means over 8 s are the same
    assert CavpStyle(Means()).score(clip_of([100], [0.0])) == pytest.approx(np.sqrt(0.5))
    assert CavpStyle(Means()).extractor == "means@0000"


def test_a_short_clip_has_the_cosine_of_av_sim():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (64, 24, 24, 3), dtype=np.uint8)
    clip = ScoredClip("a", "a", Sound(0.1 * rng.standard_normal(40960), RATE),
                      open_video=lambda: Clip(frames, fps=25.0))  # fmt: skip
    ours, whole = load(registry.METRICS["cavp"]), load(registry.METRICS["av_sim"])
    assert ours.score(clip) == pytest.approx(whole.score(clip), abs=1e-6)
    assert ours.extractor == whole.extractor and ours.extractor.startswith("av-sim@")


def test_golden_numbers_of_the_softmax():
    texts = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    sound = np.array([0.3, 0.2, np.sqrt(1 - 0.09 - 0.04)])
    assert pam(sound, texts, 33.3) == pytest.approx(0.9654, abs=5e-5)
    assert pam(sound, texts, 1 / 0.07) == pytest.approx(0.8067, abs=5e-5)
    assert pam(sound, texts[::-1], 33.3) == pytest.approx(1 - pam(sound, texts, 33.3))
    assert pam(5 * sound, 2 * texts, 33.3) == pytest.approx(pam(sound, texts, 33.3))
    assert pam(np.array([1.0, 1.0, 0.0]), texts, 33.3) == pytest.approx(0.5)


def test_windows_of_seven_seconds_end_with_the_sound():
    sound = Sound(np.arange(1600) / 1600, 100)  # 16 s
    parts = chunks(sound)
    assert [part.n for part in parts] == [700] * 3 and np.array_equal(parts[-1].samples, sound.samples[:, -700:])
    assert len(chunks(sound.slice(0, 7))) == 1 and len(chunks(sound.slice(0, 14))) == 2
    with pytest.raises(UsageError, match="an empty sound"):
        chunks(Sound(np.zeros(0), 100))


def test_more_noise_is_never_clearer():
    rng = np.random.default_rng(0)
    noise, scores = rng.standard_normal(3 * RATE), []
    for level in (0.0, 0.1, 0.3, 0.6):
        scores.append(PamStyle(Noisiness()).score(ScoredClip("a", "a", Sound(level * noise, RATE))))
    assert scores == sorted(scores, reverse=True) and scores[0] > 0.9 > 0.5 > scores[-1] - 0.5
    halves = Sound(np.concatenate([np.zeros(7 * RATE), 0.6 * rng.standard_normal(7 * RATE)]), RATE)
    mixed = PamStyle(Noisiness()).score(ScoredClip("a", "a", halves))
    assert mixed == pytest.approx((scores[0] + scores[-1]) / 2, abs=0.02)  # the mean over windows


def test_pam_style_is_claps_softmax(tmp_path):
    model = small_clap(tmp_path)
    (entry,) = registry.entries([f"pam[clap={tmp_path}]"])
    metric = load(entry)
    sound = Sound(0.1 * np.random.default_rng(0).standard_normal(2 * 48000), 48000)
    clap = load_extractor(f"clap={tmp_path}").clap
    cosines = clap.encode_texts(PROMPTS) @ clap.encode_sound(sound)
    expected = float((model.logit_scale_a.detach().exp() * cosines).softmax(0)[0])
    assert metric.score(ScoredClip("a", "a", sound)) == pytest.approx(expected, abs=1e-4)
    assert metric.extractor.startswith("clap@") and metric.needs == ()
