"""HiFi-GAN's generator (Kong et al. 2020), as ``transformers``' ``SpeechT5HifiGan`` computes it, tensor by tensor.

It stands in for that class where a trained vocoder is loaded: importing transformers' models takes longer than a sound
takes to generate. A new vocoder, which is to be trained, is transformers' own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1
"""Slope of the leaky rectifiers, but for the last one, which has torch's own 0.01."""


class _Residual(nn.Module):
    """A residual block: for each dilation a convolution with it and one without."""

    def __init__(self, channels: int, kernel: int, dilations: Sequence[int]) -> None:
        super().__init__()

        def conv(dilation: int) -> nn.Conv1d:
            return nn.Conv1d(channels, channels, kernel, dilation=dilation, padding=(kernel - 1) * dilation // 2)

        self.convs1 = nn.ModuleList(conv(dilation) for dilation in dilations)
        self.convs2 = nn.ModuleList(conv(1) for _ in dilations)

    def forward(self, x: Tensor) -> Tensor:
        for dilated, plain in zip(self.convs1, self.convs2, strict=True):
            x = plain(F.leaky_relu(dilated(F.leaky_relu(x, SLOPE)), SLOPE)) + x
        return x


class HifiGan(nn.Module):
    """Log mels [B, T, bands] to waves [B, T * product of rates].

    Args:
        bands: of a mel.
        channels, rates, kernels, block_kernels, block_dilations, normalize: see
            :class:`~v2a_nb.models.vocoder.VocoderConfig`.
    """

    def __init__(
        self,
        bands: int,
        channels: int,
        rates: Sequence[int],
        kernels: Sequence[int],
        block_kernels: Sequence[int],
        block_dilations: Sequence[Sequence[int]],
        normalize: bool,
    ) -> None:
        super().__init__()
        self.normalize = normalize
        self.conv_pre = nn.Conv1d(bands, channels, 7, padding=3)
        self.upsampler, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(rates, kernels, strict=True):
            self.upsampler.append(nn.ConvTranspose1d(channels, channels // 2, kernel, rate, (kernel - rate) // 2))
            channels //= 2
            for size, dilations in zip(block_kernels, block_dilations, strict=True):
                self.resblocks.append(_Residual(channels, size, dilations))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3)
        self.register_buffer("mean", torch.zeros(bands))
        self.register_buffer("scale", torch.ones(bands))

    def forward(self, mels: Tensor) -> Tensor:
        if self.normalize:
            mels = (mels - self.mean) / self.scale
        x = self.conv_pre(mels.transpose(2, 1))
        side_by_side = len(self.resblocks) // len(self.upsampler)
        for i, upsample in enumerate(self.upsampler):
            x = upsample(F.leaky_relu(x, SLOPE))
            first, *others = self.resblocks[i * side_by_side : (i + 1) * side_by_side]
            total = first(x)
            for block in others:
                total = total + block(x)
            x = total / side_by_side
        return torch.tanh(self.conv_post(F.leaky_relu(x))).squeeze(1)
