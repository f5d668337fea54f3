"""The spectrogram front ends of the three diffusion papers, each with its way back to a wave.

| name | paper | input of the generator |
|---|---|---|
| ``action2sound`` | Action2Sound (AV-LDM), ``ldm/datasets/utils.py`` | 128 mels at 16 kHz, 100 dB to [0, 1] |
| ``vta_ldm`` | VTA-LDM, which takes AudioLDM's ``audio/stft.py`` | 64 mels at 16 kHz, natural log |
| ``egosonics`` | EgoSonics, section 3 | the whole STFT at 22.05 kHz as a 512 x 512 picture |

The first two follow the released code. EgoSonics released none and its text does not state n_fft, hop
and range, so those three are this project's choice.

Examples:
    >>> front = Spectrogram("action2sound")
    >>> front(torch.zeros(1, 48000)).shape
    torch.Size([1, 128, 188])
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log, log10

import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_nb.audio.griffin_lim import griffin_lim, stft
from v2a_nb.audio.mel import mel_basis
from v2a_nb.clip import Sound
from v2a_nb.errors import MediaError, UsageError


@dataclass(frozen=True)
class DecibelScale:
    """Magnitudes to [0, 1]: ``top_db - range_db`` and all below is 0, ``top_db`` and all above is 1.

    Attributes:
        top_db: dB of the magnitude that becomes 1.
        range_db: dB between 0 and 1.
    """

    top_db: float
    range_db: float

    @property
    def silence(self) -> float:
        """The scaled value of digital silence."""
        return 0.0

    def __call__(self, magnitude: Tensor) -> Tensor:
        # the floor only keeps the logarithm finite: it lies under what is clipped to 0
        floor = 10 ** ((self.top_db - self.range_db - 20) / 20)
        level = 20 * torch.log10(magnitude.clamp(min=floor))
        return ((level - self.top_db + self.range_db) / self.range_db).clamp(0, 1)

    def undo(self, scaled: Tensor) -> Tensor:
        """Convert back to magnitudes; 0 becomes the bottom of the range, not silence."""
        return 10 ** ((scaled * self.range_db - self.range_db + self.top_db) / 20)


@dataclass(frozen=True)
class LogScale:
    """Natural log of magnitudes of at least ``floor`` (AudioLDM's dynamic range compression)."""

    floor: float = 1e-5

    @property
    def silence(self) -> float:
        """The scaled value of digital silence."""
        return log(self.floor)

    def __call__(self, magnitude: Tensor) -> Tensor:
        return torch.log(magnitude.clamp(min=self.floor))

    def undo(self, scaled: Tensor) -> Tensor:
        """Convert back to magnitudes; the floor stays the floor."""
        return torch.exp(scaled)


@dataclass(frozen=True)
class PictureLayout:
    """The layout of a scaled spectrogram as a picture for an image autoencoder.

    Attributes:
        channels: number of copies of the spectrogram; the way back reads the first.
        frames: cut, or filled with silence on the right, to so many frames first; None keeps all.
        size: then resized to (height, width), bicubic with antialiasing; None keeps the size.
        signed: then [0, 1] becomes [-1, 1].
        time_first: rows are frames and columns are bands (AudioLDM) instead of the other way round.
        low_at_bottom: the first row is the highest band, as spectrograms are drawn.
    """

    channels: int = 1
    frames: int | None = None
    size: tuple[int, int] | None = None
    signed: bool = False
    time_first: bool = False
    low_at_bottom: bool = False


@dataclass(frozen=True)
class FrontEnd:
    """The settings of one paper's spectrogram; ``dataclasses.replace`` changes single ones.

    Attributes:
        name: mentioned in messages.
        sample_rate: Hz.
        seconds: length of the paper's training clips.
        n_fft: window and transform length, samples (Hann).
        hop: samples between frames.
        pad_mode: padding of the STFT at the ends of the wave.
        mels: bands of a Slaney mel basis; None keeps the linear bins.
        fmin: Hz, lower edge of the mel basis.
        fmax: Hz, upper edge.
        scale: from magnitudes to the generator's input.
        picture: layout for the autoencoder.
        clip_wave: whether samples beyond -1 and 1 are clipped first.
        peak: the released loader removes the mean and scales to this peak (see
            :meth:`Spectrogram.prepare`); None leaves the wave alone.
    """

    name: str
    sample_rate: int
    seconds: float
    n_fft: int
    hop: int
    pad_mode: str
    mels: int | None
    fmin: float
    fmax: float
    scale: DecibelScale | LogScale
    picture: PictureLayout
    clip_wave: bool = False
    peak: float | None = None


ACTION2SOUND = FrontEnd(
    name="action2sound", sample_rate=16000, seconds=3.0, n_fft=1024, hop=256, pad_mode="constant",
    mels=128, fmin=125.0, fmax=7600.0,
    # (20 log10(max(mel, 1e-5)) - 20 + 100) / 100, clipped to [0, 1]
    scale=DecibelScale(top_db=20.0, range_db=100.0),
    # 188 frames are filled to 196; the autoencoder gets [0, 1], not Stable Diffusion's [-1, 1]
    picture=PictureLayout(channels=3, frames=196),
)  # fmt: skip

VTA_LDM = FrontEnd(
    name="vta_ldm", sample_rate=16000, seconds=10.24, n_fft=1024, hop=160, pad_mode="reflect",
    mels=64, fmin=0.0, fmax=8000.0, scale=LogScale(1e-5),
    picture=PictureLayout(frames=1024, time_first=True),
    clip_wave=True, peak=0.5,
)  # fmt: skip

EGOSONICS = FrontEnd(
    name="egosonics", sample_rate=22050, seconds=10.0, n_fft=2048, hop=256, pad_mode="constant",
    mels=None, fmin=0.0, fmax=11025.0,
    # 1 is a sine at full scale (its magnitude is n_fft / 4 under a Hann window). Against a fixed level
    # and not the clip's own maximum: else the way back would not know how loud the clip was
    scale=DecibelScale(top_db=20 * log10(2048 / 4), range_db=80.0),
    picture=PictureLayout(channels=3, size=(512, 512), signed=True, low_at_bottom=True),
)  # fmt: skip

FRONT_ENDS = {front.name: front for front in (ACTION2SOUND, VTA_LDM, EGOSONICS)}


class Spectrogram:
    """One front end: converts waves to the generator's input, and back.

    Args:
        front_end: ``"action2sound"``, ``"vta_ldm"``, ``"egosonics"``, or settings of your own.

    Raises:
        UsageError: an unknown name.

    Examples:
        >>> front = Spectrogram("vta_ldm")
        >>> wave = 0.1 * torch.sin(torch.arange(16000) * 0.3)[None]
        >>> front.to_wave(front(wave), num_samples=16000).shape
        torch.Size([1, 16000])
    """

    def __init__(self, front_end: str | FrontEnd) -> None:
        if isinstance(front_end, str):
            if front_end not in FRONT_ENDS:
                known = ", ".join(FRONT_ENDS)
                raise UsageError(f"unknown front end {front_end!r}; known are {known}")
            front_end = FRONT_ENDS[front_end]
        self.front_end = front_end

    def __repr__(self) -> str:
        f = self.front_end
        bands = f"{f.n_fft // 2 + 1} bins" if f.mels is None else f"{f.mels} mels"
        return f"Spectrogram({f.name}: {f.sample_rate} Hz, n_fft {f.n_fft}, hop {f.hop}, {bands})"

    @property
    def bands(self) -> int:
        """Number of frequency bands F, the rows of the spectrogram."""
        return self.front_end.mels or self.front_end.n_fft // 2 + 1

    def frames(self, num_samples: int) -> int:
        """Number of frames T of ``num_samples`` samples."""
        return 1 + num_samples // self.front_end.hop

    def prepare(self, wave: Tensor) -> Tensor:
        """Normalise training waves [B, n] as the released loader does.

        VTA-LDM removes the mean and scales each wave to a peak of 0.5 (``tools/torch_tools.py``), which
        forgets how loud it was; the others leave it alone. Silence stays silence, where the released
        code divides by zero.
        """
        if self.front_end.peak is None:
            return wave
        wave = wave - wave.mean(-1, keepdim=True)
        return wave * (self.front_end.peak / wave.abs().amax(-1, keepdim=True).clamp(min=1e-8))

    def magnitude(self, wave: Tensor | Sound) -> Tensor:
        """Compute linear STFT magnitudes.

        Args:
            wave: [B, n] or [n] at the front end's rate; or a Sound, mixed to mono and resampled.

        Returns:
            [B, n_fft / 2 + 1, T], T = 1 + n // hop.

        Raises:
            MediaError: NaN or infinite samples.
            UsageError: not [B, n], or too short for the padding.
        """
        if isinstance(wave, Sound):
            sound = wave.mono().resample(self.front_end.sample_rate)
            wave = torch.tensor(sound.samples)
        if wave.ndim == 1:
            wave = wave[None]
        if wave.ndim != 2 or not wave.is_floating_point():
            raise UsageError(f"waves must be floating point [B, n], not {wave.dtype} {tuple(wave.shape)}")
        if not bool(torch.isfinite(wave).all()):
            raise MediaError("the wave has samples that are NaN or infinite")
        f = self.front_end
        if f.clip_wave:
            wave = wave.clamp(-1, 1)
        return stft(wave, f.n_fft, f.hop, f.pad_mode).abs()

    def __call__(self, wave: Tensor | Sound) -> Tensor:
        """Compute the scaled spectrogram [B, F, T] of waves [B, n]; see :meth:`magnitude` for inputs and errors.

        Range: [0, 1] for ``action2sound`` and ``egosonics``, log(1e-5) = -11.5 and up for ``vta_ldm``.
        """
        magnitude = self.magnitude(wave)  # [B, n_fft / 2 + 1, T]
        if self.front_end.mels is not None:
            magnitude = _basis(self.front_end, magnitude.dtype, magnitude.device) @ magnitude
        return self.front_end.scale(magnitude)

    def basis(self, like: Tensor) -> Tensor:
        """The mel basis [F, n_fft / 2 + 1], in the type and on the device of ``like``.

        Raises:
            UsageError: a front end of linear bins.
        """
        if self.front_end.mels is None:
            raise UsageError(f"{self.front_end.name} has linear bins and no mels")
        return _basis(self.front_end, like.dtype, like.device)

    def inverse(self, spectrogram: Tensor, method: str = "nnls", iterations: int = 60) -> Tensor:
        """Convert a scaled spectrogram [B, F, T] to linear magnitudes [B, n_fft / 2 + 1, T].

        Args:
            spectrogram: in the range of :meth:`__call__`; values outside (a network made them) are
                cut to [0, 1] where that is the range.
            method: how mels become bins. ``"nnls"`` finds magnitudes that are not negative and give the
                same mels, near the pseudo-inverse (as ``librosa.feature.inverse.mel_to_stft``);
                ``"pinv"`` is the pseudo-inverse with negative values cut, faster and rougher.
            iterations: number of iterations of ``"nnls"``.

        Raises:
            UsageError: the wrong number of bands, or an unknown method.
        """
        f = self.front_end
        if spectrogram.ndim != 3 or spectrogram.shape[1] != self.bands:
            raise UsageError(f"{f.name} spectrograms are [B, {self.bands}, T], not {tuple(spectrogram.shape)}")
        if method not in ("nnls", "pinv"):
            raise UsageError(f"unknown method {method!r}; known are nnls, pinv")
        if isinstance(f.scale, DecibelScale):
            spectrogram = spectrogram.clamp(0, 1)
        magnitude = f.scale.undo(spectrogram)
        # what lies at the bottom of the range was silence or too soft to tell: no hiss is made of it
        magnitude = magnitude * (spectrogram > f.scale.silence)
        if f.mels is None:
            return magnitude
        basis = _basis(f, magnitude.dtype, magnitude.device)
        start = (_pseudo_inverse(f, magnitude.dtype, magnitude.device) @ magnitude).clamp(min=0)
        return start if method == "pinv" else _nnls(basis, magnitude, start, iterations)

    def to_wave(
        self,
        spectrogram: Tensor,
        num_samples: int | None = None,
        *,
        iterations: int = 32,
        momentum: float = 0.99,
        seed: int | None = 0,
        method: str = "nnls",
    ) -> Tensor:
        """Convert a scaled spectrogram [B, F, T] to waves [B, num_samples] by :meth:`inverse` and Griffin-Lim.

        Mels do not say where in a band a tone lies, so ringing sounds come back 1 to 2 dB softer and rougher; the
        papers use vocoders instead.

        Args:
            spectrogram: see :meth:`inverse`.
            num_samples: length of the waves; left out, hop * (T - 1).
            iterations: of Griffin-Lim; see :func:`~v2a_nb.audio.griffin_lim.griffin_lim`.
            momentum: of Griffin-Lim.
            seed: of the initial phases; the same seed gives the same bytes.
            method: see :meth:`inverse`.
        """
        f = self.front_end
        return griffin_lim(
            self.inverse(spectrogram, method), f.hop, iterations=iterations, momentum=momentum,
            seed=seed, num_samples=num_samples, pad_mode=f.pad_mode,
        )  # fmt: skip

    def to_picture(self, spectrogram: Tensor) -> Tensor:
        """Lay out a scaled spectrogram [B, F, T] as the autoencoder's input.

        Returns:
            [B, 3, 128, 196] in [0, 1] for ``action2sound``, [B, 1, 1024, 64] for ``vta_ldm``,
            [B, 3, 512, 512] in [-1, 1] for ``egosonics``.
        """
        layout = self.front_end.picture
        if layout.frames is not None:
            more = layout.frames - spectrogram.shape[-1]  # negative cuts
            spectrogram = F.pad(spectrogram, (0, more), value=self.front_end.scale.silence)
        if layout.low_at_bottom:
            spectrogram = spectrogram.flip(1)
        if layout.time_first:
            spectrogram = spectrogram.transpose(1, 2)
        picture = spectrogram[:, None]  # [B, 1, H, W]
        if layout.size is not None:
            picture = _resize(picture, layout.size)
        if layout.signed:
            picture = picture.clamp(0, 1) * 2 - 1
        return picture.expand(-1, layout.channels, -1, -1).clone()

    def from_picture(self, picture: Tensor, frames: int) -> Tensor:
        """Convert the autoencoder's output [B, C, H, W] to a scaled spectrogram [B, F, frames].

        The first channel is read. A picture wider than ``frames`` is cut (Action2Sound's autoencoder gives 192
        columns, 188 of them sound); one that was resized is resized back.

        Raises:
            UsageError: a picture that has fewer frames, or another number of bands.
        """
        layout = self.front_end.picture
        picture = (picture[:, :1] + 1) / 2 if layout.signed else picture[:, :1]
        if layout.size is not None:
            wide = (frames, self.bands) if layout.time_first else (self.bands, frames)
            picture = _resize(picture, wide).clamp(0, 1)
        spectrogram = picture[:, 0]
        if layout.time_first:
            spectrogram = spectrogram.transpose(1, 2)
        if layout.low_at_bottom:
            spectrogram = spectrogram.flip(1)
        if spectrogram.shape[1] != self.bands or spectrogram.shape[2] < frames:
            raise UsageError(
                f"{self.front_end.name}: a picture {tuple(picture.shape[-2:])} does not hold "
                f"{self.bands} bands by {frames} frames"
            )
        return spectrogram[..., :frames]


def _resize(picture: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(picture, size, mode="bicubic", antialias=True, align_corners=False)


def _nnls(basis: Tensor, mels: Tensor, start: Tensor, iterations: int) -> Tensor:
    """Least squares ``basis @ x = mels`` with x >= 0, by FISTA (Beck and Teboulle, 2009).

    Args:
        basis: [M, F].
        mels: [B, M, T].
        start: [B, F, T]; with fewer mels than bins there are many solutions, and the one near the
            start is found.
    """
    gram = basis.T @ basis  # [F, F]
    aim = basis.T @ mels  # [B, F, T]
    step = 1 / torch.linalg.matrix_norm(gram, ord=2)
    x, ahead, t = start, start, 1.0
    for _ in range(iterations):
        new = (ahead - step * (gram @ ahead - aim)).clamp(min=0)
        t_new = (1 + (1 + 4 * t * t) ** 0.5) / 2
        ahead = new + (t - 1) / t_new * (new - x)
        x, t = new, t_new
    return x


@lru_cache(maxsize=8)
def _basis(front_end: FrontEnd, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Slaney mel basis [mels, n_fft / 2 + 1]."""
    f = front_end
    basis = mel_basis(f.sample_rate, f.n_fft, f.mels, f.fmin, f.fmax)
    return torch.tensor(basis, dtype=dtype, device=device)


@lru_cache(maxsize=8)
def _pseudo_inverse(front_end: FrontEnd, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[n_fft / 2 + 1, mels]."""
    basis = _basis(front_end, torch.float64, torch.device("cpu"))
    return torch.linalg.pinv(basis).to(device=device, dtype=dtype)
