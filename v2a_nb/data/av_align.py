"""AV-Align: whether onsets of a sound and peaks of motion in the pictures fall together (Yariv et al. 2024).

VTA-LDM reports it and cleans its training data with it (section 5.5: clips over 0.2 stay). Definition and settings are
those of TempoTokens' ``av_align.py`` since February 2025. Its version of 2023, which came before VTA-LDM, matched peaks
more than once, so that a score could be over 1; :func:`align` matches them one to one.

What it cannot see: two sounds at one moment, and how strong anything is. It mostly measures whether both have as many
peaks, and steady noise has a dozen onsets in three seconds. VTA-LDM's own true sounds have 0.237.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.models.optical_flow import displacements

SAMPLE_RATE = 22050
"""Hz at which onsets are looked for. The picking of peaks counts frames: at 16 kHz it would find each click twice."""
LEAST_MOTION = 0.1
"""Pixels of mean motion a frame that a peak must have."""


def av_align(clip: Clip, motion: Callable[[Clip], np.ndarray] | None = None) -> float:
    """The score of a clip with its sound: 0 (nothing falls together) to 1; NaN where neither has a peak, or no sound.

    Args:
        motion: gives the curve of a clip's motion [T]; left out, :func:`mean_motion`, which needs OpenCV.

    Raises:
        UsageError: OpenCV is not installed, or the pictures are too small for optical flow.
    """
    if clip.sound is None:
        return float("nan")
    peaks = motion_peaks((motion or mean_motion)(clip))
    return align(onset_peaks(clip.sound), clip.times[peaks], clip.fps)


def align(onsets: np.ndarray, motion: np.ndarray, fps: float) -> float:
    """Intersection over union of two lists of times; two that are less than a frame apart can be one.

    Times are compared in samples, so that a distance of exactly one frame is none less.

    Args:
        onsets, motion: seconds, increasing.
        fps: frames a second of the pictures.

    Returns:
        0 to 1; NaN where both lists are empty.

    Examples:
        >>> align(np.array([0.50, 1.15, 2.00]), np.array([0.45, 1.20, 2.50]), 10)
        0.5
    """
    if not len(onsets) and not len(motion):
        return float("nan")
    heard, shown = (np.round(np.asarray(times) * SAMPLE_RATE).astype(int) for times in (onsets, motion))
    frame, free = round(SAMPLE_RATE / fps), np.ones(len(shown), bool)
    for time in heard:
        near = np.flatnonzero(free & (np.abs(shown - time) < frame))
        if len(near):
            free[near[0]] = False
    hits = int((~free).sum())
    return hits / (len(heard) + len(shown) - hits)


def onset_peaks(sound: Sound) -> np.ndarray:
    """Onsets of a sound as librosa finds them with its own settings: seconds, increasing."""
    import librosa

    wave = sound.mono().resample(SAMPLE_RATE).samples[0]
    if not np.any(wave):
        return np.zeros(0)
    strength = librosa.onset.onset_strength(y=wave, sr=SAMPLE_RATE)
    return np.asarray(librosa.onset.onset_detect(onset_envelope=strength, sr=SAMPLE_RATE, units="time"))


def motion_peaks(curve: np.ndarray) -> np.ndarray:
    """Frames at which a curve [T] is higher than before and after, and at least :data:`LEAST_MOTION`: int [k].

    >>> motion_peaks(np.array([0.5, 0.5, 0.2, 0.6, 0.6, 0.1, 0.4, 0.0, 0.09, 0.0])).tolist()
    [6]
    """
    inner = curve[1:-1]
    return 1 + np.flatnonzero((inner > curve[:-2]) & (inner > curve[2:]) & (inner >= LEAST_MOTION))


def mean_motion(clip: Clip) -> np.ndarray:
    """Mean length of Farnebäck's flow that leads to each frame, pixels, float64 [T]; the first has that of the second.

    Raises:
        UsageError: OpenCV is not installed, or the pictures are too small for optical flow.
    """
    lengths = [float(np.linalg.norm(moved, axis=-1).mean()) for moved in displacements(clip, "farneback")]
    return np.array([lengths[0], *lengths]) if lengths else np.zeros(1)
