"""Cross-attention with a relative-time bias, and ways to record attention or to leave it out.

Cross-attention has no order: a latent column that stands for 1.3 s must *learn* to read the video token of
1.3 s, and on a small budget it does not. :class:`TimeBias` adds to the logits a function of the time between
the two that starts with a peak where they match. It goes in through diffusers' attention-processor interface,
so that without it a model is the published one, tensor by tensor.

Cross-attention has no frequency either: what a head reads of a token it gives to all rows of a column alike, and the
layers after it have to find out which row is which. :class:`RowValues` gives each row something of its own.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError

FREE_BIAS = 2.0
"""Nats by which a free head prefers tokens without a time, at first."""


class Processor(ABC):
    """What diffusers calls in the place of its own cross-attention; the names of the arguments are diffusers'."""

    def __call__(
        self,
        attn,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
    ) -> Tensor:
        if encoder_hidden_states is None:
            raise UsageError(f"{type(self).__name__} belongs to cross-attention")
        return self.attend(attn, hidden_states, encoder_hidden_states, attention_mask)

    @abstractmethod
    def attend(self, attn, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Queries [B, rows * W, C] attend to tokens [B, K, D]: [B, rows * W, C].

        Args:
            mask: [B, 1, K], added to the logits: 0, and far below it for tokens that are not attended to.
        """


class TimeBias(Processor, nn.Module):
    """A cross-attention processor with a bias per head over (token's time - column's time).

    The bias is ``sum_k cos_k cos(2 pi k d / period) + sin_k sin(2 pi k d / period)`` with d in *seconds*, and
    not in shares of the clip, so that it holds at any length; beyond ``reach_s`` it stays what it is there.
    It begins as a bump at another moment within the column for each head.

    Tokens may be followed by others without a time, such as those of a neighbour's sound: for them each head has one
    number, zero at first.

    Args:
        heads: of the attention.
        rows: H of the latents at this depth: queries are [B, rows * W, C], row by row.
        column_s: seconds of a column at this depth.
        token_s: seconds of a token.
        harmonics: K; the finest has a period of ``2 reach_s / K``.
        reach_s: seconds within which times are distinguished.
        width_s: standard deviation of the first bump.
        height: of the first bump over the far floor, nats.
        timed: how many tokens have a time, the first ones; None is all.
        free: heads, the last ones, that begin without a bump and, where only some tokens are timed, with a bias
            towards the others, so that these are read at all.
        by_row: what each row gets of the timed tokens beside what attention gives to all rows; left out, nothing.
    """

    def __init__(
        self,
        heads: int,
        rows: int,
        column_s: float,
        token_s: float,
        *,
        harmonics: int = 32,
        reach_s: float = 2.0,
        width_s: float = 0.04,
        height: float = 6.0,
        timed: int | None = None,
        free: int = 0,
        by_row: RowValues | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= free < heads:
            raise UsageError(f"{free} of {heads} heads cannot be free of time: one at least must know it")
        self.heads, self.rows, self.timed = heads, rows, timed
        self.column_s, self.token_s, self.reach_s = column_s, token_s, reach_s
        frequencies = torch.arange(1, harmonics + 1) / (2 * reach_s)  # cycles per second
        self.register_buffer("frequencies", frequencies, persistent=False)
        # heads divide the column between them
        self.bound = bound = heads - free
        offset = ((torch.arange(heads) + 0.5) / bound - 0.5) * column_s  # [heads]
        peaked = (torch.arange(heads) < bound).float()[:, None]
        # the Fourier series of a Gaussian bump
        taper = torch.exp(-((2 * math.pi * frequencies * width_s) ** 2) / 2)
        taper = taper * (height / taper.sum())
        angle = 2 * math.pi * frequencies * offset[:, None]  # [heads, K]
        self.cos = nn.Parameter(peaked * taper * torch.cos(angle))
        self.sin = nn.Parameter(peaked * taper * torch.sin(angle))
        if timed is not None:
            self.others = nn.Parameter(FREE_BIAS * (1 - peaked[:, 0]))
        self.by_row = by_row
        self._basis: tuple[tuple, Tensor] | None = None

    def bias(self, columns: int, tokens: int) -> Tensor:
        """Return the bias that is added to the attention logits: [heads, columns, tokens]."""
        if self.timed is not None:
            others = self.others[:, None, None].expand(-1, columns, max(0, tokens - self.timed))
            return torch.cat([self._over_time(columns, min(tokens, self.timed)), others], dim=-1)
        return self._over_time(columns, tokens)

    def _over_time(self, columns: int, tokens: int) -> Tensor:
        """The bias of the timed tokens."""
        key = (columns, tokens, self.frequencies.device, self.frequencies.dtype)
        if self._basis is None or self._basis[0] != key:
            query = (torch.arange(columns, device=self.frequencies.device) + 0.5) * self.column_s
            token = (torch.arange(tokens, device=self.frequencies.device) + 0.5) * self.token_s
            away = (token[None] - query[:, None]).clamp(-self.reach_s, self.reach_s)  # [W, K]
            angle = 2 * math.pi * self.frequencies[:, None, None] * away
            self._basis = (key, torch.cat([angle.cos(), angle.sin()]).flatten(1))  # [2 K, W * tokens]
        weights = torch.cat([self.cos, self.sin], dim=1)  # [heads, 2 K]
        return (weights @ self._basis[1]).view(self.heads, columns, tokens)

    def for_queries(self, queries: int, tokens: int) -> Tensor:
        """The bias for all queries of a picture: [1, heads, rows * W, tokens]."""
        if queries % self.rows:
            raise UsageError(f"{queries} queries are no whole columns of {self.rows} rows")
        bias = self.bias(queries // self.rows, tokens)
        return bias[:, None].expand(-1, self.rows, -1, -1).flatten(1, 2)[None]

    def row_values(self, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor | float:
        """Return the values that are added to the attention's result [B, rows * W, C]; see ``by_row``.

        Tokens that are masked count as zeros.
        """
        if self.by_row is None:
            return 0.0
        if mask is not None:
            tokens = tokens * (mask == 0).transpose(1, 2).to(tokens)
        timed = tokens if self.timed is None else tokens[:, : self.timed]
        bias = self._over_time(queries.shape[1] // self.rows, timed.shape[1])[: self.bound]
        return self.by_row(timed, bias.softmax(-1).mean(0).to(tokens.dtype))

    def attend(self, attn, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        bias = _masked(self.for_queries(queries.shape[1], tokens.shape[1]), mask)
        return _attend(attn, queries, tokens, bias.to(queries.dtype))[0] + self.row_values(queries, tokens, mask)


class RowValues(nn.Module):
    """A linear map of tokens for each row of a picture, through few numbers; it begins as zero.

    Args:
        rows: H of the latents at this depth.
        width: numbers in a token.
        channels: C at this depth.
        rank: numbers that all rows' maps read of a token.

    Examples:
        >>> values = RowValues(rows=4, width=128, channels=8, rank=16)
        >>> values(torch.zeros(2, 10, 128), torch.full((6, 10), 0.1)).shape
        torch.Size([2, 24, 8])
    """

    def __init__(self, rows: int, width: int, channels: int, rank: int) -> None:
        super().__init__()
        self.rows, self.channels = rows, channels
        self.read = nn.Linear(width, rank, bias=False)
        self.write = nn.Linear(rank, rows * channels)
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(self, tokens: Tensor, shares: Tensor) -> Tensor:
        """[B, rows * W, C], row by row, of tokens [B, K, D] and the share [W, K] of each in a column."""
        values = self.write(shares @ self.read(tokens))  # [B, W, rows * C]
        b, columns, _ = values.shape
        return values.view(b, columns, self.rows, self.channels).transpose(1, 2).flatten(1, 2)


class NoAttention(Processor):
    """Leaves cross-attention out (EgoSonics, table 3): what is added to the residual is zero."""

    def attend(self, attn, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.zeros_like(queries)


class _Recorder(Processor):
    """Does what ``processor`` does, and keeps the attention [B, heads, queries, tokens]."""

    def __init__(self, processor) -> None:
        self.processor, self.shares = processor, None

    def attend(self, attn, queries: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        bias, more = None if mask is None else mask[:, None], 0.0
        if isinstance(self.processor, TimeBias):
            bias = _masked(self.processor.for_queries(queries.shape[1], tokens.shape[1]), mask)
            more = self.processor.row_values(queries, tokens, mask)
        result, self.shares = _attend(attn, queries, tokens, bias, keep=True)
        return result + more


def vectors_of_tokens(
    vectors: Tensor, start_s: float | Tensor, *, rate: float, token_s: float, count: int, stack: int
) -> Tensor:
    """Vectors [B, count * stack, dim] for ``count`` tokens of the window that begins at ``start_s``.

    Each token reads ``stack`` vectors spread evenly over its time, interpolated linearly. Before the video begins and
    after it ends the nearest vector stays.

    Args:
        vectors: [B, T, dim] of the whole clip; vector i stands for the time (i + 0.5) / rate.
        start_s: seconds, one for all or [B].
        rate: vectors a second.
        token_s: seconds of a token.
    """
    b, t, _ = vectors.shape
    start = torch.as_tensor(start_s, dtype=torch.float32, device=vectors.device).expand(b)
    inside = (torch.arange(count * stack, device=vectors.device) + 0.5) * (token_s / stack)
    where = ((start[:, None] + inside) * rate - 0.5).clamp(0, t - 1)  # [B, count * stack]
    low = where.floor().long().clamp(max=max(0, t - 2))
    high = (low + 1).clamp(max=t - 1)
    share = (where - low).clamp(0, 1)[..., None].to(vectors)
    rows = torch.arange(b, device=vectors.device)[:, None]
    return vectors[rows, low] * (1 - share) + vectors[rows, high] * share


def cross_attentions(model: nn.Module) -> dict[str, tuple[int, nn.Module]]:
    """The cross-attentions of a UNet or ControlNet: name -> (depth, module).

    Depth 0 is the latents' own size, each further one half of it.
    """
    deepest = len(model.config.block_out_channels) - 1
    found = {}
    for name, module in model.named_modules():
        if not name.endswith(".attn2"):
            continue
        part, index = name.split(".")[0], name.split(".")[1]
        depth = {"down_blocks": lambda i: int(i), "up_blocks": lambda i: deepest - int(i)}
        found[name] = (depth[part](index) if part in depth else deepest, module)
    return found


def set_time_bias(
    model: nn.Module, rows: int, column_s: float, token_s: float, row_values: int = 0, **how: float
) -> None:
    """Give every cross-attention of ``model`` a :class:`TimeBias` of its depth.

    Args:
        model: a ``UNet2DConditionModel`` or a ``ControlNetModel``.
        rows: H of its latents.
        column_s: seconds of a latent column.
        token_s: seconds of a token.
        row_values: rank of the :class:`RowValues` that each gets; 0 is none.
        how: see :class:`TimeBias`.
    """
    for depth, attn in cross_attentions(model).values():
        high = -(-rows // 2**depth)
        width, channels = attn.to_k.in_features, attn.to_out[0].out_features
        by_row = RowValues(high, width, channels, row_values) if row_values else None
        attn.set_processor(TimeBias(attn.heads, high, column_s * 2**depth, token_s, by_row=by_row, **how))


@contextmanager
def without_cross_attention(model: nn.Module, off: bool = True) -> Iterator[None]:
    """Inside, the cross-attentions of ``model`` give zero; where ``off`` is false, nothing happens."""
    with _swapped(model, lambda processor: NoAttention(), off):
        yield


@contextmanager
def watch_attention(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Inside, what the cross-attentions of ``model`` attend to is kept.

    Yields:
        a dictionary that is filled when the block is left: name -> [B, heads, queries, tokens] of the last
        pass, each row summing to 1.
    """
    shares: dict[str, Tensor] = {}
    with _swapped(model, _Recorder) as recorders:
        yield shares
    shares.update({name: each.shares for name, each in recorders.items() if each.shares is not None})


@contextmanager
def _swapped(model: nn.Module, make, on: bool = True) -> Iterator[dict[str, object]]:
    """Other processors inside. Set directly: diffusers' setter would take a bias out of the parameters."""
    layers = cross_attentions(model) if on else {}
    before = {name: attn.processor for name, (_, attn) in layers.items()}
    inside = {name: make(processor) for name, processor in before.items()}
    for name, (_, attn) in layers.items():
        attn._modules.pop("processor", None)
        attn.__dict__["processor"] = inside[name]
    try:
        yield inside
    finally:
        for name, (_, attn) in layers.items():
            attn.__dict__.pop("processor", None)
            attn.processor = before[name]


def _masked(bias: Tensor, mask: Tensor | None) -> Tensor:
    """A bias [1, heads, N, K] with a mask [B, 1, K]: the bias, or [B, heads, N, K]."""
    return bias if mask is None else bias + mask[:, None]


def _attend(attn, queries: Tensor, tokens: Tensor, bias: Tensor | None, keep: bool = False) -> tuple[Tensor, Tensor]:
    """Multi-head attention with the weights of diffusers' ``attn``: [B, N, C], and [B, heads, N, K] if kept."""
    b, n = queries.shape[:2]
    heads = attn.heads

    def split(x: Tensor) -> Tensor:
        return x.view(b, x.shape[1], heads, -1).transpose(1, 2)  # [B, heads, n, d]

    q, k, v = split(attn.to_q(queries)), split(attn.to_k(tokens)), split(attn.to_v(tokens))
    if keep:
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        shares = (logits if bias is None else logits + bias).softmax(-1)
        result = shares @ v
    else:
        shares, result = None, F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    result = result.transpose(1, 2).reshape(b, n, -1)
    return attn.to_out[1](attn.to_out[0](result)), shares
