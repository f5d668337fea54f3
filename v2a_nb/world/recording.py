"""Drawing of recordings: which objects, actor, events, camera and ambience a recording of a seed has."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from v2a_nb.errors import UsageError
from v2a_nb.world.description import (
    ACTORS,
    AMBIENCES,
    MATERIALS,
    METRES,
    REBOUND_S,
    STYLES,
    Event,
    Recording,
    Thing,
    stream,
    travel_time,
)
from v2a_nb.world.wide import draw_wide

VERSION = 1
"""The version of the world that everything takes if none is given."""
VERSIONS = (1, 2)


def draw(
    seed: int,
    index: int,
    *,
    duration_s: float = 30.0,
    variety: str = "wide",
    style: str = "camera",
    version: int = VERSION,
) -> Recording:
    """Draw recording ``index`` of the world of ``seed``.

    Args:
        seed: the world's seed.
        index: the recording's number; recordings are independent of each other.
        duration_s: length in seconds.
        variety: ``"wide"`` (training) or ``"plain"`` (figures and tests: one table, a mallet, no
            distractors, no roll).
        style: one of :data:`STYLES`: the same recording, drawn another way.
        version: one of :data:`VERSIONS`. Version 2 is as wide as real video; ``"plain"`` is the same in both.

    Raises:
        UsageError: an unknown style or version.
    """
    if style not in STYLES:
        raise UsageError(f"style={style!r} is unknown; choose one of {', '.join(STYLES)}")
    if version not in VERSIONS:
        raise UsageError(f"version={version!r} of Strike World is unknown; choose one of 1, 2")
    wide = variety == "wide"
    if wide and version == 2:
        return draw_wide(seed, index, duration_s, style)
    scene = stream(seed, index, "scene")
    things = _draw_things(scene, wide)
    actor_rng = stream(seed, index, "actor")
    actor = str(actor_rng.choice(ACTORS, p=_ACTOR_ODDS)) if wide else "mallet"
    camera = stream(seed, index, "camera")
    ambience_rng = stream(seed, index, "ambience")
    gravity = float(actor_rng.uniform(4.0, 9.0))
    schedule = _drops if actor == "ball" else _swings
    events = schedule(stream(seed, index, "events"), things, duration_s, gravity)
    off = stream(seed, index, "offscreen")
    count = off.poisson(duration_s / 14.0)
    times = np.sort(off.uniform(0.0, duration_s, size=count))
    return Recording(
        seed=seed,
        index=index,
        duration_s=duration_s,
        variety=variety,
        things=things,
        actor=actor,
        actor_scale=float(actor_rng.uniform(0.75, 1.4)) if wide else 1.0,
        hand_angle=float(actor_rng.uniform(-1.2, 1.2)) if wide else 0.6,
        ambience=str(ambience_rng.choice(AMBIENCES)),
        ambience_dbfs=float(ambience_rng.uniform(-64.0, -42.0)),
        events=tuple(events),
        offscreen=tuple((float(t), i) for i, t in enumerate(times)),
        distance=float(camera.uniform((0.55, 0.66, 0.8)[len(things) - 1], 1.1)) if wide else 0.85,
        roll=float(camera.normal(0.0, 0.06)) if wide else 0.0,
        sway=float(camera.uniform(0.0, 0.012)) if wide else 0.003,
        gravity=gravity,
        style=style,
        version=version,
    )


_ACTOR_ODDS = (0.24, 0.18, 0.14, 0.14, 0.06, 0.14, 0.10)


def _draw_things(rng: np.random.Generator, wide: bool) -> tuple[Thing, ...]:
    count = int(rng.choice([1, 2, 3], p=[0.45, 0.35, 0.2]))
    materials = rng.permutation(len(MATERIALS))[:count]
    slots = {1: [0.0], 2: [-0.19, 0.19], 3: [-0.29, 0.0, 0.29]}[count]
    room = {1: (0.22, 0.46), 2: (0.2, 0.32), 3: (0.17, 0.24)}[count]
    jitter = 0.08 if count == 1 else 0.02
    things = []
    for i, (slot, m) in enumerate(zip(slots, materials, strict=True)):
        material = MATERIALS[int(m)]
        width = float(rng.uniform(*room)) if wide else float(np.mean(room))
        height = width * {"wood": 0.45, "metal": 0.5, "glass": 1.0, "ceramic": 0.65, "drum": 0.75}[material]
        height *= float(rng.uniform(0.8, 1.2)) if wide else 1.0
        base = float(rng.uniform(0.24, 0.36)) if wide else 0.32
        middle = 0.5 * (room[0] + room[1])
        pitch = float((middle / width) ** 0.8 * 2.0 ** rng.normal(0.0, 0.15))
        x = slot + float(rng.uniform(-jitter, jitter)) * (1.0 if wide else 0.0)
        things.append(Thing(i, material, x, base - min(height, 0.32), base, width, pitch))
    return tuple(things)


def _swings(rng: np.random.Generator, things: tuple[Thing, ...], duration_s: float, gravity: float) -> list[Event]:
    """Draw strikes, near misses and scrapes at irregular times; quick repeats stay on one object."""
    events: list[Event] = []
    time, thing, free = float(rng.uniform(0.3, 0.9)), things[int(rng.integers(len(things)))], 0.0
    at = things[0].x
    rate = float(rng.uniform(0.75, 1.5))  # some recordings are busy, some are slow
    while time < duration_s - 0.05:
        kind = str(rng.choice(["strike", "near_miss", "scrape"], p=[0.7, 0.2, 0.1]))
        speed = float(np.exp(rng.uniform(np.log(0.55), np.log(3.0))))
        lift = float(rng.uniform(0.1, 0.3))
        # rebound, way over to this object and downswing must fit since the last contact
        room = time - free - REBOUND_S - travel_time(thing.x - at)
        lift = min(lift, speed / METRES * room / 2.0)
        if lift >= 0.02:
            reach = 0.32 * thing.width
            event = Event(
                serial=len(events),
                time_s=round(time * 16000) / 16000,
                kind=kind,
                thing=thing.index,
                speed=speed,
                x=thing.x + float(rng.uniform(-reach, reach)),
                y=thing.top,
                sounding=kind != "near_miss",
                duration_s=float(rng.uniform(0.25, 0.8)) if kind == "scrape" else 0.0,
                lift=lift,
            )
            if kind == "near_miss":
                beside = rng.random() < 0.25 and len(things) == 1
                event = replace(
                    event,
                    gap=float(rng.uniform(0.09, 0.2)),
                    side=float(rng.choice([-1, 1]) * (0.5 * thing.width + 0.1)) if beside else 0.0,
                )
            events.append(event)
            free, at = event.time_s + event.duration_s, event.x
        if rng.random() < 0.3 and kind == "strike":
            gap = float(rng.uniform(0.2, 0.4))  # a quick repeat on the same object
        else:
            gap = float(rng.uniform(0.4, 1.7)) / rate
            thing = things[int(rng.integers(len(things)))]
        time = max(time, free) + gap
    return events


def _drops(rng: np.random.Generator, things: tuple[Thing, ...], duration_s: float, gravity: float) -> list[Event]:
    """Draw drops that bounce: each contact is an event, and the intervals shrink by the restitution."""
    events: list[Event] = []
    time = float(rng.uniform(0.4, 0.9))
    drop = 0
    while time < duration_s - 0.05:
        thing = things[int(rng.integers(len(things)))]
        height = float(rng.uniform(0.12, 0.34))
        velocity = np.sqrt(2.0 * gravity * height)  # picture heights a second
        restitution = float(rng.uniform(0.4, 0.72))
        x = thing.x + float(rng.uniform(-0.25, 0.25)) * thing.width
        caught = rng.random() < 0.2
        first = True
        while True:
            kind = "near_miss" if caught else "bounce"
            events.append(
                Event(
                    serial=len(events),
                    time_s=round(time * 16000) / 16000,
                    kind=kind,
                    thing=thing.index,
                    speed=float(velocity * METRES),
                    x=x,
                    y=thing.top,
                    sounding=not caught,
                    lift=height if first else 0.0,
                    gap=float(rng.uniform(0.09, 0.2)) if caught else 0.0,
                    drop=drop,
                )
            )
            first = False
            interval = 2.0 * restitution * velocity / gravity
            if caught or interval < 0.1 or restitution * velocity * METRES < 0.3:
                break
            velocity *= restitution
            time += float(interval)
            if time > duration_s - 0.05:
                break
        drop += 1
        # the ball is picked up, lifted and let go again
        time += float(rng.uniform(0.9, 2.0))
    return events
