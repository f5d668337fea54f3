"""V-AURA as a system: a clip goes in, a sound comes out.

:class:`VAura` joins the language model (:mod:`v2a_nb.systems.vaura.model`) with a visual encoder and a
codec; which of them is a matter of the weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.sampling.autoregressive import generate_long, steps_of
from v2a_nb.systems.base import Coded, Progress, check_fit, evaluating, seeded
from v2a_nb.systems.vaura.model import PRESETS, VAuraConfig, VAuraDecoder

__all__ = ["PRESETS", "VAura", "VAuraConfig", "VAuraDecoder"]


class VAura(Coded):
    """The whole system: a visual encoder, the decoder and a codec.

    Args:
        decoder: the language model.
        encoder: has ``rate`` (tokens a second), ``dim`` and ``features(clip) -> [Tv, dim]``.
        codec: has ``sample_rate``, ``hop``, ``num_codebooks``, ``codebook_size``, ``encode`` and
            ``decode``.

    Raises:
        WeightsError: parts that do not fit each other.

    Examples:
        >>> vaura = VAura.from_pretrained("vaura")             # doctest: +SKIP
        >>> vaura.generate(clip, seed=0).n == round(clip.duration * 16000)  # doctest: +SKIP
        True
    """

    name = kind = default = "vaura"
    title, config_class, part_names = "V-AURA", VAuraConfig, ("vision", "codec")
    options = ("guidance", "temperature", "top_k")
    round_trip_of = "codec"

    def __init__(self, decoder: VAuraDecoder, encoder: nn.Module, codec: nn.Module) -> None:
        super().__init__()
        c = decoder.config
        wanted = {
            "visual channels": (encoder.dim, c.visual_dim),
            "visual tokens a second": (Fraction(encoder.rate), Fraction(c.visual_rate)),
            "codec frames a second": (Fraction(codec.sample_rate, codec.hop), Fraction(c.frame_rate)),
            "codebooks": (codec.num_codebooks, c.num_codebooks),
            "codes in a codebook": (codec.codebook_size, c.codebook_size),
        }
        check_fit(wanted, "the decoder")
        self.decoder, self.encoder, self.codec = decoder, encoder, codec

    @property
    def sample_rate(self) -> int:
        """Of the sounds that are made, Hz."""
        return self.codec.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the decoder is."""
        return self.decoder.heads.weight.device

    def encode_video(self, clip: Clip) -> Tensor:
        """Visual tokens [1, Tv, visual_dim] of a clip; its sound is not looked at."""
        with torch.no_grad(), evaluating(self):
            return self.encoder.features(clip)[None].to(self.device)

    def encode_sound(self, sound: Sound) -> Tensor:
        """Codes int64 [1, K, T] of a sound, T = ceil(samples / hop) at the codec's rate."""
        wave = torch.from_numpy(sound.mono().resample(self.sample_rate).samples.copy())
        with evaluating(self):
            return self.codec.encode(wave.to(self.device))

    def generate(
        self,
        clip: Clip,
        *,
        seed: int = 0,
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        start: float = 0.0,
        duration: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Sound:
        """A soundtrack exactly as long as the clip (or as the part of it that is named).

        Args:
            clip: any size, frame rate and length from 0.3 s; its own sound is not looked at.
            seed: the same seed gives the same samples on one machine.
            guidance, temperature, top_k: left out, the preset's best.
            start, duration: a part of the clip, seconds.
            progress: called with 1 for each decoding step.

        Returns:
            mono, at the codec's rate.

        Raises:
            UsageError: under 0.3 s, or a part outside of the clip.
        """
        return self.generate_batch(
            [clip], seeds=[seed], guidance=guidance, temperature=temperature, top_k=top_k, start=start,
            duration=duration, progress=progress,
        )[0]  # fmt: skip

    def _make(self, clips: list[Clip], samples: int, seeds: Sequence[int], progress: Progress, **options) -> Tensor:
        how = replace(self.decoder.config.sampling, **options)
        how.check()
        visual, frames = self.encode_videos(clips), -(-samples // self.codec.hop)
        codes = generate_long(self.decoder, visual, how, seeded(seeds), frames=frames, progress=progress)
        return self._decode(codes, samples)

    def _decode(self, made: Tensor, samples: int) -> Tensor:
        return self.codec.decode(made, samples)

    def _steps(self, samples: int, **options) -> int:
        c = self.decoder.config
        return steps_of(-(-samples // self.codec.hop), c.context_frames, None, c.num_codebooks)

    def log_likelihood(self, clip: Clip | Tensor, codes: Tensor, *, null: bool = False) -> Tensor:
        """log p of given codes under the video, or under the null: [K, T], nats, differentiable.

        Args:
            clip: a clip, or its visual tokens [1, Tv, visual_dim]; gradients reach the tokens (and, when
                they were made with gradients, the pixels).
            codes: int64 [1, K, T], at most one context long to be meaningful.
            null: replace the video by the null.
        """
        visual = clip if isinstance(clip, Tensor) else self.encode_video(clip)
        drop = torch.tensor([null], device=visual.device)
        with evaluating(self):
            logits = self.decoder(codes, visual, drop)
        return logits.log_softmax(-1).gather(-1, codes[..., None])[0, ..., 0]

    # --- weights ------------------------------------------------------------------------------------

    @property
    def config(self) -> VAuraConfig:
        """The decoder's sizes and switches."""
        return self.decoder.config

    def _network(self) -> nn.Module:
        return self.decoder

    def _parts(self) -> dict[str, Any]:
        return {"vision": self.encoder, "codec": self.codec}

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        from v2a_nb.models.codec import load_codec
        from v2a_nb.models.video_encoders.strike import StrikeVision

        return {"encoder": StrikeVision.from_pretrained(where["vision"]), "codec": load_codec(where["codec"])}

    @classmethod
    def _build(cls, config: VAuraConfig, **parts: Any) -> VAura:
        return cls(VAuraDecoder(config), **parts)
