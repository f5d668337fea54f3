"""The classifiers of VAAS, which compare a picture of frame vectors with a spectrogram (EgoSonics, supplement H).

Two presets:

- ``paper`` (:class:`PaperVaas`): a frozen ViT-B/32 reads both pictures at 224 by 224; its two vectors are concatenated,
  1536 channels, and five linear layers make one score of them. Rates, widths and the range of shifts are missing from
  the text that we have; those here are ours.
- ``tiny`` (:class:`TinyVaas`): departs from the paper's form, which cannot be learned in minutes. A ViT that was not
  pre-trained needs far more pairs than a small world has, and one vector for a whole *picture* has lost *when* things
  happen. So time stays an axis. Each picture passes a thin stem of its own (their columns have different heights) and
  then the same convolutions over time. The two results are compared by their correlation at every lag within a third of
  a second and by their difference column by column, and the five linear layers read that comparison.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio.onsets import BANDS, HOP, SAMPLE_RATE, log_mel
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError

SHORTEST_S = 1.0
"""A shorter clip is refused: hits are about a second apart, so that it may have none."""


@dataclass(frozen=True)
class VaasConfig:
    """Sizes of a classifier.

    Attributes:
        preset: ``"tiny"`` or ``"paper"``.
        seconds: of a window; longer clips are scored window by window.
        vector_dim: channels of a frame vector.
        vector_rate: frame vectors per second.
        width: channels of the shared encoder (``tiny``).
        embed: channels that are compared (``tiny``).
        groups: of channels, each of which has a correlation at each lag (``tiny``).
        lags: columns of 20 ms by which the sound may be early or late in a correlation (``tiny``).
        layers: outputs of the first four linear layers; the fifth has one.
        vit: Hub id of the encoder (``paper``).
    """

    preset: str = "tiny"
    seconds: float = 2.56
    vector_dim: int = 384
    vector_rate: float = 50.0
    width: int = 96
    embed: int = 64
    groups: int = 8
    lags: int = 16
    layers: tuple[int, ...] = (256, 128, 64, 32)
    vit: str = "openai/clip-vit-base-patch32"

    def check(self) -> None:
        """Raise :class:`UsageError` for sizes that fit no classifier."""
        if self.preset not in ("tiny", "paper"):
            raise UsageError(f"unknown preset {self.preset!r} of VAAS; known are tiny, paper")
        if len(self.layers) != 4:
            raise UsageError(f"VAAS has five linear layers: give four widths, not {len(self.layers)}")
        if self.embed % self.groups:
            raise UsageError(f"{self.embed} channels cannot be put into {self.groups} equal groups")
        if self.seconds < SHORTEST_S or self.vector_rate <= 0 or self.vector_dim < 1:
            raise UsageError(
                f"windows of {self.seconds} s with {self.vector_rate} vectors a second of {self.vector_dim} channels "
                f"are impossible; a window lasts at least {SHORTEST_S} s"
            )


PRESETS = {
    "tiny": VaasConfig(),
    "paper": VaasConfig("paper", 10.0, 768, 30.0, layers=(1024, 512, 256, 64)),
}


def five_layers(inputs: int, widths: Sequence[int]) -> nn.Sequential:
    """Five linear layers, each followed by a ReLU (supplement H).

    The last bias starts at one half: a ReLU whose input is below zero for every pair gets no gradient and would stay
    at zero.
    """
    layers: list[nn.Module] = []
    for width in (*widths, 1):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    nn.init.constant_(layers[-2].bias, 0.5)
    return nn.Sequential(*layers)


class _Judge(nn.Module):
    """Base of both presets: the head, and the loss."""

    head: nn.Sequential
    config: VaasConfig

    def compared(self, vectors: Tensor, audio: Tensor) -> Tensor:
        """The comparison that the five layers read, [B, features]; the presets define it."""
        raise UsageError("a classifier is TinyVaas or PaperVaas")

    def before_relu(self, vectors: Tensor, audio: Tensor) -> Tensor:
        """The last linear layer's output, [B]."""
        return self.head[:-1](self.compared(vectors, audio))[:, 0]

    def forward(self, vectors: Tensor, audio: Tensor) -> Tensor:
        """Score each pair.

        Args:
            vectors: frame vectors [B, T, D] at ``config.vector_rate``.
            audio: spectrograms from :meth:`listen` of equally long sounds, [B, F, columns].

        Returns:
            [B], at least 0; about 1 where they belong together.
        """
        return self.head[-1](self.before_relu(vectors, audio))

    def loss(self, vectors: Tensor, audio: Tensor, label: Tensor) -> Tensor:
        """Squared error of the scores to labels [B] of 0 and 1 (supplement H).

        A matched pair whose score the last ReLU sets to 0 would get no gradient, so the loss reads its value before
        that ReLU.
        """
        value = self.before_relu(vectors, audio)
        return (torch.where(label > 0.5, value, value.relu()) - label).square().mean()


class TinyVaas(_Judge):
    """Scores [B] of frame vectors [B, T, D] at 50 Hz with log-mels [B, 40, 4 T]; see the top of the file."""

    def __init__(self, config: VaasConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PRESETS["tiny"]
        c.check()
        # four columns of 5 ms make one of 20 ms, so that both pictures have columns of the same length
        self.see = nn.Sequential(nn.BatchNorm1d(c.vector_dim), nn.Conv1d(c.vector_dim, c.width, 3, padding=1))
        self.hear = nn.Sequential(nn.BatchNorm1d(8 * BANDS), nn.Conv1d(8 * BANDS, c.width, 3, padding=1))
        self.shared = nn.Sequential(*(_Residual(c.width, d) for d in (1, 2, 4)))
        self.embed = nn.Conv1d(c.width, c.embed, 1)
        features = c.groups * (2 * c.lags + 1) + 2 * c.groups + 4 * c.embed
        self.norm = nn.BatchNorm1d(features)
        self.head = five_layers(features, c.layers)

    @property
    def sample_rate(self) -> int:
        """Hz that :meth:`listen` works at."""
        return SAMPLE_RATE

    @property
    def audio_rate(self) -> float:
        """Columns of :meth:`listen` per second."""
        return SAMPLE_RATE / HOP

    def listen(self, sound: Sound) -> Tensor:
        """Log-mel of a sound, [40, n // 80], 5 ms a column."""
        wave = sound.mono().resample(SAMPLE_RATE).samples[0]
        return torch.from_numpy(log_mel(wave)[:, : len(wave) // HOP].astype(np.float32))

    def _columns(self, audio: Tensor, count: int) -> Tensor:
        """Log-mel [B, 40, 4 T] and its rise over 10 ms, four columns in one: [B, 320, T]."""
        audio = audio[..., : 4 * count]
        audio = F.pad(audio, (0, 4 * count - audio.shape[-1]), mode="replicate")
        rise = (audio - F.pad(audio, (2, 0), mode="replicate")[..., :-2]).clamp(min=0)
        both = torch.cat([(audio + 6) / 4, rise], dim=1)  # [B, 80, 4 T]
        b, m, _ = both.shape
        return both.view(b, m, count, 4).transpose(2, 3).reshape(b, 4 * m, count)

    def encode(self, vectors: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
        """Video and sound after the shared encoder, [B, E, T] each."""
        video = self.embed(self.shared(self.see(vectors.transpose(1, 2))))
        sound = self.embed(self.shared(self.hear(self._columns(audio, vectors.shape[1]))))
        return video, sound

    def compared(self, vectors: Tensor, audio: Tensor) -> Tensor:
        """Correlations at every lag, differences, and means and maxima of each side: [B, features]."""
        c = self.config
        video, sound = self.encode(vectors, audio)
        b, _, t = video.shape
        by_group = (b, c.groups, -1, t)
        v = (video - video.mean(-1, keepdim=True)).view(by_group)
        a = (sound - sound.mean(-1, keepdim=True)).view(by_group)
        size = (v.square().sum((2, 3)) * a.square().sum((2, 3)) + 1e-4).sqrt()  # [B, G]
        around = F.pad(a, (c.lags, c.lags)).unfold(-1, t, 1)  # [B, G, C, 2 lags + 1, T]
        lagged = torch.einsum("bgct,bgclt->bgl", v, around) / size[..., None]
        apart = (video - sound).view(by_group).square().mean(2)  # [B, G, T]
        sides = [video.mean(-1), video.amax(-1), sound.mean(-1), sound.amax(-1)]
        return self.norm(torch.cat([lagged.flatten(1), apart.mean(-1), apart.amax(-1), *sides], dim=1))


class _Residual(nn.Module):
    """A dilated convolution over time with a skip connection, [B, C, T] to [B, C, T], for both pictures."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        # not over the batch: columns of video and of sound have different statistics and share these weights
        self.norm = nn.GroupNorm(1, width)
        self.conv = nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation)
        self.mix = nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mix(F.gelu(self.conv(self.norm(x))))


class PaperVaas(_Judge):
    """The paper's form: one ViT-B/32 for both pictures, then five linear layers (supplement H).

    Only the linear layers are trained ("The linear layers were trained using MSE loss").
    """

    def __init__(self, config: VaasConfig | None = None, vit: nn.Module | None = None) -> None:
        """Build it.

        Args:
            config: sizes; left out, those of the paper.
            vit: a ``transformers.CLIPVisionModel``; left out, one with the sizes of ViT-B/32 and random
                weights. It is frozen.
        """
        super().__init__()
        self.config = c = config or PRESETS["paper"]
        c.check()
        if vit is None:
            from transformers import CLIPVisionConfig, CLIPVisionModel

            vit = CLIPVisionModel(CLIPVisionConfig())  # its defaults are ViT-B/32 at 224
        self.vit = vit.eval().requires_grad_(False)
        self.head = five_layers(2 * vit.config.hidden_size, c.layers)
        from v2a_nb.audio.spectrogram import Spectrogram

        self.front = Spectrogram("egosonics")

    def train(self, mode: bool = True) -> PaperVaas:
        """The frozen encoder stays in evaluation mode."""
        super().train(mode)
        self.vit.eval()
        return self

    @property
    def sample_rate(self) -> int:
        """Hz that :meth:`listen` works at."""
        return self.front.front_end.sample_rate

    @property
    def audio_rate(self) -> float:
        """Columns of :meth:`listen` per second."""
        return self.sample_rate / self.front.front_end.hop

    def listen(self, sound: Sound) -> Tensor:
        """STFT image of a sound, in [0, 1], [1025, T], low frequencies first."""
        return self.front(sound)[0]

    def picture(self, image: Tensor) -> Tensor:
        """Any [B, rows, columns] as pictures for the ViT, [B, 3, 224, 224].

        They are resized bicubically (supplement C), scaled to 0 to 1 each, and normalised with CLIP's mean and
        deviation.
        """
        side = self.vit.config.image_size
        image = F.interpolate(image[:, None], (side, side), mode="bicubic", antialias=True, align_corners=False)
        low, high = image.amin((2, 3), keepdim=True), image.amax((2, 3), keepdim=True)
        image = (image - low) / (high - low).clamp(min=1e-6)
        mean = image.new_tensor([0.48145466, 0.4578275, 0.40821073])[:, None, None]
        deviation = image.new_tensor([0.26862954, 0.26130258, 0.27577711])[:, None, None]
        return (image - mean) / deviation

    def compared(self, vectors: Tensor, audio: Tensor) -> Tensor:
        """The ViT's vectors of both pictures, concatenated: [B, 2 * 768]."""
        pictures = vectors.transpose(1, 2), audio.flip(1)
        return torch.cat([self.vit(pixel_values=self.picture(p)).pooler_output for p in pictures], dim=1)

    @classmethod
    def from_pretrained(cls, vit: str | None = None, config: VaasConfig | None = None) -> PaperVaas:
        """With the published ViT; the linear layers still have to be trained.

        Args:
            vit: a Hub id or folder; left out, that of ``config``.
            config: left out, the paper's.

        Raises:
            WeightsError: the encoder cannot be loaded.
        """
        from transformers import CLIPVisionModel

        config = config or PRESETS["paper"]
        name = str(vit or config.vit)
        try:
            loaded, info = CLIPVisionModel.from_pretrained(name, use_safetensors=True, output_loading_info=True)
        except Exception as error:  # transformers and the Hub's client raise many kinds
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise WeightsError(f"the ViT of VAAS, {name}, cannot be loaded: {reason}") from error
        # transformers would put random numbers where the file has none
        if info["missing_keys"]:
            raise WeightsError(f"{name} lacks {len(info['missing_keys'])} tensors of a CLIP vision model")
        return cls(config, loaded)


def build(config: VaasConfig) -> TinyVaas | PaperVaas:
    """An untrained classifier of these sizes."""
    config.check()
    return TinyVaas(config) if config.preset == "tiny" else PaperVaas(config)
