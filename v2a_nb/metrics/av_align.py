"""AV-Align as a metric: whether onsets of the sound fall on peaks of motion (VTA-LDM reports it).

The score of a clip is :mod:`v2a_nb.data.av_align`, which says what follows TempoTokens and what does not.

How it is fooled, which ``tests/metrics/test_av_align.py`` shows:

- A sound that clicks at every peak of motion scores 1, although most peaks make no sound. The true sound scores less.
- It hears no level: its onsets are found relative to the clip's loudest rise, so noise at -80 dBFS has a dozen.
- It counts. Four onsets among 64 peaks of motion score 1/16 at most, wherever they are.

VTA-LDM's true sounds have 0.237 and its filtered model 0.281: more is not better. Read it beside the control
"reference", and beside onset F1 where the truth is known.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from v2a_nb.clip import Clip
from v2a_nb.data.av_align import align, mean_motion, motion_peaks, onset_peaks
from v2a_nb.metrics.base import Metric, ScoredClip


class AvAlignMetric(Metric):
    """Mean over clips of the intersection over union of onsets and peaks of motion, 0 to 1.

    A clip with neither has no score and is not counted. A peak must move by 0.1 pixels: on large videos, which are
    made smaller before they are scored, fewer are found than at their native size.

    Args:
        model: gives the curve of a clip's motion [T]; left out, the mean length of Farnebäck's flow (needs OpenCV).
    """

    def load_model(self) -> Callable[[Clip], np.ndarray]:
        return mean_motion

    @property
    def extractor(self) -> str:
        return "farneback" if self.model is mean_motion else getattr(self.model, "__name__", type(self.model).__name__)

    def score(self, clip: ScoredClip) -> float:
        if self.model is mean_motion:
            motion, fps = clip.feature("video", "peaks of motion by farneback", lambda: self._peaks(clip.video))
        else:  # a function has no name that tells it from all others
            motion, fps = clip.once_per_clip(("peaks of motion", self.model), lambda: self._peaks(clip.video))
        onsets = clip.once_per_sound("onset peaks", lambda: onset_peaks(clip.fitted_sound))
        return align(onsets, motion, fps)

    def _peaks(self, video: Clip) -> tuple[np.ndarray, float]:
        """Seconds of the peaks of motion, and frames a second."""
        return video.times[motion_peaks(self.model(video))], video.fps
