"""Mel bases against librosa's."""

from __future__ import annotations

import librosa
import numpy as np
import pytest

from v2a_nb.audio.mel import mel_basis


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "mels", "fmin", "fmax"),
    [
        (16000, 512, 40, 60, 7800), (16000, 512, 64, 40, 8000.0), (16000, 1024, 128, 0, None),
        (22050, 1024, 80, 0.0, 8000.0), (44100, 2048, 256, 1000, 20000),
    ],
)  # fmt: skip
def test_the_basis_is_librosas_to_the_bit(sample_rate, n_fft, mels, fmin, fmax, norm):
    wanted = librosa.filters.mel(
        sr=sample_rate, n_fft=n_fft, n_mels=mels, fmin=fmin, fmax=fmax, norm="slaney" if norm else None
    )
    basis = mel_basis(sample_rate, n_fft, mels, fmin, fmax, norm)
    assert basis.dtype == np.float32 and np.array_equal(basis, wanted)
