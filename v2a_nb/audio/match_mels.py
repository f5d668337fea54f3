"""The last step of a small vocoder: what it made is given exactly the mels that it was made of.

A HiFi-GAN that was trained for an hour has learnt phases, onsets and the grain of noise, and its envelope is rough: on
Strike World it rings glass like ceramic. Griffin-Lim has the envelope and neither phases nor grain, and makes noise
softer than it was. Here each gives what it is good at. The recipe's discriminators hear what was matched
(:class:`~v2a_nb.training.recipes.vocoder.VocoderTraining`), so that the generator learns the grain alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from v2a_nb.audio.griffin_lim import istft, stft
from v2a_nb.audio.spectrogram import Spectrogram
from v2a_nb.errors import UsageError

FLOOR, MOST = 1e-5, 10**1.5
"""Mels under -100 dB are not told apart; a band is changed by 30 dB at most at a time."""
LOWEST_HZ = 20.0
"""Below it no mel and no ear hears a generator's offset, which is louder (-65 dBFS) than a quiet room."""


def match_mels(wave: Tensor, spectrogram: Tensor, front: Spectrogram, times: int = 1) -> Tensor:
    """A wave with the mels of a spectrogram and, otherwise, what it had: its phases, its grain, and what lies between
    and beyond the bands.

    Each time, every bin of the STFT is multiplied by what its bands lack, interpolated in decibels. What no band
    hears stays as it is, from 20 Hz on, below which nothing is left; what is silent in the spectrogram becomes silent.

    Args:
        wave: [B, T * hop].
        spectrogram: [B, F, T] as ``front`` scales it.
        front: of mels.
        times: the bands overlap, so that once is not enough.

    Returns:
        [B, T * hop].

    Raises:
        UsageError: a wave of another length, or a front end without mels.
    """
    f = front.front_end
    if f.mels is None or wave.shape[-1] != spectrogram.shape[-1] * f.hop:
        raise UsageError(
            f"{wave.shape[-1]} samples are not {spectrogram.shape[-1]} frames of mels, {f.hop} samples each"
        )
    basis = front.basis(wave)  # [F, bins]
    heard = basis.sum(0)
    share = basis / heard.clamp(min=1e-9)
    audible = torch.arange(basis.shape[1], device=wave.device) * f.sample_rate / f.n_fft >= LOWEST_HZ
    target = f.scale.undo(spectrogram.to(wave)) * (spectrogram > f.scale.silence)
    target = torch.cat([target, target[..., -1:]], dim=-1)  # one frame more: the last samples lie between two
    for _ in range(times):
        spectrum = stft(wave, f.n_fft, f.hop, f.pad_mode)  # [B, bins, T + 1]
        lack = target.clamp(min=FLOOR) / (basis @ spectrum.abs()).clamp(min=FLOOR)
        gain = torch.exp(share.T @ lack.clamp(1 / MOST, MOST).log())
        gain = torch.where(heard[:, None] > 0, gain, 1.0) * audible[:, None]
        wave = istft(spectrum * gain, f.hop, wave.shape[-1])
    return wave
