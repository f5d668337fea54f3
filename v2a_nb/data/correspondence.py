"""Audio-visual correspondence: whether a clip's sound could belong to its pictures.

It is no stage of Action2Sound, whose four stages judge the sound alone: a clip with the sound of another video passes
them all. It is the step that V-AURA's collection takes with an audio-visual similarity. The score here compares the
hits that the video encoder expects with the onsets of the sound, so that it can be explained; any other function of a
clip can take its place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb import hub
from v2a_nb.audio.onsets import detect_onsets, match_onsets
from v2a_nb.clip import Clip

if TYPE_CHECKING:
    from v2a_nb.models.video_encoders.strike import StrikeVision

ClipScore = Callable[[Clip], float]
"""A function from a clip with its sound to a score: higher fits better, NaN where nothing can be said."""

WINDOW_S = 0.04
"""How far an expected hit and an onset may lie apart: a frame at 25 fps."""
FAINT = 0.3
"""In a silent clip, hits whose probability is under this give nothing to compare."""


def overlap(hits: list[dict[str, float]], onsets: np.ndarray) -> float:
    """Overlap of expected hits and onsets: 0 (nothing in common) to 1, NaN where there is neither.

    Both are matched one to one within :data:`WINDOW_S`. The score is a Jaccard index, matches over everything, in which
    a hit weighs as much as its probability.

    Args:
        hits: ``time_s`` and ``probability`` each, by time.
        onsets: seconds, increasing.

    Examples:
        >>> hits = [{"time_s": 0.5, "probability": 1.0}, {"time_s": 1.2, "probability": 0.5}]
        >>> overlap(hits, np.array([0.51, 2.0]))
        0.4
    """
    times = np.array([hit["time_s"] for hit in hits])
    weights = np.array([hit["probability"] for hit in hits])
    if not len(onsets) and (not len(hits) or weights.max() < FAINT):
        return float("nan")
    matched = float(sum(weights[i] for i, _ in match_onsets(times, onsets, WINDOW_S)))
    return matched / (float(weights.sum()) + len(onsets) - matched)


def correspondence(clip: Clip) -> float:
    """The :func:`overlap` of the hits that the shipped video encoder expects and the onsets of the clip's sound.

    It tells matched from mismatched clips on Strike World, which the encoder was trained on, and only there: five real
    clips of struck metal, drums and strings scored 0 to 0.17, no more than with their own sound moved by a second.

    Returns:
        the score; NaN for a clip without sound.
    """
    if clip.sound is None:
        return float("nan")
    return overlap(_encoder().hits(clip), detect_onsets(clip.sound))


@lru_cache(maxsize=1)
def _encoder() -> StrikeVision:
    from v2a_nb.models.video_encoders.strike import StrikeVision

    return StrikeVision.from_pretrained(hub.SHIPPED / "strike_vision")
