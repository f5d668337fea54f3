"""Expected hits of clips of any length, and what is said of them."""

from __future__ import annotations

import numpy as np
import pytest
from torch import nn

from v2a_nb.clip import Clip
from v2a_nb.systems.expected_hits import expected_hits, likely, summary


class Flashes(nn.Module):
    """An encoder that expects a hit at every white frame."""

    def hits(self, clip):
        white = np.flatnonzero(clip.frames.max(axis=(1, 2, 3)) > 0)
        return [{"time_s": float(clip.times[k]), "probability": 0.9, "x": 0.5, "y": 0.5} for k in white]


class Alone:
    encoder = Flashes()


def flashing(seconds: float, times) -> Clip:
    frames = np.zeros((round(seconds * 20), 8, 8, 3), np.uint8)
    frames[[round(20 * t) for t in times]] = 255
    return Clip(frames, fps=20.0)


@pytest.mark.parametrize("seconds", [1.0, 10.0, 23.4])
def test_each_hit_is_there_once_at_its_time(seconds):
    times = [t for t in (0.0, 0.5, 9.95, 10.0, 10.05, 19.5, 20.0, 23.3) if t < seconds]
    hits = expected_hits(Alone(), flashing(seconds, times))
    assert [hit["time_s"] for hit in hits] == pytest.approx(times)


def test_a_system_without_hits():
    assert expected_hits(object(), flashing(1.0, [])) is None


@pytest.mark.parametrize(
    ("probabilities", "words"),
    [
        ([], "0 hits expected"),
        ([0.9], "1 hit expected: 1 sure, 0 doubtful"),
        ([0.9, 0.5, 0.2, 0.01, 0.02], "3 hits expected (2 other motions look like none): 1 sure, 2 doubtful"),
        ([0.05], "0 hits expected (1 other motion looks like none)"),
    ],
)
def test_words(probabilities, words):
    hits = [{"time_s": 0.0, "probability": p} for p in probabilities]
    assert summary(hits) == words and len(likely(hits)) == int(words[0])
