"""The audio-visual embedding of Action2Sound, AV-Sim (section 3.5): a video and an audio encoder of one space.

They are trained with InfoNCE. Pool and retrieval are built on it (:mod:`v2a_nb.data.pool`), the diffusion model takes
the video encoder's vectors per frame, and AV-Sync starts from both encoders.

- ``paper``: divided space-time ViT (ViT-B/16, 16 frames) and AST-B on the middle 1.5 s, each projected to 256 channels.
- ``tiny``: a small transformer over the vectors of the frozen
  :class:`~v2a_nb.models.video_encoders.strike.StrikeVision`, and a small AST; both read windows of 2.56 s.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, tag_of
from v2a_nb.models import audio_spectrogram_transformer as ast
from v2a_nb.models.video_encoders.clip_transformer import ClipTransformer, ClipTransformerConfig
from v2a_nb.models.video_encoders.divided_space_time import DividedSpaceTimeConfig, DividedSpaceTimeViT, windows_of
from v2a_nb.models.video_encoders.strike import StrikeVision


@dataclass(frozen=True)
class AudioVisualEmbeddingConfig:
    """Sizes of :class:`AudioVisualEmbedding`.

    Attributes:
        preset: ``"tiny"`` or ``"paper"``.
        dim: channels of a vector that is compared.
        temperature: tau of InfoNCE, or where it starts; the paper does not give its own.
        learn_temperature: train it too, as CLIP does; it stays at :data:`LEAST_TEMPERATURE` or more.
        video, audio: of the encoders.
    """

    preset: str = "tiny"
    dim: int = 256
    temperature: float = 0.07
    learn_temperature: bool = True
    video: ClipTransformerConfig | DividedSpaceTimeConfig = field(default_factory=ClipTransformerConfig)
    audio: ast.AudioSpectrogramTransformerConfig = field(default_factory=lambda: ast.PRESETS["tiny"])

    def check(self) -> None:
        """Raise :class:`UsageError` for settings that fit no model."""
        if not LEAST_TEMPERATURE <= self.temperature <= 1:
            raise UsageError(f"a temperature of {self.temperature} lies outside of {LEAST_TEMPERATURE} to 1")
        if self.dim < 2:
            raise UsageError(f"{self.dim} channels cannot tell sounds apart")


LEAST_TEMPERATURE = 0.01
PRESETS = {
    "tiny": AudioVisualEmbeddingConfig(),
    "paper": AudioVisualEmbeddingConfig("paper", video=DividedSpaceTimeConfig(), audio=ast.PRESETS["paper"]),
}


def info_nce(
    audio: Tensor, video: Tensor, temperature: Tensor | float, *, both: bool = True, groups: Tensor | None = None
) -> Tensor:
    """The paper's AV-Sim objective: each sound must find its video among those of the batch.

    Args:
        audio, video: unit vectors [B, D]; row i of both belongs to one clip.
        temperature: tau.
        both: also ask each video to find its sound, as CLIP does, and take the mean; the paper asks sounds alone.
        groups: int [B], the recording of each clip: others of the same one do not count as wrong. Left out, they do.

    Returns:
        the loss in nats; chance is log B.
    """
    logits = audio @ video.T / temperature  # [sounds, videos]
    if groups is not None:
        same = (groups[:, None] == groups[None]) & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
        logits = logits.masked_fill(same, -torch.inf)
    right = torch.arange(len(logits), device=logits.device)
    loss = F.cross_entropy(logits, right)
    return (loss + F.cross_entropy(logits.T, right)) / 2 if both else loss


class AudioVisualEmbedding(Pretrained, nn.Module):
    """Two encoders, two projections and a temperature.

    Args:
        config: sizes; left out, ``tiny``.
        frame_encoder: the frozen encoder whose vectors ``tiny`` reads; left out, give vectors instead of clips. It is
            no submodule: it is not trained, its weights lie in a folder of their own, and the configuration names it.
        lean: see :class:`~v2a_nb.models.audio_spectrogram_transformer.AudioSpectrogramTransformer`.

    Raises:
        UsageError: settings that fit no model.
        WeightsError: another frame encoder than the configuration names.

    Examples:
        >>> model = AudioVisualEmbedding.from_pretrained("av_sim")
        >>> -1 <= model.similarity(clip, sound) <= 1
        True
    """

    kind, title, default = "av-sim", "audio-visual encoders", "av_sim"
    config_class, optional_parts = AudioVisualEmbeddingConfig, ("vision",)

    def __init__(
        self,
        config: AudioVisualEmbeddingConfig | None = None,
        frame_encoder: StrikeVision | None = None,
        *,
        lean: bool = False,
    ) -> None:
        super().__init__()
        self.config = c = config or PRESETS["tiny"]
        c.check()
        object.__setattr__(self, "frame_encoder", _checked(frame_encoder, c.video))
        self.video = (
            ClipTransformer(c.video) if isinstance(c.video, ClipTransformerConfig) else DividedSpaceTimeViT(c.video)
        )
        self.audio = ast.AudioSpectrogramTransformer(c.audio, lean=lean)
        # as in the released code: a linear layer behind CLS, and AST's own head
        self.vid_proj = nn.Linear(c.video.dim, c.dim)
        self.aud_proj = nn.Sequential(nn.LayerNorm(c.audio.dim), nn.Linear(c.audio.dim, c.dim))
        start = torch.tensor(math.log(1 / c.temperature))
        if c.learn_temperature:
            self.log_scale = nn.Parameter(start)
        else:
            self.register_buffer("log_scale", start)

    @property
    def temperature(self) -> Tensor:
        """tau, at least 0.01."""
        return (-self.log_scale).exp().clamp(min=LEAST_TEMPERATURE)

    @property
    def dim(self) -> int:
        """Channels of a vector that is compared."""
        return self.config.dim

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return self.vid_proj.weight.device

    def windows(self, clip: Clip) -> tuple[Tensor, ...]:
        """What :meth:`see` reads of a clip, window by window, [W, ...] each.

        In ``tiny`` these are frame vectors and scene thumbnails, in ``paper`` frames. The clip's own sound is not used.

        Raises:
            UsageError: ``tiny`` without its frame encoder.
        """
        if isinstance(self.video, DividedSpaceTimeViT):
            return (self.video.pixels(clip),)
        encoder = self.frame_encoder
        return self.video.windows(clip, None if encoder is None else encoder.to(self.device))

    @property
    def size(self) -> int:
        """Pixels of a side that clips are read at."""
        return self.config.video.size if isinstance(self.video, DividedSpaceTimeViT) else self.frame_encoder.config.size

    def see(self, *windows: Tensor) -> Tensor:
        """Unit vectors [B, 256] of windows of pictures, which :meth:`windows` gives."""
        return F.normalize(self.vid_proj(self.video(*windows)).float(), dim=-1)

    def hear(self, bank: Tensor) -> Tensor:
        """Unit vectors [B, 256] of filter banks [B, T, bands] of windows of sound."""
        return F.normalize(self.aud_proj(self.audio(bank)).float(), dim=-1)

    @torch.no_grad()
    def look(self, clip: Clip) -> np.ndarray:
        """A clip's pictures as a unit vector float32 [256], the mean over its windows; see :meth:`windows`."""
        windows = self.see(*self.windows(clip))
        return F.normalize(windows.mean(0), dim=0).cpu().numpy()

    @torch.no_grad()
    def listen(self, sound: Sound) -> np.ndarray:
        """A sound as a unit vector float32 [256], the mean over windows as long as the video's.

        Raises:
            UsageError: under 25 ms.
        """
        windows = windows_of(sound.duration, self.config.video.seconds)
        parts = [sound.slice(*w) for w in windows] if len(windows) > 1 else [sound]
        vectors = self.hear(torch.cat([self.audio.listen(part) for part in parts]))
        return F.normalize(vectors.mean(0), dim=0).cpu().numpy()

    @torch.no_grad()
    def per_frame(self, clip: Clip) -> Tensor:
        """One vector for every 1 / fps of a clip, [T, dim]: what the diffusion model is conditioned on (section 3.6).

        Windows follow each other; of the last one, which ends where the clip ends, only what the others have not.
        """
        frames = self.video.per_frame(*self.windows(clip))  # [W, T of a window, dim]
        video = self.config.video
        starts = torch.tensor([start for start, _ in windows_of(clip.duration, video.seconds)])
        times = torch.arange(max(1, math.ceil(clip.duration * video.fps - 1e-6))) / video.fps
        window = (times / video.seconds + 1e-6).long().clamp(max=len(starts) - 1)
        place = ((times - starts[window]) * video.fps + 1e-4).long().clamp(max=frames.shape[1] - 1)
        return frames[window, place]

    def similarity(self, clip: Clip, sound: Sound) -> float:
        """Cosine between the vectors of a clip's pictures and of a sound, -1 to 1."""
        return float(self.look(clip) @ self.listen(sound))

    def _parts(self) -> dict[str, Pretrained | None]:
        return {"vision": self.frame_encoder}

    @classmethod
    def _build(cls, config: AudioVisualEmbeddingConfig, **parts: Any) -> AudioVisualEmbedding:
        return cls(config, **parts, lean=True)

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        return {"frame_encoder": StrikeVision.from_pretrained(where["vision"]) if "vision" in where else None}


def _checked(
    encoder: StrikeVision | None, video: ClipTransformerConfig | DividedSpaceTimeConfig
) -> StrikeVision | None:
    """The frame encoder, frozen, if it is the one that the configuration names."""
    if encoder is None or not isinstance(video, ClipTransformerConfig):
        return None
    has = tag_of(encoder, "vision")
    if video.encoder not in ("", has):
        raise WeightsError(f"these encoders read vectors of {video.encoder}, and the frame encoder is {has}")
    return encoder.eval().requires_grad_(False)
