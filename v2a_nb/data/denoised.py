"""Targets without their ambience, for the ablation that Action2Sound trains on denoised sounds (section 5.1).

If the ambience is what stands in the way, one could take it out of the training sounds and need no neighbour. The
paper tries that with an off-the-shelf noise reducer; ours is the ``noisereduce`` package, an optional extra.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from v2a_nb.data.latent_dataset import SpectrogramImages
from v2a_nb.data.recordings import Recording
from v2a_nb.errors import UsageError


def denoise(waves: np.ndarray, sample_rate: int) -> np.ndarray:
    """Waves [B, n] with their stationary noise gated away, float32.

    Spectral gating against the noise that each wave itself shows (``noisereduce``, stationary).

    Raises:
        UsageError: the package is not installed.
    """
    try:
        import noisereduce
    except ImportError as error:
        raise UsageError("this ablation needs the noisereduce package: pip install 'v2a-nb[denoise]'") from error
    gated = [noisereduce.reduce_noise(y=wave, sr=sample_rate, stationary=True) for wave in waves]
    return np.stack(gated).astype(np.float32)


@dataclass(frozen=True)
class DenoisedImages(SpectrogramImages):
    """Images as :class:`~v2a_nb.data.latent_dataset.SpectrogramImages`, of denoised sounds."""

    name: ClassVar[str] = "denoised-spectrograms"

    def sounds(self, recording: Recording, starts: Sequence[int], sample_rate: int) -> np.ndarray:
        return denoise(super().sounds(recording, starts, sample_rate), sample_rate)
