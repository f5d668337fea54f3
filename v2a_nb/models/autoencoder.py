"""Spectrogram images to latents and back: diffusers' ``AutoencoderKL`` behind one small interface.

EgoSonics and Action2Sound use Stable Diffusion's autoencoder as it is; the ``tiny`` one has the same layers,
fewer of them, and is trained on Strike World. Its first halving moves 2 x 2 pixels into channels, as the
vision encoder's does: at full size a CPU would spend most of its time there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, reason
from v2a_nb.models.lean_autoencoder import Autoencoder


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of :class:`ImageAutoencoder`.

    Attributes:
        channels: of the picture.
        latent_channels: of the latents.
        widths: channels at each size; all but the last are halved.
        layers: residual blocks at each size.
        groups: of the group norms.
        attention: self-attention in the middle (Stable Diffusion has it; without it memory grows with the
            length and not with its square).
        unshuffle: pixels of each direction that become channels first.
        scaling_factor: latents are multiplied by it; 0.18215 makes Stable Diffusion's about unit variance.
    """

    channels: int = 1
    latent_channels: int = 16
    widths: tuple[int, ...] = (32, 64, 96)
    layers: int = 1
    groups: int = 16
    attention: bool = False
    unshuffle: int = 2
    scaling_factor: float = 1.0

    @property
    def factor(self) -> int:
        """Pixels, in each direction, of one latent."""
        return self.unshuffle * 2 ** (len(self.widths) - 1)


PRESETS = {
    "tiny": AutoencoderConfig(),
    # Stable Diffusion 2.1, ``vae/config.json``
    "paper": AutoencoderConfig(
        channels=3, latent_channels=4, widths=(128, 256, 512, 512), layers=2, groups=32, attention=True, unshuffle=1,
        scaling_factor=0.18215,
    ),
    # AudioLDM's, which VTA-LDM uses: ``vae/config.json`` of cvssp/audioldm
    "paper-audioldm": AutoencoderConfig(
        channels=1, latent_channels=8, widths=(128, 256, 512), layers=2, groups=32, attention=True, unshuffle=1,
        scaling_factor=0.9227914214134216,
    ),
}  # fmt: skip


class ImageAutoencoder(Pretrained, nn.Module):
    """``AutoencoderKL`` with its scaling: pictures [B, c, h, w] in [-1, 1] to latents [B, C, h / f, w / f].

    Args:
        config: left out, ``tiny``.
        model: an ``AutoencoderKL`` of diffusers, or the :class:`~v2a_nb.models.lean_autoencoder.Autoencoder` that
            stands in for one, to use instead of a new one.

    Examples:
        >>> autoencoder = ImageAutoencoder()
        >>> latents = autoencoder.encode(torch.zeros(1, 1, 64, 128))
        >>> latents.shape, autoencoder.decode(latents).shape
        (torch.Size([1, 16, 8, 16]), torch.Size([1, 1, 64, 128]))
    """

    kind, title, config_class = "image-autoencoder", "an image autoencoder", AutoencoderConfig

    def __init__(self, config: AutoencoderConfig | None = None, model: nn.Module | None = None) -> None:
        super().__init__()
        self.config = c = config or AutoencoderConfig()
        if model is None:
            from diffusers import AutoencoderKL

            pixels = c.channels * c.unshuffle**2
            model = AutoencoderKL(
                in_channels=pixels, out_channels=pixels, latent_channels=c.latent_channels,
                down_block_types=("DownEncoderBlock2D",) * len(c.widths),
                up_block_types=("UpDecoderBlock2D",) * len(c.widths),
                block_out_channels=c.widths, layers_per_block=c.layers, norm_num_groups=c.groups,
                mid_block_add_attention=c.attention, scaling_factor=c.scaling_factor,
            )  # fmt: skip
        self.model = model
        # by which each channel's latents are shifted and divided: 0 and 1 until calibrate() measures them
        self.register_buffer("mean", torch.zeros(c.latent_channels))
        self.register_buffer("spread", torch.ones(c.latent_channels))

    @property
    def factor(self) -> int:
        """Pixels, in each direction, of one latent."""
        return self.config.factor

    @property
    def scaling_factor(self) -> float:
        """See :attr:`AutoencoderConfig.scaling_factor`."""
        return self.config.scaling_factor

    def posterior(self, image: Tensor, rest: bool = False):
        """diffusers' diagonal Gaussian over unscaled latents; ``rest`` as for :meth:`encode`.

        Raises:
            UsageError: pictures with other channels, or not divisible by :attr:`factor`.
        """
        if image.ndim != 4 or image.shape[1] != self.config.channels:
            raise UsageError(f"pictures must be [B, {self.config.channels}, h, w], not {tuple(image.shape)}")
        if image.shape[2] % self.factor or (image.shape[3] % self.factor and not rest):
            raise UsageError(f"a picture {tuple(image.shape[2:])} cannot be divided by {self.factor}: pad it")
        return self.model.encode(F.pixel_unshuffle(image, self.config.unshuffle)).latent_dist

    def encode(
        self, image: Tensor, *, draw: bool = False, generator: torch.Generator | None = None, rest: bool = False
    ) -> Tensor:
        """Scaled latents [B, C, h / factor, w / factor] of pictures [B, c, h, w] in [-1, 1].

        Args:
            draw: from the posterior, as Stable Diffusion trains on them; else its mean.
            generator: of that draw.
            rest: last columns that fill no latent are allowed: the network reads them and gives no latent of their own.
        """
        posterior = self.posterior(image, rest)
        latents = posterior.sample(generator=generator) if draw else posterior.mode()
        return (latents - _wide(self.mean)) / _wide(self.spread) * self.scaling_factor

    def decode(self, latents: Tensor) -> Tensor:
        """Pictures [B, c, H * factor, W * factor] of scaled latents [B, C, H, W]; about [-1, 1], not cut."""
        if latents.ndim != 4 or latents.shape[1] != self.config.latent_channels:
            raise UsageError(f"latents must be [B, {self.config.latent_channels}, H, W], not {tuple(latents.shape)}")
        plain = latents / self.scaling_factor * _wide(self.spread) + _wide(self.mean)
        return F.pixel_shuffle(self.model.decode(plain).sample, self.config.unshuffle)

    def loss(
        self,
        image: Tensor,
        *,
        kl_weight: float = 1e-4,
        edge_weight: float = 2.0,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """What a new autoencoder is trained on: reconstruction (L1 and L2), edges in time, and a light KL term.

        An edge is the difference between neighbouring columns: an onset is one. A blurred onset raises L1 by next to
        nothing, and this term by much.

        Stable Diffusion's autoencoder has a perceptual and an adversarial term besides. Their fine texture would not
        survive Griffin-Lim.

        Returns:
            ``loss``, ``l1``, ``l2``, ``edge`` and ``kl``, the latter per latent.
        """
        posterior = self.posterior(image)
        plain = posterior.sample(generator=generator)
        decoded = F.pixel_shuffle(self.model.decode(plain).sample, self.config.unshuffle)
        l1, l2 = (decoded - image).abs().mean(), (decoded - image).square().mean()
        edge = (decoded.diff(dim=-1) - image.diff(dim=-1)).abs().mean()
        kl = posterior.kl().sum() / plain.numel()
        return {"loss": l1 + l2 + edge_weight * edge + kl_weight * kl, "l1": l1, "l2": l2, "edge": edge, "kl": kl}

    @torch.no_grad()
    def calibrate(self, images: Tensor) -> None:
        """Measure each channel's mean and spread, so that encoded latents have mean 0 and variance 1."""
        latents = torch.cat([self.posterior(part).mode() for part in images.split(16)])
        self.mean.copy_(latents.mean(dim=(0, 2, 3)))
        self.spread.copy_(latents.std(dim=(0, 2, 3)).clamp(min=1e-4))

    @classmethod
    def _build(cls, config: AutoencoderConfig, **parts: Any) -> ImageAutoencoder:
        """With the network of :mod:`v2a_nb.models.lean_autoencoder`, whose import is light."""
        c, pixels = config, config.channels * config.unshuffle**2
        return cls(c, Autoencoder(pixels, c.latent_channels, c.widths, c.layers, c.groups, c.attention))

    @classmethod
    def from_diffusers(cls, name: str | Path, subfolder: str | None = "vae") -> ImageAutoencoder:
        """A published ``AutoencoderKL``: a folder in diffusers' layout, or a Hub id (then it is downloaded).

        Raises:
            WeightsError: it cannot be had.
        """
        from diffusers import AutoencoderKL

        try:
            model = AutoencoderKL.from_pretrained(str(name), subfolder=subfolder, use_safetensors=True)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{name}: no autoencoder there: {reason(error)}") from error
        c = model.config
        config = AutoencoderConfig(
            channels=c.in_channels, latent_channels=c.latent_channels, widths=tuple(c.block_out_channels),
            layers=c.layers_per_block, groups=c.norm_num_groups, attention=c.mid_block_add_attention, unshuffle=1,
            scaling_factor=c.scaling_factor,
        )  # fmt: skip
        return cls(config, model).eval()


def _wide(channels: Tensor) -> Tensor:
    return channels[:, None, None]
