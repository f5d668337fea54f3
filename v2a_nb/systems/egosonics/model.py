"""The networks of EgoSonics, their sizes and switches, and its presets.

SyncroNet is a ControlNet that reads video (sections 3.2 and 3.3): a trainable copy of the frozen UNet's encoder and
middle block. The frame image enters as its hint and is added to the noisy latents, so that self-attention reads both
(equation 3). The frame vectors are what it cross-attends to, where the UNet itself has text (equation 4). Zero
convolutions lead into the frozen UNet's skips and middle.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio.stft_image import LatentPicture
from v2a_nb.errors import UsageError
from v2a_nb.hub import Pretrained, later
from v2a_nb.models.attention import set_time_bias, without_cross_attention
from v2a_nb.models.autoencoder import PRESETS as AUTOENCODERS
from v2a_nb.models.lean_unet import ControlNet, UNet
from v2a_nb.sampling.diffusion import NoiseSchedule, spectrogram_unet

WEIGHTINGS = ("none", "cfg_rw", "guess")
"""See :func:`control_weights`."""


@dataclass(frozen=True)
class EgoSonicsConfig(LatentPicture):
    """All of EgoSonics but its autoencoder and frame encoder, which are parts with their own configuration.

    Attributes:
        picture: name of the STFT image, see :data:`~v2a_nb.audio.stft_image.STFT_IMAGES`.
        latent_channels: C of the latents.
        factor: pixels, in each direction, of one latent.
        widths: channels of the UNet at each size.
        layers: residual blocks at each size.
        heads: attention heads at each size (diffusers calls them ``attention_head_dim``).
        groups: of the group norms.
        text_tokens, text_width: tokens of the text that the UNet cross-attends to, and numbers in one.
        words: narrations become text through :class:`WordTokens` (``tiny``) and not a published text encoder.
        mlp_hidden: of the MLP from video to text.
        video_dim, video_rate: numbers in a frame vector, and vectors a second.
        stack: neighbouring frame vectors that make one token.
        hint_repeat, hint_fold: see :func:`frame_image`.
        hint_widths: channels of the hint encoder.
        warm_hint: see :class:`SyncroNet`.
        train_hint: False keeps the hint encoder frozen, as the paper does (supplement B). That is right with published
            weights, or with ``warm_hint``; frozen at zeros it would never pass anything on. Trained along, it brings
            the video in by itself, and cross-attention is hardly used any more.
        time_bias: cross-attention starts with a preference for the token of its own time. Not in the paper.
        row_values: numbers of a video token that each row of the picture reads in its own way, beside what attention
            gives to all rows alike (:class:`~v2a_nb.models.attention.RowValues`); 0 is none. Without the time bias
            there are none either. Not in the paper.
        context, overlap, align: latent columns of a window, of the cross-fade between windows, and between
            possible starts; a whole number of frame vectors must fall on ``align``.
        prediction, spacing, sampler, sampler_steps: see :class:`~v2a_nb.sampling.diffusion.NoiseSchedule`.
        guidance_interval: see :func:`~v2a_nb.sampling.diffusion.sample_long`.
        guidance: 1 is none.
        control_weighting: see :func:`control_weights`.
        fps: frames a second that the encoder gets; None is all that it can use.
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
    row_values: int = later(0)
    context: int = 64
    overlap: int = 16
    align: int = 4
    prediction: str = "v_prediction"
    spacing: str = "trailing"
    sampler_steps: int = 20
    sampler: str = later("ddim")
    guidance_interval: tuple[float, float] = later((0.0, 1.0))
    guidance: float = 1.5
    control_weighting: str = "none"
    fps: float | None = None
    no_syncronet: bool = False
    no_cross_attention: bool = False

    def __post_init__(self) -> None:
        for name in ("widths", "heads", "hint_widths", "guidance_interval"):  # JSON knows lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self.check_picture()
        if self.control_weighting not in WEIGHTINGS:
            raise UsageError(f"control_weighting must be one of {', '.join(WEIGHTINGS)}")
        if 2 ** (len(self.hint_widths) - 1) != self.factor:
            raise UsageError(f"{len(self.hint_widths)} hint widths do not shrink a picture {self.factor} times")
        vectors = self.align * self.column_s * self.video_rate / self.stack
        if abs(vectors - round(vectors)) > 1e-6:
            raise UsageError(f"windows that start every {self.align} columns fall between video tokens")

    @property
    def schedule(self) -> NoiseSchedule:
        """Schedule and sampler (section 3.4)."""
        return NoiseSchedule(
            prediction=self.prediction, spacing=self.spacing, sampler=self.sampler, steps=self.sampler_steps
        )

    @property
    def token_s(self) -> float:
        """Seconds of a video token."""
        return self.stack / self.video_rate

    def latents_shape(self, num_samples: int) -> tuple[int, int, int]:
        """(C, H, W) of the latents of so many samples."""
        return self.latent_channels, self.rows, self.stft.columns(num_samples) // self.factor


PRESETS = {
    # the cheapest sampler whose scores are those of the paper's 20 steps of DDIM (``benchmarks/samplers.py``)
    "tiny": EgoSonicsConfig(
        train_hint=False, row_values=64, guidance=4.0, sampler="dpm++", sampler_steps=12, guidance_interval=(0.2, 1.0)
    ),
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


# --- the frozen UNet ----------------------------------------------------------------------------------


def make_unet(c: EgoSonicsConfig, lean: bool = False) -> nn.Module:
    """The UNet that is trained as a base and then frozen.

    Args:
        lean: see :func:`~v2a_nb.sampling.diffusion.spectrogram_unet`.
    """
    return spectrogram_unet(
        rows=c.rows, channels=c.latent_channels, widths=c.widths, layers=c.layers, heads=c.heads, groups=c.groups,
        context_width=c.text_width, lean=lean,
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

    @classmethod
    def _build(cls, config: EgoSonicsConfig, **parts: Any) -> BaseUNet:
        return cls(config, make_unet(config, lean=True))


# --- frame vectors as a picture and as tokens ---------------------------------------------------------


def extend(vectors: Tensor, n: int) -> Tensor:
    """Cut, or filled by repeating the last column, to n columns: [..., T, D] to [..., n, D]."""
    more = n - vectors.shape[-2]
    if more <= 0:
        return vectors[..., :n, :]
    return torch.cat([vectors, vectors[..., -1:, :].expand(*vectors.shape[:-2], more, vectors.shape[-1])], dim=-2)


def standardise(vectors: Tensor) -> Tensor:
    """Each clip [..., T, D] to mean 0 and variance 1 over all its numbers, then three deviations to [0, 1].

    The paper does not say how its picture is scaled. Minimum and maximum of a clip would depend on one outlier
    and change with the clip's length.
    """
    mean = vectors.mean(dim=(-2, -1), keepdim=True)
    spread = vectors.std(dim=(-2, -1), keepdim=True).clamp(min=1e-5)
    return ((vectors - mean) / spread / 6 + 0.5).clamp(0, 1)


def frame_image(vectors: Tensor, height: int, columns: int, channels: int = 1, fold: int = 1) -> Tensor:
    """Frame vectors side by side as a picture (section 3.1): [B, T, D] to [B, channels * fold, height, columns].

    Args:
        vectors: see :func:`standardise`.
        height: of the spectrogram's picture.
        columns: of the spectrogram's picture, so that a column is the same moment in both.
        channels: the picture is repeated this often (3 for Stable Diffusion's hint encoder).
        fold: vectors are cut into so many parts that become channels, so that more of each vector is left after
            resizing. The paper has 1.

    Raises:
        UsageError: a fold that does not divide D.
    """
    b, t, d = vectors.shape
    if d % fold:
        raise UsageError(f"vectors of {d} numbers cannot be folded into {fold}")
    picture = vectors.transpose(1, 2).reshape(b, fold, d // fold, t)  # columns are frames
    # where rows are left out, what lies between them is averaged in
    picture = F.interpolate(picture, (height, columns), mode="bicubic", antialias=True, align_corners=False)
    return picture.repeat(1, channels, 1, 1)


def stack_tokens(vectors: Tensor, stack: int) -> Tensor:
    """``stack`` neighbours side by side are one token: [B, T, D] to [B, ceil(T / stack), stack * D]."""
    b, t, d = vectors.shape
    n = -(-t // stack)
    return extend(vectors, n * stack).reshape(b, n, stack * d)


# --- SyncroNet, and what gives the UNet its text ------------------------------------------------------


class SyncroNet(nn.Module):
    """The control path.

    Args:
        unet: the frozen ``UNet2DConditionModel``, or the :class:`~v2a_nb.models.lean_unet.UNet` that stands in for
            one; its encoder and middle are copied.
        video_dim: numbers in a video token.
        hint_channels: of the frame image.
        hint_widths: channels of the hint encoder; all but the first halve the picture.
        warm_hint: start with a hint encoder that passes a signal on. The last layer of diffusers' is zero, and frozen
            it would stay so; even trained, the hint then enters minutes later. The zero convolutions alone make the
            control exactly zero at step 0.
        time_bias: None, or ``rows``, ``column_s``, ``token_s`` and ``row_values`` of
            :func:`~v2a_nb.models.attention.set_time_bias`.
    """

    def __init__(
        self,
        unet: nn.Module,
        video_dim: int,
        *,
        hint_channels: int = 3,
        hint_widths: tuple[int, ...] = (16, 32, 96, 256),
        warm_hint: bool = False,
        time_bias: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(unet, UNet):
            control_class = ControlNet
        else:
            from diffusers import ControlNetModel as control_class

        self.control = control_class.from_unet(
            unet, conditioning_channels=hint_channels, conditioning_embedding_out_channels=tuple(hint_widths)
        )
        self.control.requires_grad_(True)
        if warm_hint:
            _warm(self.hint_encoder)
        if time_bias:
            set_time_bias(self.control, **time_bias)
        # ControlNetModel has a projection for this, too, and never applies it
        self.project = nn.Linear(video_dim, unet.config.cross_attention_dim)

    @property
    def hint_encoder(self) -> nn.Module:
        """E of the paper: frame images to the first block's channels at the latents' size."""
        return self.control.controlnet_cond_embedding

    def forward(
        self, noisy: Tensor, t: Tensor, tokens: Tensor, hint: Tensor, *, no_cross_attention: bool = False
    ) -> tuple[list[Tensor], Tensor]:
        """Control signals for the UNet's skips and middle.

        Args:
            noisy: latents [B, C, H, W].
            t: timesteps [B].
            tokens: video tokens [B, K, video_dim].
            hint: frame image [B, hint_channels, H * f, W * f], or what the hint encoder made of it, [B, c, H, W].
            no_cross_attention: the paper's ablation (table 3).

        Returns:
            a list of [B, c, h, w] for the skips, from fine to coarse, and [B, c, h, w] for the middle.

        Raises:
            UsageError: a frame image that does not fit the latents.
        """
        factor = 2 ** (len(self.hint_encoder.blocks) // 2)
        encoded = factor > 1 and hint.shape[2:] == noisy.shape[2:]
        if not encoded and tuple(hint.shape[2:]) != tuple(n * factor for n in noisy.shape[2:]):
            raise UsageError(
                f"a frame image {tuple(hint.shape[2:])} does not fit latents {tuple(noisy.shape[2:])}: it must be "
                f"{factor} times as large"
            )
        with without_cross_attention(self.control, no_cross_attention), self._passing_on(encoded):
            down, middle = self.control(
                noisy, t, encoder_hidden_states=self.project(tokens), controlnet_cond=hint, return_dict=False
            )
        return list(down), middle

    @contextmanager
    def _passing_on(self, encoded: bool) -> Iterator[None]:
        """Inside, the control path takes its hint for what the hint encoder gives, if it is."""
        encoder = self.hint_encoder
        if encoded:
            self.control.controlnet_cond_embedding = nn.Identity()
        try:
            yield
        finally:
            self.control.controlnet_cond_embedding = encoder


def _warm(hint_encoder: nn.Module) -> None:
    """Weights that carry a signal from end to end: torch's own shrink it some 1.7 times in each of nine layers.

    The picture lies in [0, 1] around a half, which the first layer's bias takes away.
    """
    first, last = hint_encoder.conv_in, hint_encoder.conv_out
    for conv in (first, *hint_encoder.blocks, last):
        # SiLU keeps about 0.36 of the power
        nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        conv.weight.data *= 1.0 if conv is last else 1.67
        nn.init.zeros_(conv.bias)
    first.weight.data *= 6.0  # three deviations are half of the picture's range
    first.bias.data = -0.5 * first.weight.data.sum(dim=(1, 2, 3))


def control_weights(weighting: str, heights: Sequence[int]) -> list[float]:
    """By how much each control signal is multiplied, from the finest skip to the middle.

    Args:
        weighting: ``"none"``: 1. ``"cfg_rw"``: ControlNet's resolution weighting (its section 3.4, used in
            EgoSonics, section 4), finest size over own size turned round: the coarsest has 1. The article
            writes 64 / h, 8 times that; its released code stays at or under 1, as this does. ``"guess"``:
            0.1 to 1 in even ratios, ControlNet's guess mode as diffusers has it.
        heights: of the signals.

    Raises:
        UsageError: an unknown weighting.
    """
    if weighting not in WEIGHTINGS:
        raise UsageError(f"control_weighting must be one of {', '.join(WEIGHTINGS)}, not {weighting!r}")
    if weighting == "none":
        return [1.0] * len(heights)
    if weighting == "cfg_rw":
        return [min(heights) / h for h in heights]
    return torch.logspace(-1, 0, len(heights)).tolist()


class VideoToText(nn.Module):
    """A two-layer MLP from the mean frame vector to text tokens (supplement G).

    Args:
        dim: numbers in a frame vector.
        hidden: of the layer between.
        tokens, width: of the text that the UNet reads; 77 and 1024 for Stable Diffusion 2.1.
    """

    def __init__(self, dim: int, hidden: int, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width
        self.layers = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, tokens * width))

    def forward(self, vectors: Tensor) -> Tensor:
        """Text tokens [B, tokens, width] of frame vectors [B, T, dim]."""
        mean = F.normalize(vectors.mean(1), dim=-1) * vectors.shape[-1] ** 0.5  # [B, dim], "normalised"
        return self.layers(mean).view(-1, self.tokens, self.width)


class WordTokens(nn.Module):
    """Narrations to text tokens: the small stand-in for Stable Diffusion's text encoder.

    A word is a row of a table, found by its hash; the mean of a narration's words becomes its tokens. Trained
    with the base, then frozen.

    Args:
        tokens, width: of the text that the UNet reads.
        rows: of the table; two words seldom share one.
        dim: of a word.
    """

    def __init__(self, tokens: int, width: int, rows: int = 509, dim: int = 64) -> None:
        super().__init__()
        self.tokens, self.width, self.rows = tokens, width, rows
        self.words = nn.Embedding(rows + 1, dim, padding_idx=0)
        self.spread = nn.Linear(dim, tokens * width)

    def ids(self, narrations: Sequence[str]) -> Tensor:
        """Rows of the words, int64 [B, longest], filled with 0."""
        split = [re.findall(r"[a-z0-9']+", narration.lower()) for narration in narrations]
        ids = torch.zeros(len(split), max([1, *(len(words) for words in split)]), dtype=torch.long)
        for row, words in zip(ids, split, strict=True):
            rows = [1 + zlib.crc32(word.encode()) % self.rows for word in words]
            row[: len(words)] = torch.tensor(rows, dtype=torch.long)
        return ids

    def forward(self, ids: Tensor) -> Tensor:
        """Text tokens [B, tokens, width] of :meth:`ids` [B, L]."""
        mask = (ids > 0).float()[..., None]
        mean = (self.words(ids) * mask).sum(1) / mask.sum(1).clamp(min=1)  # [B, dim]
        return self.spread(mean).view(-1, self.tokens, self.width)


# --- super-resolution ---------------------------------------------------------------------------------


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
    """Five convolutions that undo a picture's resizing (supplement E): [B, 1, h, w] in [0, 1] to [B, 1, H, W].

    The paper says five layers, batch norm and ReLU after each, a sigmoid at the end, mean squared error, Adam. Filters
    and rates are lost in its text and are this project's choice.
    """

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
        restored = self(low, size)
        with torch.no_grad():
            bicubic = F.interpolate(low, size, mode="bicubic", align_corners=False).clamp(0, 1)
            plain = (bicubic - original).square().mean()
        return {"loss": (restored - original).square().mean(), "plain": plain}
