"""VGGish (Hershey et al. 2017, arXiv 1609.09430): a sound to 128 numbers for each 0.96 s.

The Fréchet audio distance (FAD) of most papers is that of its vectors. Written from the paper, with the layout of
torchvggish, so that published weights load by the names of their tensors. The weights (``vggish-10086976.pth`` of
github.com/harritaylor/torchvggish, converted from Google's, Apache-2.0, 72 million numbers) are a pickle, which is
never read here. Convert it once where you trust it::

    state = torch.load("vggish-10086976.pth", weights_only=True)
    safetensors.torch.save_file(state, "vggish.safetensors")

Traps: vectors are those before the last ReLU, without PCA and without 8-bit numbers, as frechet-audio-distance,
av-benchmark and GMELab take them; Google's released features of AudioSet have all three. Mel bands are triangles over
the mel axis, not over hertz as librosa's are. What is left of a sound behind its last full 0.96 s is not read.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import read_published, reason

SAMPLE_RATE, WINDOW, HOP, FFT = 16000, 400, 160, 512
"""Hz; samples of a window (25 ms), from one to the next (10 ms), and of a Fourier transform."""
BANDS, LOWEST_HZ, HIGHEST_HZ, OFFSET = 64, 125.0, 7500.0, 0.01
"""Mel bands, their range, and what is added to magnitudes before the logarithm."""
COLUMNS = 96
"""Columns of an example: 0.96 s."""
LEAST_SAMPLES = (COLUMNS - 1) * HOP + WINDOW
"""Samples of one example, 0.975 s; shorter sounds are filled with silence."""


def mel_matrix() -> np.ndarray:
    """Mel bands [257, 64] over the bins of a spectrum, float64: triangles over the mel axis, peaks of 1, no DC."""
    edges = np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 2)
    bins = _mel(np.arange(FFT // 2 + 1) * SAMPLE_RATE / FFT)[:, None]
    lower, centre, upper = edges[:-2], edges[1:-1], edges[2:]
    bank = np.minimum((bins - lower) / (centre - lower), (upper - bins) / (upper - centre)).clip(min=0.0)
    bank[0] = 0.0
    return bank


def _mel(hertz: float | np.ndarray) -> np.ndarray:
    """HTK's mel scale."""
    return 1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0)


def log_mel(wave: Tensor) -> Tensor:
    """The logarithm of mel magnitudes plus 0.01, [..., T, 64], of waves [..., n] at 16 kHz, of at least 400 samples.

    Windows lie inside of the wave: T = 1 + (n - 400) // 160.
    """
    window = torch.hann_window(WINDOW, dtype=wave.dtype, device=wave.device)
    magnitudes = torch.fft.rfft(wave.unfold(-1, WINDOW, HOP) * window, FFT).abs()
    return (magnitudes @ torch.from_numpy(mel_matrix()).to(wave) + OFFSET).log()


def examples(wave: Tensor, hop: int = COLUMNS) -> Tensor:
    """What the network reads of a wave [n] at 16 kHz: [W, 96, 64] float32, computed in double precision.

    Args:
        wave: of any length; less than one example is filled with silence.
        hop: columns from one example to the next; 96 for examples that follow each other.

    Raises:
        UsageError: not [n], or no samples.

    Examples:
        >>> [len(examples(torch.zeros(round(16000 * seconds)))) for seconds in (1, 2.56, 3, 8, 10)]
        [1, 2, 3, 8, 10]
    """
    if wave.ndim != 1 or not len(wave):
        raise UsageError(f"a wave must be [n samples], not {tuple(wave.shape)}")
    bank = log_mel(F.pad(wave.double(), (0, max(0, LEAST_SAMPLES - len(wave)))))
    return bank.unfold(0, COLUMNS, hop).transpose(1, 2).float()


class Vggish(nn.Module):
    """Examples of log-mel magnitudes to vectors.

    Args:
        width: channels of the first layer, of which the others have 2, 4 and 8 times as many; 64 in the published one.
        hidden: numbers of the two layers before the last.
        dim: numbers of a vector.
    """

    def __init__(self, width: int = 64, hidden: int = 4096, dim: int = 128) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 1
        for block in ((width,), (2 * width,), (4 * width, 4 * width), (8 * width, 8 * width)):
            for after in block:
                layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
                before = after
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        size = 8 * width * (COLUMNS // 16) * (BANDS // 16)
        self.embeddings = nn.Sequential(
            nn.Linear(size, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )

    def forward(self, banks: Tensor) -> Tensor:
        """Vectors [W, 128], before the last ReLU, of examples [W, 96, 64].

        Raises:
            UsageError: not [W, 96, 64].
        """
        if banks.ndim != 3 or banks.shape[1:] != (COLUMNS, BANDS):
            raise UsageError(f"examples must be [W, {COLUMNS}, {BANDS}], not {tuple(banks.shape)}")
        x = self.features(banks[:, None])  # [W, 512, 6, 4]
        return self.embeddings(x.permute(0, 2, 3, 1).flatten(1))  # channels last, as in the first implementation

    @classmethod
    def from_file(cls, path: str | Path) -> Vggish:
        """The network with published weights, frozen.

        Args:
            path: of safetensors with torchvggish's names, or of a folder with one such file. The tables of the PCA are
                not read.

        Raises:
            WeightsError: there is no such file, or its tensors are others.
        """
        tensors = read_published(path, "VGGish")
        state = {name: x for name, x in tensors.items() if not name.startswith("pproc.")}
        try:
            width, (hidden, _) = len(state["features.0.bias"]), state["embeddings.0.weight"].shape
            net = cls(width, hidden, len(state["embeddings.4.bias"]))
            net.load_state_dict(state)
        except (KeyError, ValueError, RuntimeError) as error:
            raise WeightsError(f"{path}: these are no weights of VGGish: {reason(error)}") from error
        return net.eval().requires_grad_(False)
