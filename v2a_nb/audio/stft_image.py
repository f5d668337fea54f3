"""Conversion of sounds of any length to pictures for an image autoencoder, and back.

EgoSonics resizes the STFT of 10 s to 512 x 512 (section 3.1, supplement C). Here a second always has the same
number of columns, so that a longer sound is a wider picture. ``tiny`` uses mel bands instead: 64 rows that need no
resizing, from which Griffin-Lim recovers every onset.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import torch
from torch import Tensor

from v2a_nb.audio.spectrogram import (
    ACTION2SOUND,
    EGOSONICS,
    VTA_LDM,
    DecibelScale,
    FrontEnd,
    PictureLayout,
    Spectrogram,
)
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError

PIECE_S = 30.0  # Griffin-Lim of more than this is done in pieces
CROSSFADE_S = 0.03

TINY = FrontEnd(
    name="egosonics-tiny", sample_rate=16000, seconds=5.12, n_fft=512, hop=160, pad_mode="constant",
    mels=64, fmin=40.0, fmax=8000.0,
    # mels of Strike World lie between -90 dB, under its softest ambience, and -10 dB
    scale=DecibelScale(top_db=-10.0, range_db=80.0),
    picture=PictureLayout(signed=True, low_at_bottom=True),
)  # fmt: skip

# the paper's text says "22 KHz" and, for its range, "up to 20 KHz": both rates give 862 frames in 10 s
PAPER_44K = replace(EGOSONICS, sample_rate=44100, hop=512, fmax=22050.0)


@dataclass(frozen=True)
class StftImage:
    """A front end whose pictures have a fixed number of columns per second.

    Attributes:
        front_end: the spectrogram, its scale and its layout.
        columns_per_s: columns per second; where it equals the frame rate nothing is resized.
        align: the number of columns is a multiple of it, as the autoencoder and the UNet need.
        iterations: of Griffin-Lim.
        method: of the way from mels to bins, see :meth:`~v2a_nb.audio.spectrogram.Spectrogram.inverse`.

    Examples:
        >>> image = STFT_IMAGES["tiny"]
        >>> picture = image.to_image(torch.zeros(1, 16000))
        >>> picture.shape, image.to_wave(picture, 16000).shape
        (torch.Size([1, 1, 64, 128]), torch.Size([1, 16000]))
    """

    front_end: FrontEnd
    columns_per_s: float
    align: int
    iterations: int = 32
    method: str = "pinv"

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.front_end.sample_rate

    @property
    def channels(self) -> int:
        """Number of channels of the picture."""
        return self.front_end.picture.channels

    @property
    def resized(self) -> bool:
        """Whether pictures are resized, so that a column is not a frame of the spectrogram."""
        return self.front_end.picture.size is not None

    @property
    def height(self) -> int:
        """Rows of the picture."""
        size = self.front_end.picture.size
        return size[0] if size else Spectrogram(self.front_end).bands

    def columns(self, num_samples: int) -> int:
        """Number of columns of the picture of ``num_samples`` samples."""
        # as a fraction: floats would round 35840 samples, exactly 224 columns of a 100th of a second, up to 225
        exact = Fraction(int(num_samples), self.sample_rate) * Fraction(str(self.columns_per_s))
        return max(1, math.ceil(exact / self.align)) * self.align

    def samples(self, columns: int) -> int:
        """Number of samples that ``columns`` columns stand for."""
        return round(columns / self.columns_per_s * self.sample_rate)

    def _layout(self, columns: int) -> Spectrogram:
        """The front end whose pictures have ``columns`` columns."""
        layout = self.front_end.picture
        if self.resized:
            layout = replace(layout, size=(self.height, columns))
        return Spectrogram(replace(self.front_end, picture=layout))

    def to_image(self, wave: Tensor | Sound, fill: int | None = None) -> Tensor:
        """Convert waves [B, n] to pictures [B, c, height, columns(n)] in [-1, 1].

        The last columns are filled with the wave backwards. Silence would end the picture with an edge, of which an
        autoencoder makes a hit.

        Args:
            fill: columns of the picture, to which the wave's own spectrogram is filled up with silence instead.

        Raises:
            MediaError: NaN or infinite samples.
            UsageError: not [B, n], or empty.
        """
        if isinstance(wave, Sound):
            wave = torch.tensor(wave.mono().resample(self.sample_rate).samples)
        if wave.ndim != 2:
            raise UsageError(f"waves must be [B, n], not {tuple(wave.shape)}")
        if not wave.shape[-1]:
            raise UsageError("an empty sound has no picture: give a longer one")
        if fill is not None:
            layout = replace(self.front_end.picture, frames=fill)
            front = Spectrogram(replace(self.front_end, picture=layout))
            return front.to_picture(front(wave))
        columns = self.columns(wave.shape[-1])
        there_and_back = torch.cat([wave, wave.flip(-1)], dim=-1)
        wave = there_and_back[:, torch.arange(self.samples(columns)) % there_and_back.shape[-1]]
        front = self._layout(columns)
        spectrogram = front(wave)  # [B, F, T]
        return front.to_picture(spectrogram if self.resized else spectrogram[..., :columns])

    def to_spectrogram(self, picture: Tensor, super_resolution=None, *, clamp: bool = True) -> Tensor:
        """Convert pictures to scaled spectrograms [B, F, T] in [0, 1].

        Args:
            picture: [B, c, height, columns] in [-1, 1].
            clamp: whether values outside of [0, 1] are clipped.
            super_resolution: EgoSonics' :class:`~v2a_nb.systems.egosonics.model.SuperResolution`, which
                resizes in place of bicubic interpolation.
        """
        columns = picture.shape[-1]
        front = self._layout(columns)
        frames = front.frames(self.samples(columns)) if self.resized else columns
        if super_resolution is not None and self.resized:
            low = (picture[:, :1].clamp(-1, 1) + 1) / 2  # [B, 1, h, columns]
            fine = super_resolution(low, (front.bands, frames))[:, 0]
            return fine.flip(1) if self.front_end.picture.low_at_bottom else fine
        spectrogram = front.from_picture(picture, frames)
        return spectrogram.clamp(0, 1) if clamp else spectrogram

    def to_wave(
        self, picture: Tensor, num_samples: int | None = None, *, seed: int | None = 0, super_resolution=None
    ) -> Tensor:
        """Convert pictures [B, c, height, columns] to waves [B, num_samples] by Griffin-Lim.

        Args:
            picture: in [-1, 1].
            num_samples: length of the waves; left out, what the columns stand for.
            seed: of the initial phases.
            super_resolution: see :meth:`to_spectrogram`.

        Raises:
            UsageError: a picture of another height.
        """
        if picture.ndim != 4 or picture.shape[2] != self.height:
            raise UsageError(f"pictures must be [B, c, {self.height}, columns], not {tuple(picture.shape)}")
        spectrogram = self.to_spectrogram(picture, super_resolution)
        front, hop = Spectrogram(self.front_end), self.front_end.hop
        full = self.samples(picture.shape[-1])
        num_samples = full if num_samples is None else num_samples
        how = {"iterations": self.iterations, "seed": seed, "method": self.method}
        # one frame more, so that the last samples lie between frames
        spectrogram = torch.cat([spectrogram, spectrogram[..., -1:]], dim=-1)
        piece = int(PIECE_S * self.sample_rate / hop)
        fade = max(1, int(CROSSFADE_S * self.sample_rate / hop))  # frames
        joined: Tensor | None = None
        for a in range(0, max(1, spectrogram.shape[-1] - fade - 1), piece):
            part = spectrogram[..., max(0, a - fade) : a + piece + 1]
            wave = front.to_wave(part, **how)
            if joined is None:
                joined = wave
                continue
            n = fade * hop
            ramp = torch.linspace(0, 1, n, device=wave.device)
            # the phases of two pieces are unrelated, so their powers add up
            mixed = joined[:, -n:] * (1 - ramp).sqrt() + wave[:, :n] * ramp.sqrt()
            joined = torch.cat([joined[:, :-n], mixed, wave[:, n:]], dim=-1)
        more = num_samples - joined.shape[-1]
        return torch.nn.functional.pad(joined, (0, more))


# the released spectrogram as our own autoencoder reads it: one channel, in [-1, 1], low bands at the bottom
ACTION2SOUND_TINY = replace(ACTION2SOUND, picture=PictureLayout(signed=True, low_at_bottom=True))

STFT_IMAGES = {
    "tiny": StftImage(TINY, columns_per_s=100.0, align=32),
    # 512 columns for 10 s; 64 of them are 8 latents, which is what Stable Diffusion's UNet divides by
    "paper": StftImage(EGOSONICS, columns_per_s=51.2, align=64, iterations=64),
    "paper-44k": StftImage(PAPER_44K, columns_per_s=51.2, align=64, iterations=64),
    # a column is a frame; 32 of them are 4 latents, which is what the UNet divides by
    "action2sound": StftImage(ACTION2SOUND_TINY, columns_per_s=62.5, align=32, iterations=60, method="nnls"),
    # three channels in [0, 1], and eight columns to a latent of Stable Diffusion's four sizes
    "action2sound-paper": StftImage(
        replace(ACTION2SOUND, picture=PictureLayout(channels=3)),
        columns_per_s=62.5,
        align=64,
        iterations=60,
        method="nnls",
    ),
    # AudioLDM's log-mels as they are, time to the right; four columns to a latent of UNets of four sizes
    "vta_ldm-paper": StftImage(
        replace(VTA_LDM, picture=PictureLayout()), columns_per_s=100.0, align=32, iterations=60, method="nnls"
    ),
}


class LatentPicture:
    """The sizes of latents of a picture of sound, as the configurations of the latent diffusion systems have them.

    A configuration that inherits it has these fields.

    Attributes:
        picture: name out of :data:`STFT_IMAGES`.
        latent_channels: C of the latents.
        factor: pixels, in each direction, of one latent.
        widths, heads: channels and attention heads of the UNet at each size.
        context: latent columns of a window.
    """

    picture: str
    latent_channels: int
    factor: int
    widths: tuple[int, ...]
    heads: tuple[int, ...]
    context: int

    @property
    def stft(self) -> StftImage:
        """The picture of sound."""
        return STFT_IMAGES[self.picture]

    @property
    def rows(self) -> int:
        """H of the latents."""
        return self.stft.height // self.factor

    @property
    def column_s(self) -> float:
        """Seconds of a latent column."""
        return self.factor / self.stft.columns_per_s

    @property
    def window_s(self) -> float:
        """Seconds of a window, which is what training sees at once."""
        return self.context * self.column_s

    def latents_shape(self, num_samples: int) -> tuple[int, int, int]:
        """(C, H, W) of the latents of so many samples: at least a window."""
        columns = self.stft.columns(num_samples) // self.factor
        return self.latent_channels, self.rows, max(self.context, columns)

    def check_picture(self) -> None:
        """Raise :class:`UsageError` for an unknown picture, or sizes and heads that are not as many."""
        if self.picture not in STFT_IMAGES:
            raise UsageError(f"unknown picture {self.picture!r}; known are {', '.join(STFT_IMAGES)}")
        if len(self.heads) != len(self.widths):
            raise UsageError(f"{len(self.heads)} numbers of heads for {len(self.widths)} sizes")

    def check_windows(self) -> None:
        """Raise :class:`UsageError` where the UNet's sizes, or windows, do not divide the picture."""
        if self.stft.align % (self.factor * 2 ** (len(self.widths) - 1)):
            raise UsageError(f"{len(self.widths)} sizes do not divide pictures of {self.stft.align} columns")
        if self.context * self.factor % self.stft.align:
            raise UsageError(f"windows of {self.context} latents do not fit pictures of {self.stft.align} columns")
