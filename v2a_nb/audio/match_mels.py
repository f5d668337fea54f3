"""Mel matching, the last step of the small vocoder: give a wave the mels that it was made from.

A HiFi-GAN that was trained for an hour gets phases, onsets and the texture of noise right, but its spectral envelope is
rough: on Strike World glass sounds like ceramic. Griffin-Lim gets the envelope right, but neither phases nor texture,
and makes noise too soft. Mel matching combines both. In training the discriminators judge the matched wave
(:class:`~v2a_nb.training.recipes.vocoder.VocoderTraining`), so that the generator need not learn the envelope.
"""

from __future__ import annotations

import torch
from torch import Tensor

from v2a_nb.audio.griffin_lim import istft, stft
from v2a_nb.audio.spectrogram import Spectrogram
from v2a_nb.errors import UsageError

FLOOR, MOST = 1e-5, 10**1.5
"""Mels below -100 dB count as equal; each iteration changes a band by 30 dB at most."""
LOWEST_HZ = 20.0
"""High-pass: below it no mel band lies, and a generator's constant offset (-65 dBFS) exceeds a quiet room."""


def match_mels(wave: Tensor, spectrogram: Tensor, front: Spectrogram, times: int = 1) -> Tensor:
    """Give a wave the mels of a spectrogram; its phases and its fine structure stay as they are.

    Each iteration multiplies every bin of the STFT by the gain that its bands need, interpolated in decibels. Bins that
    lie in no band are kept from 20 Hz on and removed below. Where the spectrogram is silent the wave becomes silent.

    Args:
        wave: [B, n], of which T or T - 1 hops are whole. Give it the length of the wave whose mels are wanted: its last
            windows reach beyond its end, and are softer for it. A longer wave would be made louder there, which sounds
            like another hit.
        spectrogram: the wanted mels [B, F, T], scaled by ``front``.
        front: a front end with mels.
        times: number of iterations; the bands overlap, so that one does not suffice.

    Returns:
        the matched wave [B, n].

    Raises:
        UsageError: a wave of another length, or a front end without mels.
    """
    f = front.front_end
    lacking = 1 + wave.shape[-1] // f.hop - spectrogram.shape[-1]  # frames of the wave's STFT that nothing is known of
    if f.mels is None or lacking not in (0, 1):
        raise UsageError(
            f"{wave.shape[-1]} samples are not {spectrogram.shape[-1]} frames of mels, {f.hop} samples each"
        )
    basis = front.basis(wave)  # [F, bins]
    total = basis.sum(0)
    share = basis / total.clamp(min=1e-9)
    audible = torch.arange(basis.shape[1], device=wave.device) * f.sample_rate / f.n_fft >= LOWEST_HZ
    target = f.scale.undo(spectrogram.to(wave)) * (spectrogram > f.scale.silence)
    target = torch.cat([target, *[target[..., -1:]] * lacking], dim=-1)
    for _ in range(times):
        spectrum = stft(wave, f.n_fft, f.hop, f.pad_mode)  # [B, bins, 1 + n // hop]
        lack = target.clamp(min=FLOOR) / (basis @ spectrum.abs()).clamp(min=FLOOR)
        gain = torch.exp(share.T @ lack.clamp(1 / MOST, MOST).log())
        gain = torch.where(total[:, None] > 0, gain, 1.0) * audible[:, None]
        wave = istft(spectrum * gain, f.hop, wave.shape[-1])
    return wave
