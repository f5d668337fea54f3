"""The networks of VTA-LDM, their sizes and switches, and its presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from v2a_nb.audio.stft_image import LatentPicture
from v2a_nb.errors import UsageError
from v2a_nb.models.attention import set_time_bias, vectors_of_tokens
from v2a_nb.models.autoencoder import PRESETS as AUTOENCODERS
from v2a_nb.models.optical_flow import CELLS
from v2a_nb.sampling.diffusion import NoiseSchedule, spectrogram_unet

FLOWS = ("color", "vectors")
"""Optical flow drawn as colour, for the encoder that reads the pictures; or as motion vectors."""


@dataclass(frozen=True)
class VtaLdmConfig(LatentPicture):
    """All of VTA-LDM but its autoencoder, vocoder and encoders, which have their own configuration.

    Attributes:
        picture: name of the mel picture, see :data:`~v2a_nb.audio.stft_image.STFT_IMAGES`.
        latent_channels: C of the latents.
        factor: pixels, in each direction, of one latent.
        widths: channels of the UNet at each size.
        layers: residual blocks at each size.
        heads: attention heads at each size (diffusers calls them ``attention_head_dim``).
        groups: of the group norms.
        context_width: numbers in a context token.
        vision: the pictures are read; False is the paper's "Text-only".
        video_dim, video_rate: numbers in a frame vector, and vectors a second.
        video_tokens, token_s: tokens of a window, and seconds of each.
        stack: vectors that make one token, spread evenly over its time; the paper has one frame for each.
        flow: one of :data:`FLOWS` beside the pictures; None is without.
        position: sinusoidal positions are added to the frame vectors (the paper's PE).
        text: a text is read beside the pictures.
        text_dim: numbers in its vector.
        text_tokens: how often its token stands in the context; the released code repeats it for each frame.
        shared_projection: text goes through the projection of the frame vectors, as released.
        time_bias: cross-attention starts with a preference for the token of its own time. Not in the paper.
        free_heads: heads that start with a preference for the text's tokens instead, where there are some.
        row_values: numbers of a video token that each row of the picture reads in its own way
            (:class:`~v2a_nb.models.attention.RowValues`); the paper has 0.
        context, overlap, align: latent columns of a window, of the cross-fade between windows, and between
            possible starts.
        prediction, sampler, spacing, sampler_steps, snr_gamma, snr_form: see
            :class:`~v2a_nb.sampling.diffusion.NoiseSchedule`.
        guidance: 1 is none.
        guidance_interval: see :func:`~v2a_nb.sampling.diffusion.sample_long`.
        clamp_mel: values outside of the mel's range are cut before the vocoder.
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
    vision: bool = True
    video_dim: int = 384
    video_rate: float = 50.0
    video_tokens: int = 48
    token_s: float = 0.064
    stack: int = 4
    flow: str | None = None
    position: bool = False
    text: bool = True
    text_dim: int = 64
    text_tokens: int = 1
    shared_projection: bool = False
    time_bias: bool = True
    free_heads: int = 1
    row_values: int = 64
    context: int = 24
    overlap: int = 8
    align: int = 4
    prediction: str = "v_prediction"
    sampler: str = "dpm++"
    spacing: str = "trailing"
    sampler_steps: int = 25
    snr_gamma: float | None = 5.0
    snr_form: str = "prediction"
    guidance: float = 3.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    clamp_mel: bool = True
    fps: float | None = None
    linear: bool = True

    def __post_init__(self) -> None:
        for name in ("widths", "heads", "guidance_interval"):  # JSON knows lists only
            object.__setattr__(self, name, tuple(getattr(self, name)))
        self.check_picture()
        if self.flow is not None and self.flow not in FLOWS:
            raise UsageError(f"flow must be one of {', '.join(FLOWS)}, or none, not {self.flow!r}")
        if not (self.timed or self.text):
            raise UsageError("nothing is read: vision, flow or text must be there")
        if self.time_bias and not self.timed:
            raise UsageError("a text has no time: without pictures there can be no time bias")
        if self.shared_projection and self.text and (self.text_dim, self.stack) != (self.video_dim, 1):
            raise UsageError(f"a text of {self.text_dim} numbers cannot share the projection of the frame vectors")
        self.check_windows()
        _ = self.schedule

    @property
    def timed(self) -> bool:
        """Whether there are tokens with a time: pictures or flow."""
        return self.vision or self.flow is not None

    @property
    def flow_dim(self) -> int:
        """Numbers in a vector of flow."""
        return 3 * CELLS * CELLS if self.flow == "vectors" else self.video_dim

    @property
    def schedule(self) -> NoiseSchedule:
        """Stable Diffusion's schedule under v-prediction, with this sampler."""
        return NoiseSchedule(
            prediction=self.prediction, spacing=self.spacing, sampler=self.sampler, steps=self.sampler_steps,
            snr_gamma=self.snr_gamma, snr_form=self.snr_form,
        )  # fmt: skip


PRESETS = {
    # the cheapest sampler whose scores are those of 25 steps, all guided (``benchmarks/samplers.py``)
    "tiny": VtaLdmConfig(sampler_steps=12, guidance_interval=(0.2, 1.0)),
    # CLIP ViT-L/14 at 10 frames a second on Action2Sound's mels, for one GPU of 16 GB
    "small": VtaLdmConfig(
        widths=(128, 256, 384), layers=2, heads=(4, 8, 8), groups=32, context_width=512, video_dim=768,
        video_rate=10.0, video_tokens=40, token_s=0.2048, stack=2, text_dim=768, row_values=128, context=64, overlap=16,
    ),
    # the released ``configs/diffusion_model_config_large_2048.json`` on AudioLDM's autoencoder (section 5.1): CLIP
    # ViT-L/14 at 2 frames a second, 300 steps of DDPM, guidance 3
    "paper": VtaLdmConfig(
        picture="vta_ldm-paper", latent_channels=8, factor=4, widths=(320, 640, 640, 1280), layers=2,
        heads=(5, 10, 20, 20), groups=32, context_width=2048, video_dim=768, video_rate=2.0, video_tokens=21,
        token_s=0.5, stack=1, text=False, text_dim=768, text_tokens=21, shared_projection=True, time_bias=False,
        free_heads=0, row_values=0, context=256, overlap=64, align=8, sampler="ddpm", spacing="leading",
        sampler_steps=300, clamp_mel=False,
    ),
}  # fmt: skip


def for_encoder(c: VtaLdmConfig, dim: int, rate: float) -> VtaLdmConfig:
    """The configuration for frame vectors of another encoder.

    An encoder that gives fewer vectors a second than there are tokens gets fewer tokens, one for each vector.

    Args:
        dim, rate: of the encoder.

    Examples:
        >>> slow = for_encoder(PRESETS["tiny"], 768, 5.0)
        >>> slow.video_tokens, round(slow.token_s, 3), slow.stack
        (15, 0.205, 1)
    """
    if (dim, rate) == (c.video_dim, c.video_rate):
        return c
    count = min(c.video_tokens, max(2, round(c.window_s * rate)))
    token_s = c.token_s if count == c.video_tokens else c.window_s / count
    stack = max(1, math.ceil(token_s * rate - 0.1))
    return replace(c, video_dim=dim, video_rate=float(rate), video_tokens=count, token_s=token_s, stack=stack)


AUTOENCODER_OF = {
    "action2sound": AUTOENCODERS["tiny"],
    "action2sound-paper": AUTOENCODERS["paper"],
    "vta_ldm-paper": AUTOENCODERS["paper-audioldm"],
}
"""The autoencoder that belongs to a picture."""


def make_unet(c: VtaLdmConfig, lean: bool = False) -> nn.Module:
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
            unet, c.rows, c.column_s, c.token_s, width_s=max(c.token_s, c.column_s / 4) / 2,
            timed=c.video_tokens if c.text else None, free=c.free_heads if c.text else 0, row_values=c.row_values,
        )  # fmt: skip
    return unet


class ConditionTokens(nn.Module):
    """Frame vectors, flow and text to the UNet's tokens: one linear map for each (section 3.2, "projection layer").

    Pictures and flow of one time make one token, the sum of their projections; the text has tokens of its own, behind
    them. What is not given is zeros: it adds nothing, and where nothing is given the token is the paper's zero
    embedding (section 3.3).

    Args:
        c: sizes.

    Examples:
        >>> tokens = ConditionTokens(PRESETS["tiny"])
        >>> tokens(torch.zeros(2, 154, 384), text=torch.zeros(2, 64)).shape
        torch.Size([2, 49, 128])
    """

    def __init__(self, c: VtaLdmConfig) -> None:
        super().__init__()
        self.config = c
        self.video = nn.Linear(c.stack * c.video_dim, c.context_width) if c.vision else None
        self.flow = nn.Linear(c.stack * c.flow_dim, c.context_width) if c.flow else None
        alone = c.text and not (c.shared_projection and c.vision)
        self.text = nn.Linear(c.text_dim, c.context_width) if alone else None

    def forward(
        self,
        vectors: Tensor | None = None,
        flow: Tensor | None = None,
        text: Tensor | None = None,
        start_s: float | Tensor = 0.0,
        given: dict[str, Tensor] | None = None,
    ) -> Tensor:
        """Tokens [B, K, width] of the window that begins at ``start_s``.

        Args:
            vectors: frame vectors [B, T, video_dim] of the whole clip.
            flow: vectors of its flow [B, T, flow_dim].
            text: [B, text_dim].
            start_s: seconds, one for all or [B].
            given: bool [B] each, for ``"video"`` and ``"text"``: which items have it; left out, all.
        """
        c, given = self.config, given or {}
        tokens = []
        if c.timed:
            timed = None
            for values, project in ((vectors, self.video), (flow, self.flow)):
                if project is not None:
                    part = project(self._picked(values, start_s))
                    timed = part if timed is None else timed + part
            tokens.append(self._kept(timed, given.get("video")))
        if c.text:
            part = (self.text or self.video)(text)[:, None].expand(-1, c.text_tokens, -1)
            tokens.append(self._kept(part, given.get("text")))
        return torch.cat(tokens, dim=1)

    def _picked(self, values: Tensor, start_s: float | Tensor) -> Tensor:
        """[B, video_tokens, stack * dim], with positions where the configuration has them."""
        c = self.config
        picked = vectors_of_tokens(
            values.float(), start_s, rate=c.video_rate, token_s=c.token_s, count=c.video_tokens, stack=c.stack
        ).unflatten(1, (c.video_tokens, c.stack))  # fmt: skip
        if c.position:
            picked = picked + sinusoids(c.video_tokens, picked.shape[-1]).to(picked)[:, None]
        return picked.flatten(2)

    @staticmethod
    def _kept(tokens: Tensor, given: Tensor | None) -> Tensor:
        return tokens if given is None else tokens.masked_fill(~given[:, None, None], 0.0)


def sinusoids(count: int, width: int) -> Tensor:
    """Sinusoidal positions [count, width] (Vaswani et al. 2017): sines at even places, cosines at odd ones.

    Examples:
        >>> sinusoids(3, 4)[0].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    angle = torch.arange(count)[:, None] * torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    table = torch.zeros(count, width)
    table[:, 0::2] = torch.sin(angle)
    table[:, 1::2] = torch.cos(angle)[:, : width // 2]
    return table


def attended(c: VtaLdmConfig, start_s: Tensor, seconds: Tensor) -> Tensor:
    """Which tokens are attended to, bool [B, K]: those of the text, and of the video until it ends.

    Training and sampling use this one mask. The first token of a window is always there. Where the text stands once
    for each frame, it ends with the frames, as in the released code.

    Args:
        start_s: of the windows, [B].
        seconds: length of the videos, [B].
    """
    begins = start_s[:, None] + torch.arange(c.video_tokens, device=start_s.device) * c.token_s
    video = begins < seconds[:, None] - 1e-6
    video[:, 0] = True
    parts = [video] if c.timed else []
    if c.text:
        repeated = c.timed and c.text_tokens == c.video_tokens
        parts.append(video if repeated else video.new_ones(len(video), c.text_tokens))
    return torch.cat(parts, dim=1)
