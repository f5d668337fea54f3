"""Onsets: detection of when something starts to sound, and comparison of two lists of onsets.

The detector finds peaks of the mean rise of a log-mel spectrogram over 10 ms that exceed an absolute threshold. The
threshold is absolute because one relative to a clip's own maximum finds a dozen onsets in steady noise. Threshold and
latency were calibrated on the true sounds of Strike World, whose scores in ``docs/results.md`` are the ceiling.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from v2a_nb.audio.mel import mel_basis
from v2a_nb.clip import Sound

SAMPLE_RATE = 16000
HOP = 80  # 5 ms at 16 kHz
WINDOW = 256  # 16 ms
BANDS = 40
FLOOR = 1e-5
THRESHOLD = 1.15
"""Threshold of the rise, nepers, mean over the bands: above the fluctuation of every ambience."""
LATENCY_S = 0.0004
"""Median delay of the rise's peak after the true onset, subtracted from every detection."""
MIN_GAP_S = 0.06


@lru_cache(maxsize=1)
def _basis() -> np.ndarray:
    return mel_basis(SAMPLE_RATE, 512, BANDS, 60, 7800)


@lru_cache(maxsize=1)
def _window() -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


def log_mel(wave: np.ndarray) -> np.ndarray:
    """Natural log of the mel power of a 16 kHz wave [n]: float32 [40, 1 + n // 80], frame k at k * 5 ms."""
    padded = np.pad(np.asarray(wave, np.float32), WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
    spectrum = np.fft.rfft(frames * _window(), n=512, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2).astype(np.float32)
    return np.log(_basis() @ power.T + FLOOR)


def onset_strength(wave: np.ndarray) -> np.ndarray:
    """Rise of the log-mel spectrogram over 10 ms, nepers, mean over bands: float32 [1 + n // 80], 200 per second."""
    mel = log_mel(wave)
    before = np.concatenate([mel[:, :1], mel[:, :1], mel[:, :-2]], axis=1)
    rise = np.clip(mel - before, 0, None).mean(axis=0)
    rise[:4] = 0.0  # windows across the cut at the start, and those compared with them
    rise[(len(wave) - WINDOW // 2) // HOP + 1 :] = 0.0  # and windows across the cut at the end
    return rise


def detect_onsets(sound: Sound | np.ndarray, threshold: float = THRESHOLD) -> np.ndarray:
    """Detect the onsets of a sound: their times, seconds, increasing.

    Args:
        sound: a :class:`~v2a_nb.clip.Sound`, or a wave [n] at 16 kHz.
        threshold: of the rise, nepers.

    Examples:
        >>> click = np.zeros(16000, np.float32)
        >>> click[8000:8200] = np.sin(np.arange(200)) * np.exp(-np.arange(200) / 50)
        >>> bool(abs(detect_onsets(click)[0] - 0.5) < 0.005)
        True
    """
    wave = sound.mono().resample(SAMPLE_RATE).samples[0] if isinstance(sound, Sound) else sound
    if len(wave) < 4 * HOP:
        return np.zeros(0)
    rise = onset_strength(wave)
    found: list[float] = []
    reach = 4  # a peak is the largest within 20 ms on either side
    for k in np.flatnonzero(rise >= threshold):
        a, b = max(0, k - reach), min(len(rise), k + reach + 1)
        if rise[k] < rise[a:b].max() or (found and k in range(a, b) and rise[k] == rise[a:k].max(initial=0)):
            continue
        time = (k + float(np.clip(beside_peak(rise, k), -0.5, 0.5))) * HOP / SAMPLE_RATE - LATENCY_S
        if not found or time - found[-1] >= MIN_GAP_S:
            found.append(max(time, 0.0))
    return np.array(found)


def beside_peak(values: np.ndarray, k: int) -> float:
    """By how much the top of a parabola through value ``k`` and its neighbours lies after it; 0 at an end.

    Examples:
        >>> float(beside_peak(np.array([0.0, 3, 4, 1]), 2))
        -0.25
    """
    if not 0 < k < len(values) - 1:
        return 0.0
    left, middle, right = values[k - 1 : k + 2]
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0


def match_onsets(reference: np.ndarray, estimate: np.ndarray, window: float) -> list[tuple[int, int]]:
    """Match onsets one to one, as many as possible, at most ``window`` seconds apart: pairs of indices.

    For sorted times and one window, taking the earliest free partner is a maximum matching (the same
    size as mir_eval's bipartite one).
    """
    pairs, j = [], 0
    for i, time in enumerate(reference):
        while j < len(estimate) and estimate[j] < time - window - 1e-9:
            j += 1
        if j < len(estimate) and abs(estimate[j] - time) <= window + 1e-9:
            pairs.append((i, j))
            j += 1
    return pairs


def onset_scores(reference: np.ndarray, estimate: np.ndarray, window: float) -> tuple[float, float, float]:
    """Precision, recall and F1 of ``estimate`` within ``window`` seconds (inclusive).

    The scores are NaN where both lists are empty, and 0 where one is.

    Examples:
        >>> onset_scores(np.array([.5, 1, 1.5, 2]), np.array([.53, 1.06, 1.49, 2, 2.5]), 0.05)
        (0.6, 0.75, 0.6666666666666665)
    """
    if not len(reference) and not len(estimate):
        return float("nan"), float("nan"), float("nan")
    if not len(reference) or not len(estimate):
        return 0.0, 0.0, 0.0
    hits = len(match_onsets(reference, estimate, window))
    precision, recall = hits / len(estimate), hits / len(reference)
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return precision, recall, f1
