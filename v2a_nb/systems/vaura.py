"""V-AURA as a system: a clip goes in, a sound comes out.

:class:`VAura` joins the language model (:mod:`v2a_nb.systems.vaura_decoder`) with a visual encoder and a
codec; which of them is a matter of the weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from fractions import Fraction
from pathlib import Path

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.systems.decoding import generate_long
from v2a_nb.systems.vaura_decoder import PRESETS, VAuraConfig, VAuraDecoder

__all__ = ["PRESETS", "VAura", "VAuraConfig", "VAuraDecoder"]

SHORTEST_S = 0.3


class VAura(nn.Module):
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

    name = "vaura"

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
        for what, (has, needs) in wanted.items():
            if has != needs:
                raise WeightsError(f"the parts do not fit: {has} {what}, and the decoder wants {needs}")
        self.decoder, self.encoder, self.codec = decoder, encoder, codec
        self.card: dict[str, object] = {}

    @property
    def sample_rate(self) -> int:
        """Of the sounds that are made, Hz."""
        return self.codec.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the decoder is."""
        return self.decoder.heads.weight.device

    def samples_of(self, clip: Clip) -> int:
        """Samples of a sound exactly as long as the clip."""
        return round(clip.duration * self.sample_rate)

    def encode_video(self, clip: Clip) -> Tensor:
        """Visual tokens [1, Tv, visual_dim] of a clip; its sound is not looked at."""
        with torch.no_grad(), _evaluating(self):
            return self.encoder.features(clip)[None].to(self.device)

    def encode_sound(self, sound: Sound) -> Tensor:
        """Codes int64 [1, K, T] of a sound, T = ceil(samples / hop) at the codec's rate."""
        wave = torch.from_numpy(sound.mono().resample(self.sample_rate).samples.copy())
        with _evaluating(self):
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

    @torch.no_grad()
    def generate_batch(
        self,
        clips: list[Clip],
        *,
        seeds: list[int],
        guidance: float | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        start: float = 0.0,
        duration: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> list[Sound]:
        """Like :meth:`generate` for clips of one length, decoded side by side (faster a clip).

        Each clip has its own seed, so its codes do not depend on the others in the batch.

        Raises:
            UsageError: also for clips of different lengths, and not as many seeds as clips.
        """
        if not clips or len(seeds) != len(clips):
            raise UsageError(f"{len(seeds)} seeds for {len(clips)} clips: one each is needed")
        clips = [_part(clip, start, duration) for clip in clips]
        samples = self.samples_of(clips[0])
        for clip in clips:
            if clip.duration < SHORTEST_S - 1e-6:
                raise UsageError(f"{clip.name}: {clip.duration:.3f} s is too short; {SHORTEST_S} s is the least")
            if self.samples_of(clip) != samples:
                raise UsageError(
                    f"{clip.name} lasts {clip.duration:.3f} s and {clips[0].name} "
                    f"{clips[0].duration:.3f} s: clips of a batch must be equally long"
                )
        chosen = {"guidance": guidance, "temperature": temperature, "top_k": top_k}
        how = replace(self.decoder.config.sampling, **{k: v for k, v in chosen.items() if v is not None})
        how.check()
        with _evaluating(self):
            tokens = [self.encode_video(clip) for clip in clips]
            shortest = min(part.shape[1] for part in tokens)  # frame times may differ by a rounding
            visual = torch.cat([part[:, :shortest] for part in tokens])
            generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]
            codes = generate_long(
                self.decoder, visual, how, generators, frames=-(-samples // self.codec.hop),
                progress=progress,
            )  # fmt: skip
            waves = self.codec.decode(codes).clamp(-1, 1).cpu().numpy()
        return [Sound(wave, self.sample_rate).fit(n=samples) for wave in waves]

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
        with _evaluating(self):
            logits = self.decoder(codes, visual, drop)
        return logits.log_softmax(-1).gather(-1, codes[..., None])[0, ..., 0]

    # --- weights ------------------------------------------------------------------------------------

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        vision: str | None = None,
        codec: str | None = None,
        **card: object,
    ) -> Path:
        """Write the decoder here and the encoder and codec in ``vision/`` and ``codec/`` below.

        Args:
            vision, codec: names of weights that :func:`v2a_nb.hub.find_weights` knows; given, that part
                is referred to and not written.
            card: goes to ``config.json``: preset, data seed, steps, versions, scores.
        """
        from v2a_nb.hub import save_weights

        folder = Path(folder)
        if vision is None:
            self.encoder.save_pretrained(folder / "vision")
        if codec is None:
            self.codec.save_pretrained(folder / "codec")
        parts = {"vision": vision or "vision", "codec": codec or "codec"}
        config = {"kind": "vaura", **asdict(self.decoder.config), "parts": parts, **card}
        return save_weights(folder, self.decoder.state_dict(), config)

    @classmethod
    def from_pretrained(cls, name: str | Path = "vaura", revision: str | None = None) -> VAura:
        """Load from a folder, by the shipped name ``"vaura"``, or from a Hub id.

        Raises:
            WeightsError: no such weights, weights of another kind, or damaged ones.
        """
        from v2a_nb.audio.codec import load_codec
        from v2a_nb.hub import find_weights, load_weights
        from v2a_nb.vision.encoder import StrikeVision

        path = find_weights(str(name), revision)
        try:
            config = json.loads((path / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path / 'config.json'} cannot be read: {error}") from error
        if not isinstance(config, dict) or config.get("kind") != "vaura":
            kind = config.get("kind") if isinstance(config, dict) else None
            raise WeightsError(f"{path} holds {kind!r} weights, not V-AURA")
        fields = {k: config[k] for k in VAuraConfig.__dataclass_fields__ if k in config}
        decoder = VAuraDecoder(VAuraConfig(**fields))
        load_weights(decoder, path)
        parts = {"vision": "vision", "codec": "codec", **config.get("parts", {})}
        found = {k: path / v if (path / v).is_dir() else v for k, v in parts.items()}
        encoder = StrikeVision.from_pretrained(found["vision"])
        system = cls(decoder, encoder, load_codec(found["codec"])).eval()
        system.card = config
        return system


def _part(clip: Clip, start: float, duration: float | None) -> Clip:
    """The named part of a clip, or the clip."""
    if start == 0 and duration is None:
        return clip
    end = clip.duration if duration is None else start + duration
    if not 0 <= start < end <= clip.duration + 1e-3:
        raise UsageError(f"{clip.name}: {start:g} s to {end:g} s is not a part of its {clip.duration:.3f} s")
    return clip.slice(start, end)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """No dropout and no batch statistics inside; outside everything is as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
