"""The networks of Action2Sound, their sizes and switches, and its presets."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from v2a_nb.audio.stft_image import LatentPicture
from v2a_nb.errors import UsageError
from v2a_nb.hub import later
from v2a_nb.models.attention import set_time_bias, vectors_of_tokens
from v2a_nb.models.autoencoder import PRESETS as AUTOENCODERS
from v2a_nb.sampling.diffusion import NoiseSchedule, spectrogram_unet

NULLS = ("trained", "zero")
"""The null of guidance: what training drops the video to, or a context of zeros, as released, which it never had."""
NEIGHBOUR_LATENTS = ("mean", "drawn")
"""The neighbour's latents: the posterior's mean, or a sample of it, as released."""
PADDINGS = ("wave", "mel")
"""What fills a picture after its sound has ended: the wave backwards, or zeros after the mel, as released."""


@dataclass(frozen=True)
class Action2SoundConfig(LatentPicture):
    """All of Action2Sound but its autoencoder, vocoder and frame encoder, which have their own configuration.

    Attributes:
        picture: name of the mel picture, see :data:`~v2a_nb.audio.stft_image.STFT_IMAGES`.
        latent_channels: C of the latents.
        factor: pixels, in each direction, of one latent.
        widths: channels of the UNet at each size.
        layers: residual blocks at each size.
        heads: attention heads at each size (diffusers calls them ``attention_head_dim``).
        groups: of the group norms.
        context_width: numbers in a context token.
        video_tokens: of a window (16).
        video_dim, video_rate: numbers in a frame vector, and vectors a second.
        stack: vectors that make one video token, spread evenly over its time; the paper has one frame for each.
        squeeze: numbers to which a vector is reduced before that; None keeps all.
        audio_hidden: of the two layers between the neighbour's latents and the UNet (section 3.6).
        neighbour: the system is conditioned on a neighbour's sound; False is the paper's "w/o cond".
        train_audio_projection: False leaves those two layers and the positions of audio tokens at their random start,
            as the released code does: its optimizer never gets them.
        null: one of :data:`NULLS`.
        neighbour_latents: one of :data:`NEIGHBOUR_LATENTS`.
        padding: one of :data:`PADDINGS`. The autoencoder's group norms see the difference in all columns.
        clamp_mel: values outside of the mel's range are cut before the vocoder; the released code does not cut them.
        time_bias: cross-attention starts with a preference for the video token of its own time. Not in the paper.
        free_heads: heads that start with a preference for the neighbour's tokens instead.
        row_values: numbers of a video token that each row of the picture reads in its own way, beside what attention
            gives to all rows alike (:class:`~v2a_nb.models.attention.RowValues`); the paper has 0.
        context, overlap, align: latent columns of a window, of the cross-fade between windows, and between
            possible starts.
        prediction, spacing, sampler, sampler_steps: see :class:`~v2a_nb.sampling.diffusion.NoiseSchedule`.
        guidance_interval: see :func:`~v2a_nb.sampling.diffusion.sample_long`.
        guidance: 1 is none.
        fps: frames a second that the encoder gets; None is all that it can use.
        linear: see :func:`~v2a_nb.sampling.diffusion.spectrogram_unet`.

    Raises:
        UsageError: numbers that do not fit each other, or an unknown word.
    """

    picture: str = "action2sound"
    latent_channels: int = 16
    factor: int = 8
    widths: tuple[int, ...] = (48, 80, 96)
    layers: int = 1
    heads: tuple[int, ...] = (4, 4, 4)
    groups: int = 16
    context_width: int = 128
    video_tokens: int = 16
    video_dim: int = 384
    video_rate: float = 50.0
    stack: int = 10
    squeeze: int | None = 48
    audio_hidden: int = 256
    neighbour: bool = True
    train_audio_projection: bool = True
    null: str = "trained"
    neighbour_latents: str = "mean"
    padding: str = "wave"
    clamp_mel: bool = True
    time_bias: bool = True
    free_heads: int = 1
    row_values: int = 64
    context: int = 24
    overlap: int = 8
    align: int = 4
    prediction: str = "v_prediction"
    spacing: str = "trailing"
    sampler_steps: int = 25
    sampler: str = later("dpm++")
    guidance_interval: tuple[float, float] = later((0.0, 1.0))
    guidance: float = 3.0
    fps: float | None = None
    linear: bool = True

    def __post_init__(self) -> None:
        for name in ("widths", "heads", "guidance_interval"):  # JSON knows lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self.check_picture()
        for name, known in (("null", NULLS), ("neighbour_latents", NEIGHBOUR_LATENTS), ("padding", PADDINGS)):
            if getattr(self, name) not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not {getattr(self, name)!r}")
        self.check_windows()

    @property
    def schedule(self) -> NoiseSchedule:
        """Stable Diffusion's schedule and DPM-Solver++ of order 2 (section 4.1, in 25 steps)."""
        return NoiseSchedule(
            prediction=self.prediction, spacing=self.spacing, sampler=self.sampler, steps=self.sampler_steps
        )

    @property
    def neighbour_s(self) -> float:
        """Seconds of a neighbour's sound: a window, of which the released code has no more than 3.0."""
        return self.window_s if self.padding == "wave" else min(self.window_s, 3.0)

    @property
    def token_s(self) -> float:
        """Seconds of a video token."""
        return self.window_s / self.video_tokens


PRESETS = {
    # the cheapest sampler whose scores are those of the paper's 25 steps, all guided (``benchmarks/samplers.py``)
    "tiny": Action2SoundConfig(sampler_steps=18, guidance_interval=(0.2, 1.0)),
    # Stable Diffusion 1.4, of which the released configuration is a copy; guidance of the paper (section 4.1)
    "paper": Action2SoundConfig(
        picture="action2sound-paper", latent_channels=4, widths=(320, 640, 1280, 1280), layers=2, heads=(8, 8, 8, 8),
        groups=32, context_width=768, video_dim=768, video_rate=16 / 3.072, stack=1, squeeze=None, audio_hidden=512,
        time_bias=False, free_heads=0, row_values=0, align=8, prediction="epsilon", spacing="linspace", guidance=6.5,
        linear=False,
    ),
}  # fmt: skip

AUTOENCODER_OF = {"action2sound": AUTOENCODERS["tiny"], "action2sound-paper": AUTOENCODERS["paper"]}
"""The autoencoder that belongs to a picture."""


def make_unet(c: Action2SoundConfig, lean: bool = False) -> nn.Module:
    """The UNet, with its time bias where the configuration has one.

    Args:
        lean: see :func:`~v2a_nb.sampling.diffusion.spectrogram_unet`.
    """
    unet = spectrogram_unet(
        rows=c.rows, channels=c.latent_channels, widths=c.widths, layers=c.layers, heads=c.heads, groups=c.groups,
        context_width=c.context_width, linear=c.linear, lean=lean,
    )  # fmt: skip
    if c.time_bias:
        # a column between two tokens must attend to both
        set_time_bias(
            unet, c.rows, c.column_s, c.token_s, width_s=c.token_s / 2, timed=c.video_tokens if c.neighbour else None,
            free=c.free_heads if c.neighbour else 0, row_values=c.row_values,
        )  # fmt: skip
    return unet


class VideoTokens(nn.Module):
    """Frame vectors to the UNet's video tokens: a linear map and learned positions (released ``VideoFeatEncoder``).

    Args:
        c: sizes.

    Examples:
        >>> import torch
        >>> tokens = VideoTokens(PRESETS["tiny"])
        >>> tokens(torch.zeros(2, 150, 384)).shape
        torch.Size([2, 16, 128])
    """

    def __init__(self, c: Action2SoundConfig) -> None:
        super().__init__()
        self.count, self.stack, self.rate, self.token_s = c.video_tokens, c.stack, c.video_rate, c.token_s
        each = c.squeeze or c.video_dim
        self.squeeze = None if c.squeeze is None else nn.Linear(c.video_dim, c.squeeze)
        self.embed = nn.Linear(c.stack * each, c.context_width)
        self.position = nn.Embedding(c.video_tokens, c.context_width)

    def forward(self, vectors: Tensor, start_s: float | Tensor = 0.0) -> Tensor:
        """Tokens [B, count, width] of the window that begins at ``start_s`` of vectors [B, T, dim].

        Each token reads ``stack`` vectors spread evenly over its time, interpolated linearly. After the end of the
        video the last vector stays.

        Args:
            vectors: of the whole clip.
            start_s: one for all, or [B].
        """
        picked = vectors_of_tokens(
            vectors, start_s, rate=self.rate, token_s=self.token_s, count=self.count, stack=self.stack
        )  # fmt: skip
        if self.squeeze is not None:
            picked = self.squeeze(picked)
        return self.embed(picked.reshape(len(vectors), self.count, -1)) + self.position.weight


class AudioTokens(nn.Module):
    """A neighbour's latents to the UNet's audio tokens, one for each column (released ``AudioFeatEncoder``).

    Args:
        c: sizes.

    Examples:
        >>> import torch
        >>> AudioTokens(PRESETS["tiny"])(torch.zeros(2, 16, 16, 24)).shape
        torch.Size([2, 24, 128])
    """

    def __init__(self, c: Action2SoundConfig) -> None:
        super().__init__()
        column = c.latent_channels * c.rows
        self.project = nn.Sequential(
            nn.Linear(column, c.audio_hidden), nn.GELU(), nn.Linear(c.audio_hidden, c.context_width)
        )
        self.position = nn.Embedding(c.context, c.context_width)

    def forward(self, latents: Tensor) -> Tensor:
        """Tokens [B, W, width] of latents [B, C, H, W], W up to a window."""
        columns = latents.flatten(1, 2).transpose(1, 2)  # [B, W, C * H]
        return self.project(columns) + self.position.weight[: columns.shape[1]]
