"""The score of a vocoder: what is left of true sounds after their spectrogram and it, beside Griffin-Lim."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import torch

from v2a_nb.clip import Sound
from v2a_nb.metrics import truth
from v2a_nb.metrics.embeddings import StrikeAudio
from v2a_nb.metrics.frechet import frechet_with_interval
from v2a_nb.metrics.statistics import bootstrap
from v2a_nb.models.codec_report import log10_mel, stft_distance
from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder
from v2a_nb.scores.base import Job
from v2a_nb.training.results import Row, Table
from v2a_nb.world import strike_world

CLIPS, SEED, SECONDS = 200, 2000, 3.0
TRUE, TITLE, REFERENCE = "the true sound", "vocoder", "Griffin-Lim, 60 iterations"
BATCH = 8


def vocoder(job: Job) -> list[Table]:
    """The vocoder beside the true sounds and Griffin-Lim."""
    count = job.count(CLIPS)
    job.say(f"{job.name}: {count} clips of {SECONDS:g} s, seed {SEED}")
    rows = measure(Vocoder.from_pretrained(job.weights), count, StrikeAudio.from_pretrained())
    about = {"clips": count, "seed": SEED, "seconds": SECONDS}
    return [job.table("round_trip", rows, about=about)]


@torch.no_grad()
def measure(model: Vocoder, count: int = CLIPS, embed: StrikeAudio | None = None, seed: int = SEED) -> list[Row]:
    """Compare true sounds with what a vocoder makes of their spectrograms.

    Args:
        model: the vocoder.
        count: clips, each of another recording.
        embed: adds ``fad``, the Fréchet distance to the true sounds.
        seed: of a world that training never saw.

    Returns:
        rows of the true sounds, of the vocoder, also before its mels are matched, and of Griffin-Lim with 60 and 32
        iterations: ``mel_distance`` (:func:`~v2a_nb.models.codec_report.log10_mel`), ``stft_distance``, ``fad``, the
        truth metrics, ``nearer_than_griffin_lim``, the share of clips whose mels Griffin-Lim with 60 iterations keeps
        worse, and ``cpu_s``, seconds of the processor a clip.
    """
    rate = model.sample_rate
    items = list(strike_world(seed, count, size=16, seconds=SECONDS, sample_rate=rate, per_recording=1))
    true = torch.from_numpy(np.stack([item.stems["mix"].samples[0] for item in items]))
    spectrogram, mel = model.spectrogram(true), log10_mel(true, rate)
    recordings = [item.recording.id for item in items]
    ways = {TRUE: None, TITLE: model}
    if model.config.match:
        ways["vocoder, mels not matched"] = Vocoder(replace(model.config, match=0), model.model).eval()
    for iterations in (60, 32):
        ways[f"Griffin-Lim, {iterations} iterations"] = GriffinLimVocoder(model.config.front_end, iterations=iterations)
    rows, gaps, reference = [], {}, None
    for name, way in ways.items():
        began = time.process_time()
        waves = true
        if way is not None:
            waves = torch.cat([way.decode(part, true.shape[-1]) for part in spectrogram.split(BATCH)])
        seconds = (time.process_time() - began) / count
        sounds = [Sound(wave.numpy(), rate) for wave in waves]
        gaps[name] = (log10_mel(waves, rate) - mel).abs().mean(dim=(1, 2)).numpy()
        rows.append(_mean("mel_distance", name, gaps[name], recordings))
        rows.append(_mean("stft_distance", name, stft_distance(waves, true).numpy(), recordings))
        if embed:
            vectors = [embed(sound) for sound in sounds]
            reference = reference or vectors
            distance = frechet_with_interval(vectors, reference)
            rows.append(Row.of(name, {"extractor": embed.tag, **distance}, "fad"))
        scored = [
            truth.score_clip(s, item.truth, reference=item.stems["mix"]) for s, item in zip(sounds, items, strict=True)
        ]
        rows += [Row.of(name, metric) for metric in truth.summarize(scored)]
        if way is not None:
            rows.append(Row("cpu_s", name, seconds))
    for name, gap in gaps.items():
        if name not in (TRUE, REFERENCE):
            rows.append(_mean("nearer_than_griffin_lim", name, gap < gaps[REFERENCE], recordings))
    return rows


def _mean(metric: str, subject: str, values: np.ndarray, recordings: list[str]) -> Row:
    low, high = bootstrap(list(values), lambda part: float(np.mean(part)), recordings)
    return Row.of(subject, {"value": float(np.mean(values)), "low": low, "high": high, "n": len(values)}, metric)
