"""What the latent-diffusion systems share as systems: frames in, latents of a picture of sound, switches for once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.models.video_encoders.clip_frames import slower
from v2a_nb.sampling.diffusion import decode_long
from v2a_nb.systems.base import Coded, evaluating


class LatentSystem(Coded):
    """A base for systems with ``config``, ``encoder``, ``autoencoder`` and ``device``.

    The configuration has ``stft``, ``factor``, ``context``, ``overlap``, ``align``, ``fps`` and ``sampler_steps``.
    """

    @property
    def sample_rate(self) -> int:
        """Of the sounds that are made, Hz."""
        return self.config.stft.sample_rate

    def encode_video(self, clip: Clip) -> Tensor:
        """Frame vectors [1, T, video_dim] of a clip; its sound is not looked at.

        With ``config.fps`` the encoder is shown no more frames a second than that: between two of them it sees
        the first again. So a slow camera is slow for an encoder that looks at motion, too.
        """
        if self.encoder is None:
            raise UsageError(f"this {type(self).__name__} has no frame encoder: give one when it is made")
        clip = slower(clip, self.config.fps)
        with torch.no_grad(), evaluating(self):
            return self.encoder.features(clip)[None].to(self.device)

    def encode_sound(self, sound: Sound | Tensor) -> Tensor:
        """Latents [B, C, H, W] of a sound, or of waves [B, n] at the system's rate."""
        picture = self.config.stft.to_image(sound).to(self.device)
        with torch.no_grad(), evaluating(self):
            return self.autoencoder.encode(picture)

    def decode_picture(self, latents: Tensor) -> Tensor:
        """The picture [B, c, H f, W f] of latents, decoded in windows as wide as training had, cross-faded."""
        c = self.config
        with torch.no_grad(), evaluating(self):
            return decode_long(
                self.autoencoder.decode, latents, c.stft.channels, c.factor, c.context, c.overlap, c.align
            )  # fmt: skip

    def _decode(self, made: Tensor, samples: int) -> Tensor:
        return self.decode_latents(made, samples)

    def _steps(self, samples: int, *, steps: int | None = None, **options) -> int:
        return self.config.sampler_steps if steps is None else steps

    @contextmanager
    def _switched(self, options: dict[str, object]) -> Iterator[None]:
        """Inside, the configuration has what ``options`` says of it, which is taken out of them."""
        switches = {k: options.pop(k) for k in self.switches if k in options}
        before, self.config = self.config, replace(self.config, **switches)
        try:
            yield
        finally:
            self.config = before
