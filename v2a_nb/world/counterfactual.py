"""Counterfactual pairs: a clip is rendered again with one factor changed and everything else the same to the byte.

What the sound should then do follows from the pair's truth. Single-factor pairs and trend tests are also what
FlatSounds (arXiv 2605.30339) records by hand.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from v2a_nb.errors import UsageError, V2AError
from v2a_nb.world.dataset import StrikeWorld, Take, WorldClip
from v2a_nb.world.description import MATERIALS, METRES, Event, Recording

FACTORS = ("material", "size", "speed", "distance", "damping", "shift", "removal")
TAIL_S = 0.15
"""A hit that the clip's end leaves less of cannot show what changed."""


class _Change(NamedTuple):
    """The changed recording, the factor before and after, what to expect, and the object's index if one changes."""

    recording: Recording
    before: object
    after: object
    expect: dict
    thing: int | None = None


def counterfactual(item: WorldClip, factor: str) -> tuple[WorldClip, WorldClip] | None:
    """Return a pair ``(a, b)``: ``a`` is the clip, and ``b`` is the clip with ``factor`` changed.

    Args:
        item: a clip of Strike World.
        factor: one of :data:`FACTORS`.

    Returns:
        two clips with ids ``ID.a`` and ``ID.b``, both rendered with one common gain; None where the clip has
        nothing to change (no strike or bounce before its last :data:`TAIL_S`, or no strike that can be shifted or
        removed). Their ``pair`` in the truth has ``of`` (the clip), ``factor``, ``from``, ``to``, ``expect`` (how the
        sound of ``b`` should differ), ``side`` (``"a"`` or ``"b"``) and, where one object changes, its ``object``.

    Raises:
        UsageError: the factor is unknown.
    """
    if factor not in FACTORS:
        raise UsageError(f"factor {factor!r} is unknown; choose one of {', '.join(FACTORS)}")
    change = _change(item, factor)
    if change is None:
        return None
    a, b = item.take, Take(change.recording, item.take.settings)
    gain = min(a.gain, b.gain)
    a, b = (take if take.gain == gain else take.with_gain(gain) for take in (a, b))
    info = {"of": item.id, "factor": factor, "from": change.before, "to": change.after, "expect": change.expect}
    if change.thing is not None:
        info["object"] = change.thing
    return (
        WorldClip(f"{item.id}.a", a, item.start_s, {**info, "side": "a"}),
        WorldClip(f"{item.id}.b", b, item.start_s, {**info, "side": "b"}),
    )


def pairs_of(world: StrikeWorld, factor: str, count: int) -> list[WorldClip]:
    """The first ``count`` pairs of a world's clips, ``a`` and ``b`` by turns.

    Raises:
        UsageError: the factor is unknown.
        V2AError: too few clips allow the factor.
    """
    items: list[WorldClip] = []
    for item in world:
        items += counterfactual(item, factor) or ()
        if len(items) >= 2 * count:
            return items
    raise V2AError(
        f"only {len(items) // 2} of {count} pairs for {factor!r} could be made from seed {world.seed}; "
        "ask for fewer, or take another seed"
    )


def _change(item: WorldClip, factor: str) -> _Change | None:
    recording = item.recording
    sounding = [e for e in item.events if e.sounding]
    stop = item.start_s + item.take.settings.duration - TAIL_S
    hits = [e for e in sounding if e.kind != "scrape" and e.time_s < stop]
    if not hits:
        return None  # a scrape alone shows neither decay nor material, and a slow one is no softer at half the speed
    rng = recording.rng("counterfactual-" + factor, int(item.start_s * 1000))
    main = hits[int(np.argmax([e.speed for e in hits]))]
    thing = recording.things[main.thing]

    def with_thing(**fields: object) -> Recording:
        things = tuple(replace(t, **fields) if t.index == thing.index else t for t in recording.things)
        return recording.changed(things=things)

    if factor == "material":
        present = {t.material for t in recording.things}
        to = str(rng.choice([m for m in MATERIALS if m not in present]))
        return _Change(with_thing(material=to), thing.material, to, {"material": to}, thing.index)
    if factor == "size":
        ratio = float(rng.choice([0.6, 1.5]) if thing.width < 0.3 else 0.6)
        changed = with_thing(width=thing.width * ratio, pitch=thing.pitch / ratio)
        before, after = round(thing.width, 4), round(thing.width * ratio, 4)
        return _Change(changed, before, after, {"pitch_ratio": 1 / ratio}, thing.index)
    if factor == "damping":
        changed = with_thing(decay=thing.decay * 0.2, damped_by_hand=True)
        return _Change(changed, "free", "hand", {"decay_ratio": 0.2, "level_db": -2.97}, thing.index)
    if factor == "distance":
        to = recording.distance * 1.5
        expect = {"level_db": round(-20 * float(np.log10(1.5)), 2)}
        return _Change(recording.changed(distance=to), round(recording.distance, 4), round(to, 4), expect)
    if factor == "speed":
        return _slower(recording, sounding)
    if any(e.kind == "bounce" for e in sounding):
        return None  # a bounce follows from the one before it and cannot move alone
    strikes = [e for e in hits if e.kind == "strike"]
    if not strikes:
        return None
    event = strikes[int(rng.integers(len(strikes)))]
    if factor == "removal":
        kept = tuple(e for e in recording.events if e.serial != event.serial)
        time = round(event.time_s - item.start_s, 4)
        return _Change(recording.changed(events=kept), time, None, {"onsets": -1, "at_s": time})
    return _shifted(recording, item, event, rng)


def _slower(recording: Recording, sounding: list[Event]) -> _Change | None:
    """Halve the speed of every strike of the clip, which makes it 6 dB softer."""
    if any(e.kind == "bounce" for e in sounding):
        return None
    serials = {e.serial for e in sounding}
    events = tuple(
        replace(e, speed=e.speed / 2, lift=e.lift / 2) if e.serial in serials else e for e in recording.events
    )
    fastest = max(e.speed for e in sounding)
    expect = {"level_db": round(-20 * float(np.log10(2)), 2)}
    return _Change(recording.changed(events=events), round(fastest, 3), round(fastest / 2, 3), expect)


def _shifted(recording: Recording, item: WorldClip, event: Event, rng: np.random.Generator) -> _Change | None:
    """Move one strike by 60 to 140 ms, if the events around it leave room."""
    others = [e for e in recording.events if e.serial != event.serial]
    before = max((e.time_s + e.duration_s for e in others if e.time_s < event.time_s), default=0.0)
    after = min((e.time_s for e in others if e.time_s > event.time_s), default=recording.duration_s)
    stop = item.start_s + item.take.settings.duration
    for _ in range(20):
        shift = float(rng.choice([-1, 1]) * rng.uniform(0.06, 0.14))
        to = round((event.time_s + shift) * 16000) / 16000
        if max(before, item.start_s) + 0.2 < to < min(after - 0.2, stop - 0.05):
            lift = min(event.lift, 0.4 * (to - before) * event.speed / METRES)
            events = tuple(
                replace(e, time_s=to, lift=lift) if e.serial == event.serial else e for e in recording.events
            )
            a, b = event.time_s - item.start_s, to - item.start_s
            expect = {"shift_s": round(to - event.time_s, 6)}
            return _Change(recording.changed(events=events), round(a, 6), round(b, 6), expect)
    return None


def level_difference(a: WorldClip, b: WorldClip) -> float:
    """Peak level of the action stem of ``b`` minus that of ``a``, dB."""
    peak = [float(np.abs(c.stems["action"].samples).max()) + 1e-9 for c in (a, b)]
    return float(20 * np.log10(peak[1] / peak[0]))
