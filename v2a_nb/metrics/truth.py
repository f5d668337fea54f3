"""Truth metrics: a generated sound against what really happened in a Strike World clip.

| name | what | better |
|---|---|---|
| `onset_f1_25ms` `onset_f1_50ms` `onset_f1_100ms` | detected onsets against true sounding events, pooled | higher |
| `onset_offset_abs_ms` | median distance of onsets from the events they match within 250 ms | lower |
| `onset_offset_signed_ms` | the same with sign: positive is late | near 0 |
| `near_miss_silent` | share of near misses without an onset within 100 ms | higher |
| `material_accuracy` | share of hits that sound like their material | higher |
| `ambience_error_db` | mean distance of the quiet level from the true ambience | lower |

Onset windows are inclusive. Offsets are matched at a wide 250 ms, because matching at 50 ms would hide
errors over 50 ms. The detector is :mod:`v2a_nb.audio.onsets`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from v2a_nb.audio.onsets import detect_onsets, match_onsets, onset_scores
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError

WINDOWS_MS = (25, 50, 100)
GATE_S = 0.25
NEAR_MISS_S = 0.1
NAMES = (
    *(f"onset_f1_{w}ms" for w in WINDOWS_MS),
    "onset_offset_abs_ms",
    "onset_offset_signed_ms",
    "near_miss_silent",
    "material_accuracy",
    "ambience_error_db",
)


@dataclass
class ClipScore:
    """What was counted in one clip; pooled by :func:`pool`."""

    id: str
    recording: str
    events: int
    onsets: int
    hits: dict[int, int]  # window in ms -> matched pairs
    offsets: list[float] = field(default_factory=list)  # s, late is positive
    near_misses: int = 0
    near_misses_silent: int = 0
    heard: list[tuple[str, str]] = field(default_factory=list)  # (true, heard) materials
    ambience_error: float = float("nan")

    def row(self) -> dict:
        """This clip alone, by the names of the metrics."""
        return {"id": self.id, **{name: pool([self], name) for name in NAMES}}


def score_clip(sound: Sound, entry: dict, classifier=None) -> ClipScore:
    """Score one sound against one clip's entry of ``truth.json``.

    Args:
        sound: any rate; it is compared at 16 kHz.
        entry: with ``id``, ``recording``, ``events`` and ``ambient``.
        classifier: a :class:`~v2a_nb.metrics.material.MaterialClassifier`; left out, the shipped one.
    """
    from v2a_nb.metrics.material import shipped_classifier

    wave = sound.mono().resample(16000).samples[0]
    events = entry["events"]
    true = np.array(sorted(e["time_s"] for e in events if e["sounding"]))
    found = detect_onsets(wave)
    hits = {w: len(match_onsets(true, found, w / 1000)) for w in WINDOWS_MS}
    offsets = [float(found[j] - true[i]) for i, j in match_onsets(true, found, GATE_S)]
    score = ClipScore(
        entry["id"], entry.get("recording", entry["id"]), len(true), len(found), hits, offsets
    )
    for event in events:
        if event["sounding"]:
            continue
        time = event["time_s"]
        if len(true) and np.abs(true - time).min() < 2 * NEAR_MISS_S:
            continue  # a true hit is so near that an onset there may be its own
        score.near_misses += 1
        quiet = not len(found) or np.abs(found - time).min() > NEAR_MISS_S
        score.near_misses_silent += int(quiet)
    classifier = classifier or shipped_classifier()
    judged = [
        e for e in events
        if e["sounding"] and e["kind"] != "scrape" and e["time_s"] < sound.duration - 0.1
    ]  # fmt: skip
    # a hit is judged where it was heard: at the matched onset, else at the true time
    near = {i: found[j] for i, j in match_onsets(true, found, 0.1)}
    times = [near.get(int(np.searchsorted(true, e["time_s"])), e["time_s"]) for e in judged]
    heard = classifier.hear(wave, np.array(times))
    score.heard = [(e["material"], name) for e, name in zip(judged, heard, strict=True)]
    if "ambient" in entry:
        score.ambience_error = quiet_level(wave) - entry["ambient"]["level_dbfs"]
    return score


def quiet_level(wave: np.ndarray) -> float:
    """Level of the quiet parts, dBFS: the 15th percentile of 32 ms powers, plus 0.6 dB.

    The correction is what that percentile lies under the mean for steady noise; hits and their tails
    fill the upper percentiles and are left out.
    """
    n = 512
    if len(wave) < n:
        return -120.0
    frames = wave[: len(wave) // n * n].reshape(-1, n).astype(np.float64)
    power = np.percentile((frames**2).mean(axis=1), 15)
    return float(10 * np.log10(max(power, 1e-12)) + 0.6)


def pool(scores: Sequence[ClipScore], name: str) -> float:
    """One metric over clips; NaN where nothing can be counted.

    Onset F1 is pooled (all hits over all events and onsets), so that clips with few events do not weigh
    more per event.
    """
    if name.startswith("onset_f1_"):
        window = int(name.removeprefix("onset_f1_").removesuffix("ms"))
        total = sum(s.events + s.onsets for s in scores)
        return 2 * sum(s.hits[window] for s in scores) / total if total else float("nan")
    if name in ("onset_offset_abs_ms", "onset_offset_signed_ms"):
        offsets = np.array([o for s in scores for o in s.offsets]) * 1000
        if not len(offsets):
            return float("nan")
        return float(np.median(np.abs(offsets) if name == "onset_offset_abs_ms" else offsets))
    if name == "near_miss_silent":
        total = sum(s.near_misses for s in scores)
        return sum(s.near_misses_silent for s in scores) / total if total else float("nan")
    if name == "material_accuracy":
        heard = [pair for s in scores for pair in s.heard]
        return sum(a == b for a, b in heard) / len(heard) if heard else float("nan")
    if name == "ambience_error_db":
        errors = [abs(s.ambience_error) for s in scores if np.isfinite(s.ambience_error)]
        return float(np.mean(errors)) if errors else float("nan")
    raise UsageError(f"unknown metric {name!r}; known are {', '.join(NAMES)}")


def count(scores: Sequence[ClipScore], name: str) -> int:
    """How many things a metric was counted over: events, offsets, near misses, hits or clips."""
    if name.startswith("onset_f1_"):
        return sum(s.events for s in scores)
    return {
        "onset_offset_abs_ms": sum(len(s.offsets) for s in scores),
        "onset_offset_signed_ms": sum(len(s.offsets) for s in scores),
        "near_miss_silent": sum(s.near_misses for s in scores),
        "material_accuracy": sum(len(s.heard) for s in scores),
        "ambience_error_db": sum(np.isfinite(s.ambience_error) for s in scores),
    }[name]


def f1_of(sound: Sound, times: np.ndarray, window: float = 0.05) -> float:
    """Onset F1 of one sound against times (s)."""
    return onset_scores(np.asarray(times), detect_onsets(sound), window)[2]
