"""The score of a codec: what is left of Strike World sounds after it, beside the true sounds."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from v2a_nb.clip import Sound
from v2a_nb.metrics import truth
from v2a_nb.models.codec_report import codec_report
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.scores.base import Job
from v2a_nb.training.results import Row, Table
from v2a_nb.world import strike_world

CLIPS, SEED = 200, 2000
LEVELS_DBFS = (-60, -55, -50, -45, -40, -35)
TITLE, TRUE = "round trip", "ground truth"
BATCH = 16


def codec(job: Job) -> list[Table]:
    """Truth metrics of decoded and of true sounds, what each codebook adds, and what becomes of soft ambiences."""
    count = job.count(CLIPS)
    job.say(f"{job.name}: {count} clips of seed {SEED}")
    rows = measure(TinyCodec.from_pretrained(job.weights), count)
    controls = {"scores": (TRUE,)}
    about = {"clips": count, "seed": SEED}
    return [
        job.table(
            name, some, down="metric" if name == "scores" else "subject", controls=controls.get(name, ()), about=about
        )
        for name, some in rows.items()
    ]


def measure(model: TinyCodec, count: int = CLIPS, seed: int = SEED) -> dict[str, list[Row]]:
    """Rows by table.

    Args:
        model: at 16 kHz.
        count: clips of 2.56 s.
        seed: of a world that training never saw.

    Returns:
        ``scores``: truth metrics of decoded and true sounds, distances and onset errors of
        :func:`~v2a_nb.models.codec_report.codec_report` and processor seconds to decode a clip; ``codebooks``: the use
        of each and the distances with it and those before it; ``ambience_bias``: median of the decoded minus the
        original quiet level by the true level of the ambience.
    """
    items = list(strike_world(seed, count, size=16))
    waves = np.stack([item.stems["mix"].samples[0] for item in items])
    report = codec_report(model, waves)
    parts = torch.from_numpy(waves).split(BATCH)
    decoded = np.concatenate([model.decode(model.encode(part), waves.shape[1]).numpy() for part in parts])
    found = {
        subject: [
            truth.score_clip(Sound(w, 16000), item.truth, reference=item.stems["mix"])
            for w, item in zip(sounds, items, strict=True)
        ]
        for subject, sounds in ((TITLE, decoded), (TRUE, waves))
    }
    scores = [Row.of(subject, metric) for subject, some in found.items() for metric in truth.summarize(some)]
    names = ("mel_distance", "level_error_db", "level_bias_db", "onset_shift_ms", "onset_jitter_ms")
    scores += [Row.of(TITLE, {"value": report[name]}, name) for name in names]
    scores.append(Row("cpu_s", TITLE, _cpu_seconds(model, waves)))
    books = []
    for k, use in enumerate(report["codebooks"]):
        subject = str(k + 1)
        books += [Row("codes_used", subject, use["used"]), Row("perplexity", subject, use["perplexity"])]
        for name in ("mel_distance", "onset_f1_50ms"):
            books.append(Row(f"{name}_with_those_before", subject, report[f"{name}_by_codebooks"][k]))
    levels = [item.truth["ambient"]["level_dbfs"] for item in items]
    return {"scores": scores, "codebooks": books, "ambience_bias": _by_level(levels, found[TRUE], found[TITLE])}


def _by_level(levels: Sequence[float], original: list, decoded: list) -> list[Row]:
    """Median of decoded minus original quiet level, dB, in 5 dB bins of the ambience's true level."""
    gaps = np.array([d.ambience_error - o.ambience_error for o, d in zip(original, decoded, strict=True)])
    rows, levels = [], np.asarray(levels)
    for low, high in pairwise(LEVELS_DBFS):
        inside = gaps[(levels >= low) & (levels < high) & np.isfinite(gaps)]
        if len(inside):
            rows.append(Row("level_bias_db", f"{low} to {high} dBFS", float(np.median(inside)), n=len(inside)))
    return rows


def _cpu_seconds(model: TinyCodec, waves: np.ndarray) -> float:
    """Processor seconds to decode one clip: median of seven."""
    codes = model.encode(torch.from_numpy(waves[:1]))
    spent = []
    for _ in range(7):
        began = time.process_time()
        model.decode(codes)
        spent.append(time.process_time() - began)
    return float(np.median(spent))
