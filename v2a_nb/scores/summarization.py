"""Does a system's sound help to say what happens? Scores of the summarizer with generated sounds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from torch import nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.data.clip_features import (
    FPS,
    HELD_OUT,
    RECORDINGS,
    SECONDS,
    TRAIN_SEED,
    ClipFeatureExtractor,
    compute_clip_features,
)
from v2a_nb.data.features import Features, FeatureStore
from v2a_nb.data.recordings import Recordings, StrikeRecordings
from v2a_nb.errors import UsageError
from v2a_nb.metrics.summarization.model import Summarizer, codec_vectors
from v2a_nb.metrics.summarization.train import held_out_scores, with_known_text
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.systems.registry import load


def score_system(
    name: str,
    store: FeatureStore,
    *,
    weights: str = "summary",
    recordings: Recordings | None = None,
    count: int = HELD_OUT,
    first: int = RECORDINGS - HELD_OUT,
    encoder: str = "vaura",
    codec: str = "codec",
    seed: int = 0,
) -> list[dict]:
    """Rows of :func:`~v2a_nb.metrics.summarization.metric.score_summaries`, a system's sounds among them.

    Args:
        name: of a system, or a folder of its weights.
        store: keeps the features of the clips.
        weights: of the summarizer.
        recordings, count, first: that the summarizer was not trained on; left out, those held out of the shipped one.
        encoder, codec: whose features the summarizer reads.
        seed: of generation.

    Raises:
        UsageError: the summarizer was trained with another encoder or codec.
    """
    model = Summarizer.from_pretrained(weights)
    text, card = model.text, model.card
    features = ClipFeatureExtractor.of(encoder, codec)
    if (card["encoder"], card["codec"]) != (features.encoder_tag, features.codec_tag):
        raise UsageError(
            f"{weights} reads features of {card['encoder']} and {card['codec']}, not of {features.encoder_tag} and "
            f"{features.codec_tag}"
        )
    recordings = recordings or StrikeRecordings(TRAIN_SEED)
    clips = compute_clip_features(store, recordings, count=count, first=first, encoder=encoder, codec=codec)
    clips = with_known_text(clips, text)
    vectors, _ = sounds_of_system(load(name), clips_of(clips), TinyCodec.from_pretrained(codec), seed=seed)
    return held_out_scores(model, text, clips, {name: vectors})


def sounds_of_system(
    system, clips: Iterable[Clip], codec: nn.Module, *, seed: int = 0
) -> tuple[list[np.ndarray], list[Sound]]:
    """The sounds that a system makes of clips, as codec latents for the summarizer, and to listen to.

    Args:
        system: anything with ``generate(clip, seed=...)``.
        clips: whose own sounds are not used.
        codec: whose latents the summarizer was trained on.
        seed: of generation.
    """
    sounds = [system.generate(clip.silent(), seed=seed) for clip in clips]
    return [codec_vectors(codec, sound) for sound in sounds], sounds


def clips_of(features: Features, size: int = 112) -> Iterator[Clip]:
    """The pictures that features were computed of, as silent clips of ``size`` pixels, one after the other."""
    times = np.arange(round(SECONDS * FPS)) / FPS
    for row in features.table:
        frames = features.recordings.open(row["recording"]).frames(row["start_s"], times, size, FPS)
        yield Clip(frames, fps=FPS, duration=SECONDS, name=row["id"])
