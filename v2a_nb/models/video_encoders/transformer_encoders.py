"""Video transformers of ``transformers`` behind the encoders' interface: V-JEPA 2, ViViT, VideoMAE, TimeSformer, PE-AV.

They read a window of frames at once and give a token for each patch of each step of time. The mean over the patches of
a step is the token that is handed on: a step is a tubelet of two frames, or one frame. A long clip is read window by
window, so that memory does not grow with it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, config_from_json, load_weights, reason
from v2a_nb.models.video_encoders.frames import visible_at
from v2a_nb.models.video_encoders.preprocessing import HALF, IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from v2a_nb.models.video_encoders.video_encoder import EncodesFrames, new_in_windows, token_count


@dataclass(frozen=True)
class TransformerEncoderConfig:
    """Settings of :class:`TransformerEncoder` that its network does not have.

    Attributes:
        rate: tokens a second; frames are read at ``rate`` times the frames of a token.
        preprocessing: what is done with a frame first.
    """

    rate: float
    preprocessing: Preprocessing

    def check(self) -> None:
        """Raise :class:`UsageError` for settings that fit no encoder."""
        if not self.rate > 0:
            raise UsageError(f"{self.rate} tokens a second are impossible")
        self.preprocessing.check()


class TransformerEncoder(EncodesFrames, Pretrained, nn.Module):
    """A video transformer, frozen: windows of frames to one token for each step of time.

    Frame k of the ``rate * frames_per_token`` a second is the one that is visible in the middle of its time, so that a
    token lies in the middle of its frames. The last window ends where the clip ends and repeats what the one before it
    has read. A clip that is shorter than a window is filled with its last frame, standing still, and the tokens of
    what was filled are left out.

    Args:
        model: a network of ``transformers``, such as a ``VivitModel``.
        config: left out, what was published.

    Attributes:
        model_types: ``"model_type"`` of published configurations that this class reads.
        published: the settings of the published checkpoint.
        any_length: the network takes any number of frames, so that nothing is ever filled.

    Raises:
        UsageError: a network whose window is no whole number of tokens, or settings that fit no encoder.
    """

    config_class = TransformerEncoderConfig
    model: Any  # a class of transformers, which makes its attributes as it runs
    published: ClassVar[TransformerEncoderConfig]
    any_length: ClassVar[bool] = False

    def __init__(self, model: nn.Module, config: TransformerEncoderConfig | None = None) -> None:
        super().__init__()
        self.model = model.eval().requires_grad_(False)
        self.config = config or self.published
        self.config.check()
        size = getattr(self.model.config, "image_size", getattr(self.model.config, "crop_size", None))
        if size not in (None, self.config.preprocessing.crop):
            raise UsageError(f"pictures of {self.config.preprocessing.crop} pixels, where the network reads {size}")
        if self.window < 1 or self.window % self.frames_per_token:
            raise UsageError(f"{self.window} frames cannot be cut into tokens of {self.frames_per_token}")

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation mode, whatever what holds the encoder does: it is frozen."""
        return super().train(False)

    # --- what each network says of itself ----------------------------------------------------------------

    @classmethod
    def _classes(cls) -> tuple[Any, Any, dict[str, Any]]:
        """The classes of configuration and network in ``transformers``, and what the network takes besides."""
        raise UsageError(f"{cls.__name__} has no network")

    @property
    def dim(self) -> int:
        """Channels of a token."""
        return self.model.config.hidden_size

    @property
    def rate(self) -> float:
        """Tokens a second."""
        return self.config.rate

    @property
    def window(self) -> int:
        """Most frames that are read at once."""
        return self.model.config.num_frames

    @property
    def frames_per_token(self) -> int:
        """Frames of a step of time."""
        return 1

    def _patches(self, pixels: Tensor) -> Tensor:
        """Tokens [steps, patches, dim] of a window [1, frames, 3, size, size]."""
        raise UsageError(f"{type(self).__name__} has no network")

    def _steps(self, patches: Tensor, frames: int) -> Tensor:
        """The tokens [1, steps * patches, dim] of a window, step by step: [steps, patches, dim]."""
        return patches[0].unflatten(0, (frames // self.frames_per_token, -1))

    def set_rate(self, rate: float) -> None:
        """Read and give so many tokens a second; the network was trained at the published rate.

        Raises:
            UsageError: an impossible rate.
        """
        config = replace(self.config, rate=float(rate))
        config.check()
        self.config = config

    # --- clips -------------------------------------------------------------------------------------------

    @torch.no_grad()
    def features(self, clip: Clip) -> Tensor:
        """Tokens float32 [ceil(rate * duration), dim] of a clip of any size, frame rate and length."""
        return torch.cat([self._patches(p)[new].mean(1).float() for p, new in self._windows(clip)])

    def _windows(self, clip: Clip) -> Iterator[tuple[Tensor, slice]]:
        """Windows [1, frames, 3, size, size] of a clip, and which steps of each are new."""
        each, weight = self.frames_per_token, next(self.model.parameters())
        count, size = token_count(clip.duration, self.rate), self.window // each
        for start, new in new_in_windows(count, size):
            steps = min(size, count) if self.any_length else size
            times = (start * each + np.arange(steps * each) + 0.5) / (self.rate * each)
            pixels = self.config.preprocessing.pixels(visible_at(clip, times))
            yield pixels[None].to(weight), new

    # --- saving and loading ------------------------------------------------------------------------------

    def _network(self) -> nn.Module:
        return self.model

    def _told(self) -> dict[str, Any]:
        return {"model": json.loads(json.dumps(self.model.config.to_dict(), default=str))}

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> Self:
        if "kind" not in saved:
            published = replace(cls.published, preprocessing=cls.published.preprocessing.of_folder(path))
            return cls(cls._published_network(path), published)
        model = cls.network(saved["model"])
        load_weights(model, path)
        return cls(model, config_from_json(TransformerEncoderConfig, saved))

    @classmethod
    def network(cls, config: dict[str, Any]) -> nn.Module:
        """A network with random weights; ``config`` is in the layout of the published ``config.json``."""
        config_class, model_class, how = cls._classes()
        return model_class(config_class.from_dict(config), **how)

    @classmethod
    def _published_network(cls, path: Path) -> nn.Module:
        """The network of a folder in the layout of ``transformers``."""
        _, model_class, how = cls._classes()
        return load_published(model_class, path, **how)


def load_published(model_class: Any, name: str | Path, **how: Any) -> Any:
    """A network of a folder, or of a Hub id, in the layout of ``transformers``; all of its tensors must be there.

    Args:
        model_class: of ``transformers``.
        name: the folder or the id.
        how: for ``from_pretrained``.

    Raises:
        WeightsError: it cannot be read, or tensors are missing or of another shape.
    """
    try:
        model, report = model_class.from_pretrained(str(name), use_safetensors=True, output_loading_info=True, **how)
    except Exception as error:  # the library raises many kinds
        raise WeightsError(f"{name}: no {model_class.__name__} there: {reason(error)}") from error
    lacking = sorted(str(each) for key in ("missing_keys", "mismatched_keys") for each in report[key])
    if lacking:
        raise WeightsError(
            f"{name} does not fit {model_class.__name__}: {len(lacking)} tensors are missing or differ, the first is "
            f"{lacking[0]!r}"
        )
    return model.float()


def attention_weights(model: Any, **inputs: Any) -> Tensor:
    """The attention of the last layer [B, heads, queries, keys], by the implementation that gives it ("eager")."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        return model(**inputs, output_attentions=True).attentions[-1]
    finally:
        model.set_attn_implementation(before)


def share_per_step(weights: Tensor, steps: int) -> Tensor:
    """Attention to patches [steps * h * w], step by step, as shares [steps, h, w] that sum to 1 over each step."""
    weights = weights.float().reshape(steps, -1)
    side = round(weights.shape[1] ** 0.5)
    return (weights / weights.sum(1, keepdim=True)).view(steps, side, side)


class AttendingEncoder(TransformerEncoder):
    """A video transformer whose attention over the picture can be shown (VTA-LDM, appendix F)."""

    @torch.no_grad()
    def attention(self, clip: Clip) -> Tensor:
        """Share of the last layer's attention that each patch gets, float32 [T, h, w]; each token's shares sum to 1.

        It is the attention of CLS, the mean over heads. A network without CLS is read by the mean over its patches,
        which is how its tokens are pooled: there it is the attention of all patches.
        """
        return torch.cat([self._shares(pixels)[new] for pixels, new in self._windows(clip)])

    def _shares(self, pixels: Tensor) -> Tensor:
        """Shares [steps, h, w] of a window."""
        raise UsageError(f"{type(self).__name__} has no network")


class ViViT(AttendingEncoder):
    """ViViT-B/16x2, with attention over space and time at once: 32 frames, tubelets of 2 (Arnab et al., 2021).

    It was trained on every second frame of videos at 25 fps: 12.5 frames and 6.25 tokens a second.
    """

    kind, title, other_kinds = "vivit-encoder", "a ViViT", ("vivit",)
    published = TransformerEncoderConfig(
        6.25, Preprocessing(224, 256, "bilinear", HALF, HALF, scale=1 / 127.5, offset=-1.0)
    )

    @classmethod
    def _classes(cls) -> tuple[Any, Any, dict[str, Any]]:
        from transformers import VivitConfig, VivitModel

        return VivitConfig, VivitModel, {"add_pooling_layer": False}  # published checkpoints have none

    @property
    def frames_per_token(self) -> int:
        """Frames of a tubelet."""
        return self.model.config.tubelet_size[0]

    def _patches(self, pixels: Tensor) -> Tensor:
        return self._steps(self.model(pixel_values=pixels).last_hidden_state[:, 1:], pixels.shape[1])

    def _shares(self, pixels: Tensor) -> Tensor:
        weights = attention_weights(self.model, pixel_values=pixels)[0, :, 0, 1:]
        return share_per_step(weights.mean(0), pixels.shape[1] // self.frames_per_token)


class VideoMAE(AttendingEncoder):
    """VideoMAE ViT-B/16: 16 frames, tubelets of 2 frames, no CLS (Tong et al., 2022).

    It was trained on every fourth frame of videos at 30 fps: 7.5 frames and 3.75 tokens a second.
    """

    kind, title, other_kinds = "videomae-encoder", "a VideoMAE", ("videomae",)
    published = TransformerEncoderConfig(3.75, Preprocessing(224, 224, "bilinear", IMAGENET_MEAN, IMAGENET_STD))

    @classmethod
    def _classes(cls) -> tuple[Any, Any, dict[str, Any]]:
        from transformers import VideoMAEConfig, VideoMAEModel

        return VideoMAEConfig, VideoMAEModel, {}

    @property
    def frames_per_token(self) -> int:
        """Frames of a tubelet."""
        return self.model.config.tubelet_size

    def _patches(self, pixels: Tensor) -> Tensor:
        return self._steps(self.model(pixel_values=pixels).last_hidden_state, pixels.shape[1])

    def _shares(self, pixels: Tensor) -> Tensor:
        weights = attention_weights(self.model, pixel_values=pixels)[0]  # [heads, patches, patches]
        return share_per_step(weights.mean((0, 1)), pixels.shape[1] // self.frames_per_token)


class TimeSformer(AttendingEncoder):
    """TimeSformer-B/16 with divided attention: 8 frames, a token for each (Bertasius et al., 2021).

    It was trained on every 32nd frame of videos at 30 fps, which is about one frame and one token a second.
    """

    kind, title, other_kinds = "timesformer-encoder", "a TimeSformer", ("timesformer",)
    published = TransformerEncoderConfig(
        1.0, Preprocessing(224, 224, "bilinear", (0.45, 0.45, 0.45), (0.225, 0.225, 0.225))
    )

    @classmethod
    def _classes(cls) -> tuple[Any, Any, dict[str, Any]]:
        from transformers import TimesformerConfig, TimesformerModel

        return TimesformerConfig, TimesformerModel, {}

    def _patches(self, pixels: Tensor) -> Tensor:
        patches = self.model(pixel_values=pixels).last_hidden_state[0, 1:]  # patch by patch, each with all its times
        return patches.unflatten(0, (-1, pixels.shape[1])).transpose(0, 1)

    def _shares(self, pixels: Tensor) -> Tensor:
        weights = self.model(pixel_values=pixels, output_attentions=True).attentions[-1]  # [frames, heads, ...]
        return share_per_step(weights[:, :, 0, 1:].mean(1), pixels.shape[1])


class VJepa2(TransformerEncoder):
    """V-JEPA 2's encoder: 64 frames, tubelets of 2 frames, positions by rotation (Assran et al., 2025).

    It was trained at 4 frames a second: 2 tokens a second. Its predictor, which published weights hold, is not asked.
    """

    kind, title, other_kinds = "vjepa2-encoder", "a V-JEPA 2", ("vjepa2",)
    published = TransformerEncoderConfig(2.0, Preprocessing(256, 292, "bilinear", IMAGENET_MEAN, IMAGENET_STD))
    any_length = True

    @classmethod
    def _classes(cls) -> tuple[Any, Any, dict[str, Any]]:
        from transformers import VJEPA2Config, VJEPA2Model

        return VJEPA2Config, VJEPA2Model, {}

    @property
    def window(self) -> int:
        """Most frames that are read at once."""
        return self.model.config.frames_per_clip

    @property
    def frames_per_token(self) -> int:
        """Frames of a tubelet."""
        return self.model.config.tubelet_size

    def _patches(self, pixels: Tensor) -> Tensor:
        return self._steps(self.model.get_vision_features(pixels), pixels.shape[1])


class PEVideo(TransformerEncoder):
    """The video encoder of PE-AV, Perception Encoder Audio-Visual: an image tower, then a transformer over frames.

    Its video, audio and text vectors share a space (Vyas et al., 2025), as ImageBind's do. It takes as many frames as
    there are; here 100 at most, and 10 frames and tokens a second. The released processor takes the frames as they
    come, so the rate is our choice.
    """

    kind, title = "pe-video-encoder", "PE-AV's video encoder"
    other_kinds = ("pe_audio_video", "pe_video", "pe_video_encoder")
    published = TransformerEncoderConfig(10.0, Preprocessing(336, 0, "bilinear", HALF, HALF))
    any_length = True

    @property
    def window(self) -> int:
        """Most frames that are read at once."""
        return 100

    @classmethod
    def _configured(cls, config: dict[str, Any]) -> tuple[Any, Any]:
        """The network's class and its configuration."""
        try:
            from transformers import AutoConfig, PeVideoEncoder
            from transformers.models.pe_video.configuration_pe_video import PeVideoEncoderConfig
        except ImportError as error:
            raise WeightsError("PE-AV needs a newer transformers: pip install -U transformers") from error
        vision = config.get("vision_config") or {}
        if vision.get("model_type", "timm_wrapper") != "timm_wrapper":  # another image tower than the published one
            config = {**config, "vision_config": AutoConfig.for_model(**vision)}
        try:
            return PeVideoEncoder, PeVideoEncoderConfig(**config)
        except ImportError as error:
            raise WeightsError("PE-AV's published image tower needs timm: pip install timm") from error

    @classmethod
    def network(cls, config: dict[str, Any]) -> nn.Module:
        """A network with random weights; the published image tower is of the library ``timm``.

        Raises:
            WeightsError: ``transformers`` is too old, or ``timm`` is missing.
        """
        model_class, configuration = cls._configured(config)
        return model_class(configuration)

    def _patches(self, pixels: Tensor) -> Tensor:
        return self._steps(self.model(pixel_values_videos=pixels).last_hidden_state, pixels.shape[1])

    @classmethod
    def _published_network(cls, path: Path) -> nn.Module:
        saved = json.loads((path / "config.json").read_text(encoding="utf-8"))
        while "video_config" in saved:  # the encoder's lies inside of PE-AV's, or of PE-Video's
            saved = saved["video_config"]
        model_class, config = cls._configured(saved)
        return load_published(model_class, path, config=config)
