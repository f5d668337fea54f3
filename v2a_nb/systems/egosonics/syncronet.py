"""SyncroNet and what stands beside it: the parts of EgoSonics that are trained (sections 3.2 and 3.3).

SyncroNet is a ControlNet that reads video: a trainable copy of the frozen UNet's encoder and middle block. The
frame image enters as its hint and is added to the noisy latents, so that self-attention sees both (equation 3);
the frame vectors are what it cross-attends to, where the UNet itself has text (equation 4); zero convolutions
lead into the frozen UNet's skips and middle.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError
from v2a_nb.models.attention import set_time_bias, without_cross_attention

WEIGHTINGS = ("none", "cfg_rw", "guess")


class SyncroNet(nn.Module):
    """The control path.

    Args:
        unet: the frozen ``UNet2DConditionModel``; its encoder and middle are copied.
        video_dim: numbers in a video token.
        hint_channels: of the frame image.
        hint_widths: channels of the hint encoder; all but the first halve the picture.
        warm_hint: begin with a hint encoder that speaks. The last layer of diffusers' is zero, and frozen it
            would stay so; even trained, the hint then enters minutes later. Exactness at step 0 is the zero
            convolutions' work alone.
        time_bias: None, or ``rows``, ``column_s`` and ``token_s`` of
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
        time_bias: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        from diffusers import ControlNetModel

        self.control = ControlNetModel.from_unet(
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
            hint: frame image [B, hint_channels, H * f, W * f].
            no_cross_attention: the paper's ablation (table 3).

        Returns:
            a list of [B, c, h, w] for the skips, from fine to coarse, and [B, c, h, w] for the middle.

        Raises:
            UsageError: a frame image that does not fit the latents.
        """
        factor = 2 ** (len(self.hint_encoder.blocks) // 2)
        if tuple(hint.shape[2:]) != tuple(n * factor for n in noisy.shape[2:]):
            raise UsageError(
                f"a frame image {tuple(hint.shape[2:])} does not fit latents {tuple(noisy.shape[2:])}: it must be "
                f"{factor} times as large"
            )
        with without_cross_attention(self.control, no_cross_attention):
            down, middle = self.control(
                noisy, t, encoder_hidden_states=self.project(tokens), controlnet_cond=hint, return_dict=False
            )
        return list(down), middle


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
        made = torch.zeros(len(split), max([1, *(len(words) for words in split)]), dtype=torch.long)
        for row, words in zip(made, split, strict=True):
            found = [1 + zlib.crc32(word.encode()) % self.rows for word in words]
            row[: len(words)] = torch.tensor(found, dtype=torch.long)
        return made

    def forward(self, ids: Tensor) -> Tensor:
        """Text tokens [B, tokens, width] of :meth:`ids` [B, L]."""
        there = (ids > 0).float()[..., None]
        mean = (self.words(ids) * there).sum(1) / there.sum(1).clamp(min=1)  # [B, dim]
        return self.spread(mean).view(-1, self.tokens, self.width)
