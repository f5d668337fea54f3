"""Sizes and switches of EgoSonics, its presets, and the frozen UNet they describe."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from v2a_nb.audio.stft_image import STFT_IMAGES, StftImage
from v2a_nb.errors import UsageError
from v2a_nb.hub import Pretrained
from v2a_nb.models.autoencoder import PRESETS as AUTOENCODERS
from v2a_nb.sampling.diffusion import NoiseSchedule, spectrogram_unet
from v2a_nb.systems.egosonics.syncronet import WEIGHTINGS


@dataclass(frozen=True)
class EgoSonicsConfig:
    """All of EgoSonics but its autoencoder and frame encoder, which are parts with their own configuration.

    Attributes:
        picture: name of the STFT image, see :data:`~v2a_nb.audio.stft_image.STFT_IMAGES`.
        latent_channels: C of the latents.
        factor: pixels, in each direction, of one latent.
        widths: channels of the UNet at each size.
        layers: residual blocks at each size.
        heads: attention heads at each size (diffusers calls them ``attention_head_dim``).
        groups: of the group norms.
        text_tokens, text_width: of the text that the UNet cross-attends to.
        words: narrations become text through our own small table (``tiny``), not a published text encoder.
        mlp_hidden: of the MLP from video to text.
        video_dim, video_rate: numbers in a frame vector, and vectors a second.
        stack: neighbouring frame vectors that make one token.
        hint_repeat, hint_fold: see :func:`~v2a_nb.models.video_encoders.clip_frames.to_image`.
        hint_widths: channels of the hint encoder.
        warm_hint: see :class:`~v2a_nb.systems.egosonics.syncronet.SyncroNet`.
        train_hint: False keeps the hint encoder frozen, as the paper does (supplement B): right with published
            weights, or with ``warm_hint``; frozen at its zeros it would say nothing, for ever. Trained along, it
            brings the video in by itself, and cross-attention is hardly needed any more.
        time_bias: cross-attention starts out knowing which token is of its own time. Not in the paper.
        context, overlap, align: latent columns of a window, of the cross-fade between windows, and between
            possible starts; a whole number of frame vectors must fall on ``align``.
        prediction, spacing, sampler_steps: see :class:`~v2a_nb.sampling.diffusion.NoiseSchedule`.
        guidance: 1 is none.
        control_weighting: see :func:`~v2a_nb.systems.egosonics.syncronet.control_weights`.
        fps: frames a second that the system is shown; None is all that the encoder gives.
        no_syncronet, no_cross_attention: the paper's ablations (table 3).

    Raises:
        UsageError: numbers that do not fit each other.
    """

    picture: str = "tiny"
    latent_channels: int = 16
    factor: int = 8
    widths: tuple[int, ...] = (64, 96, 128)
    layers: int = 1
    heads: tuple[int, ...] = (4, 4, 4)
    groups: int = 16
    text_tokens: int = 4
    text_width: int = 128
    words: bool = True
    mlp_hidden: int = 128
    video_dim: int = 384
    video_rate: float = 50.0
    stack: int = 2
    hint_repeat: int = 1
    hint_fold: int = 1
    hint_widths: tuple[int, ...] = (16, 32, 48, 64)
    warm_hint: bool = True
    train_hint: bool = True
    time_bias: bool = True
    context: int = 64
    overlap: int = 16
    align: int = 4
    prediction: str = "v_prediction"
    spacing: str = "trailing"
    sampler_steps: int = 20
    guidance: float = 1.5
    control_weighting: str = "none"
    fps: float | None = None
    no_syncronet: bool = False
    no_cross_attention: bool = False

    def __post_init__(self) -> None:
        for name in ("widths", "heads", "hint_widths"):  # JSON knows lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if self.picture not in STFT_IMAGES:
            raise UsageError(f"unknown picture {self.picture!r}; known are {', '.join(STFT_IMAGES)}")
        if self.control_weighting not in WEIGHTINGS:
            raise UsageError(f"control_weighting must be one of {', '.join(WEIGHTINGS)}")
        if len(self.heads) != len(self.widths):
            raise UsageError(f"{len(self.heads)} numbers of heads for {len(self.widths)} sizes")
        if 2 ** (len(self.hint_widths) - 1) != self.factor:
            raise UsageError(f"{len(self.hint_widths)} hint widths do not shrink a picture {self.factor} times")
        vectors = self.align * self.column_s * self.video_rate / self.stack
        if abs(vectors - round(vectors)) > 1e-6:
            raise UsageError(f"windows that start every {self.align} columns fall between video tokens")

    @property
    def schedule(self) -> NoiseSchedule:
        """Schedule and sampler (section 3.4)."""
        return NoiseSchedule(prediction=self.prediction, spacing=self.spacing, steps=self.sampler_steps)

    @property
    def stft(self) -> StftImage:
        """The picture of sound."""
        return STFT_IMAGES[self.picture]

    @property
    def rows(self) -> int:
        """H of the latents."""
        return self.stft.height // self.factor

    @property
    def column_s(self) -> float:
        """Seconds of a latent column."""
        return self.factor / self.stft.columns_per_s

    @property
    def token_s(self) -> float:
        """Seconds of a video token."""
        return self.stack / self.video_rate

    def latents_shape(self, num_samples: int) -> tuple[int, int, int]:
        """(C, H, W) of the latents of so many samples."""
        return self.latent_channels, self.rows, self.stft.columns(num_samples) // self.factor


PRESETS = {
    "tiny": EgoSonicsConfig(train_hint=False, guidance=4.0),
    # Stable Diffusion 2.1-base, ``unet/config.json``; 10 s at 22.05 kHz; guidance as diffusers uses it there
    "paper": EgoSonicsConfig(
        picture="paper", latent_channels=4, widths=(320, 640, 1280, 1280), layers=2, heads=(5, 10, 20, 20), groups=32,
        text_tokens=77, text_width=1024, words=False, mlp_hidden=1024, video_dim=768, video_rate=30.0, stack=1,
        hint_repeat=3, hint_widths=(16, 32, 96, 256), warm_hint=False, time_bias=False, context=64, overlap=16,
        align=16, prediction="epsilon", spacing="leading", guidance=7.5, control_weighting="cfg_rw", fps=30.0,
    ),
}  # fmt: skip

AUTOENCODER_OF = {"tiny": AUTOENCODERS["tiny"], "paper": AUTOENCODERS["paper"]}
"""The autoencoder that belongs to a preset."""


def make_unet(c: EgoSonicsConfig) -> nn.Module:
    """The UNet that is trained as a base and then frozen."""
    return spectrogram_unet(
        rows=c.rows, channels=c.latent_channels, widths=c.widths, layers=c.layers, heads=c.heads, groups=c.groups,
        context_width=c.text_width,
    )  # fmt: skip


class BaseUNet(Pretrained):
    """The frozen UNet as a folder of weights.

    Args:
        config: its sizes.
        unet: left out, a new one.
    """

    kind, title, config_class = "egosonics-base", "EgoSonics' base", EgoSonicsConfig

    def __init__(self, config: EgoSonicsConfig, unet: nn.Module | None = None) -> None:
        self.config, self.unet = config, make_unet(config) if unet is None else unet

    def _network(self) -> nn.Module:
        return self.unet
