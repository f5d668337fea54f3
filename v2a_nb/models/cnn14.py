"""Cnn14 of PANNs (Kong et al. 2020, arXiv 1912.10211): a sound to 2048 numbers and to logits of AudioSet's classes.

Written from the paper and the released layout, so that published weights load by the names of their tensors. FD, IS and
KL of most papers read this network. The weights (CC-BY-4.0, zenodo.org/records/3987831) are pickles, which are never
read here. Convert them once where you trust them::

    state = torch.load("Cnn14_16k_mAP=0.438.pth", weights_only=True)["model"]
    safetensors.torch.save_file(state, "cnn14_16k.safetensors")

Traps: at 32 kHz the same weights are used with mel bands up to 14 kHz (AudioLDM) and up to 16 kHz
(frechet-audio-distance); here the bands are those that lie beside the weights. AudioLDM and av-benchmark take the mean
off each sound first; here nothing is taken off.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import read_published, reason

BANDS, LOWEST_HZ, LEAST_POWER = 64, 50, 1e-10
FRONTS = {257: (16000, 512, 160, 8000), 513: (32000, 1024, 320, 14000)}
"""By the bins of a spectrum: sample rate, window and hop in samples, upper end of the mel bands, Hz."""
LEAST_COLUMNS = 32
"""Five halvings need so many columns; shorter sounds are filled with silence."""


class ConvBlock(nn.Module):
    """Two convolutions of 3 x 3, each with batch normalisation and ReLU, then the mean of 2 x 2.

    Args:
        before, after: channels.
        pool: side of the squares that are averaged.
    """

    def __init__(self, before: int, after: int, pool: int = 2) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(after), nn.BatchNorm2d(after)
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        """[B, before, T, bands] to [B, after, T // pool, bands // pool]."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.bn2(self.conv2(x)))
        return F.avg_pool2d(x, self.pool)


class Cnn14(nn.Module):
    """Waves to vectors and logits.

    Args:
        classes: how many.
        width: channels of the first block, which the others double; 64 in the published network.
        bins: of a spectrum: 257 at 16 kHz, 513 at 32 kHz.
    """

    def __init__(self, classes: int = 527, width: int = 64, bins: int = 257) -> None:
        super().__init__()
        self.sample_rate, self.window, self.hop, highest = FRONTS[bins]
        import librosa

        mel = librosa.filters.mel(sr=self.sample_rate, n_fft=self.window, n_mels=BANDS, fmin=LOWEST_HZ, fmax=highest)
        table = nn.Parameter(torch.from_numpy(mel.T.copy()), requires_grad=False)  # [bins, bands]
        self.logmel_extractor = nn.ParameterDict({"melW": table})
        self.bn0 = nn.BatchNorm2d(BANDS)
        sizes = [1, *(width * 2**k for k in range(6))]
        for k in range(6):
            setattr(self, f"conv_block{k + 1}", ConvBlock(sizes[k], sizes[k + 1], 2 if k < 5 else 1))
        self.fc1 = nn.Linear(sizes[-1], sizes[-1])
        self.fc_audioset = nn.Linear(sizes[-1], classes)

    def log_mel(self, wave: Tensor) -> Tensor:
        """Mel power in decibels [B, T, 64] of waves [B, n]; a column in the middle of each window, mirrored ends."""
        window = torch.hann_window(self.window, dtype=wave.dtype, device=wave.device)
        spectrum = torch.stft(wave, self.window, self.hop, window=window, return_complex=True, pad_mode="reflect")
        power = spectrum.abs().square().transpose(1, 2)  # [B, T, bins]
        return 10 * (power @ self.logmel_extractor["melW"]).clamp(min=LEAST_POWER).log10()

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Vectors [B, 2048], after ReLU, and logits [B, classes] of waves [B, n].

        Raises:
            UsageError: not [B, n], or no samples.
        """
        if wave.ndim != 2 or not wave.shape[1]:
            raise UsageError(f"waves must be [B, n samples], not {tuple(wave.shape)}")
        wave = F.pad(wave, (0, max(0, (LEAST_COLUMNS - 1) * self.hop - wave.shape[1])))
        x = self.bn0(self.log_mel(wave).transpose(1, 2)[..., None])  # [B, 64, T, 1]: each band has its own norm
        x = x.permute(0, 3, 2, 1)  # [B, 1, T, 64]
        for k in range(6):
            x = getattr(self, f"conv_block{k + 1}")(x)
        x = x.mean(3)  # [B, C, T / 32]
        vector = F.relu(self.fc1(x.amax(2) + x.mean(2)))
        return vector, self.fc_audioset(vector)

    @classmethod
    def from_file(cls, path: str | Path) -> Cnn14:
        """The network with published weights, frozen; its rate and its classes are those of the file.

        Args:
            path: of safetensors with the published names, or of a folder with one such file.

        Raises:
            WeightsError: there is no such file, or its tensors are others.
        """
        tensors = read_published(path, "Cnn14")
        # the tables of the Fourier transform are computed
        state = {name: x for name, x in tensors.items() if not name.startswith("spectrogram_extractor.")}
        try:
            bins, width = len(state["logmel_extractor.melW"]), len(state["conv_block1.bn1.weight"])
            net = cls(len(state["fc_audioset.bias"]), width, bins)
            net.load_state_dict(state)
        except (KeyError, RuntimeError) as error:
            raise WeightsError(f"{path}: these are no weights of Cnn14: {reason(error)}") from error
        return net.eval().requires_grad_(False)
