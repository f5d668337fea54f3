"""V-AURA (Viertola, Iashin, Rahtu 2024): next-token prediction over codec tokens, video fused at every step.

The language model stands in :mod:`v2a_nb.systems.vaura.model`, how it is sampled from in
:mod:`v2a_nb.sampling.autoregressive`. Which visual encoder and which codec belong to it is a matter of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import check_value
from v2a_nb.hits import Hits
from v2a_nb.hub import kind_of, read_config
from v2a_nb.models.codec import decode_part
from v2a_nb.sampling.autoregressive import Sampling, steps_of, stream_codes
from v2a_nb.systems.base import FOLLOWING, Option, Progress, System, check_fit, evaluating, given, seeded
from v2a_nb.systems.vaura.model import PRESETS, VAuraConfig, VAuraDecoder, levels_of

__all__ = ["PRESETS", "VAura", "VAuraConfig", "VAuraDecoder"]


class VAura(System):
    """The whole system: a visual encoder, the decoder and a codec.

    Args:
        decoder: the language model.
        encoder: has ``rate`` (tokens a second), ``dim`` and ``features(clip) -> [Tv, dim]``.
        codec: has ``sample_rate``, ``hop``, ``num_codebooks``, ``codebook_size``, ``encode`` and
            ``decode``.

    Raises:
        WeightsError: parts that do not fit each other.

    Examples:
        >>> vaura = VAura.from_pretrained("vaura")
        >>> vaura.generate(clip, seed=0).n == round(clip.duration * 16000)
        True
    """

    name = kind = default = "vaura"
    title, config_class, part_names = "V-AURA", VAuraConfig, ("vision", "codec")
    options: ClassVar[dict[str, Option]] = {
        "guidance": Option("how much the picture counts; 1 is no guidance", float, "G"),
        "temperature": Option("0 takes the likeliest code", float, "T"),
        "top_k": Option("codes to draw from; 0 is all", int, "K"),
        **FOLLOWING,
    }
    round_trip_of = "codec"

    def __init__(self, decoder: VAuraDecoder, encoder: nn.Module, codec: nn.Module) -> None:
        super().__init__()
        c = decoder.config
        parts = {
            "visual channels": (encoder.dim, c.visual_dim),
            "visual tokens a second": (Fraction(encoder.rate), Fraction(c.visual_rate)),
            "codec frames a second": (Fraction(codec.sample_rate, codec.hop), Fraction(c.frame_rate)),
            "codebooks": (codec.num_codebooks, c.num_codebooks - c.first_code),
            "codes in a codebook": (codec.codebook_size, c.codebook_size),
        }
        check_fit(parts, "the decoder")
        self.decoder, self.encoder, self.codec = decoder, encoder, codec

    @property
    def config(self) -> VAuraConfig:
        """The decoder's sizes and switches."""
        return self.decoder.config

    @property
    def sample_rate(self) -> int:
        """Sample rate of the generated sounds, Hz."""
        return self.codec.sample_rate

    @property
    def device(self) -> torch.device:
        """Device of the decoder."""
        return self.decoder.heads.weight.device

    # --- generation ---------------------------------------------------------------------------------

    @torch.no_grad()
    def generate(
        self,
        clip: Clip | Sequence[Clip],
        *,
        seed: int | Sequence[int] = 0,
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        hits: Hits | Sequence[Any] | str | Path | None = None,
        sensitivity: float | str | None = None,
        start: float = 0.0,
        duration: float | None = None,
        progress: Progress = None,
    ) -> Sound | list[Sound]:
        """A soundtrack exactly as long as the clip (or as the part of it that is named).

        Args:
            clip: any size, frame rate and length from 0.3 s; its own sound is not used. Or clips of one length.
            seed: the same seed gives the same samples on one machine. For several clips, one each.
            guidance, temperature, top_k: left out, the preset's best.
            hits: exactly these sound: :class:`~v2a_nb.hits.Hits`, times in seconds or a file; for several clips a list
                of them, one each. Left out, what the system expects.
            sensitivity: which of its own hits are followed: 0, only sure ones, to 1, every doubt; ``"auto"``, what
                suits the clip (:attr:`v2a_nb.hits.Hits.fitting_sensitivity`). Left out, each is weighed by its
                probability.
            start, duration: a part of the clip, seconds.
            progress: called with 1 for each decoding step.

        Returns:
            a sound, mono, at the codec's rate; a list of them for several clips.

        Raises:
            UsageError: under 0.3 s, a part or hits outside of the clip, or settings out of range.
        """
        clips, seeds, samples = self._batch(clip, seed, start, duration)
        how = self._sampling(guidance, temperature, top_k)
        followed = self._hits(clip, hits, sensitivity, start, duration)
        with evaluating(self):
            # 1. Encode the video: tokens, each of which knows its moment; they follow hits that were given
            visual = self.encode_videos(clips, followed)  # [B, Tv, visual_dim]

            # 2. Make the condition. Nothing is to be made of the tokens here: the decoder takes the one of the current
            #    moment at every step, and for guidance its null beside it (VAuraDecoder.condition, null_condition)

            # 3. Sample codes, the delay pattern step by step; what is longer than a training clip in windows
            frames = -(-samples // self.codec.hop)
            codes = stream_codes(self.decoder, visual, how, seeded(seeds), frames=frames, progress=progress)

            # 4. Decode the codes [B, K, frames], window by window; a level before them has done its part
            waves = torch.cat(list(self._waves(codes, frames)), dim=-1)  # [B, frames * hop]

        # 5. Fit to the clip
        return self._sounds(waves, samples, clip, followed)

    def stream(
        self,
        clip: Clip,
        *,
        seed: int = 0,
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        hits: Hits | Sequence[Any] | str | Path | None = None,
        sensitivity: float | str | None = None,
        start: float = 0.0,
        duration: float | None = None,
        progress: Progress = None,
    ) -> Iterator[Sound]:
        """The soundtrack piece by piece, each to be played as soon as it is there.

        Together the pieces are what :meth:`generate` gives for the same seed, to the sample. The first comes when one
        window of codes is sampled (2.56 s of sound with the shipped weights), each other one after half a window. Where
        hits have a level of their own, which hangs on what sounds after them, there is one piece.

        Arguments and errors are those of :meth:`generate`, for one clip.

        Yields:
            sounds, mono, at the codec's rate.

        Examples:
            >>> vaura = VAura.from_pretrained("vaura")
            >>> pieces = [sound.duration for sound in vaura.stream(clip)]
            >>> round(sum(pieces), 2) == round(clip.duration, 2)
            True
        """
        check_value(f"{type(self).__name__}.stream", "clip", clip, Clip)
        clips, seeds, samples = self._batch(clip, seed, start, duration)
        how = self._sampling(guidance, temperature, top_k)
        told = self._hits(clip, hits, sensitivity, start, duration)
        return self._pieces(clips, seeds, samples, how, told, progress)

    @torch.no_grad()
    def _pieces(
        self,
        clips: list[Clip],
        seeds: list[int],
        samples: int,
        how: Sampling,
        hits: Sequence[Hits] | None,
        progress: Progress,
    ) -> Iterator[Sound]:
        with evaluating(self):
            visual = self.encode_videos(clips, hits)
        frames = -(-samples // self.codec.hop)
        codes = stream_codes(self.decoder, visual, how, seeded(seeds), frames=frames, progress=progress)
        waves, done = self._waves(codes, frames), 0
        if hits is not None and any(hit.level_db for some in hits for hit in some):
            waves = iter([torch.cat(list(waves), dim=-1)])
        while True:
            with evaluating(self):  # between the pieces the caller has the system as it was
                if (wave := next(waves, None)) is None:
                    return
            fresh = min(wave.shape[-1], samples - done)
            yield self._sounds(wave, fresh, clips[0], hits)
            done += fresh

    def _waves(self, codes: Iterable[Tensor], frames: int) -> Iterator[Tensor]:
        """Waves [B, n] of codes [B, K, T] that come one after the other, ``frames`` in all.

        A sample is decoded when all codes that it depends on are there.
        """
        known, done = None, 0
        for part in codes:
            part = part[:, self.config.first_code :]
            known = part if known is None else torch.cat([known, part], dim=-1)
            ready = known.shape[-1] if known.shape[-1] == frames else known.shape[-1] - self.codec.reach
            if ready > done:
                yield decode_part(self.codec, known, done, ready)
                done = ready

    def _sampling(self, guidance: float | None, temperature: float | None, top_k: int | None) -> Sampling:
        how = replace(self.config.sampling, **given(guidance=guidance, temperature=temperature, top_k=top_k))
        how.check()
        return how

    def encode_sound(self, sound: Sound) -> Tensor:
        """Codes int64 [1, K, T] of a sound as the decoder has them, T = ceil(samples / hop) at the codec's rate."""
        wave = torch.from_numpy(sound.mono().resample(self.sample_rate).samples.copy()).to(self.device)
        with evaluating(self):
            codes = self.codec.encode(wave)
        if self.config.level_bins:
            codes = torch.cat([levels_of(wave, self.codec.hop, self.config.level_bins)[:, None], codes], dim=1)
        return codes

    @torch.no_grad()
    def round_trip(self, sound: Sound) -> Sound:
        """A sound after the codec alone, as long as before: the best that this system could give."""
        with evaluating(self):
            codes = self.encode_sound(sound)[:, self.config.first_code :]
            waves = self.codec.decode(codes, round(sound.duration * self.sample_rate))
        return Sound(waves[0].cpu().numpy(), self.sample_rate)

    def _steps(self, samples: int, **options: object) -> int:
        c = self.config
        return steps_of(-(-samples // self.codec.hop), c.context_frames, None, c.num_codebooks)

    # --- looking inside -----------------------------------------------------------------------------

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

    def _network(self) -> nn.Module:
        return self.decoder

    def _parts(self) -> dict[str, Any]:
        return {"vision": self.encoder, "codec": self.codec}

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        from v2a_nb.models.codec import load_codec

        return {"encoder": _load_encoder(where["vision"]), "codec": load_codec(where["codec"])}

    @classmethod
    def _build(cls, config: VAuraConfig, **parts: Any) -> VAura:
        encoder, rate = parts["encoder"], float(Fraction(config.visual_rate))
        if encoder.rate != rate and hasattr(encoder, "set_rate"):
            encoder.set_rate(rate)  # one that is referred to has its published rate
        return cls(VAuraDecoder(config, lean=True), **parts)


def _load_encoder(where: str | Path) -> Any:
    """The video encoder of a folder of weights, or by reference."""
    from v2a_nb.models.video_encoders.strike import StrikeVision

    folder = Path(where)
    if folder.is_dir() and kind_of(read_config(folder)) == StrikeVision.kind:
        return StrikeVision.from_pretrained(folder)  # the others' files need not be imported, which takes longer
    from v2a_nb.models.video_encoders.registry import load_video_encoder

    return load_video_encoder(where)
