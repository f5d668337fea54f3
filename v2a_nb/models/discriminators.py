"""Discriminators of HiFi-GAN (Kong et al. 2020, section 2.3 and appendix A): by period, and by scale.

One kind reads the wave in rows of a prime number of samples, so that what repeats with that period stands in columns;
the other reads the wave and two averages of it. Least-squares losses and feature matching belong to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

Judgement = tuple[Tensor, list[Tensor]]
"""Scores [B, n] (1 for real, 0 for generated waves) and the features of every layer that led to them."""

SLOPE = 0.1


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Sizes of :class:`Discriminators`.

    Attributes:
        periods: one discriminator for each.
        period_channels: of its layers; all but the last take every third row.
        scales: how many there are; each averages the last one's samples by two.
        scale_layers: channels, kernel, stride and groups of its layers.
    """

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (8, 24, 48, 96, 96)
    scales: int = 3
    scale_layers: tuple[tuple[int, int, int, int], ...] = (
        (16, 15, 2, 1), (24, 15, 4, 1), (48, 15, 4, 1), (96, 15, 4, 1), (96, 5, 1, 1),
    )  # fmt: skip


PRESETS = {
    "tiny": DiscriminatorConfig(),
    "paper": DiscriminatorConfig(
        (2, 3, 5, 7, 11), (32, 128, 512, 1024, 1024), 3,
        (
            (128, 15, 1, 1), (128, 41, 2, 4), (256, 41, 2, 16), (512, 41, 4, 16), (1024, 41, 4, 16),
            (1024, 41, 1, 16), (1024, 5, 1, 1),
        ),
    ),
}  # fmt: skip


class PeriodDiscriminator(nn.Module):
    """Waves [B, n], as columns of ``period`` samples under each other, to a :data:`Judgement`."""

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        sizes = [1, *channels]
        self.convs = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), (3 if i < len(channels) - 1 else 1, 1), (2, 0)))
            for i, (a, b) in enumerate(pairwise(sizes))
        )
        self.score = weight_norm(nn.Conv2d(sizes[-1], 1, (3, 1), 1, (1, 0)))

    def forward(self, wave: Tensor) -> Judgement:
        more = -wave.shape[-1] % self.period
        x = F.pad(wave[:, None], (0, more), "reflect")
        x = x.view(len(x), 1, -1, self.period)  # [B, 1, n / period, period]
        features = []
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            features.append(x)
        x = self.score(x)
        return x.flatten(1), [*features, x]


class ScaleDiscriminator(nn.Module):
    """Waves [B, n] to a :data:`Judgement`.

    Args:
        layers: see :class:`DiscriminatorConfig`.
        norm: spectral for the first scale, weight normalisation for the others.
    """

    def __init__(self, layers: Sequence[tuple[int, int, int, int]], norm=weight_norm) -> None:
        super().__init__()
        sizes = [1, *(layer[0] for layer in layers)]
        self.convs = nn.ModuleList(
            norm(nn.Conv1d(a, b, k, s, k // 2, groups=g)) for a, (b, k, s, g) in zip(sizes[:-1], layers, strict=True)
        )
        self.score = norm(nn.Conv1d(sizes[-1], 1, 3, padding=1))

    def forward(self, wave: Tensor) -> Judgement:
        x, features = wave[:, None], []  # [B, 1, n]
        for conv in self.convs:
            x = F.leaky_relu(conv(x), SLOPE)
            features.append(x)
        x = self.score(x)
        return x.flatten(1), [*features, x]


class Discriminators(nn.Module):
    """All of them: waves [B, n] to one :data:`Judgement` each."""

    def __init__(self, config: DiscriminatorConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PRESETS["tiny"]
        self.periods = nn.ModuleList(PeriodDiscriminator(p, c.period_channels) for p in c.periods)
        self.scales = nn.ModuleList(
            ScaleDiscriminator(c.scale_layers, weight_norm if i else spectral_norm) for i in range(c.scales)
        )

    def forward(self, wave: Tensor) -> list[Judgement]:
        judgements = [discriminator(wave) for discriminator in self.periods]
        for i, discriminator in enumerate(self.scales):
            if i:
                wave = F.avg_pool1d(wave[:, None], 4, 2, padding=2)[:, 0]
            judgements.append(discriminator(wave))
        return judgements

    def frozen(self, wave: Tensor) -> list[Judgement]:
        """The same, with gradients to the wave and none to the weights."""
        return functional_call(self, {k: p.detach() for k, p in self.named_parameters()}, wave)


def discriminator_loss(real: Sequence[Judgement], generated: Sequence[Judgement]) -> Tensor:
    """Real waves should score 1 and generated ones 0: mean squares, summed over discriminators."""
    return sum((a - 1).square().mean() + b.square().mean() for (a, _), (b, _) in zip(real, generated, strict=True))


def generator_loss(generated: Sequence[Judgement]) -> Tensor:
    """Generated waves should score 1."""
    return sum((score - 1).square().mean() for score, _ in generated)


def feature_loss(real: Sequence[Judgement], generated: Sequence[Judgement]) -> Tensor:
    """Mean distance of the features, summed over layers and discriminators; no gradient to those of real waves."""
    return sum(
        (a.detach() - b).abs().mean()
        for (_, left), (_, right) in zip(real, generated, strict=True)
        for a, b in zip(left, right, strict=True)
    )


def judge_both(
    discriminators: Discriminators, real: Tensor, generated: Tensor
) -> tuple[list[Judgement], list[Judgement]]:
    """Judgements of real and of generated waves [B, n] in one pass, with gradients to the weights alone."""
    b = len(real)
    both = discriminators(torch.cat([real, generated.detach()]))
    return [(s[:b], [f[:b] for f in fs]) for s, fs in both], [(s[b:], [f[b:] for f in fs]) for s, fs in both]
