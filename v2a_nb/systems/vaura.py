"""V-AURA (Viertola, Iashin, Rahtu 2024): autoregression over codec tokens, video fused at every step.

:class:`VAuraDecoder` is the language model: per-codebook embeddings, channel-wise fusion with
time-aligned visual features, a Llama, one head per codebook. :class:`VAura` joins it with a visual
encoder and a codec into the system that turns a clip into a sound.

Where the released code departs from its paper, the repaired behaviour is the default and the released
one has a name (:class:`VAuraConfig`: ``visual_map="repeat7"``, ``null="released"``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.systems.decoding import Sampling, generate_long
from v2a_nb.systems.delay import delay, undelay_predictions


@dataclass(frozen=True)
class VAuraConfig:
    """Sizes and switches.

    Attributes:
        visual_width, audio_width: channels of either half of the fused input; their sum is ``hidden``.
        code_width: the embedding tables' width before a projection to ``audio_width`` (8 in the paper,
            as in DAC); 0 embeds at full width.
        frame_rate: codec frames a second; visual_rate: visual tokens a second, as exact fractions.
        visual_map: ``"exact"`` takes the token whose time has come; ``"repeat7"`` is the released
            code's: each token 7 times, which drifts by 39 ms in 2.56 s.
        null: ``"learned"`` is one trained vector for any length; ``"released"`` is a fixed random
            buffer of ``released_tokens`` tokens, which the optimizer never saw.
    """

    hidden: int = 192
    layers: int = 4
    heads: int = 4
    intermediate: int = 512
    num_codebooks: int = 4
    codebook_size: int = 256
    visual_dim: int = 288
    visual_width: int = 96
    audio_width: int = 96
    code_width: int = 0
    frame_rate: str = "50"
    visual_rate: str = "50"
    context_frames: int = 128
    visual_map: str = "exact"
    null: str = "learned"
    released_tokens: int = 32
    dropout: float = 0.1
    token_dropout: float = 0.0
    guidance: float = 2.0
    temperature: float = 0.5
    top_k: int = 64

    def __post_init__(self) -> None:
        if self.visual_width + self.audio_width != self.hidden:
            raise UsageError("visual_width + audio_width must be hidden: the halves are concatenated")
        if self.visual_map not in ("exact", "repeat7") or self.null not in ("learned", "released"):
            raise UsageError(f"unknown switch: visual_map={self.visual_map!r}, null={self.null!r}")

    @property
    def special(self) -> int:
        """The id that begins, fills and pads: one past the last code."""
        return self.codebook_size

    @property
    def sampling(self) -> Sampling:
        """The preset's best way to sample."""
        return Sampling(self.guidance, self.temperature, self.top_k)


PRESETS = {
    "tiny": VAuraConfig(token_dropout=0.1),
    "small": VAuraConfig(
        hidden=768, layers=12, heads=12, intermediate=2048, num_codebooks=9, codebook_size=1024,
        visual_dim=768, visual_width=256, audio_width=512, code_width=8, frame_rate="44100/512",
        visual_rate="25/2", context_frames=221, guidance=6.0, temperature=1.0, top_k=128,
    ),
    "paper": VAuraConfig(
        hidden=1536, layers=24, heads=16, intermediate=4096, num_codebooks=9, codebook_size=1024,
        visual_dim=768, visual_width=512, audio_width=1024, code_width=8, frame_rate="44100/512",
        visual_rate="25/2", context_frames=221, guidance=6.0, temperature=1.0, top_k=128,
    ),
}  # fmt: skip


class VAuraDecoder(nn.Module):
    """Codes [B, K, T] and visual tokens [B, Tv, D] to logits [B, K, T, V]."""

    def __init__(self, config: VAuraConfig | None = None) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaModel

        self.config = c = config or VAuraConfig()
        width = c.code_width or c.audio_width
        rows = c.codebook_size + 1
        self.embed = nn.ModuleList(nn.Embedding(rows, width) for _ in range(c.num_codebooks))
        self.project = nn.ModuleList(
            nn.Linear(c.code_width, c.audio_width) for _ in range(c.num_codebooks if c.code_width else 0)
        )
        # two layers without bias, as released (section III-A names the MLP and its GELU)
        self.visual = nn.Sequential(
            nn.Linear(c.visual_dim, c.visual_width, bias=False),
            nn.GELU(approximate="tanh"),
            nn.Linear(c.visual_width, c.visual_width, bias=False),
        )
        null = torch.randn(1 if c.null == "learned" else c.released_tokens, c.visual_dim)
        null = null / c.visual_dim**0.5
        if c.null == "learned":
            self.null = nn.Parameter(null)
        else:
            self.register_buffer("null", null)
        self.after = nn.Parameter(torch.zeros(c.visual_width))
        self.backbone = LlamaModel(
            LlamaConfig(
                vocab_size=1, hidden_size=c.hidden, intermediate_size=c.intermediate,
                num_hidden_layers=c.layers, num_attention_heads=c.heads, rms_norm_eps=1e-5,
                max_position_embeddings=max(256, 2 * c.context_frames), attention_bias=False,
                bos_token_id=None, eos_token_id=None, pad_token_id=None,
            )
        )  # fmt: skip
        self.backbone.embed_tokens = nn.Identity()  # inputs come embedded
        self.heads = nn.Linear(c.hidden, c.num_codebooks * c.codebook_size, bias=False)
        self.dropout = nn.Dropout(c.dropout)
        for table in self.embed:
            nn.init.normal_(table.weight, std=0.02 if c.code_width else 0.3)
        nn.init.zeros_(self.heads.weight)  # the first loss is exactly ln V

    # --- the pieces that decoding uses ----------------------------------------------------------

    def frame_of_token(self, frames: int, tokens: int) -> Tensor:
        """For each codec frame the index of its visual token, int64 [frames]; ``tokens`` is "after"."""
        c = self.config
        if c.visual_map == "repeat7":
            index = torch.arange(frames) // 7
        else:
            ratio = Fraction(c.visual_rate) / Fraction(c.frame_rate)  # exact: no drift at any length
            index = torch.arange(frames) * ratio.numerator // ratio.denominator
        return index.clamp(max=tokens)

    def spread(self, visual: Tensor, frames: int) -> Tensor:
        """Visual tokens [B, Tv, D] to one per codec frame [B, frames, D]; the last one is held."""
        index = self.frame_of_token(frames, visual.shape[1]).to(visual.device)
        return visual[:, index.clamp(max=visual.shape[1] - 1)]

    def condition(self, visual: Tensor) -> Tensor:
        """Per-frame visual tokens [B, T, D] to positions [B, T + K - 1, visual_width].

        Position ``s`` has the picture of frame ``s``, one step before that frame's first code is fed: the
        model sees before it says (section III-C). Past the end stands the learned "after".
        """
        projected = self.visual(visual)
        tail = self.after.expand(len(visual), self.config.num_codebooks - 1, -1)
        return torch.cat([projected, tail], dim=1)

    def null_condition(self, batch: int, frames: int) -> Tensor:
        """The unconditional :meth:`condition`, for any length."""
        return self.condition(self.null_visual(frames).expand(batch, -1, -1))

    def null_visual(self, frames: int) -> Tensor:
        """The null as visual tokens [1, frames, D].

        Raises:
            UsageError: the released null is as long as its 32 tokens and no other length.
        """
        if self.config.null == "learned":
            return self.null.expand(frames, -1)[None]
        spread = self.spread(self.null[None], frames)
        wanted = int(self.frame_of_token(frames, 10**9).max()) + 1
        if wanted != len(self.null):
            raise UsageError(
                f"the released null has {len(self.null)} tokens and {wanted} are needed: it only works "
                "at the trained length; use null='learned'"
            )
        return spread

    def fuse(self, steps: Tensor, condition: Tensor) -> Tensor:
        """Steps [B, K, S] and conditions [B, S, visual_width] to inputs [B, S, hidden]."""
        parts = [table(steps[:, q]) for q, table in enumerate(self.embed)]
        if self.project:
            parts = [layer(part) for layer, part in zip(self.project, parts, strict=True)]
        return torch.cat([condition, sum(parts)], dim=-1)  # visual first, as released

    def run(self, embeddings: Tensor, cache=None, use_cache: bool = False):
        """The Llama: [B, S, hidden] to [B, S, hidden], with its cache."""
        out = self.backbone(inputs_embeds=embeddings, past_key_values=cache, use_cache=use_cache)
        return out.last_hidden_state, out.past_key_values

    def predict(self, hidden: Tensor) -> Tensor:
        """[..., hidden] to logits [..., K, V]; the special token is never predicted."""
        c = self.config
        return self.heads(hidden).unflatten(-1, (c.num_codebooks, c.codebook_size))

    # --- training ---------------------------------------------------------------------------------

    def forward(self, codes: Tensor, visual: Tensor, drop: Tensor | None = None) -> Tensor:
        """Teacher-forced logits.

        Args:
            codes: int64 [B, K, T].
            visual: [B, T, visual_dim], one token per codec frame (see :meth:`spread`).
            drop: bool [B], whose video is replaced by the null.

        Returns:
            logits [B, K, T, V]; those of codebook ``q`` and frame ``t`` have seen the codes of steps up
            to ``t + q`` and the pictures up to frame ``t + q``.
        """
        if visual.shape[1] != codes.shape[-1]:
            raise UsageError(f"{visual.shape[1]} visual tokens for {codes.shape[-1]} frames: spread them first")
        if drop is not None and bool(drop.any()):
            visual = torch.where(drop[:, None, None], self.null_visual(codes.shape[-1]), visual)
        steps = delay(codes, self.config.special)[..., :-1]
        if self.training and self.config.token_dropout:
            lost = torch.rand(steps.shape[0], 1, steps.shape[2], device=steps.device)
            steps = steps.masked_fill(lost < self.config.token_dropout, self.config.special)
        hidden, _ = self.run(self.dropout(self.fuse(steps, self.condition(visual))))
        return undelay_predictions(self.predict(hidden))

    def loss(
        self,
        codes: Tensor,
        visual: Tensor,
        *,
        frame_weights: Tensor | None = None,
        codebook_weights: tuple[float, ...] | None = None,
        drop: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Cross-entropy over all codes (nothing is masked), weighted where weights are given.

        Returns:
            ``loss`` (weighted) and ``ce0`` (unweighted, first codebook), nats.
        """
        logits = self(codes, visual, drop)
        each = F.cross_entropy(logits.permute(0, 3, 1, 2), codes, reduction="none")  # [B, K, T]
        weights = torch.ones_like(each)
        if codebook_weights is not None:
            scale = weights.new_tensor(codebook_weights)
            weights = weights * (scale / scale.mean())[:, None]
        if frame_weights is not None:
            weights = weights * frame_weights[:, None]
        loss = (each * weights).sum() / weights.sum()
        return {"loss": loss, "ce": each.mean(), "ce0": each[:, 0].mean()}


class VAura(nn.Module):
    """The whole system: a visual encoder, the decoder and a codec.

    Args:
        decoder: the language model.
        encoder: has ``rate``, ``dim`` and ``features(clip) -> [Tv, dim]``.
        codec: has ``sample_rate``, ``hop``, ``encode`` and ``decode``.

    Examples:
        >>> vaura = VAura.from_pretrained("vaura")             # doctest: +SKIP
        >>> vaura.generate(clip, seed=0).n == round(clip.duration * 16000)  # doctest: +SKIP
        True
    """

    name = "vaura"

    def __init__(self, decoder: VAuraDecoder, encoder: nn.Module, codec: nn.Module) -> None:
        super().__init__()
        if encoder.dim != decoder.config.visual_dim:
            raise WeightsError(
                f"the encoder has {encoder.dim} channels, the decoder wants {decoder.config.visual_dim}"
            )
        self.decoder, self.encoder, self.codec = decoder, encoder, codec

    @property
    def sample_rate(self) -> int:
        """Of the sounds that are made, Hz."""
        return self.codec.sample_rate

    def encode_video(self, clip: Clip) -> Tensor:
        """One visual token per codec frame: [1, T, visual_dim], T = ceil(duration * frame rate)."""
        samples = int(round(clip.duration * self.sample_rate))
        frames = -(-samples // self.codec.hop)
        with torch.no_grad():
            return self.decoder.spread(self.encoder.features(clip)[None], frames)

    def encode_sound(self, sound: Sound) -> Tensor:
        """Codes int64 [1, K, T] of a sound."""
        wave = torch.from_numpy(sound.mono().resample(self.sample_rate).samples.copy())
        return self.codec.encode(wave)

    @torch.no_grad()
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
        """Like :meth:`generate` for clips of one length, decoded side by side (faster a clip)."""
        if start or duration is not None:
            end = None if duration is None else start + duration
            clips = [clip.slice(start, end) for clip in clips]
        if min(clip.duration for clip in clips) < 0.3:
            raise UsageError(f"{clips[0].name}: {clips[0].duration:.2f} s is too short; 0.3 s is the least")
        how = self.decoder.config.sampling
        chosen = {"guidance": guidance, "temperature": temperature, "top_k": top_k}
        how = replace(how, **{k: v for k, v in chosen.items() if v is not None})
        visual = torch.cat([self.encode_video(clip) for clip in clips])
        generator = torch.Generator().manual_seed(int(torch.tensor(seeds).sum()))
        if len(seeds) == 1:
            generator.manual_seed(seeds[0])
        codes = generate_long(self.decoder, visual, how, generator, progress=progress)
        samples = [int(round(clip.duration * self.sample_rate)) for clip in clips]
        waves = self.codec.decode(codes)
        return [
            Sound(wave[:n].clamp(-1, 1).numpy(), self.sample_rate)
            for wave, n in zip(waves, samples, strict=True)
        ]

    def log_likelihood(self, clip: Clip, codes: Tensor, *, null: bool = False) -> Tensor:
        """log p of given codes under the clip (or under the null): [K, T], nats, differentiable.

        Gradients reach the visual tokens, not the pixels, unless the encoder is called with them.
        """
        visual = self.encode_video(clip)[:, : codes.shape[-1]]
        drop = torch.tensor([null])
        logits = self.decoder(codes, visual, drop)
        return logits.log_softmax(-1).gather(-1, codes[..., None])[0, ..., 0]

    def save_pretrained(self, folder: str | Path, **card: object) -> Path:
        """Write the decoder here and the encoder and codec in ``vision/`` and ``codec/`` below."""
        from v2a_nb.hub import save_weights

        folder = Path(folder)
        self.encoder.save_pretrained(folder / "vision")
        self.codec.save_pretrained(folder / "codec")
        config = {"kind": "vaura", **asdict(self.decoder.config), **card}
        return save_weights(folder, self.decoder.state_dict(), config)

    @classmethod
    def from_pretrained(cls, name: str | Path = "vaura", revision: str | None = None) -> VAura:
        """Load from a folder, by the shipped name ``"vaura"``, or from a Hub id.

        Raises:
            WeightsError: no such weights, or weights of another kind.
        """
        from v2a_nb.audio.tiny_codec import TinyCodec
        from v2a_nb.hub import find_weights, load_weights
        from v2a_nb.vision.encoder import StrikeVision

        path = find_weights(str(name), revision)
        config = json.loads((path / "config.json").read_text())
        if config.get("kind") != "vaura":
            raise WeightsError(f"{path} holds {config.get('kind')!r} weights, not V-AURA")
        fields = {k: config[k] for k in VAuraConfig.__dataclass_fields__ if k in config}
        decoder = VAuraDecoder(VAuraConfig(**fields))
        load_weights(decoder, path)
        encoder = StrikeVision.from_pretrained(path / "vision")
        codec = TinyCodec.from_pretrained(path / "codec")
        return cls(decoder, encoder, codec).eval()
