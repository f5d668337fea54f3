"""What Action2Sound and VTA-LDM share: a sound is a mel spectrogram, that is latents, and HiFi-GAN leads back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from v2a_nb.clip import Sound
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.sampling.diffusion import Conditions, decode_long, sample_long
from v2a_nb.systems.base import Progress, System, evaluating, seeded

if TYPE_CHECKING:
    from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder


class MelLatentSystem(System):
    """A system whose latents are those of mel pictures.

    Its configuration has ``stft``, ``schedule``, ``latents_shape``, ``factor``, ``context``, ``overlap``, ``align``,
    ``guidance``, ``guidance_interval``, ``sampler_steps`` and ``clamp_mel``.

    Attributes:
        autoencoder: pictures to latents and back.
        vocoder: mel spectrograms to waves.
    """

    config: Any
    autoencoder: ImageAutoencoder
    vocoder: Vocoder | GriffinLimVocoder
    device: torch.device
    round_trip_of = "autoencoder and vocoder"

    @property
    def sample_rate(self) -> int:
        """Sample rate of the generated sounds, Hz."""
        return self.config.stft.sample_rate

    @abstractmethod
    def denoise(self, noisy: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """The prediction [N, C, H, W] for noisy latents [N, C, H, W] at timesteps [N] (a ``diffusion.Model``)."""

    def _fill(self, num_samples: int) -> int | None:
        """Columns of the picture, up to which a spectrogram is filled with silence; None: with the wave backwards."""
        return None

    def encode_sound(self, sound: Sound | Tensor, *, seeds: Sequence[int] | None = None) -> Tensor:
        """Latents [B, C, H, W] of a sound, or of waves [B, n] at the system's rate.

        Args:
            seeds: one for each wave: its latents are a sample of the posterior; left out, they are its mean.
        """
        c = self.config
        if isinstance(sound, Sound):
            sound = torch.from_numpy(sound.mono().resample(self.sample_rate).samples.copy())
        fill = self._fill(sound.shape[-1])
        picture, rest = c.stft.to_image(sound, fill).to(self.device), fill is not None
        with torch.no_grad(), evaluating(self):
            if seeds is None:
                return self.autoencoder.encode(picture, rest=rest)
            each = zip(picture.split(1), seeded(seeds), strict=True)
            return torch.cat([self.autoencoder.encode(p, draw=True, generator=g, rest=rest) for p, g in each])

    @torch.no_grad()
    def sample_latents(
        self,
        conditions: Callable[[int, int], tuple[Conditions, Conditions]],
        samples: int,
        *,
        seeds: Sequence[int],
        guidance: float | None = None,
        steps: int | None = None,
        progress: Progress = None,
    ) -> Tensor:
        """Latents [B, C, H, W] of sounds of so many samples, under :meth:`window_conditions`."""
        c = self.config
        return sample_long(
            self.denoise, conditions, c.latents_shape(samples), c.schedule, seeded(seeds), steps=steps,
            guidance=c.guidance if guidance is None else guidance, context=c.context, overlap=c.overlap, align=c.align,
            device=self.device, progress=progress, interval=c.guidance_interval, together=True,
        )  # fmt: skip

    def decode_picture(self, latents: Tensor) -> Tensor:
        """The picture [B, c, H f, W f] of latents, decoded in windows as wide as training had, cross-faded."""
        c = self.config
        with torch.no_grad(), evaluating(self):
            decode = self.autoencoder.decode
            return decode_long(decode, latents, c.stft.channels, c.factor, c.context, c.overlap, c.align)

    def decode_spectrogram(self, latents: Tensor) -> Tensor:
        """The scaled mel spectrogram [B, F, T] of latents [B, C, H, W]."""
        return self.config.stft.to_spectrogram(self.decode_picture(latents), clamp=self.config.clamp_mel)

    def decode_latents(
        self, latents: Tensor, num_samples: int | None = None, vocoder: Vocoder | GriffinLimVocoder | None = None
    ) -> Tensor:
        """Waves [B, num_samples] in [-1, 1] of latents [B, C, H, W]."""
        spectrogram, clamp = self.decode_spectrogram(latents), self.config.clamp_mel
        with evaluating(self):
            return (vocoder or self.vocoder).decode(spectrogram, num_samples, clamp=clamp).clamp(-1, 1)

    @torch.no_grad()
    def round_trip(self, sound: Sound) -> Sound:
        """A sound after autoencoder and vocoder alone, as long as before: the best that this system could give."""
        waves = self.decode_latents(self.encode_sound(sound), round(sound.duration * self.sample_rate))
        return Sound(waves[0].cpu().numpy(), self.sample_rate)

    def _steps(self, samples: int, *, steps: int | None = None, **options: object) -> int:
        return self.config.sampler_steps if steps is None else steps

    def _griffin_lim(self) -> GriffinLimVocoder:
        from v2a_nb.models.vocoder import GriffinLimVocoder

        return GriffinLimVocoder(self.config.stft.front_end.name)
