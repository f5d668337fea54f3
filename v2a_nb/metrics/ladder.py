"""The control ladder: sounds of which it is known how good they are, scored by every metric.

From the true sound down: what a codec or a vocoder leaves of it, the same later, the true sound of another clip, one
stem alone, noise of the same level, silence. A metric that does not put them in the order that
:mod:`v2a_nb.metrics.orders` declares does not measure what its name says on these clips, and is flagged. Values are
pooled over the same clips; where that many clips cannot show an order, it may be flagged for that alone.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.orders import (
    ACTION,
    AMBIENCE,
    LATE,
    NOISE,
    OTHER,
    OTHER_MATERIAL,
    SAME_MATERIAL,
    SHIFTS_MS,
    SILENCE,
    TRUTH,
    flags,
    order_of,
)
from v2a_nb.metrics.pairing import shuffled
from v2a_nb.metrics.report import Ladder
from v2a_nb.metrics.tally import Tally

LEAST_CLIPS = 8
"""With fewer clips, an order of pooled values is chance."""


def rungs(
    clip: ScoredClip,
    others: Mapping[str, Sound],
    round_trips: Mapping[str, Callable[[Sound], Sound]] | None = None,
) -> Iterator[tuple[str, Sound]]:
    """The controls of a clip, by name, from the best on.

    Args:
        clip: with its true sound as ``reference``; its stems are controls where it has them.
        others: true sounds of other clips, by control.
        round_trips: from a sound to what a codec or a vocoder leaves of it, by control.
    """
    true = clip.reference
    assert true is not None
    true = true.fit(clip.duration)
    yield TRUTH, true
    for name, round_trip in (round_trips or {}).items():
        yield name, round_trip(true)
    for name, ms in zip(LATE, SHIFTS_MS, strict=True):
        yield name, delayed(true, ms / 1000)
    for name, sound in others.items():
        yield name, sound.fit(clip.duration)
    for name, stem in ((ACTION, "action"), (AMBIENCE, "ambient")):
        if clip.stems is not None and stem in clip.stems:
            yield name, clip.stems[stem].fit(clip.duration)
    yield NOISE, noise_like(true, zlib.crc32(clip.id.encode()))
    yield SILENCE, Sound(np.zeros_like(true.samples), true.sample_rate)


def delayed(sound: Sound, seconds: float) -> Sound:
    """The sound, later; what is pushed out at the end comes in at the start, so that level and content stay."""
    return Sound(np.roll(sound.samples, round(seconds * sound.sample_rate), axis=1), sound.sample_rate)


def noise_like(sound: Sound, seed: int) -> Sound:
    """Pink noise (power falls as 1 / frequency, from 20 Hz on) as long and with as much power as a sound.

    Examples:
        >>> round(noise_like(Sound(np.full(16000, 0.1), 16000), 0).rms_dbfs, 3)
        -20.0
    """
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal((sound.channels, sound.n)), axis=1)
    spectrum /= np.sqrt(np.maximum(np.fft.rfftfreq(sound.n, 1 / sound.sample_rate), 20.0))
    noise = np.fft.irfft(spectrum, n=sound.n, axis=1)
    power, wanted = (float(np.mean(np.square(wave, dtype=np.float64))) for wave in (noise, sound.samples))
    return Sound(noise * np.sqrt(wanted / power) if power else noise, sound.sample_rate)


def plan_others(entries: Sequence[Mapping]) -> dict[str, list[int | None]]:
    """Which other clip's true sound each clip is given as control, None where there is none: by control.

    Args:
        entries: of ``truth.json``, or ``{"id"}`` alone. Where clips have materials, the other clip is one with the
            same most frequent material and one with another, both of another recording; else any.

    Raises:
        UsageError: fewer than :data:`LEAST_CLIPS`.
    """
    if len(entries) < LEAST_CLIPS:
        raise UsageError(f"the control ladder of {len(entries)} clips would be chance; it needs {LEAST_CLIPS}")
    recordings = [entry.get("recording", entry["id"]) for entry in entries]
    materials = [_material(entry) for entry in entries]
    if not any(materials):
        order = shuffled(recordings)
        return {OTHER: [None] * len(entries) if order is None else list(order)}
    plan: dict[str, list[int | None]] = {SAME_MATERIAL: [], OTHER_MATERIAL: []}
    for k, material in enumerate(materials):
        foreign = [j for j, other in enumerate(materials) if recordings[j] != recordings[k] and other and material]
        for name, same in ((SAME_MATERIAL, True), (OTHER_MATERIAL, False)):
            fitting = [j for j in foreign if (materials[j] == material) == same]
            plan[name].append(fitting[k % len(fitting)] if fitting else None)
    return plan


def _material(entry: Mapping) -> str | None:
    """The most frequent material of a clip's events that sound."""
    found = Counter(event["material"] for event in entry.get("events", ()) if event["sounding"])
    return max(sorted(found), key=found.__getitem__) if found else None


def read_ladder(tally: Tally) -> Ladder:
    """The ladder of what was counted: values of all controls, and what is not in order.

    Raises:
        UsageError: fewer clips than :data:`LEAST_CLIPS` have a true sound.
    """
    if len(tally.clips) < LEAST_CLIPS:
        found = f"{len(tally.clips)} true sounds"
        raise UsageError(f"the control ladder of {found} would be chance; it needs {LEAST_CLIPS}")
    columns = {name: {row["name"]: row for row in tally.results(name, intervals=False)} for name in tally.controls()}
    rows = []
    for _, names in tally.metrics:
        for name in names:
            values = {control: column[name]["value"] for control, column in columns.items() if name in column}
            extractor = next((column[name]["extractor"] for column in columns.values() if name in column), "")
            wrong, promise = flags(name, values), order_of(name)
            rows.append({
                "name": name, "extractor": extractor, "better": promise.better or None, "values": values,
                "orders": [list(order) for order in promise.orders], "flags": wrong,
            })  # fmt: skip
    return Ladder(len(tally.clips), list(columns), rows, tally.problems)
