"""EgoSonics' audio super-resolution: five convolutions that undo a picture's resizing (supplement E).

The paper says five layers, batch norm and ReLU after each, a sigmoid at the end, mean squared error, Adam;
filters and rates are lost in its text and are this project's choice.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError
from v2a_nb.hub import Pretrained

LEARNING_RATE = 1e-3


@dataclass(frozen=True)
class SuperResolutionConfig:
    """Sizes of :class:`SuperResolution`.

    Attributes:
        widths: filters of the first four layers; the fifth has one.
        kernel: odd.
    """

    widths: tuple[int, ...] = (64, 64, 32, 32)
    kernel: int = 3


class SuperResolution(Pretrained, nn.Module):
    """Spectrogram pictures [B, 1, h, w] in [0, 1], resized, to [B, 1, H, W] as they were."""

    kind, title, config_class = "super-resolution", "super-resolution", SuperResolutionConfig

    def __init__(self, config: SuperResolutionConfig | None = None) -> None:
        super().__init__()
        self.config = config or SuperResolutionConfig()
        layers: list[nn.Module] = []
        before, kernel = 1, self.config.kernel
        for width in self.config.widths:
            layers += [nn.Conv2d(before, width, kernel, padding=kernel // 2), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.layers = nn.Sequential(*layers, nn.Conv2d(before, 1, kernel, padding=kernel // 2), nn.Sigmoid())

    def forward(self, small: Tensor, size: tuple[int, int]) -> Tensor:
        """Pictures [B, 1, *size] in [0, 1].

        Args:
            small: [B, 1, h, w] in [0, 1].
            size: (H, W), for 10 s of the paper (1025, 862).

        Raises:
            UsageError: not one channel.
        """
        if small.ndim != 4 or small.shape[1] != 1:
            raise UsageError(f"super-resolution reads [B, 1, h, w], not {tuple(small.shape)}")
        return self.layers(F.interpolate(small, size, mode="bicubic", align_corners=False).clamp(0, 1))

    def training_step(self, original: Tensor, small: tuple[int, int] = (512, 512)) -> dict[str, Tensor]:
        """The paper's loss on original pictures [B, 1, H, W] in [0, 1]: they are resized to ``small`` and back.

        Returns:
            ``loss``: the mean squared error, and ``plain``: that of bicubic interpolation alone.
        """
        low = F.interpolate(original, small, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        size = tuple(original.shape[-2:])
        made = self(low, size)
        with torch.no_grad():
            again = F.interpolate(low, size, mode="bicubic", align_corners=False).clamp(0, 1)
            plain = (again - original).square().mean()
        return {"loss": (made - original).square().mean(), "plain": plain}
