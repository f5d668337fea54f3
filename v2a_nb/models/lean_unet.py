"""Stable Diffusion's UNet and its ControlNet, as diffusers computes them; see :mod:`v2a_nb.models.lean_blocks`.

The blocks take the arguments of diffusers' by the same names, so that either can be taken apart in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.models.lean_blocks import (
    Attention,
    Downsample,
    ResidualBlock,
    TimestepEmbedding,
    Timesteps,
    Upsample,
)

EPSILON = 1e-5
"""Epsilon of the group norms, but for those before attention, which have 1e-6."""
MASKED = -10000.0
"""A number that is added to the logits of tokens that are not attended to."""


@dataclass(frozen=True)
class UNetSizes:
    """Sizes under the names of ``UNet2DConditionModel.config``.

    Attributes:
        in_channels: C of the latents.
        block_out_channels: channels at each size.
        layers_per_block: residual blocks at each size.
        attention_head_dim: attention *heads* at each size; the name is diffusers'.
        norm_num_groups: of the group norms.
        cross_attention_dim: numbers in a context token.
        use_linear_projection: attention is projected by linear maps and not by convolutions.
    """

    in_channels: int
    block_out_channels: tuple[int, ...]
    layers_per_block: int
    attention_head_dim: tuple[int, ...]
    norm_num_groups: int
    cross_attention_dim: int
    use_linear_projection: bool


class UNetOutput(NamedTuple):
    """What the UNet predicts, [B, C, H, W]."""

    sample: Tensor


class UNet(nn.Module):
    """``UNet2DConditionModel`` with cross-attention at all sizes but the coarsest, and in the middle."""

    def __init__(self, sizes: UNetSizes) -> None:
        super().__init__()
        self.config = c = sizes
        first, n = c.block_out_channels[0], len(c.block_out_channels)
        self.conv_in, self.time_proj, self.time_embedding = _entrance(c)
        self.down_blocks, self.mid_block, self.up_blocks = _down_blocks(c), MidBlock(c), nn.ModuleList()
        coarse_first, heads = c.block_out_channels[::-1], c.attention_head_dim[::-1]
        for i, channels in enumerate(coarse_first):
            below, skip = coarse_first[max(0, i - 1)], coarse_first[min(i + 1, n - 1)]
            self.up_blocks.append(UpBlock(c, below, channels, skip, heads[i] if i else None, i < n - 1))
        self.conv_norm_out = nn.GroupNorm(c.norm_num_groups, first, EPSILON)
        self.conv_out = nn.Conv2d(first, c.in_channels, 3, padding=1)

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        *,
        encoder_attention_mask: Tensor | None = None,
        down_block_additional_residuals: Sequence[Tensor] | None = None,
        mid_block_additional_residual: Tensor | None = None,
        return_dict: bool = True,
    ) -> UNetOutput:
        """Predict from noisy latents [B, C, H, W] at timesteps [B] under tokens [B, K, width].

        Args:
            encoder_attention_mask: bool [B, K]: which tokens are attended to; left out, all.
            down_block_additional_residuals, mid_block_additional_residual: of a :class:`ControlNet`.
            return_dict: has no effect: the output is a tuple with a name.
        """
        mask = encoder_attention_mask
        if mask is not None:
            mask = ((1 - mask.to(sample.dtype)) * MASKED)[:, None]  # [B, 1, K]
        x, time, skips = _down(self, self.conv_in(sample), timestep, encoder_hidden_states, mask)
        if down_block_additional_residuals is not None:
            skips = [a + b for a, b in zip(skips, down_block_additional_residuals, strict=True)]
        x = self.mid_block(x, time, encoder_hidden_states, mask)
        if mid_block_additional_residual is not None:
            x = x + mid_block_additional_residual
        uneven = any(side % 2 ** (len(self.up_blocks) - 1) for side in sample.shape[-2:])
        for block in self.up_blocks:
            count = len(block.resnets)
            skips, used = skips[:-count], skips[-count:]
            size = skips[-1].shape[2:] if uneven and skips else None
            x = block(x, used, time, encoder_hidden_states, size, mask)
        return UNetOutput(self.conv_out(F.silu(self.conv_norm_out(x))))


class ControlNet(nn.Module):
    """``ControlNetModel``: a copy of the UNet's encoder and middle that reads a hint, behind zero convolutions.

    Args:
        sizes: of the UNet.
        conditioning_channels: of the hint.
        conditioning_embedding_out_channels: of the hint encoder; all but the first halve the picture.
    """

    def __init__(
        self, sizes: UNetSizes, conditioning_channels: int, conditioning_embedding_out_channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.config = c = sizes
        self.conv_in, self.time_proj, self.time_embedding = _entrance(c)
        self.controlnet_cond_embedding = HintEncoder(
            conditioning_channels, conditioning_embedding_out_channels, c.block_out_channels[0]
        )
        self.down_blocks, self.mid_block = _down_blocks(c), MidBlock(c)
        last, width = len(c.block_out_channels) - 1, c.block_out_channels
        skips = [width[0]]
        for i, channels in enumerate(width):
            skips += [channels] * (c.layers_per_block + (i < last))
        self.controlnet_down_blocks = nn.ModuleList(_zero(nn.Conv2d(n, n, 1)) for n in skips)
        self.controlnet_mid_block = _zero(nn.Conv2d(width[-1], width[-1], 1))

    @classmethod
    def from_unet(
        cls, unet: UNet, *, conditioning_channels: int = 3,
        conditioning_embedding_out_channels: Sequence[int] = (16, 32, 96, 256),
    ) -> ControlNet:  # fmt: skip
        """A control path for a UNet, which starts as a copy of its encoder and middle."""
        control = cls(unet.config, conditioning_channels, conditioning_embedding_out_channels)
        for part in ("conv_in", "time_embedding", "down_blocks", "mid_block"):
            getattr(control, part).load_state_dict(getattr(unet, part).state_dict())
        return control

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        controlnet_cond: Tensor,
        return_dict: bool = False,
    ) -> tuple[list[Tensor], Tensor]:
        """Signals for the UNet's skips, from fine to coarse, and for its middle.

        Args:
            sample, timestep, encoder_hidden_states: as for :class:`UNet`.
            controlnet_cond: the hint [B, channels, H f, W f].
            return_dict: has no effect.
        """
        x = self.conv_in(sample) + self.controlnet_cond_embedding(controlnet_cond)
        x, time, skips = _down(self, x, timestep, encoder_hidden_states)
        x = self.mid_block(x, time, encoder_hidden_states)
        signals = [zero(skip) for zero, skip in zip(self.controlnet_down_blocks, skips, strict=True)]
        return signals, self.controlnet_mid_block(x)


class HintEncoder(nn.Module):
    """A picture [B, c, H f, W f] to the channels of the first block, [B, channels, H, W]; zero at first."""

    def __init__(self, channels_in: int, widths: Sequence[int], channels_out: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels_in, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for fine, coarse in pairwise(widths):
            self.blocks.append(nn.Conv2d(fine, fine, 3, padding=1))
            self.blocks.append(nn.Conv2d(fine, coarse, 3, stride=2, padding=1))
        self.conv_out = _zero(nn.Conv2d(widths[-1], channels_out, 3, padding=1))

    def forward(self, picture: Tensor) -> Tensor:
        x = F.silu(self.conv_in(picture))
        for conv in self.blocks:
            x = F.silu(conv(x))
        return self.conv_out(x)


# --- blocks -------------------------------------------------------------------------------------------


class DownBlock(nn.Module):
    """Residual blocks, each with a transformer where there are ``heads``, and half the size where ``shrink``."""

    def __init__(self, c: UNetSizes, channels_in: int, channels: int, heads: int | None, shrink: bool) -> None:
        super().__init__()
        self.has_cross_attention = heads is not None
        inputs = [channels_in, *[channels] * (c.layers_per_block - 1)]
        self.resnets = nn.ModuleList(_residual(c, n, channels) for n in inputs)
        self.attentions = nn.ModuleList(Transformer(c, channels, heads) for _ in inputs if heads)
        self.downsamplers = nn.ModuleList([Downsample(channels, padding=1)] if shrink else [])

    def forward(
        self,
        hidden_states: Tensor,
        temb: Tensor,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """The result and all skips."""
        x, skips = hidden_states, []
        for i, resnet in enumerate(self.resnets):
            x = resnet(x, temb)
            if self.has_cross_attention:
                x = self.attentions[i](x, encoder_hidden_states, encoder_attention_mask)
            skips.append(x)
        for downsample in self.downsamplers:
            x = downsample(x)
            skips.append(x)
        return x, skips


class MidBlock(nn.Module):
    """A transformer between two residual blocks."""

    has_cross_attention = True

    def __init__(self, c: UNetSizes) -> None:
        super().__init__()
        channels = c.block_out_channels[-1]
        self.attentions = nn.ModuleList([Transformer(c, channels, c.attention_head_dim[-1])])
        self.resnets = nn.ModuleList(_residual(c, channels, channels) for _ in range(2))

    def forward(
        self,
        hidden_states: Tensor,
        temb: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        x = self.attentions[0](self.resnets[0](hidden_states, temb), encoder_hidden_states, encoder_attention_mask)
        return self.resnets[1](x, temb)


class UpBlock(nn.Module):
    """Residual blocks that read a skip each, with transformers if there are ``heads``; twice the size if ``grow``."""

    def __init__(
        self, c: UNetSizes, below: int, channels: int, last_skip: int, heads: int | None, grow: bool
    ) -> None:  # fmt: skip
        super().__init__()
        self.has_cross_attention = heads is not None
        skips = [*[channels] * c.layers_per_block, last_skip]
        inputs = [below, *[channels] * c.layers_per_block]
        self.resnets = nn.ModuleList(_residual(c, a + b, channels) for a, b in zip(inputs, skips, strict=True))
        self.attentions = nn.ModuleList(Transformer(c, channels, heads) for _ in inputs if heads)
        self.upsamplers = nn.ModuleList([Upsample(channels)] if grow else [])

    def forward(
        self,
        hidden_states: Tensor,
        res_hidden_states_tuple: Sequence[Tensor],
        temb: Tensor,
        encoder_hidden_states: Tensor | None = None,
        upsample_size: torch.Size | None = None,
        encoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        x = hidden_states
        for i, (resnet, skip) in enumerate(zip(self.resnets, res_hidden_states_tuple[::-1], strict=True)):
            x = resnet(torch.cat([x, skip], dim=1), temb)
            if self.has_cross_attention:
                x = self.attentions[i](x, encoder_hidden_states, encoder_attention_mask)
        for upsample in self.upsamplers:
            x = upsample(x, upsample_size)
        return x


class Transformer(nn.Module):
    """``Transformer2DModel`` of one block: pixels attend to each other and to tokens, [B, C, H, W] to the same."""

    def __init__(self, c: UNetSizes, channels: int, heads: int) -> None:
        super().__init__()
        width, self.linear = heads * (channels // heads), c.use_linear_projection
        self.norm = nn.GroupNorm(c.norm_num_groups, channels, 1e-6)
        self.proj_in = nn.Linear(channels, width) if self.linear else nn.Conv2d(channels, width, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(width, heads, c.cross_attention_dim)])
        self.proj_out = nn.Linear(width, channels) if self.linear else nn.Conv2d(width, channels, 1)

    def forward(self, hidden_states: Tensor, encoder_hidden_states: Tensor, mask: Tensor | None = None) -> Tensor:
        height = hidden_states.shape[-2]
        x = self.norm(hidden_states)
        if not self.linear:
            x = self.proj_in(x)
        x = x.permute(0, 2, 3, 1).flatten(1, 2)  # [B, H W, C]
        if self.linear:
            x = self.proj_in(x)
        for block in self.transformer_blocks:
            x = block(x, encoder_hidden_states, mask)
        if self.linear:
            x = self.proj_out(x)
        x = x.unflatten(1, (height, -1)).permute(0, 3, 1, 2).contiguous()
        if not self.linear:
            x = self.proj_out(x)
        return x + hidden_states


class TransformerBlock(nn.Module):
    """Self-attention, cross-attention and a gated feed-forward layer."""

    def __init__(self, width: int, heads: int, context: int) -> None:
        super().__init__()
        self.norm1, self.attn1 = nn.LayerNorm(width), Attention(width, heads)
        self.norm2, self.attn2 = nn.LayerNorm(width), Attention(width, heads, context)
        self.norm3, self.ff = nn.LayerNorm(width), FeedForward(width)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.attn1(self.norm1(x)) + x
        x = self.attn2(self.norm2(x), encoder_hidden_states=tokens, attention_mask=mask) + x
        return self.ff(self.norm3(x)) + x


class FeedForward(nn.Module):
    """A linear map to four times the width, gated (GEGLU), and one back."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.ModuleList([Gated(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor) -> Tensor:
        return self.net[2](self.net[0](x))


class Gated(nn.Module):
    """GEGLU: a linear map times the GELU of another."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * inner)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


# --- what UNet and ControlNet share --------------------------------------------------------------------


def _entrance(c: UNetSizes) -> tuple[nn.Conv2d, Timesteps, TimestepEmbedding]:
    first = c.block_out_channels[0]
    return nn.Conv2d(c.in_channels, first, 3, padding=1), Timesteps(first), TimestepEmbedding(first, 4 * first)


def _down_blocks(c: UNetSizes) -> nn.ModuleList:
    blocks, last = nn.ModuleList(), len(c.block_out_channels) - 1
    for i, channels in enumerate(c.block_out_channels):
        heads = c.attention_head_dim[i] if i < last else None
        blocks.append(DownBlock(c, c.block_out_channels[max(0, i - 1)], channels, heads, i < last))
    return blocks


def _residual(c: UNetSizes, channels_in: int, channels_out: int) -> ResidualBlock:
    return ResidualBlock(channels_in, channels_out, c.norm_num_groups, EPSILON, 4 * c.block_out_channels[0])


def _down(
    model: UNet | ControlNet, x: Tensor, timestep: Tensor, tokens: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The coarsest picture, the timestep's embedding, and the skips."""
    time = model.time_embedding(model.time_proj(timestep.expand(len(x))).to(x.dtype))
    skips = [x]
    for block in model.down_blocks:
        x, more = block(x, time, tokens, mask)
        skips += more
    return x, time, skips


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.zeros_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
