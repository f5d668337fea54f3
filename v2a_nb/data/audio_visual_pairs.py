"""Audio-visual pairs: clip features and a thumbnail of each clip's scene.

The audio-visual embedding and the AV-Sync classifier learn from them, and the pool of retrieval is made of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from v2a_nb.data.clip_features import (
    EMBEDDING_S,
    FPS,
    RECORDINGS,
    SAMPLE_RATE,
    SECONDS,
    ClipFeatures,
    compute_clip_features,
    load_encoder,
    with_gain,
)
from v2a_nb.data.features import Extractor, Features, FeatureStore
from v2a_nb.data.pool import Source, quiet_dbfs
from v2a_nb.data.recordings import Recording, Recordings
from v2a_nb.errors import UsageError
from v2a_nb.models.video_encoders.clip_transformer import THUMBNAIL_FPS, scene_thumbnail

UNSEEN_SEED = 6500
"""Seed of a world that neither the video encoder nor the shipped embedding was trained on; scores use it."""
SHORTEST_S = 2.0
"""While training, parts of clips are this long or longer, as a clip is that is shorter than a window."""
LIGHT = ((0.9, 1.1), (-0.05, 0.05))
"""Range of the gain and of the shift that each colour of a thumbnail gets while training."""
GRAIN = 0.02
"""Standard deviation of the noise on each number of a thumbnail while training."""


@dataclass(frozen=True)
class ThumbnailExtractor(Extractor):
    """Computes ``thumbnail`` uint8 [n, 8, 8, 3], the mean picture of each clip.

    Attributes:
        size: pixels of a side that pictures are read at: those of the video encoder.
    """

    size: int = 64
    name: ClassVar[str] = "scene-thumbnails"

    def extract(self, recording: Recording, starts: Sequence[int]) -> dict[str, np.ndarray]:
        times = np.arange(0, SECONDS - 1e-6, 1 / THUMBNAIL_FPS)
        pictures = [recording.frames(start / SAMPLE_RATE, times, self.size, FPS) for start in starts]
        return {"thumbnail": np.stack([scene_thumbnail(p, self.size) for p in pictures])}


@dataclass(frozen=True)
class AmbientLevelExtractor(Extractor):
    """Computes ``quiet_dbfs`` float32 [n], the ambient level of each clip's sound.

    See :func:`~v2a_nb.data.pool.quiet_dbfs`.
    """

    name: ClassVar[str] = "ambient-levels"

    def extract(self, recording: Recording, starts: Sequence[int]) -> dict[str, np.ndarray]:
        wave, n = recording.wave(SAMPLE_RATE), round(SECONDS * SAMPLE_RATE)
        return {"quiet_dbfs": np.array([quiet_dbfs(wave[s : s + n], SAMPLE_RATE) for s in starts], np.float32)}


@dataclass(frozen=True)
class AudioVisualPairs(ClipFeatures):
    """Clip features with thumbnails; the clips of a recording are neighbours."""

    def video_inputs(
        self, rows: Sequence[int] | np.ndarray, start_s: float | np.ndarray = 0.0, seconds: float | None = None
    ) -> tuple[Tensor, Tensor]:
        """What the video side reads of clips, or of parts of them: embeddings float32 [n, T, 384] and thumbnails uint8
        [n, 8, 8, 3], which are always of the whole clip. Arguments as for :meth:`video_embeddings`."""
        return self.video_embeddings(rows, start_s, seconds), torch.from_numpy(self["thumbnail"][rows])

    def audio_inputs(
        self, rows: Sequence[int] | np.ndarray, start_s: float | np.ndarray = 0.0, seconds: float | None = None
    ) -> Tensor:
        """What the audio side reads of clips, or of parts of them: log-mels float32 [n, columns, 40].

        Arguments and errors as for :meth:`log_mels`.
        """
        return self.log_mels(rows, start_s, seconds).transpose(1, 2).contiguous()

    def sources(self) -> list[Source]:
        """The origin of each clip, by which a pool finds its sound again."""
        rows = zip(self.column("recording").tolist(), self.column("start_s").tolist(), strict=True)
        return [self.recordings.open(number).source(start_s, self.seconds) for number, start_s in rows]

    def ambiences(self) -> np.ndarray:
        """The kind of ambience of each clip's recording [N]; only where ``recordings.known_ambience``."""
        return np.array([self.recordings.open(number).ambience for number in self.column("recording").tolist()])

    def draw(self, size: int, each: int, rng: np.random.Generator) -> np.ndarray:
        """Rows of ``each`` clips of ``size`` different recordings: the first of every recording, then the second ...

        Raises:
            UsageError: there are not so many.
        """
        ids, count = np.unique(self.recording_ids, return_counts=True)
        if not 0 < size <= len(ids) or not 0 < each <= count.min():
            raise UsageError(
                f"{each} clips of each of {size} recordings cannot be drawn; there are {len(ids)} recordings with "
                f"{count.min()} or more"
            )
        order = np.argsort(self.recording_ids, kind="stable")
        first = np.cumsum(count) - count
        chosen = rng.permutation(len(ids))[:size]
        return order[np.array([first[i] + rng.permutation(count[i])[:each] for i in chosen]).T.ravel()]

    def draw_part(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
        """Which part of each of ``count`` clips is used: where it begins [count], and how long all are, seconds.

        The length is drawn from :data:`SHORTEST_S` to the whole clip; each part begins at an embedding.
        """
        most = self["video"].shape[1]
        length = int(rng.integers(min(round(SHORTEST_S / EMBEDDING_S), most), most + 1))
        return rng.integers(0, most - length + 1, count) * EMBEDDING_S, length * EMBEDDING_S


def compute_audio_visual_pairs(
    store: FeatureStore,
    recordings: Recordings,
    *,
    count: int = RECORDINGS,
    first: int = 0,
    per_recording: int = 2,
    encoder: str | Path = "strike_vision",
    codec: str | Path = "codec",
) -> AudioVisualPairs:
    """Clip features, which other recipes may have left in the store, and thumbnails, some 15 ms a clip and core.

    Arguments and errors as for :func:`~v2a_nb.data.clip_features.compute_clip_features`.
    """
    clips = compute_clip_features(
        store, recordings, count=count, first=first, per_recording=per_recording, encoder=encoder, codec=codec
    )
    size = load_encoder(encoder).config.size
    return AudioVisualPairs.of(clips.with_arrays(store.compute(clips.table, recordings, ThumbnailExtractor(size))))


def compute_ambient_levels(store: FeatureStore, clips: Features) -> np.ndarray:
    """The ambient level of each clip's sound, dBFS, float32 [N]."""
    return store.compute(clips.table, clips.recordings, AmbientLevelExtractor())["quiet_dbfs"][:]


def relight(thumbnails: Tensor, rng: np.random.Generator) -> Tensor:
    """Thumbnails uint8 [n, 8, 8, 3] in another light: float32 in [0, 1]."""
    gain, shift = (torch.from_numpy(rng.uniform(a, b, (len(thumbnails), 1, 1, 3)).astype(np.float32)) for a, b in LIGHT)
    grain = GRAIN * torch.from_numpy(rng.standard_normal(thumbnails.shape, dtype=np.float32))
    return (thumbnails.float() / 255 * gain + shift + grain).clamp(0, 1)


def random_gain(log_mels: Tensor, rng: np.random.Generator, most_db: float = 6.0) -> Tensor:
    """Log-mels [n, T, 40], each made louder or softer by up to ``most_db``: level alone tells nothing."""
    gain = torch.from_numpy(rng.uniform(-most_db, most_db, (len(log_mels), 1, 1)).astype(np.float32))
    return with_gain(log_mels, gain * (np.log(10) / 10))
