"""Scores of the summarizer: what a sound, true or generated, adds to what is predicted to happen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from torch import nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.data.clip_features import FPS, SECONDS, ClipFeatureExtractor, ClipFeatures
from v2a_nb.data.features import Features
from v2a_nb.errors import UsageError
from v2a_nb.metrics.summarization.model import Summarizer, codec_vectors
from v2a_nb.metrics.summarization.train import held_out_scores, with_known_text
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.scores.base import Job
from v2a_nb.scores.learned import held_out
from v2a_nb.systems.registry import load
from v2a_nb.training.results import Row, Table

SYSTEMS = ("vaura", "retrieval")
"""Systems whose sounds stand beside the true ones."""


def summary(job: Job) -> list[Table]:
    """How near predicted narrations are to the true ones, and what the true sound and generated ones add."""
    clips, about = held_out(job)
    rows = measure(Summarizer.from_pretrained(job.weights), clips)
    return [job.table("narrations", rows, down="subject", about=about)]


def measure(model: Summarizer, clips: ClipFeatures, systems: Iterable[str] = SYSTEMS, seed: int = 0) -> list[Row]:
    """``narration_cosine`` and ``gain_over_no_sound`` of the mean predictor, and of no, shuffled, true and generated
    sounds.

    Args:
        model: with its text encoder.
        clips: which it was not trained on.
        systems: names, or folders of weights, of systems that dub the clips.
        seed: of generation.

    Raises:
        UsageError: the summarizer was trained on features of another encoder or codec.
    """
    features = ClipFeatureExtractor.of("strike_vision", "codec")
    if (model.card["encoder"], model.card["codec"]) != (features.encoder_tag, features.codec_tag):
        raise UsageError(
            f"the summarizer reads features of {model.card['encoder']} and {model.card['codec']}, not of "
            f"{features.encoder_tag} and {features.codec_tag}"
        )
    clips, codec = with_known_text(clips, model.text), TinyCodec.from_pretrained("codec")
    generated = {name: sounds_of_system(load(name), clips_of(clips), codec, seed=seed)[0] for name in systems}
    rows = []
    for row in held_out_scores(model, model.text, clips, generated):
        rows.append(Row.of(row["sound"], {**row, "value": row["cosine"]}, "narration_cosine"))
        gain = {"value": row["gain"], "low": row["gain_low"], "high": row["gain_high"], "n": row["n"]}
        if row["sound"] != "none":
            rows.append(Row.of(row["sound"], gain, "gain_over_no_sound"))
    return rows


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
