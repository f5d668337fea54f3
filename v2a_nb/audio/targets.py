"""The targets of the video encoder's pre-training, measured from the recording's own sound.

All are computed from a log-mel spectrogram with a hop of 5 ms, so that a 50 Hz token can predict in which quarter of
its 20 ms something started.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_nb.audio.mel import mel_basis

SAMPLE_RATE = 16000
HOP = 80  # 5 ms
WINDOW = 256  # 16 ms
BANDS = 40
FLOOR = 1e-5


@lru_cache(maxsize=1)
def _basis() -> Tensor:
    return torch.from_numpy(mel_basis(SAMPLE_RATE, 512, BANDS, 60, 7800))


def log_mel(wave: Tensor) -> Tensor:
    """Natural log of mel power: [B, n] at 16 kHz to [B, 40, n / 80], frames centred on k * 5 ms."""
    n = wave.shape[-1] // HOP
    window = torch.hann_window(WINDOW)
    spectrum = torch.stft(wave, 512, HOP, WINDOW, window=window, center=True, pad_mode="constant", return_complex=True)
    power = spectrum.abs().square()[..., :n]
    return torch.log(_basis() @ power + FLOOR)


def rises(mel: Tensor) -> Tensor:
    """Rise of each band's level over the last 10 ms, nepers, [B, 40, n]; falls are 0."""
    before = F.pad(mel, (2, 0), mode="replicate")[..., :-2]
    return (mel - before).clamp(min=0)


def flux_target(mel: Tensor) -> tuple[Tensor, Tensor]:
    """Onset strength, every 5 ms, and in eight bands every 20 ms.

    Returns:
        sharp: [B, n/4, 4], 0 to 1: four moments per token, blurred by about 7 ms.
        bands: [B, n/4, 8], 0 to 1.
    """
    rise = rises(mel)
    # the mean rise of a steady ambience stays under 0.8 nepers; 2 nepers in every band is a clear hit
    overall = ((rise.mean(1) - 0.8) / 1.2).clamp(0.0, 1.0)
    kernel = torch.tensor([0.25, 0.75, 1.0, 0.75, 0.25])[None, None]
    blurred = F.conv1d(overall[:, None], kernel / 1.25, padding=2)[:, 0].clamp(max=1.0)
    b, n = blurred.shape
    sharp = blurred.view(b, n // 4, 4)
    grouped = rise.view(b, 8, BANDS // 8, n).mean(2)
    bands = F.max_pool1d(grouped, 4) / 2.5
    return sharp, bands.clamp(max=1.0).transpose(1, 2)


def colour_target(mel: Tensor) -> tuple[Tensor, Tensor]:
    """The spectrum that follows each token, and its weight in the loss.

    Returns:
        colour: [B, n/4, 80]: log-mel rise over the level before, in the 10 to 50 ms and in the 60 to
            160 ms after, so that a long ring differs from a short knock; units of 4 nepers.
        weight: [B, n/4]: the flux of the token, 0 to 1.
    """
    sharp, _ = flux_target(mel)
    weight = sharp.amax(-1)
    short = F.avg_pool1d(F.pad(mel, (0, 11), mode="replicate")[..., 2:], 9, 1)  # +10 .. +50 ms
    late = F.avg_pool1d(F.pad(mel, (0, 33), mode="replicate")[..., 12:], 21, 1)  # +60 .. +160 ms
    before = F.avg_pool1d(F.pad(mel, (12, 0), mode="replicate")[..., :-3], 10, 1)  # -60 .. -15 ms
    n = mel.shape[-1]
    rise = torch.cat([short[..., :n] - before[..., :n], late[..., :n] - before[..., :n]], dim=1)
    rise = F.avg_pool1d(rise, 4)
    return (rise / 4.0).transpose(1, 2), weight
