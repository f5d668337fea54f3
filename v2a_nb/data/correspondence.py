"""Whether a clip's sound could belong to its pictures: what is seen to strike against what is heard.

Not a stage of Action2Sound, whose four stages look at the sound alone: a clip with the sound of another video
passes them all. It is the step that V-AURA's collection takes with an audio-visual similarity; here the score is
one that can be explained, and any other function of a clip can take its place.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from v2a_nb.audio.onsets import detect_onsets, match_onsets
from v2a_nb.clip import Clip

ClipScore = Callable[[Clip], float]
"""Of a clip with its sound: higher fits better, NaN where it cannot be told."""

WINDOW_S = 0.04
"""A frame at 25 fps: how far what is seen and what is heard may lie apart."""
FAINT = 0.3
"""Of the likeliest hit that is seen in silence: under it there is nothing to compare."""


def seen_and_heard(hits: list[dict[str, float]], onsets: np.ndarray) -> float:
    """Seen hits against heard onsets: 0 (nothing in common) to 1, NaN where nothing is seen or heard.

    Both are matched one to one within :data:`WINDOW_S`. The score is what is matched over all there is, a seen
    hit weighing as much as it is expected to sound (a Jaccard index with weights).

    Args:
        hits: ``time_s`` and ``probability`` each, by time.
        onsets: seconds, increasing.

    Examples:
        >>> hits = [{"time_s": 0.5, "probability": 1.0}, {"time_s": 1.2, "probability": 0.5}]
        >>> seen_and_heard(hits, np.array([0.51, 2.0]))
        0.4
    """
    times = np.array([hit["time_s"] for hit in hits])
    weights = np.array([hit["probability"] for hit in hits])
    if not len(onsets) and (not len(hits) or weights.max() < FAINT):
        return float("nan")
    matched = float(sum(weights[i] for i, _ in match_onsets(times, onsets, WINDOW_S)))
    return matched / (float(weights.sum()) + len(onsets) - matched)


def hits_and_onsets(clip: Clip) -> float:
    """:func:`seen_and_heard` with the eyes of the shipped encoder, which was trained on Strike World.

    It tells matched from mismatched clips there and only there: five real clips of struck metal, drums and strings
    scored 0 to 0.17, no more than with their own sound moved by a second. A clip without sound cannot be told: NaN.
    """
    if clip.sound is None:
        return float("nan")
    return seen_and_heard(_eyes().hits(clip), detect_onsets(clip.sound))


@lru_cache(maxsize=1)
def _eyes():
    from v2a_nb import hub
    from v2a_nb.models.video_encoders.strike import StrikeVision

    return StrikeVision.from_pretrained(hub.SHIPPED / "vaura" / "vision")
