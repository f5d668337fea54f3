"""What the latent-diffusion recipes learn from: spectrogram images of sounds, and frame vectors of a frozen encoder.

A clip of 5.12 s is 1.6 MB of frames and 0.3 MB of sound. Kept are its spectrogram image (64 KB) and, where they are
wanted, its frame vectors (192 KB); frames and sounds are never written. What is true of the clips is read again from
their recordings (:func:`true_sounds`, :func:`true_onsets`).

EgoSonics keeps clips above a level (section 3.1, :attr:`Cut.min_rms_dbfs <v2a_nb.data.dataset.Cut>`): its silent ones
are of no use, while in Strike World silence is the right answer to a clip in which nothing is touched, and is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from v2a_nb.audio.stft_image import STFT_IMAGES
from v2a_nb.clip import Clip, Sound
from v2a_nb.data.av_align import av_align
from v2a_nb.data.dataset import Cut, cut_sounds
from v2a_nb.data.features import Extractor, Features, ShardedArray
from v2a_nb.data.recordings import Recording
from v2a_nb.errors import WeightsError
from v2a_nb.hub import tag_of
from v2a_nb.models.optical_flow import FLOW_SIDE, flow_vectors
from v2a_nb.models.video_encoders.frames import at_rate
from v2a_nb.models.video_encoders.registry import load_video_encoder

SECONDS = 5.12
"""Length of a clip: the 64 latent columns of EgoSonics' windows; Action2Sound's are shorter."""
PER_RECORDING = 4
CAMERA_SIZE, CAMERA_FPS = 112, 25.0
"""Pixels of a side, and frames a second, of the pictures that are shown to encoders without a size of their own."""
FEATURE_NOISE = 0.1
"""Standard deviation of what is added to the frame vectors, whose own is about 1: stands in for unseen pictures."""


def latent_cut(recordings: int, first: int = 0, seconds: float = SECONDS, per_recording: int = PER_RECORDING) -> Cut:
    """How the recipes cut their clips: some of each recording, in the order of time."""
    return Cut(seconds, per_recording, recordings, first, stream="scenes", in_order=True)


@dataclass(frozen=True)
class SpectrogramImages(Extractor):
    """``images`` float16 [n, c, h, columns] in [-1, 1] of the clips' sounds.

    Attributes:
        picture: name of the STFT image, see :data:`~v2a_nb.audio.stft_image.STFT_IMAGES`.
        seconds: of a clip.
    """

    picture: str = "tiny"
    seconds: float = SECONDS
    name: ClassVar[str] = "spectrograms"

    def sounds(self, recording: Recording, starts: Sequence[int], sample_rate: int) -> np.ndarray:
        """What the images are of, float32 [n, samples]."""
        return cut_sounds(recording, starts, self.seconds, sample_rate)

    def extract(self, recording: Recording, starts: Sequence[int]) -> dict[str, np.ndarray]:
        stft = STFT_IMAGES[self.picture]
        sounds = torch.from_numpy(self.sounds(recording, starts, stft.sample_rate))
        return {"images": stft.to_image(sounds).numpy().astype(np.float16)}


@dataclass(frozen=True)
class FrameVectors(Extractor):
    """``vectors`` float16 [n, T, dim] that a frozen encoder makes of the clips' pictures; 0.2 s a clip on one core.

    Attributes:
        encoder: its weights, see :func:`~v2a_nb.models.video_encoders.registry.load_video_encoder`.
        tag: of its weights (:func:`~v2a_nb.hub.tag_of`), which the vectors hang on.
        fps: frames a second that it is shown, see :func:`~v2a_nb.models.video_encoders.clip_frames.slower`; None is
            all that it looks at.
        seconds: of a clip.
        sample_rate: Hz, of the starts.
    """

    encoder: str
    tag: str
    fps: float | None = None
    seconds: float = SECONDS
    sample_rate: int = 16000
    name: ClassVar[str] = "frame-vectors"

    def revision(self) -> dict:
        return {name: value for name, value in asdict(self).items() if name != "encoder"}

    def extract(self, recording: Recording, starts: Sequence[int]) -> dict[str, np.ndarray]:
        encoder = _encoder(self.encoder, self.tag)
        fps, size = encoder.config.fps, encoder.config.size
        times, vectors = np.arange(round(self.seconds * fps)) / fps, []
        for start in starts:
            frames = recording.frames(start / self.sample_rate, times, size, fps)
            frames = at_rate(Clip(frames, fps=fps).at_most_fps(self.fps), fps).frames.copy()
            pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255  # [1, T, 3, size, size]
            vectors.append(encoder(pixels)[0].numpy().astype(np.float16))
        return {"vectors": np.stack(vectors)}


@dataclass(frozen=True)
class ClipVectors(Extractor):
    """``vectors`` float16 [n, T, dim] that any frozen video encoder makes of the clips' pictures; or ``flow``.

    Attributes:
        encoder: as :func:`~v2a_nb.models.video_encoders.registry.load_video_encoder` knows it.
        tag: of its weights.
        flow: None: the pictures; else their optical flow, see :func:`~v2a_nb.models.optical_flow.flow_vectors`.
        fps: frames a second that the encoder is shown; None is all.
        seconds: of a clip.
        sample_rate: Hz, of the starts.
    """

    encoder: str
    tag: str
    flow: str | None = None
    fps: float | None = None
    seconds: float = SECONDS
    sample_rate: int = 16000
    name: ClassVar[str] = "clip-vectors"

    def revision(self) -> dict:
        return {name: value for name, value in asdict(self).items() if name != "encoder"}

    def extract(self, recording: Recording, starts: Sequence[int]) -> dict[str, np.ndarray]:
        encoder = _encoder(self.encoder, self.tag)
        size, fps = getattr(getattr(encoder, "config", None), "size", CAMERA_SIZE), CAMERA_FPS
        times, vectors = np.arange(round(self.seconds * fps)) / fps, []
        for start in starts:
            frames = recording.frames(start / self.sample_rate, times, size, fps)
            clip = Clip(frames, fps=fps).at_most_fps(self.fps)
            made = encoder.features(clip) if self.flow is None else flow_vectors(clip, self.flow, encoder)
            vectors.append(made.numpy().astype(np.float16))
        return {"vectors" if self.flow is None else "flow": np.stack(vectors)}


@dataclass(frozen=True)
class AlignScores(Extractor):
    """``align`` float32 [n]: AV-Align of the clips (:mod:`v2a_nb.data.av_align`), NaN where it says nothing."""

    seconds: float = SECONDS
    sample_rate: int = 16000
    name: ClassVar[str] = "av-align"

    def extract(self, recording: Recording, starts: Sequence[int]) -> dict[str, np.ndarray]:
        times = np.arange(round(self.seconds * CAMERA_FPS)) / CAMERA_FPS
        sounds, scores = cut_sounds(recording, starts, self.seconds, self.sample_rate), []
        for start, sound in zip(starts, sounds, strict=True):
            frames = recording.frames(start / self.sample_rate, times, FLOW_SIDE, CAMERA_FPS)
            scores.append(av_align(Clip(frames, fps=CAMERA_FPS, sound=Sound(sound, self.sample_rate))))
        return {"align": np.array(scores, np.float32)}


@lru_cache(maxsize=1)
def _encoder(name: str, tag: str):
    """The encoder, loaded once in each process.

    Raises:
        WeightsError: its weights are not those of the tag, which features are kept by.
    """
    encoder = load_video_encoder(name)
    found = tag_of(encoder, "vision")
    if found != tag:
        raise WeightsError(f"{name} is {found}, and features of {tag} are wanted")
    return encoder


def true_sounds(clips: Features, rows: np.ndarray, sample_rate: int) -> np.ndarray:
    """The sounds of some clips of one length, float32 [n, samples]."""
    table = clips.table.select(rows)
    sounds = [
        cut_sounds(clips.recordings.open(clip["recording"]), [clip["start"]], clip["duration_s"], sample_rate)
        for clip in table
    ]
    return np.concatenate(sounds)


def true_onsets(clips: Features, rows: np.ndarray) -> list[np.ndarray]:
    """Times at which something starts to sound in some clips, seconds from each clip's start."""
    table = clips.table.select(rows)
    return [clips.recordings.open(clip["recording"]).onsets(clip["start_s"], clip["duration_s"]) for clip in table]


def in_turns(groups: np.ndarray) -> np.ndarray:
    """Rows in an order in which each group has its first before any has its second, and so on."""
    order = np.argsort(groups, kind="stable")
    sizes_before = np.searchsorted(groups[order], groups[order])
    turn = np.empty(len(groups), np.int64)
    turn[order] = np.arange(len(groups)) - sizes_before
    return np.argsort(turn, kind="stable")


def batches(
    arrays: Mapping[str, np.ndarray | ShardedArray], size: int, seed: int, stage: int, crop: int | None = None
) -> Callable[[int], dict[str, Tensor]]:
    """From a number to random clips, each as float32 or int64.

    Args:
        arrays: by name, [N, ...] each; what is called ``vectors`` gets :data:`FEATURE_NOISE`.
        size: clips in a batch.
        seed, stage: what is drawn hangs on these two and on the batch's number.
        crop: columns that are cut out of each array's last axis, at a place of each clip's own.
    """
    count = len(next(iter(arrays.values())))

    def batch_of(number: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, stage, number])
        rows = np.sort(rng.integers(0, count, size))
        batch = {}
        for name, array in arrays.items():
            part = array[rows]
            if crop is not None and crop < part.shape[-1]:
                starts = rng.integers(0, part.shape[-1] - crop + 1, size)
                part = np.stack([x[..., a : a + crop] for x, a in zip(part, starts, strict=True)])
            batch[name] = torch.from_numpy(part if part.dtype == np.int64 else part.astype(np.float32))
            if name == "vectors":
                noise = rng.standard_normal(part.shape, dtype=np.float32)
                batch[name] += FEATURE_NOISE * torch.from_numpy(noise)
        return batch

    return batch_of
