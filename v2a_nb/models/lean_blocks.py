"""Blocks of Stable Diffusion's networks, as diffusers computes them, under diffusers' names for tensors and arguments.

:mod:`v2a_nb.models.lean_unet` and :mod:`v2a_nb.models.lean_autoencoder` are made of them. They stand in for diffusers
where trained networks are loaded: importing its models takes longer than a sound takes to generate. They give the same
numbers to the bit, with gradients. New networks, which are to be trained, are diffusers' own.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Two convolutions [B, in, H, W] to [B, out, H, W]; with ``time``, the timestep's embedding is added between them.

    Args:
        channels_in, channels_out: of the pictures.
        groups, eps: of the group norms.
        time: numbers of the timestep's embedding.
    """

    def __init__(self, channels_in: int, channels_out: int, groups: int, eps: float, time: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(groups, channels_in, eps)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.time_emb_proj = None if time is None else nn.Linear(time, channels_out)
        self.norm2 = nn.GroupNorm(groups, channels_out, eps)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv_shortcut = None if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, hidden_states: Tensor, temb: Tensor | None = None) -> Tensor:
        x = self.conv1(F.silu(self.norm1(hidden_states)))
        if self.time_emb_proj is not None:
            x = x + self.time_emb_proj(F.silu(temb))[:, :, None, None]
        x = self.conv2(F.silu(self.norm2(x)))
        if self.conv_shortcut is not None:
            hidden_states = self.conv_shortcut(hidden_states)
        return hidden_states + x


class Downsample(nn.Module):
    """Half the size, by a convolution; without padding one row and column of zeros is added at the end."""

    def __init__(self, channels: int, padding: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.conv.padding[0] else F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Twice the size, or the given one: nearest neighbours and a convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: torch.Size | None = None) -> Tensor:
        wanted = {"scale_factor": 2.0} if size is None else {"size": size}
        return self.conv(F.interpolate(x, mode="nearest", **wanted))


class Attention(nn.Module):
    """Multi-head attention of [B, N, width] to itself or to tokens [B, K, context]; a processor may do it instead.

    Args:
        width: numbers of a query.
        heads: their number.
        context: numbers of a token; left out, ``width``.
        bias: of the projections of queries, keys and values.
    """

    def __init__(self, width: int, heads: int, context: int | None = None, bias: bool = False) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, width, bias)
        self.to_k = nn.Linear(context or width, width, bias)
        self.to_v = nn.Linear(context or width, width, bias)
        self.to_out = nn.ModuleList([nn.Linear(width, width), nn.Dropout(0.0)])
        self.processor = None

    def set_processor(self, processor) -> None:
        """Let ``processor(attention, queries, tokens, mask)`` do it (:mod:`v2a_nb.models.attention`)."""
        self.processor = processor

    def forward(
        self, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Tensor:  # fmt: skip
        """The tokens that were read, projected; ``attention_mask`` [B, 1, K] is added to the logits."""
        if self.processor is not None:
            return self.processor(self, hidden_states, encoder_hidden_states, attention_mask)
        tokens = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, heads, N, d]
            for part in (self.to_q(hidden_states), self.to_k(tokens), self.to_v(tokens))
        )
        mask = None if attention_mask is None else attention_mask[:, None]
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self.to_out[0](read.transpose(1, 2).flatten(2))


class Timesteps(nn.Module):
    """Timesteps [B] to cosines and sines, float32 [B, width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, timesteps: Tensor) -> Tensor:
        half = self.width // 2
        exponent = -math.log(10000) * torch.arange(half, dtype=torch.float32, device=timesteps.device)
        angles = timesteps[:, None].float() * torch.exp(exponent / half)[None]
        return F.pad(torch.cat([angles.cos(), angles.sin()], dim=-1), (0, self.width % 2))


class TimestepEmbedding(nn.Module):
    """Cosines and sines of a timestep to its embedding."""

    def __init__(self, width: int, time: int) -> None:
        super().__init__()
        self.linear_1, self.linear_2 = nn.Linear(width, time), nn.Linear(time, time)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear_2(F.silu(self.linear_1(x)))
