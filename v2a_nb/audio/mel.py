"""Mel bases: ``librosa.filters.mel``, number for number, without librosa.

Importing librosa brings scipy's signal processing and numba along, which take longer than a sound takes to generate.
"""

from __future__ import annotations

import numpy as np

HZ_PER_MEL = 200.0 / 3
"""Width of a mel in the linear part of Slaney's scale, Hz."""
LOG_FROM_HZ = 1000.0
"""Frequency from which on the scale is logarithmic."""
LOG_STEP = np.log(6.4) / 27.0
"""Natural log of the ratio of neighbouring mels there."""


def mel_basis(
    sample_rate: float, n_fft: int, mels: int, fmin: float = 0.0, fmax: float | None = None, norm: bool = True
) -> np.ndarray:
    """Triangular filters on Slaney's mel scale, float32 [mels, n_fft / 2 + 1].

    Args:
        sample_rate: Hz.
        n_fft: samples of a frame's transform.
        mels: number of bands.
        fmin, fmax: where the first band begins and the last one ends, Hz; left out, 0 and half the sample rate.
        norm: each band has the area 1 (Slaney), or else the height 1.

    Examples:
        >>> mel_basis(16000, 512, 40).shape
        (40, 257)
    """
    ends = [_mel_of_hz(hertz) for hertz in (fmin, sample_rate / 2 if fmax is None else fmax)]
    corners = _hz_of_mel(np.linspace(*ends, mels + 2))
    widths = np.diff(corners)[:, None]
    away = np.subtract.outer(corners, np.fft.rfftfreq(n_fft, 1.0 / sample_rate))
    basis = np.maximum(0, np.minimum(-away[:-2] / widths[:-1], away[2:] / widths[1:])).astype(np.float32)
    if norm:
        basis *= (2.0 / (corners[2:] - corners[:-2]))[:, None]
    return basis


def _mel_of_hz(hertz: float) -> float:
    if hertz < LOG_FROM_HZ:
        return hertz / HZ_PER_MEL
    return LOG_FROM_HZ / HZ_PER_MEL + np.log(hertz / LOG_FROM_HZ) / LOG_STEP


def _hz_of_mel(mels: np.ndarray) -> np.ndarray:
    first = LOG_FROM_HZ / HZ_PER_MEL
    return np.where(mels < first, HZ_PER_MEL * mels, LOG_FROM_HZ * np.exp(LOG_STEP * (mels - first)))
