"""The score of a vocoder: what is left of true sounds after their spectrogram and it, beside Griffin-Lim."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from v2a_nb.audio.griffin_lim import spectral_convergence, stft
from v2a_nb.clip import Sound
from v2a_nb.hub import shipped
from v2a_nb.metrics import truth
from v2a_nb.metrics.frechet import StrikeAudio, frechet_with_interval
from v2a_nb.metrics.statistics import bootstrap
from v2a_nb.models.codec_report import log10_mel
from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder
from v2a_nb.scores.base import Job
from v2a_nb.training.results import Row, Table
from v2a_nb.world import strike_world

CLIPS, SEED, SECONDS = 200, 2000, 3.0
TRUE, TITLE, REFERENCE = "the true sound", "vocoder", "Griffin-Lim, 60 iterations"
BATCH = 8
_STFTS = (512, 1024, 2048)


def vocoder(job: Job) -> list[Table]:
    """The vocoder beside the true sounds and Griffin-Lim."""
    count = job.count(CLIPS)
    job.say(f"{job.name}: {count} clips of {SECONDS:g} s, seed {SEED}")
    rows = measure(Vocoder.from_pretrained(job.weights), count, StrikeAudio.from_pretrained())
    about = {"clips": count, "seed": SEED, "seconds": SECONDS}
    return [job.table("round_trip", rows, about=about)]


def stft_distance(decoded: Tensor, true: Tensor) -> Tensor:
    """Multi-resolution STFT distance [B] of waves [B, n] (Yamamoto et al. 2020, section 2.2).

    Spectral convergence plus the mean distance of log magnitudes (natural, floor 1e-5), averaged over transforms
    of 512, 1024 and 2048 samples with hops of a quarter.
    """
    total = decoded.new_zeros(len(decoded))
    for n in _STFTS:
        a, b = (stft(wave, n, n // 4).abs() for wave in (decoded, true))
        logs = (torch.log(a.clamp(min=1e-5)) - torch.log(b.clamp(min=1e-5))).abs().mean(dim=(1, 2))
        total += spectral_convergence(decoded, b, n // 4) + logs
    return total / len(_STFTS)


@torch.no_grad()
def measure(model: Vocoder, count: int = CLIPS, embed: StrikeAudio | None = None, seed: int = SEED) -> list[Row]:
    """What is left of true sounds after their spectrogram and a vocoder.

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
        scored = [truth.score_clip(sound, item.truth) for sound, item in zip(sounds, items, strict=True)]
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


# --- what the recipe imports until it writes its card by `write_card` ----------------------------------

CLIP_SECONDS, TEST_SEED, TEST_CLIPS = SECONDS, SEED, CLIPS


def embedding() -> StrikeAudio | None:
    """Ours for Fréchet distances, where its weights are shipped."""
    return StrikeAudio.from_pretrained() if "av_sim" in shipped() else None


@torch.no_grad()
def score_vocoder(
    vocoder: Vocoder, seed: int = TEST_SEED, clips: int = TEST_CLIPS, embed: StrikeAudio | None = None
) -> list[dict]:
    """What is left of true sounds after their spectrogram and a vocoder, beside Griffin-Lim and the originals.

    Args:
        vocoder: to score.
        seed: of a world that training never saw.
        clips: how many, 3 s each and each of another recording.
        embed: adds ``frechet_distance`` to the original sounds; left out, it is not measured.

    Returns:
        a row for each of ``original``, ``vocoder`` (also before its mels are matched), ``griffin-lim 60`` and
        ``griffin-lim 32``: ``mel_distance`` (of :func:`~v2a_nb.models.codec_report.log10_mel`) and ``stft_distance``
        (:func:`stft_distance`), each with an interval over recordings (``mel_low`` ...); the truth metrics;
        ``seconds``, of the processor, a clip;
        ``nearer``, the share of clips whose mels Griffin-Lim with 60 iterations keeps worse.
    """
    how = {"seconds": CLIP_SECONDS, "sample_rate": vocoder.sample_rate, "per_recording": 1}
    items = list(strike_world(seed, clips, size=16, **how))
    true = torch.from_numpy(np.stack([item.stems["mix"].samples[0] for item in items]))
    spectrogram, mel = vocoder.spectrogram(true), log10_mel(true, vocoder.sample_rate)
    recordings = [item.recording.id for item in items]
    ways = {"original": None, "vocoder": vocoder}
    if vocoder.config.match:
        ways["vocoder, mels not matched"] = Vocoder(replace(vocoder.config, match=0), vocoder.model).eval()
    for iterations in (60, 32):
        ways[f"griffin-lim {iterations}"] = GriffinLimVocoder(vocoder.config.front_end, iterations=iterations)
    rows, gaps, like = [], {}, None
    for name, way in ways.items():
        began = time.process_time()
        made = true
        if way is not None:
            made = torch.cat([way.decode(part, true.shape[-1]) for part in spectrogram.split(8)])
        seconds = (time.process_time() - began) / len(items)
        gaps[name] = (log10_mel(made, vocoder.sample_rate) - mel).abs().mean(dim=(1, 2)).numpy()
        row = {"sound": name, "clips": len(items), "seconds": seconds}
        for what, values in (("mel", gaps[name]), ("stft", stft_distance(made, true).numpy())):
            low, high = bootstrap(list(values), lambda v: float(np.mean(v)), recordings)
            row |= {f"{what}_distance": float(values.mean()), f"{what}_low": low, f"{what}_high": high}
        if embed:
            heard = [embed(Sound(w.numpy(), vocoder.sample_rate)) for w in made]
            like = like or heard  # the first row is of the originals
            told = frechet_with_interval(heard, like)
            row |= {f"frechet_{k}": told[v] for k, v in (("distance", "value"), ("low", "low"), ("high", "high"))}
        scored = [
            truth.score_clip(Sound(w.numpy(), vocoder.sample_rate), item.truth) for w, item in zip(made, items)
        ]  # fmt: skip
        rows.append(row | {metric: truth.pool(scored, metric) for metric in truth.NAMES})
    for row in rows:
        row["nearer"] = float((gaps[row["sound"]] < gaps["griffin-lim 60"]).mean())
    return rows


_DISTANCES = {"mel": "log10-mel distance", "stft": "STFT distance", "frechet": "Fréchet distance"}
_COLUMNS = {"onset_f1_50ms": "onset F1 at 50 ms", "material_accuracy": "material", "ambience_error_db": "ambience, dB"}


def table(rows: Sequence[dict]) -> str:
    """Rows of :func:`score_vocoder` as Markdown."""
    kinds = {k: v for k, v in _DISTANCES.items() if f"{k}_distance" in rows[0]}
    lines = [f"| sound | {' | '.join((*kinds.values(), *_COLUMNS.values()))} | s a clip |"]
    lines.append("| :--- |" + " ---: |" * (len(kinds) + 1 + len(_COLUMNS)))
    for r in rows:
        cells = [f"{r[f'{k}_distance']:.3f} ({r[f'{k}_low']:.3f} to {r[f'{k}_high']:.3f})" for k in kinds]
        cells += [f"{r[k]:.3f}" for k in _COLUMNS] + [f"{r['seconds']:.3f}" if r["seconds"] > 1e-3 else ""]
        lines.append(f"| {r['sound']} | {' | '.join(cells)} |")
    own = next(r for r in rows if r["sound"] == "vocoder")
    lines += ["", f"Nearer in mels than Griffin-Lim with 60 iterations: {own['nearer']:.0%} of the clips."]
    return "\n".join(lines)


def card_text(vocoder: Vocoder, card: dict) -> str:
    """The model card."""
    front = vocoder.spectrogram.front_end
    size = sum(p.numel() for p in vocoder.parameters()) / 1e6
    return f"""# The tiny vocoder

HiFi-GAN's generator (`transformers`' `SpeechT5HifiGan`), {size:.2f} M parameters, fp16 safetensors: spectrograms of
`{front.name}` ({front.mels} mels at {front.sample_rate} Hz, hop {front.hop}) to waves. MIT licence.

Trained by `python -m v2a_nb.training.recipes.vocoder` on {card["budget"]["recordings"]} recordings of Strike World seed
{card["data_seed"]}, training seed {card["seed"]}: {card["budget"]["spectral_steps"]} steps on spectra, then
{card["budget"]["steps"]} against discriminators by period and by scale. What it makes is then
given the mels that it was made of, {vocoder.config.match} times (`v2a_nb/audio/match_mels.py`), and the discriminators
heard it after {card["matched"]} of these: it relies on them, and is nothing without. It knows no other world: speech
and music come back rough.

## Scores

{card["scores"][0]["clips"]} clips of 3 s of seed {card["test_seed"]}, which training never saw, by
`python -m v2a_nb.training.recipes.vocoder --score WEIGHTS`; every sound but the original is made from the original's
spectrogram. Intervals are over recordings.

{table(card["scores"])}
"""
