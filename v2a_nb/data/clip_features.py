"""Clip features: what the learned metrics and the audio-visual embedding are trained on.

A clip lasts 2.56 s. Its features are the embeddings that the frozen video encoder gives of its pictures, the log-mel of
its sound with two more seconds on either side, so that a shifted sound holds what is really to be heard there, and the
latents that the codec gives of its sound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from v2a_nb.audio.onsets import FLOOR, log_mel
from v2a_nb.data.dataset import Cut, cut_clips
from v2a_nb.data.features import Extractor, Features, FeatureStore
from v2a_nb.data.recordings import Recording, Recordings
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import tag_of
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.models.video_encoders.registry import load_video_encoder
from v2a_nb.models.video_encoders.strike import StrikeVision

TRAIN_SEED = 6000
"""Seed of a world that the video encoder was not trained on: on its own training clips it is too sure."""
RECORDINGS, HELD_OUT = 2000, 200
"""Recordings of that world that the shipped metrics used; they were not trained on the last ``HELD_OUT`` of them."""
SECONDS, MARGIN_S, SAMPLE_RATE, FPS = 2.56, 2.0, 16000, 25.0
COLUMN_S = 0.005
"""Seconds of a column of the log-mel; shifts are multiples of it."""
EMBEDDING_S = 0.02
"""Seconds of a video embedding."""


@dataclass(frozen=True)
class ClipFeatureExtractor(Extractor):
    """Computes the features of clips one by one.

    ``video`` float16 [n, 128, 384] are embeddings of the pictures, ``log_mel`` float16 [n, 40, 1312] has the margins
    on both sides, ``latents`` float16 [n, 32, 128] are the codec's.

    Attributes:
        encoder, codec: folders or names of weights.
        encoder_tag, codec_tag: their tags, which the values hang on.
    """

    encoder: str
    codec: str
    encoder_tag: str
    codec_tag: str
    name: ClassVar[str] = "clip-features"

    @classmethod
    def of(cls, encoder: str | Path, codec: str | Path) -> Self:
        """The extractor with these weights; see :func:`load_encoder`."""
        tags = tag_of(load_encoder(encoder), "vision"), tag_of(TinyCodec.from_pretrained(codec), "codec")
        return cls(str(encoder), str(codec), *tags)

    def revision(self) -> dict:
        return {"encoder": self.encoder_tag, "codec": self.codec_tag, "seconds": SECONDS, "margin_s": MARGIN_S}

    def extract(self, recording: Recording, starts: Sequence[int]) -> dict[str, np.ndarray]:
        encoder, codec = _networks(self)
        wave, n, margin = recording.wave(SAMPLE_RATE), round(SECONDS * SAMPLE_RATE), round(MARGIN_S * SAMPLE_RATE)
        times = np.arange(round(SECONDS * FPS)) / FPS
        parts: dict[str, list[np.ndarray]] = {"video": [], "log_mel": [], "latents": []}
        for start in starts:
            pictures = recording.frames(start / SAMPLE_RATE, times, encoder.config.size, FPS)
            pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)[None].float() / 255
            around = wave[start - margin : start + n + margin]
            sound = torch.from_numpy(around[None, margin : margin + n].astype(np.float32))
            parts["video"].append(encoder(pixels)[0].half().numpy())
            parts["log_mel"].append(log_mel(around)[:, :-1].astype(np.float16))
            parts["latents"].append(codec.latents(sound)[0].half().numpy())
        return {name: np.stack(arrays) for name, arrays in parts.items()}


def load_encoder(name: str | Path) -> StrikeVision:
    """The frozen video encoder of recipes that can read one of our own alone.

    Args:
        name: see :func:`~v2a_nb.models.video_encoders.registry.load_video_encoder`.

    Raises:
        WeightsError: there are no such weights, or they are of another kind of encoder.
    """
    encoder = load_video_encoder(name)
    if not isinstance(encoder, StrikeVision):
        kind = type(encoder).__name__
        raise WeightsError(f"{name} is a {kind}: encoders of Strike World are read here, such as strike_wide")
    return encoder


@lru_cache(maxsize=1)
def _networks(extractor: ClipFeatureExtractor) -> tuple[StrikeVision, TinyCodec]:
    """Encoder and codec, loaded once in each process."""
    return load_encoder(extractor.encoder), TinyCodec.from_pretrained(extractor.codec)


@dataclass(frozen=True)
class ClipFeatures(Features):
    """Clip features as batches are made of them: row i of everything is clip i."""

    @classmethod
    def of(cls, features: Features) -> Self:
        """A view of features that :class:`ClipFeatureExtractor` computed."""
        return cls(features.table, features.recordings, features.arrays, features.key)

    @property
    def seconds(self) -> float:
        """Length of a clip, seconds."""
        return self["video"].shape[1] * EMBEDDING_S

    @property
    def margin_s(self) -> float:
        """Seconds of sound on either side of a clip."""
        return self._margin * COLUMN_S

    @property
    def _margin(self) -> int:
        columns = round(EMBEDDING_S / COLUMN_S) * self["video"].shape[1]
        return (self["log_mel"].shape[2] - columns) // 2

    def video_embeddings(
        self, rows: Sequence[int] | np.ndarray, start_s: float | np.ndarray = 0.0, seconds: float | None = None
    ) -> Tensor:
        """Video embeddings float32 [n, T, 384] of clips, or of parts of them.

        Args:
            rows: of the clips.
            start_s: where in the clip the part begins, one for all or one each.
            seconds: length of the parts; left out, the clip's.
        """
        count = round((self.seconds if seconds is None else seconds) / EMBEDDING_S)
        firsts = np.broadcast_to(np.round(np.asarray(start_s) / EMBEDDING_S).astype(int), len(rows))
        parts = [self["video"][i][first : first + count] for i, first in zip(rows, firsts, strict=True)]
        return torch.from_numpy(np.stack(parts).astype(np.float32))

    def log_mels(
        self, rows: Sequence[int] | np.ndarray, start_s: float | np.ndarray = 0.0, seconds: float | None = None
    ) -> Tensor:
        """Log-mels float32 [n, 40, columns] of clips, or of parts of them.

        Args:
            rows, seconds: as for :meth:`video_embeddings`.
            start_s: where the part begins, one for all or one each, seconds from the clip's start. A sound that is late
                by some time is one that is read so much earlier.

        Raises:
            UsageError: a part that goes over the margins.
        """
        seconds = self.seconds if seconds is None else seconds
        columns = round(seconds / COLUMN_S)
        firsts = self._margin + np.round(np.broadcast_to(start_s, len(rows)) / COLUMN_S).astype(int)
        if (firsts < 0).any() or (firsts + columns > self["log_mel"].shape[2]).any():
            raise UsageError(f"{seconds:.2f} s of sound go over the margin of {self.margin_s:.2f} s")
        parts = [self["log_mel"][i][:, first : first + columns] for i, first in zip(rows, firsts, strict=True)]
        return torch.from_numpy(np.stack(parts).astype(np.float32))

    def hold_out(self, held_out: int, of: int) -> tuple[Self, Self]:
        """Clips to train on, and the clips of the last ``held_out`` recordings.

        Args:
            held_out: recordings, where there are ``of``; where there are fewer, the same share of them, and at least
                two.

        Raises:
            UsageError: fewer than two recordings would be left to train on.
        """
        count = len(np.unique(self.recording_ids))
        held_out = held_out if count >= of else max(2, held_out * count // of)
        if count < held_out + 2:
            raise UsageError(
                f"{count} recordings of {SECONDS + 2 * MARGIN_S:g} s or more: at least {held_out + 2} are needed"
            )
        return self.split(held_out)


def compute_clip_features(
    store: FeatureStore,
    recordings: Recordings,
    *,
    count: int = RECORDINGS,
    first: int = 0,
    per_recording: int = 2,
    encoder: str | Path = "strike_vision",
    codec: str | Path = "codec",
    described: bool = False,
) -> ClipFeatures:
    """Cut clips and compute their features, about 0.2 s a clip and core, where the store does not have them.

    Args:
        store: keeps them.
        recordings: that clips are cut out of.
        count, first: how many recordings, and from which on.
        per_recording: clips of each; they may overlap.
        encoder, codec: folders or names of weights, see :func:`load_encoder`.
        described: only clips with a line of text.

    Raises:
        UsageError: no recording is long enough, or has a line of text.
        WeightsError: there are no such weights.
    """
    cut = Cut(
        SECONDS, per_recording, count, first, stream="takes", margin_s=MARGIN_S, grid=round(COLUMN_S * SAMPLE_RATE)
    )
    table = cut_clips(recordings, cut)
    if described:
        table = table.select([i for i, text in enumerate(table["text"]) if text])
        if not len(table):
            raise UsageError("no clip has a line of text: give csv:FILE with a column text, or strike:seed=N")
    return ClipFeatures.of(store.compute(table, recordings, ClipFeatureExtractor.of(encoder, codec)))


def with_gain(log_mels: Tensor, nepers: Tensor) -> Tensor:
    """Log-mels of the sounds made louder by ``nepers`` of power: the floor under the power stays where it is."""
    return torch.log((log_mels.exp() - FLOOR).clamp(min=0) * nepers.exp() + FLOOR)
