"""V-AURA's language model (Viertola, Iashin, Rahtu 2024): codec tokens, video fused at every step.

Per-codebook embeddings, channel-wise fusion with time-aligned visual features, a Llama, one head per
codebook. Where the released code departs from its paper, the repaired behaviour is the default and the
released one has a name (:class:`VAuraConfig`: ``visual_map="repeat7"``, ``null="released"``).

The ``paper`` preset has 694,521,672 parameters where the released module has 694,530,120: its nine code
projections carry no weight-norm gains (9 x 1024 fewer) and its null is a parameter (768 more).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError
from v2a_nb.hub import later
from v2a_nb.models.held_weights import HeldWeights, take_over
from v2a_nb.sampling.autoregressive import Sampling, delay, undelay_predictions

SWITCHES = {
    "visual_map": ("exact", "repeat7"), "null": ("learned", "released"), "last_frame": ("fed", "hidden"),
    "code_init": ("random", "codec", "released"), "conditioning": ("fusion", "prepend"),
}  # fmt: skip
"""Fields of :class:`VAuraConfig` that are words -> what they may be."""


@dataclass(frozen=True)
class VAuraConfig:
    """Sizes and switches.

    Attributes:
        visual_width, audio_width: channels of either half of the fused input; their sum is ``hidden``.
        code_width: the embedding tables' width before a projection to ``audio_width`` (8 in the paper,
            as in DAC); 0 embeds at full width.
        frame_rate: codec frames a second; visual_rate: visual tokens a second, as exact fractions.
        context_frames: codec frames of a training clip; longer sounds are generated in windows of it.
        visual_map: ``"exact"`` takes the token of the current time; ``"repeat7"`` is the released code's: each
            token 7 times, which drifts by 39 ms in 2.56 s.
        null: ``"learned"`` is one trained vector for any length; ``"released"`` is a fixed random
            buffer of ``released_tokens`` tokens, which the optimizer never got. Shorter windows use its first tokens.
        layerwise_conditioning: the visual features also scale and shift the input of every layer
            (zero-initialised, adaptive normalisation in the manner of DiT); not in the paper.
        dropout: of the fused input; token_dropout: share of past steps that are hidden in training.
        residual_dropout, feed_forward_dropout: of what attention and feed-forward layers add to the residual.
        last_frame: ``"fed"``: codes of a clip's last frame are inputs for the finer codes that are predicted after
            them. ``"hidden"``: they are not, as in the released training, where the special token stands there.
        code_init: how :meth:`VAuraDecoder.init_codes` starts the code embeddings: ``"random"``; ``"codec"``, tables
            and projections of the codec; or ``"released"``, its tables and biases alone, because the released code
            loses the projections' weights.
        conditioning: ``"fusion"`` concatenates the picture of the moment with the codes at every step; ``"prepend"``
            puts all visual tokens of a window before its codes, as earlier work did (table III). Both have the same
            weights: what a position lacks is zero, or the learned ``after``.
        level_bins: the first codebook is no codec's, but holds the level of each frame in so many steps
            (:func:`levels_of`), so that the decay is predicted before the codes that have it: a code that is held for
            long has the same input again and again, while the level of a ring falls from frame to frame. Not in the
            paper; 0 has none.
        guidance, temperature, top_k: the preset's best :class:`~v2a_nb.sampling.autoregressive.Sampling`.
    """

    hidden: int = 192
    layers: int = 4
    heads: int = 4
    intermediate: int = 512
    num_codebooks: int = 4
    codebook_size: int = 256
    visual_dim: int = 384
    visual_width: int = 96
    audio_width: int = 96
    code_width: int = 0
    frame_rate: str = "50"
    visual_rate: str = "50"
    context_frames: int = 128
    visual_map: str = "exact"
    null: str = "learned"
    released_tokens: int = 32
    layerwise_conditioning: bool = False
    dropout: float = 0.1
    token_dropout: float = 0.0
    residual_dropout: float = 0.0
    feed_forward_dropout: float = 0.0
    last_frame: str = "fed"
    code_init: str = "random"
    level_bins: int = 0
    conditioning: str = later("fusion")
    guidance: float = 1.75
    temperature: float = 0.9
    top_k: int = 32

    def __post_init__(self) -> None:
        if self.visual_width + self.audio_width != self.hidden:
            raise UsageError("visual_width + audio_width must be hidden: the halves are concatenated")
        for name, known in SWITCHES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        if not 0 <= self.level_bins <= self.codebook_size or (self.level_bins and self.num_codebooks < 2):
            raise UsageError(
                f"level_bins must be 0 to {self.codebook_size}, the codes of a codebook, and have one of at least two "
                f"codebooks; not {self.level_bins} of {self.num_codebooks}"
            )

    @property
    def special(self) -> int:
        """The id that begins, fills and pads: one past the last code."""
        return self.codebook_size

    @property
    def first_code(self) -> int:
        """Index of the codec's first codebook: 1 where the level stands before it."""
        return int(self.level_bins > 0)

    @property
    def sampling(self) -> Sampling:
        """The preset's best way to sample."""
        return Sampling(self.guidance, self.temperature, self.top_k)

    @property
    def tokens_per_frame(self) -> Fraction:
        """Visual tokens per codec frame, exact: no drift at any length."""
        return Fraction(self.visual_rate) / Fraction(self.frame_rate)


PRESETS = {
    "tiny": VAuraConfig(token_dropout=0.1),
    "small": VAuraConfig(
        hidden=768, layers=12, heads=12, intermediate=2048, num_codebooks=9, codebook_size=1024,
        visual_dim=768, visual_width=256, audio_width=512, code_width=8, frame_rate="44100/512",
        visual_rate="25/2", context_frames=221, guidance=6.0, temperature=1.0, top_k=128,
        residual_dropout=0.1, feed_forward_dropout=0.1,
    ),
    "paper": VAuraConfig(
        hidden=1536, layers=24, heads=16, intermediate=4096, num_codebooks=9, codebook_size=1024,
        visual_dim=768, visual_width=512, audio_width=1024, code_width=8, frame_rate="44100/512",
        visual_rate="25/2", context_frames=221, guidance=6.0, temperature=1.0, top_k=128,
        residual_dropout=0.1, feed_forward_dropout=0.1,
    ),
}  # fmt: skip


EPSILON = 1e-5
"""Epsilon of the backbone's norms (V-AURA's; Llama 1 has 1e-6)."""
ROPE_BASE = 10000.0
"""Base of the rotary positions: Llama's."""
LEVELS_DBFS = (-72.0, -8.0)
"""What the steps of :func:`levels_of` divide: from under the softest ambience of Strike World to its loudest hits."""


def levels_of(waves: Tensor, hop: int, bins: int) -> Tensor:
    """Level of each frame of ``hop`` samples in ``bins`` steps: waves [B, n] to int64 [B, ceil(n / hop)].

    Levels beyond :data:`LEVELS_DBFS` are the first or the last step.
    """
    low, high = LEVELS_DBFS
    frames = F.pad(waves, (0, -waves.shape[-1] % hop)).unflatten(-1, (-1, hop))
    level = 10 * torch.log10(frames.float().square().mean(-1).clamp(min=1e-12))
    return ((level - low) / (high - low) * bins).floor().long().clamp(0, bins - 1)


class VAuraDecoder(nn.Module):
    """Codes [B, K, T] and visual tokens [B, Tv, D] to logits [B, K, T, V].

    Args:
        config: sizes and switches; left out, ``tiny``.
        lean: the backbone only holds its weights, which are not initialised, for decoding (:meth:`cached`) and without
            transformers, whose import takes longer than a sound. The first :meth:`run` makes it a ``LlamaModel`` of the
            same parameters.
    """

    def __init__(self, config: VAuraConfig | None = None, *, lean: bool = False) -> None:
        super().__init__()
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
        self.backbone: Any = LlamaWeights(c) if lean else _llama(c)
        self.layerwise = nn.ModuleList(
            nn.Linear(c.visual_width, 2 * c.hidden) for _ in range(c.layers if c.layerwise_conditioning else 0)
        )
        self.heads = nn.Linear(c.hidden, c.num_codebooks * c.codebook_size, bias=False)
        self.dropout = nn.Dropout(c.dropout)
        for table in self.embed:
            nn.init.normal_(table.weight, std=0.02 if c.code_width else 0.1)
        nn.init.zeros_(self.heads.weight)  # the first loss is exactly ln V
        for layer in self.layerwise:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    @torch.no_grad()
    def init_codes(self, quantizers: Sequence[nn.Module]) -> None:
        """Start the code embeddings as ``config.code_init`` says; to be called before training.

        Args:
            quantizers: of a DAC (``codec.model.quantizer.quantizers``): each has a ``codebook`` [V, code_width] and an
                ``out_proj``, a 1 x 1 convolution from ``code_width`` to ``audio_width`` channels.

        Raises:
            UsageError: quantizers of other sizes.
        """
        c = self.config
        if c.code_init == "random":
            return
        if not self.project:
            raise UsageError("code_init needs embeddings with a projection: give code_width, 8 for DAC")
        for q, table in enumerate(self.embed[c.first_code :], c.first_code):
            codes, out = quantizers[q - c.first_code].codebook.weight, quantizers[q - c.first_code].out_proj
            if codes.shape != (c.codebook_size, c.code_width) or out.weight.shape[:2] != (c.audio_width, c.code_width):
                raise UsageError(
                    f"code tables {tuple(codes.shape)} with projections to {out.weight.shape[0]} channels do not fit "
                    f"{c.codebook_size} codes of {c.code_width} with projections to {c.audio_width}"
                )
            table.weight[: c.codebook_size].copy_(codes)
            self.project[q].bias.copy_(out.bias)
            if c.code_init == "codec":
                self.project[q].weight.copy_(out.weight[..., 0])

    # --- time ---------------------------------------------------------------------------------------

    def tokens_of(self, frames: int) -> int:
        """Visual tokens that belong to a window of ``frames``: the nearest whole number."""
        return max(1, int(frames * self.config.tokens_per_frame + Fraction(1, 2)))

    def prefix_of(self, frames: int) -> int:
        """Positions before the codes of a window of ``frames``: its visual tokens where these are prepended, else 0."""
        return self.tokens_of(frames) if self.config.conditioning == "prepend" else 0

    def frames_of(self, tokens: int) -> int:
        """Codec frames that ``tokens`` visual tokens last (whole frames)."""
        return int(tokens / self.config.tokens_per_frame)

    def token_of_position(self, frames: int, tokens: int, first: int = 0) -> Tensor:
        """For each position of a window the index of its visual token, int64 [frames + K - 1], behind a prefix's.

        Args:
            frames: the window's codec frames.
            tokens: how many visual tokens there are; this index means "after the end".
            first: the clip's frame at which the window starts.

        Position ``s`` predicts frame ``s`` of the first codebook, and gets the token that is current at
        that frame's start; if the last token is over (rounding), it is held. ``"repeat7"`` counts seven
        positions for a token and knows no frame times.
        """
        ratio = self.config.tokens_per_frame
        k = self.config.num_codebooks
        if self.config.conditioning == "prepend":
            prefix = int(first * ratio + Fraction(1, 2)) + torch.arange(self.prefix_of(frames))
            return torch.cat([prefix.clamp(max=tokens - 1), torch.full((frames + k - 1,), tokens)])
        if self.config.visual_map == "repeat7":
            base = int(first * ratio + Fraction(1, 2))  # the nearest token: the released windows start at one
            index = base + torch.arange(frames + k - 1) // 7
            end = min(tokens, base + self.tokens_of(frames))
            return torch.where(index < end, index, tokens)
        index = (first + torch.arange(frames)) * ratio.numerator // ratio.denominator
        return torch.cat([index.clamp(max=tokens - 1), torch.full((k - 1,), tokens)])

    # --- the pieces that decoding uses --------------------------------------------------------------

    def condition(self, visual: Tensor, frames: int, first: int = 0) -> Tensor:
        """Visual tokens [B, Tv, D] to a window's positions [B, frames + K - 1, visual_width], behind a prefix's.

        Position ``s`` has the picture of frame ``s``, one step before that frame's first code is fed: the picture is
        there when its code is predicted (section III-C). Past the end stands the learned ``after``.

        Raises:
            UsageError: no visual tokens, or of another width.
        """
        self._check(visual)
        index = self.token_of_position(frames, visual.shape[1], first).to(visual.device)
        after = self.after.expand(len(visual), 1, -1)
        return torch.cat([self.visual(visual), after], dim=1)[:, index]

    def _check(self, visual: Tensor) -> None:
        wanted = self.config.visual_dim
        if visual.dim() != 3 or not visual.shape[1] or visual.shape[2] != wanted:
            raise UsageError(f"visual tokens [B, Tv, {wanted}] are needed, not {tuple(visual.shape)}")

    def null_tokens(self, tokens: int) -> Tensor:
        """The null as visual tokens [1, tokens, D].

        Raises:
            UsageError: the released null has fewer tokens.
        """
        if self.config.null == "learned":
            return self.null.expand(tokens, -1)[None]
        if tokens > len(self.null):
            raise UsageError(
                f"the released null has {len(self.null)} tokens and {tokens} are needed: it lasts as long as a "
                "training clip; use null='learned'"
            )
        return self.null[None, :tokens]

    def null_condition(self, tokens: int, frames: int, first: int = 0) -> Tensor:
        """:meth:`condition` of the null, [1, positions, visual_width], for ``tokens`` visual tokens."""
        if self.config.null == "learned":
            return self.condition(self.null_tokens(tokens), frames, first)
        return self.condition(self.null_tokens(self.tokens_of(frames)), frames)

    def table(self) -> Tensor:
        """All code embeddings, projected: [K * (V + 1), audio_width]. Made once for many steps."""
        parts = [table.weight for table in self.embed]
        if self.project:
            parts = [layer(part) for layer, part in zip(self.project, parts, strict=True)]
        return torch.cat(parts)

    def fuse(self, steps: Tensor, condition: Tensor, table: Tensor | None = None) -> Tensor:
        """Steps [B, K, S] and conditions [B, S, visual_width] to inputs [B, S, hidden].

        Conditions that are more than the steps begin with a prefix, at which no codes are.

        Args:
            table: from :meth:`table`; left out, each codebook is embedded and projected by itself.
        """
        if table is None:
            parts = [embed(steps[:, q]) for q, embed in enumerate(self.embed)]
            if self.project:
                parts = [layer(part) for layer, part in zip(self.project, parts, strict=True)]
            audio = sum(parts)
        else:
            rows = torch.arange(steps.shape[1], device=steps.device) * (self.config.special + 1)
            audio = F.embedding(steps + rows[:, None], table).sum(1)
        audio = F.pad(audio, (0, 0, condition.shape[1] - audio.shape[1], 0))
        return torch.cat([condition, audio], dim=-1)  # visual first, as released

    def run(self, embeddings: Tensor) -> Tensor:
        """The Llama: [B, S, hidden] to [B, S, hidden]."""
        if isinstance(self.backbone, LlamaWeights):
            self.backbone = self.backbone.llama(self.config)
        hooks = [
            layer.register_forward_pre_hook(_modulation(adapt(embeddings[..., : adapt.in_features])))
            for layer, adapt in zip(self.backbone.layers, self.layerwise, strict=False)
        ]
        try:
            return self.backbone(inputs_embeds=embeddings, use_cache=False).last_hidden_state
        finally:
            for hook in hooks:
                hook.remove()

    def cached(self, condition: Tensor, prefix: int = 0) -> CachedSteps:
        """The same network for decoding, step by step, under conditions [N, S, visual_width] of all positions."""
        return CachedSteps(self, condition, prefix)

    def predict(self, hidden: Tensor) -> Tensor:
        """[..., hidden] to logits [..., K, V]; the special token is never predicted."""
        c = self.config
        return self.heads(hidden).unflatten(-1, (c.num_codebooks, c.codebook_size))

    # --- training -----------------------------------------------------------------------------------

    def forward(self, codes: Tensor, visual: Tensor, drop: Tensor | None = None) -> Tensor:
        """Teacher-forced logits.

        Args:
            codes: int64 [B, K, T].
            visual: visual tokens [B, Tv, visual_dim], as long as the codes.
            drop: bool [B], whose video is replaced by the null.

        Returns:
            logits [B, K, T, V]; those of codebook ``q`` and frame ``t`` depend on the codes of steps up
            to ``t + q`` and on the pictures up to frame ``t + q``.

        Raises:
            UsageError: the visual tokens do not last as long as the codes.
        """
        self._check(visual)
        frames, tokens = codes.shape[-1], visual.shape[1]
        if tokens < self.tokens_of(frames):
            raise UsageError(f"{tokens} visual tokens end before {frames} codec frames do")
        if drop is not None and bool(drop.any()):
            visual = torch.where(drop[:, None, None], self.null_tokens(tokens), visual)
        steps = codes.clone()
        if self.config.last_frame == "hidden":
            steps[..., -1] = self.config.special
        steps = delay(steps, self.config.special)[..., :-1]
        if self.training and self.config.token_dropout:
            lost = torch.rand(steps.shape[0], 1, steps.shape[2], device=steps.device)
            steps = steps.masked_fill(lost < self.config.token_dropout, self.config.special)
        hidden = self.run(self.dropout(self.fuse(steps, self.condition(visual, frames))))
        return undelay_predictions(self.predict(hidden[:, self.prefix_of(frames) :]))

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

        Args:
            codes, visual, drop: as for :meth:`forward`.
            frame_weights: [B, T]; codebook_weights: K numbers, only their proportions matter.

        Returns:
            ``loss`` (weighted), ``ce`` (unweighted) and ``ce0`` (unweighted, first codebook), nats.
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


class LlamaWeights(HeldWeights):
    """The weights of a ``LlamaModel`` under its names, without its arithmetic: all that :class:`CachedSteps` needs."""

    def __init__(self, config: VAuraConfig) -> None:
        c, width = config, config.hidden
        sizes = {
            "self_attn.q_proj": (width, width), "self_attn.k_proj": (width, width),
            "self_attn.v_proj": (width, width), "self_attn.o_proj": (width, width),
            "mlp.gate_proj": (c.intermediate, width), "mlp.up_proj": (c.intermediate, width),
            "mlp.down_proj": (width, c.intermediate), "input_layernorm": (width,),
            "post_attention_layernorm": (width,),
        }  # fmt: skip
        layers = {f"layers.{i}.{name}.weight": size for i in range(c.layers) for name, size in sizes.items()}
        super().__init__({**layers, "norm.weight": (width,)})
        self.norm.variance_epsilon = EPSILON
        size = c.hidden // c.heads
        self.rotary_emb = nn.Module()
        frequencies = 1.0 / ROPE_BASE ** (torch.arange(0, size, 2).float() / size)
        self.rotary_emb.register_buffer("inv_freq", frequencies, persistent=False)

    def llama(self, config: VAuraConfig) -> Any:
        """A ``LlamaModel`` of these parameters, the same objects, in the same mode."""
        with torch.random.fork_rng(devices=[]):  # its own first weights are random, and thrown away
            model = _llama(config)
        take_over(self, model)
        return model


def _llama(config: VAuraConfig) -> Any:
    """transformers' ``LlamaModel`` of these sizes, with the dropout of the configuration."""
    from transformers import LlamaConfig, LlamaModel

    c = config
    model = LlamaModel(
        LlamaConfig(
            vocab_size=1, hidden_size=c.hidden, intermediate_size=c.intermediate,
            num_hidden_layers=c.layers, num_attention_heads=c.heads, rms_norm_eps=EPSILON,
            max_position_embeddings=max(256, 2 * c.context_frames), attention_bias=False,
            bos_token_id=None, eos_token_id=None, pad_token_id=None,
        )
    )  # fmt: skip
    model.embed_tokens = nn.Identity()  # inputs come embedded
    for layer in model.layers:
        parts = (layer.self_attn.o_proj, c.residual_dropout), (layer.mlp.down_proj, c.feed_forward_dropout)
        for linear, share in parts:
            if share:
                linear.dropout = share
                linear.register_forward_hook(_drop)
    return model


class CachedSteps:
    """A decoder for inference: its own weights, fused, with the keys and values of all positions kept in place.

    ``LlamaModel``, which training runs, spends most of a step outside of the arithmetic. Here a layer is four matrix
    products, one attention and nine small operations, all of which write where the next one reads: queries, keys and
    values are made in their place among those of all positions and are turned there, and the residual grows in place
    of the input. Both give the same to rounding, and a test holds them to the same greedy codes.

    Args:
        decoder: in evaluation mode; its weights must stay as they are while this is used.
        condition: [N, S, visual_width] of all positions; N is the number of clips, or twice that, where the second
            half has the nulls.
        prefix: positions before the first step; they go through the network with it.
    """

    @torch.no_grad()
    def __init__(self, decoder: VAuraDecoder, condition: Tensor, prefix: int = 0) -> None:
        c, backbone = decoder.config, decoder.backbone
        n, positions, width = condition.shape
        size, layers = c.hidden // c.heads, len(backbone.layers)
        self.config, self.width, self.table = c, width, decoder.table()
        self.rows = torch.arange(c.num_codebooks, device=condition.device)[:, None] * (c.special + 1)
        # what each position is fed: its condition, and the codes once they are known
        self.inputs = condition.new_empty(positions, n, c.hidden)
        self.inputs[..., :width] = condition.transpose(0, 1)
        self.inputs[:prefix, :, width:] = 0
        self.prefix, self.fed = prefix, 0
        self.layers = [_Fused(layer, c.heads, n) for layer in backbone.layers]
        scale = c.hidden**0.5  # a norm divides by the length of a vector, and not by the root of its mean square
        self.heads = _matrix((decoder.heads.weight,), n, scale * backbone.norm.weight)
        self.least = condition.new_tensor(scale * backbone.norm.variance_epsilon**0.5, dtype=torch.float32)
        angles = torch.outer(torch.arange(positions, device=condition.device), backbone.rotary_emb.inv_freq.float())
        self.rotation = torch.polar(torch.ones_like(angles), angles)[:, None, None]  # [S, 1, 1, size / 2]
        # queries, keys and values of all layers, and other ways to look at them
        self.kept = condition.new_empty(layers, positions, n, 3 * c.hidden)
        parts = self.kept.unflatten(-1, (3, c.heads, size))
        self.pairs = parts[..., :2, :, :].flatten(3, 4).unflatten(-1, (-1, 2))  # [L, S, N, 2 heads, size / 2, 2]
        self.queries, self.keys, self.values = parts.permute(3, 0, 2, 4, 1, 5)  # [L, N, heads, S, size] each
        self.modulations = [adapt(condition.transpose(0, 1)).chunk(2, dim=-1) for adapt in decoder.layerwise]

    @torch.no_grad()
    def __call__(self, steps: Tensor) -> Tensor:
        """Feed the next steps [B, K, n] and predict what follows the last of them: logits [N, K, V].

        Several steps at once can only be the first ones.
        """
        c, n, start = self.config, steps.shape[-1], self.fed
        if n > 1 and start:
            raise UsageError(f"{n} steps at once can only be the first ones, and {start} were fed")
        first = start or self.prefix
        stop = self.fed = first + n
        audio = F.embedding(steps + self.rows, self.table).sum(1)  # [B, n, audio_width]
        fed = self.inputs.narrow(0, first, n).narrow(2, self.width, audio.shape[-1])
        fed.unflatten(1, (-1, len(audio))).copy_(audio.transpose(0, 1).unsqueeze(1))
        n = stop - start
        x = self.inputs.narrow(0, start, n).flatten(0, 1)  # [n N, hidden]; grows into the residual
        rotation = self.rotation.narrow(0, start, n)
        made = self.kept.narrow(1, start, n).flatten(1, 2).unbind()  # [n N, 3 hidden] of each layer
        pairs = self.pairs.narrow(1, start, n).unbind()
        queries = self.queries.narrow(3, start, n).unbind()
        keys, values = self.keys.narrow(3, 0, stop).unbind(), self.values.narrow(3, 0, stop).unbind()
        for i, layer in enumerate(self.layers):
            if self.modulations:
                scale, shift = (part[start:stop].flatten(0, 1) for part in self.modulations[i])
                x = x * (1 + scale) + shift
            _multiply(self._norm(x), layer.query_key_value, made[i])
            _turn(pairs[i], rotation)
            read = F.scaled_dot_product_attention(queries[i], keys[i], values[i], is_causal=n > 1)
            _add_product(x, read.permute(2, 0, 1, 3).reshape(x.shape), layer.output)
            gate, up = _multiply(self._norm(x), layer.gate_up).chunk(2, dim=-1)
            _add_product(x, F.silu(gate, inplace=True).mul_(up), layer.down)
        logits = _multiply(self._norm(x[-len(read) :]), self.heads)
        return logits.unflatten(-1, (c.num_codebooks, c.codebook_size))

    def _norm(self, x: Tensor) -> Tensor:
        """RMSNorm but for its weight and a factor, which are in the matrix that follows.

        Half of the mean square's epsilon would be lost in half precision: the length is float32.
        """
        length = torch.linalg.vector_norm(x, 2, -1, True, dtype=torch.float32)
        return x / torch.hypot(length, self.least, out=length).to(x.dtype)


class _Fused:
    """The matrices of a Llama layer as :class:`CachedSteps` multiplies by them: [in, out] each, see :func:`_matrix`.

    The weights of the norms are in them, and the root of the width, by which :meth:`CachedSteps._norm` is short.
    Queries and keys have the two numbers that are turned together side by side, where Llama has them half a head apart:
    what they are compared by stays the same.

    Args:
        layer: of the backbone.
        heads: of its attention.
        rows: of a step.
    """

    def __init__(self, layer: nn.Module, heads: int, rows: int) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        width = attention.q_proj.weight.shape[1]
        plain = torch.arange(width, device=attention.q_proj.weight.device)
        turned = plain.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten()
        order = torch.cat([turned, width + turned, 2 * width + plain])
        looking, thinking = (
            width**0.5 * norm.weight for norm in (layer.input_layernorm, layer.post_attention_layernorm)
        )
        projections = (attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight)
        self.query_key_value = _matrix(projections, rows, looking, order)
        self.gate_up = _matrix((mlp.gate_proj.weight, mlp.up_proj.weight), rows, thinking)
        self.output, self.down = (_matrix((part.weight,), rows) for part in (attention.o_proj, mlp.down_proj))


LARGE = 2**20
"""Numbers of a matrix that no cache near the processor holds, so that a step takes as long as reading it."""


class _Streamed:
    """A large float32 matrix [in, out] in the order of memory in which oneDNN multiplies the rows of a step by it.

    A step multiplies two rows, one of them the null's, and BLAS then reads a matrix at half of the memory's speed. To
    oneDNN the rows are pixels and the matrix is a convolution of 1 by 1, which it reads at nine tenths. Each number
    of rows may want another order, and to put a matrix into it takes as long as a hundred steps. So other rows than a
    step's, which are those of a prompt, are multiplied by the matrices as the network has them.

    Args:
        parts, gain, order: see :func:`_matrix`.
        rows: of a step.
    """

    def __init__(self, parts: tuple[Tensor, ...], rows: int, gain: Tensor | None, order: Tensor | None) -> None:
        self.parts, self.rows, self.gain, self.order = parts, rows, gain, order
        whole = _whole(parts, gain, order)[..., None, None]
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(whole, *_STILL, [1, whole.shape[1], rows, 1])

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) == self.rows:
            pixels = x[None, :, None].permute(0, 3, 1, 2)  # [1, in, rows, 1], in the memory of x
            made = torch.ops.mkldnn._convolution_pointwise(pixels, self.weight, None, *_STILL, "none", [], "")
            return made.permute(0, 2, 3, 1).reshape(len(x), -1)
        x = x if self.gain is None else x * self.gain
        made = torch.cat([F.linear(x, part) for part in self.parts], dim=-1)
        return made if self.order is None else made[:, self.order]


_STILL = [0, 0], [1, 1], [1, 1], 1
"""Padding, stride, dilation and groups of a convolution that multiplies each pixel by a matrix."""


def _matrix(
    parts: tuple[Tensor, ...], rows: int, gain: Tensor | None = None, order: Tensor | None = None
) -> Tensor | _Streamed:
    """A matrix [in, out] out of several weights, streamed where it is large and the processor's library can.

    Args:
        parts: weights [out, in] of linear layers that read the same.
        rows: of a step.
        gain: what each input is multiplied by before, [in].
        order: of the outputs, [out].
    """
    can = hasattr(torch.ops.mkldnn, "_reorder_convolution_weight") and torch.backends.mkldnn.is_available()
    first, numbers = parts[0], sum(part.numel() for part in parts)
    if can and first.device.type == "cpu" and first.dtype == torch.float32 and numbers >= LARGE:
        return _Streamed(parts, rows, gain, order)
    matrix = _whole(parts, gain, order).T
    return matrix if len(parts) == 1 else matrix.contiguous()


def _whole(parts: tuple[Tensor, ...], gain: Tensor | None, order: Tensor | None) -> Tensor:
    """One weight [out, in] out of several."""
    weight = torch.cat(parts) if len(parts) > 1 else parts[0]
    weight = weight if gain is None else weight * gain
    return weight if order is None else weight[order]


def _multiply(x: Tensor, matrix: Tensor | _Streamed, out: Tensor | None = None) -> Tensor:
    """x [n, in] times a matrix [in, out], into ``out`` where there is one."""
    if isinstance(matrix, Tensor):
        return torch.mm(x, matrix, out=out)
    made = matrix(x)
    return made if out is None else out.copy_(made)


def _add_product(total: Tensor, x: Tensor, matrix: Tensor | _Streamed) -> None:
    """Add x [n, in] times a matrix [in, out] to a total [n, out], in place."""
    if isinstance(matrix, Tensor):
        total.addmm_(x, matrix)
    else:
        total.add_(matrix(x))


def _turn(pairs: Tensor, rotation: Tensor) -> None:
    """Turn pairs of numbers [..., 2] in place by complex numbers of length 1."""
    turned = torch.view_as_complex(pairs.float()).mul_(rotation)  # of float32 in its own memory
    if pairs.dtype != torch.float32:
        pairs.copy_(torch.view_as_real(turned))


def _drop(linear: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
    """A hook that drops out what a layer adds to the residual."""
    return F.dropout(output, linear.dropout, linear.training)


def _modulation(parameters: Tensor):
    """A hook that scales and shifts a layer's input by ``parameters`` [B, S, 2 hidden]."""
    scale, shift = parameters.chunk(2, dim=-1)

    def hook(layer: nn.Module, inputs: tuple):
        return (inputs[0] * (1 + scale) + shift, *inputs[1:])

    return hook
