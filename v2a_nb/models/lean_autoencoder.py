"""Stable Diffusion's autoencoder, as diffusers' ``AutoencoderKL`` computes it; see :mod:`v2a_nb.models.lean_blocks`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.models.lean_blocks import Attention, Downsample, ResidualBlock, Upsample

EPSILON = 1e-6


class Gaussian:
    """A diagonal Gaussian over latents, from its means and log variances [B, 2 C, H, W]."""

    def __init__(self, moments: Tensor) -> None:
        self.mean, log_variance = moments.chunk(2, dim=1)
        self.log_variance = log_variance.clamp(-30.0, 20.0)

    def mode(self) -> Tensor:
        """Its mean."""
        return self.mean

    def sample(self, generator: torch.Generator | None = None) -> Tensor:
        """A sample; the generator is of any device."""
        device = self.mean.device if generator is None else generator.device
        noise = torch.randn(self.mean.shape, generator=generator, device=device, dtype=self.mean.dtype)
        return self.mean + torch.exp(0.5 * self.log_variance) * noise.to(self.mean.device)

    def kl(self) -> Tensor:
        """Divergence from the standard normal, [B], nats."""
        each = self.mean.square() + self.log_variance.exp() - 1.0 - self.log_variance
        return 0.5 * each.sum(dim=[1, 2, 3])


class Encoded(NamedTuple):
    """What the encoder gives."""

    latent_dist: Gaussian


class Decoded(NamedTuple):
    """What the decoder gives, [B, c, h, w]."""

    sample: Tensor


class Autoencoder(nn.Module):
    """``AutoencoderKL``: pictures [B, c, h, w] to latents [B, C, h / f, w / f] and back.

    Args:
        channels: of the pictures.
        latent_channels: C.
        widths: channels at each size; all but the last halve the picture.
        layers: residual blocks at each size.
        groups: of the group norms.
        attention: pixels attend to each other in the middle.
    """

    def __init__(
        self, channels: int, latent_channels: int, widths: Sequence[int], layers: int, groups: int, attention: bool
    ) -> None:
        super().__init__()
        self.encoder = _Half(channels, 2 * latent_channels, widths, layers, groups, attention, encodes=True)
        self.decoder = _Half(latent_channels, channels, widths[::-1], layers + 1, groups, attention, encodes=False)
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)
        self.post_quant_conv = nn.Conv2d(latent_channels, latent_channels, 1)

    def encode(self, pictures: Tensor) -> Encoded:
        """The posterior of pictures."""
        return Encoded(Gaussian(self.quant_conv(self.encoder(pictures))))

    def decode(self, latents: Tensor) -> Decoded:
        """Pictures of latents."""
        return Decoded(self.decoder(self.post_quant_conv(latents)))


class _Half(nn.Module):
    """The encoder, or the decoder, which is the same the other way round."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        widths: Sequence[int],
        layers: int,
        groups: int,
        attention: bool,
        encodes: bool,
    ) -> None:
        super().__init__()
        self.encodes = encodes
        self.conv_in = nn.Conv2d(channels_in, widths[0], 3, padding=1)
        self.mid_block = _Middle(widths[-1] if encodes else widths[0], groups, attention)
        blocks = [
            _Size(widths[max(0, i - 1)], width, layers, groups, i < len(widths) - 1, encodes)
            for i, width in enumerate(widths)
        ]
        setattr(self, "down_blocks" if encodes else "up_blocks", nn.ModuleList(blocks))
        self.conv_norm_out = nn.GroupNorm(groups, widths[-1], EPSILON)
        self.conv_out = nn.Conv2d(widths[-1], channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(x)
        parts = [*self.down_blocks, self.mid_block] if self.encodes else [self.mid_block, *self.up_blocks]
        for part in parts:
            x = part(x)
        return self.conv_out(F.silu(self.conv_norm_out(x)))


class _Size(nn.Module):
    """Residual blocks at one size, and the way to the next one unless it is the last."""

    def __init__(self, channels_in: int, channels: int, layers: int, groups: int, goes_on: bool, encodes: bool) -> None:
        super().__init__()
        inputs = [channels_in, *[channels] * (layers - 1)]
        self.resnets = nn.ModuleList(ResidualBlock(n, channels, groups, EPSILON) for n in inputs)
        self.downsamplers = nn.ModuleList([Downsample(channels, padding=0)] if goes_on and encodes else [])
        self.upsamplers = nn.ModuleList([Upsample(channels)] if goes_on and not encodes else [])

    def forward(self, x: Tensor) -> Tensor:
        for layer in (*self.resnets, *self.downsamplers, *self.upsamplers):
            x = layer(x)
        return x


class _Middle(nn.Module):
    """Two residual blocks, perhaps with attention between them."""

    def __init__(self, channels: int, groups: int, attention: bool) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([_PixelAttention(channels, groups)] if attention else [])
        self.resnets = nn.ModuleList(ResidualBlock(channels, channels, groups, EPSILON) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        first, last = self.resnets
        x = first(x)
        for attention in self.attentions:
            x = attention(x)
        return last(x)


class _PixelAttention(Attention):
    """Attention of all pixels to each other, with one head, added to them."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, heads=1, bias=True)
        self.group_norm = nn.GroupNorm(groups, channels, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        pixels = self.group_norm(x.flatten(2)).transpose(1, 2)  # [B, h w, c]
        return super().forward(pixels).transpose(1, 2).reshape(x.shape) + x
