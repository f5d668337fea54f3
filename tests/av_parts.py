"""Small audio-visual encoders, and pairs that are easy to learn."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from clip_parts import in_memory

from v2a_nb.data.audio_visual_pairs import AudioVisualPairs
from v2a_nb.hub import as_shipped
from v2a_nb.metrics.av_sync.model import AvSyncConfig
from v2a_nb.models.audio_spectrogram_transformer import AudioSpectrogramTransformerConfig
from v2a_nb.models.av_embedding import AudioVisualEmbedding, AudioVisualEmbeddingConfig
from v2a_nb.models.video_encoders.clip_transformer import ClipTransformerConfig
from v2a_nb.models.video_encoders.strike import StrikeVision

VIDEO = ClipTransformerConfig(seconds=1.5, squeeze=16, dim=32, depth=1, heads=2, mlp=64)
AUDIO = AudioSpectrogramTransformerConfig(
    1.5, "mel", columns=320, dim=32, depth=1, heads=2, mlp=64, patch=40, stride=40
)
SMALL = AudioVisualEmbeddingConfig(dim=16, video=VIDEO, audio=AUDIO)
SYNC = AvSyncConfig(encoders=SMALL, layers=(64, 32))


@lru_cache(maxsize=1)
def random_eyes() -> StrikeVision:
    """A vision encoder that knows nothing, rounded as it would be shipped."""
    torch.manual_seed(7)
    return as_shipped(StrikeVision()).eval()


def small_model(seed: int = 0) -> AudioVisualEmbedding:
    """Untrained encoders, rounded as they are shipped."""
    eyes = random_eyes()  # which has random numbers of its own
    torch.manual_seed(seed)
    return as_shipped(AudioVisualEmbedding(SMALL, eyes)).eval()


def easy_pairs(recordings: int = 48, each: int = 2, seed: int = 0, margin_s: float = 0.75) -> AudioVisualPairs:
    """Pairs whose video embeddings move where a band of the recording's own sounds: when and which can be seen.

    Each recording has a band, channels and a colour that belong together, and sounds about every 0.6 s.
    """
    rng = np.random.default_rng(seed)
    n, count = recordings * each, round(VIDEO.seconds * VIDEO.vector_rate)
    video = rng.normal(0, 0.1, (n, count, VIDEO.vector_dim)).astype(np.float16)
    log_mel = rng.normal(-10, 0.3, (n, 40, 4 * count + round(400 * margin_s))).astype(np.float16)
    kinds = rng.integers(0, 4, recordings)
    numbers = np.repeat(np.arange(recordings), each)
    for i in range(n):
        row = kinds[numbers[i]]
        for k in np.flatnonzero(rng.random(round((VIDEO.seconds + 2 * margin_s) * 4)) < 0.4):
            log_mel[i, 10 * row : 10 * row + 10, 50 * k : 50 * k + 20] = -1.0
            first = math.ceil((k / 4 - margin_s) * VIDEO.vector_rate)
            if first >= 0:
                video[i, first : first + 5, 8 * row : 8 * row + 8] = 3.0
    colour = 40 * kinds[numbers, None, None, None]
    thumbnail = np.clip(rng.normal(60, 4, (n, 8, 8, 3)) + colour, 0, 255).astype(np.uint8)
    starts_s = np.tile(3.0 + 3.0 * np.arange(each), recordings).tolist()
    arrays = {"video": video, "log_mel": log_mel, "thumbnail": thumbnail}
    return in_memory(numbers, starts_s=starts_s, view=AudioVisualPairs, **arrays)


def bands_of(pairs: AudioVisualPairs) -> np.ndarray:
    """Which of the four bands each clip sounds in [N]."""
    return pairs["log_mel"][:].reshape(len(pairs), 4, -1).mean(2, dtype=np.float64).argmax(1)
