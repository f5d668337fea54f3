"""Drawing of version 2 of Strike World, which is as wide as real video.

Strikes come from all sides, tools rest and slide, near misses end in many manners, limbs never stand still, and the
pictures are as bad as people's cameras make them. Each factor has its own random stream, as in version 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from v2a_nb.world.description import (
    ACTORS,
    AMBIENCES,
    MATERIALS,
    METRES,
    Camera,
    Event,
    Look,
    Recording,
    Thing,
    stream,
    swing_time,
    travel_time,
)

_ACTOR_ODDS = (0.27, 0.16, 0.17, 0.14, 0.06, 0.11, 0.09)
_HEIGHTS = {"wood": 0.45, "metal": 0.5, "glass": 1.0, "ceramic": 0.65, "drum": 0.75}
SPREAD = 0.28
"""Contacts lie within this share of an object's width, and 0.2 world lengths, of its middle."""


def draw_wide(seed: int, index: int, duration_s: float, style: str) -> Recording:
    """Draw recording ``index`` of version 2; see :func:`v2a_nb.world.recording.draw`."""

    def rng(word: str) -> np.random.Generator:
        return stream(seed, index, "wide-" + word)

    things = draw_things(rng("scene"))
    actor, ambience, life = rng("actor"), rng("ambience"), rng("life")
    kind = str(actor.choice(ACTORS, p=_ACTOR_ODDS))
    gravity = float(actor.uniform(3.0, 9.0))
    distance = _distance(rng("distance"), things)
    if kind == "ball":
        events = _drops(rng("events"), things, duration_s, gravity)
    else:
        events = _swings(rng("events"), Habits.draw(rng("habits"), distance), things, duration_s)
    roll, camera = _framing(rng("camera"), events, distance, kind == "ball", duration_s)
    off = rng("offscreen")
    times = np.sort(off.uniform(0.0, duration_s, size=off.poisson(duration_s / 14.0)))
    return Recording(
        seed=seed,
        index=index,
        duration_s=duration_s,
        variety="wide",
        things=things,
        actor=kind,
        actor_scale=float(actor.uniform(0.6, 1.5)),
        hand_angle=float(actor.uniform(-1.3, 1.3) if actor.random() < 0.65 else actor.uniform(-np.pi, np.pi)),
        ambience=str(ambience.choice(AMBIENCES)),
        ambience_dbfs=float(ambience.uniform(-64.0, -42.0)),
        events=tuple(events),
        offscreen=tuple((float(t), i) for i, t in enumerate(times)),
        distance=distance,
        roll=roll,
        sway=float(rng("sway").uniform(0.0, 0.012) if rng("hand-held").random() < 0.75 else 0.0),
        gravity=gravity,
        style=style,
        version=2,
        camera=camera,
        look=_look(rng("look")),
        tool_length=float(actor.uniform(0.55, 1.2)),
        arm=float(actor.uniform(0.6, 1.5)) if actor.random() < 0.7 else 0.0,
        restless=float(life.uniform(0.3, 1.0)) if life.random() < 0.75 else 0.0,
        limbs=int(life.random() < 0.25),
        passers=int(life.integers(1, 5)) if life.random() < 0.15 else 0,
        occluders=int(life.integers(1, 4)) if life.random() < 0.25 else 0,
        photographs=bool(life.random() < 0.5),
    )


def draw_things(rng: np.random.Generator) -> tuple[Thing, ...]:
    """Draw one to three objects: those of version 1 in more sizes, or a surface, a rail, something small."""
    scene = str(rng.choice(["objects", "surface", "rail", "small"], p=[0.55, 0.25, 0.1, 0.1]))
    count = int(rng.choice([1, 2, 3], p=[0.5, 0.32, 0.18])) if scene == "objects" else 1
    slots = {1: [0.0], 2: [-0.2, 0.2], 3: [-0.29, 0.0, 0.29]}[count]
    room = {1: (0.14, 0.6), 2: (0.14, 0.34), 3: (0.12, 0.24)}[count]
    materials = rng.permutation(len(MATERIALS))[:count]
    things = []
    for i, (slot, m) in enumerate(zip(slots, materials, strict=True)):
        material = MATERIALS[int(m)]
        base, shape, face = float(rng.uniform(0.2, 0.38)), "own", 0.0
        if scene == "surface":
            width, height, shape = rng.uniform(0.8, 3.0), rng.uniform(0.3, 1.6), "slab"
            base = float(rng.uniform(-0.05, 0.2) + height)
            face = float(rng.uniform(0.0, 0.35) * height) if rng.random() < 0.6 else 0.0
        elif scene == "rail":
            width, height, shape = rng.uniform(0.5, 2.0), rng.uniform(0.025, 0.08), "slab"
        else:
            width = rng.uniform(*room) if scene == "objects" else rng.uniform(0.07, 0.15)
            height = min(width * _HEIGHTS[material] * rng.uniform(0.6, 1.5), 0.42)
            shape = str(rng.choice(["own", "slab", "wedge", "dome"], p=[0.7, 0.1, 0.1, 0.1]))
            face = float(rng.uniform(0.05, 0.35) * height) if rng.random() < 0.4 else 0.0
        x = slot + float(rng.uniform(-0.1, 0.1)) / count
        heard = 0.5 * (room[0] + room[1]) / float(np.clip(width, 0.12, 0.6))
        pitch = float(heard**0.8 * 2.0 ** rng.normal(0.0, 0.15))
        things.append(
            Thing(i, material, x, base - float(height), base, float(width), pitch, shape=shape, face=face)
        )  # fmt: skip
    return tuple(things)


@dataclass(frozen=True)
class Habits:
    """How the actor of one recording strikes; each event varies around it.

    Attributes:
        rate: events a second, apart from quick repeats.
        repeats: share of strikes that are followed by a quick repeat.
        misses, scrapes, slides, rests: shares of events.
        stays: share of strikes after which the actor rests until the next swing.
        rebound: speed after a contact over speed before it.
        slant: angle of the approach from the surface's normal, rad.
        power: exponent of time in a downswing.
        size: factor of wind-ups and of the gaps of near misses, which are drawn in the size that the picture shows.
    """

    rate: float
    repeats: float
    misses: float
    scrapes: float
    slides: float
    rests: float
    stays: float
    rebound: float
    slant: float
    power: float
    size: float

    @classmethod
    def draw(cls, rng: np.random.Generator, distance: float) -> Habits:
        """Draw the habits of a recording whose camera is at ``distance``."""
        busy = rng.random() < 0.15
        return cls(
            rate=float(np.exp(rng.uniform(np.log(0.35), np.log(2.2)))),
            repeats=float(rng.uniform(0.75, 0.92) if busy else rng.uniform(0.0, 0.45)),
            misses=float(rng.uniform(0.12, 0.42)),
            scrapes=float(rng.uniform(0.0, 0.14)),
            slides=float(rng.uniform(0.1, 0.4) if rng.random() < 0.3 else 0.02),
            rests=float(rng.uniform(0.3, 0.9) if rng.random() < 0.4 else 0.05),
            stays=float(rng.uniform(0.2, 0.8) if rng.random() < 0.2 else 0.0),
            rebound=float(rng.uniform(0.05, 0.8)),
            slant=float(np.clip(rng.normal(0.0, 0.45), -1.0, 1.0)),
            power=float(rng.uniform(1.3, 3.0)),
            size=float(np.clip(distance / 0.85, 0.5, 2.0)),
        )


def _swings(rng: np.random.Generator, habits: Habits, things: tuple[Thing, ...], duration_s: float) -> list[Event]:
    """Draw strikes, near misses and scrapes at irregular times, all of which fit into the time between them."""
    events: list[Event] = []
    time, free, here = float(rng.uniform(0.3, 1.2)), 0.0, (things[0].x, things[0].top)
    thing = things[int(rng.integers(len(things)))]
    while time < duration_s - 0.05:
        event = _event(rng, habits, thing, things, time, len(events))
        way = float(np.hypot(event.x + event.side - here[0], event.y - event.gap - here[1]))
        event = _fitted(event, time - free - travel_time(way))
        if event is not None:
            if events and rng.random() < habits.stays and events[-1].sounding and events[-1].kind == "strike":
                spare = time - _approach_s(event) - travel_time(way) - 0.1 - free
                if spare > 0.05:  # it stays on the surface until it swings again
                    events[-1] = replace(events[-1], rest_s=events[-1].rest_s + spare, rise_s=0.2)
            events.append(event)
            time, free, here = event.time_s, _end_of(event), (event.x, event.y)
            while rng.random() < habits.repeats and (repeated := _repeats(rng, events[-1], len(events))):
                first, again = repeated
                if again.time_s > duration_s - 0.05:
                    break
                events[-1:] = [first, again]
                time, free = again.time_s, _end_of(again)
        gap = 0.25 + float(rng.exponential(max(0.1, 1 / habits.rate - 0.25)))
        time = max(time, free) + min(gap, 4.0)
        thing = things[int(rng.integers(len(things)))]
    return events


def _approach_s(event: Event) -> float:
    """How long the actor approaches, seconds."""
    if event.manner in ("hover", "touch"):
        return event.settle_s
    return swing_time(event.speed, event.lift, event.power) + event.settle_s


def _end_of(event: Event) -> float:
    """When the actor is free to go elsewhere, seconds."""
    return event.time_s + event.duration_s + event.rest_s + event.rise_s


def _event(
    rng: np.random.Generator, habits: Habits, thing: Thing, things: tuple[Thing, ...], time: float, serial: int
) -> Event:
    """Draw one event, without regard to whether there is time for it."""
    odds = np.array([1 - habits.misses - habits.scrapes, habits.misses, habits.scrapes])
    kind = str(rng.choice(["strike", "near_miss", "scrape"], p=odds))
    reach = min(SPREAD * thing.width, 0.2)
    event = Event(
        serial=serial,
        time_s=round(time * 16000) / 16000,
        kind=kind,
        thing=thing.index,
        speed=float(np.exp(rng.uniform(np.log(0.5), np.log(3.2)))),
        x=thing.x + float(rng.uniform(-reach, reach)),
        y=thing.top + float(rng.uniform(0, 1)) * thing.face,
        sounding=kind != "near_miss",
        lift=float(rng.uniform(0.07, 0.4)) * habits.size,
        slant=float(np.clip(habits.slant + rng.normal(0, 0.25), -1.05, 1.05)),
        bend=float(rng.normal(0, 0.12)),
        power=float(np.clip(habits.power + rng.normal(0, 0.2), 1.3, 3.0)),
        rebound=float(np.clip(habits.rebound * np.exp(rng.normal(0, 0.3)), 0.05, 0.8)),
        leave=float(np.clip(rng.choice([1.0, 0.4, -0.6]) * habits.slant + rng.normal(0, 0.15), -1.05, 1.05)),
        rise_s=float(rng.uniform(0.06, 0.14)),
    )
    more = rng.random(4)
    if kind == "scrape":
        return replace(event, duration_s=float(rng.uniform(0.25, 0.8)))
    if kind == "strike":
        if more[0] < habits.slides:
            room = thing.x + np.sign(-event.slant or 1.0) * reach * 1.05 - event.x
            if abs(room) > 0.03:
                way, lasts = room * rng.uniform(0.5, 1.0), rng.uniform(0.12, 0.4)
                event = replace(event, slide=float(way), duration_s=float(lasts), rise_s=0.15)
        if more[1] < habits.rests:
            event = replace(event, rest_s=float(rng.uniform(0.05, 0.6)), rise_s=float(rng.uniform(0.12, 0.3)))
        return event
    return _missed(rng, event, thing, habits.size, alone=len(things) == 1 and thing.width < 0.5)


def _missed(rng: np.random.Generator, event: Event, thing: Thing, size: float, alone: bool) -> Event:
    """Turn an event into a near miss of one of the manners."""
    manner = str(rng.choice(["turn", "hover", "stop", "pass", "touch"], p=[0.3, 0.22, 0.2, 0.18, 0.1]))
    over = min(event.y - thing.top, 0.1)  # it ends above the upper side too
    event = replace(event, manner=manner, gap=over + float(rng.uniform(0.06, 0.2)) * size)
    beside = float(rng.choice([-1, 1]) * (0.5 * thing.width + rng.uniform(0.07, 0.14)))
    if manner == "turn":
        return replace(event, side=beside) if alone and rng.random() < 0.25 else event
    if manner == "pass":
        event = replace(event, rise_s=float(rng.uniform(0.15, 0.3)), bend=0.0)
        if alone and rng.random() < 0.5:
            return replace(event, side=beside)
        if rng.random() < 0.6:  # along the surface
            return replace(event, slant=float(rng.choice([-1, 1]) * rng.uniform(1.3, 1.5)))
        return replace(event, gap=0.0)  # before the object, which it does not touch
    rest, rise = float(rng.uniform(0.03, 0.6)), float(rng.uniform(0.12, 0.35))
    event = replace(event, rest_s=rest, rise_s=rise, settle_s=float(rng.uniform(0.25, 0.7)))
    if manner == "stop":
        return replace(event, settle_s=float(rng.uniform(0.06, 0.12)))
    if manner == "touch":
        return replace(event, gap=0.0, speed=0.02, settle_s=float(rng.uniform(0.4, 0.8)))
    return event


def _fitted(event: Event, room: float) -> Event | None:
    """Shorten the approach to ``room`` seconds; None where that leaves none."""
    if event.manner in ("hover", "touch"):
        settle = min(event.settle_s, room)
        if settle < (0.3 if event.manner == "touch" else 0.15):
            return None
        return replace(event, settle_s=settle, lift=min(event.lift, settle))
    lift = min(event.lift, event.speed / METRES * (room - event.settle_s) / event.power)
    return replace(event, lift=lift) if lift >= 0.03 else None


def _repeats(rng: np.random.Generator, event: Event, serial: int) -> tuple[Event, Event] | None:
    """Return a strike with another rebound, and a strike 0.12 to 0.4 s later that begins where the rebound ends.

    The heights of rebound and wind-up are the same, which determines both.
    """
    if event.kind != "strike" or event.rest_s or event.slide:
        return None
    interval = 0.12 + 0.28 * float(rng.random()) ** 1.5
    speed = float(np.clip(event.speed * np.exp(rng.normal(0, 0.25)), 0.5, 3.2))
    rebound = max(event.rebound, 0.3)
    up, down = rebound * event.speed / METRES, speed / METRES
    lift = interval / (2 / up + event.power / down)
    if not 0.02 < lift < 0.4:
        return None
    first = replace(event, rebound=rebound, rise_s=2 * lift / up)
    again = replace(
        event, serial=serial, time_s=round((event.time_s + interval) * 16000) / 16000, speed=speed, lift=lift,
        slant=event.leave, bend=0.0,
    )  # fmt: skip
    return first, again


def _drops(rng: np.random.Generator, things: tuple[Thing, ...], duration_s: float, gravity: float) -> list[Event]:
    """Draw drops that bounce, roll aside while they do, or are caught."""
    events: list[Event] = []
    time, drop = float(rng.uniform(0.5, 1.2)), 0
    while time < duration_s - 0.05:
        thing = things[int(rng.integers(len(things)))]
        height, restitution = float(rng.uniform(0.1, 0.4)), float(rng.uniform(0.35, 0.8))
        velocity = float(np.sqrt(2.0 * gravity * height))  # picture heights a second
        reach = min(SPREAD * thing.width, 0.2)
        x, step = thing.x + float(rng.uniform(-reach, reach)), float(rng.normal(0, 0.25)) * reach
        y = thing.top + float(rng.uniform(0, 1)) * thing.face
        caught, first = rng.random() < 0.2, True
        while True:
            events.append(
                Event(
                    serial=len(events),
                    time_s=round(time * 16000) / 16000,
                    kind="near_miss" if caught else "bounce",
                    thing=thing.index,
                    speed=velocity * METRES,
                    x=x,
                    y=y,
                    sounding=not caught,
                    lift=height if first else 0.0,
                    gap=float(rng.uniform(0.06, 0.2)) + min(y - thing.top, 0.1) if caught else 0.0,
                    drop=drop,
                )
            )
            first, interval = False, 2.0 * restitution * velocity / gravity
            if caught or interval < 0.1 or restitution * velocity * METRES < 0.3:
                break
            velocity, time, x = velocity * restitution, time + interval, x + step
            if time > duration_s - 0.05 or abs(x - thing.x) > reach:
                break
        drop += 1
        time += float(rng.uniform(0.8, 2.5))
    return events


def _distance(rng: np.random.Generator, things: tuple[Thing, ...]) -> float:
    """Draw the camera's distance: most are near, some far away."""
    if things[0].width < 0.16 and len(things) == 1:
        return float(rng.uniform(0.4, 0.8))
    nearest = (0.4, 0.66, 0.85)[len(things) - 1]
    farthest = nearest * 2 if rng.random() < 0.7 else 2.2
    return float(np.exp(rng.uniform(np.log(nearest), np.log(farthest))))


def _framing(
    rng: np.random.Generator, events: list[Event], distance: float, upright: bool, duration_s: float
) -> tuple[float, Camera]:
    """Draw roll and camera so that nearly all contacts lie in the picture, often near its border."""
    turned = rng.random()
    if upright:
        roll = rng.normal(0.0, 0.08)
    elif turned < 0.65:
        roll = rng.normal(0.0, 0.1)
    elif turned < 0.825:
        roll = rng.choice([-0.5, 0.5]) * np.pi + rng.normal(0.0, 0.15)
    elif turned < 0.89:
        roll = np.pi + rng.normal(0.0, 0.2)
    else:
        roll = rng.uniform(-np.pi, np.pi)
    roll = float(np.clip(roll, -0.3, 0.3) if upright else roll)
    squash = float(np.exp(rng.uniform(np.log(0.5), np.log(1.8)))) if rng.random() < 0.7 else 1.0
    moves = rng.random(3)
    pan = float(rng.uniform(0.01, 0.08)) if moves[0] < 0.25 else 0.0
    zoom = float(rng.uniform(0.03, 0.2)) if moves[1] < 0.15 else 0.0
    tremor = float(np.exp(rng.uniform(np.log(0.0005), np.log(0.006)))) if moves[2] < 0.4 else 0.0
    jolts = []
    if rng.random() < 0.3:
        for time in rng.uniform(0, duration_s, int(rng.poisson(duration_s / 3))):
            jolts.append((float(time), float(rng.choice([-1, 1]) * rng.uniform(0.003, 0.025))))
    # the contacts, in picture sides around the middle, while the camera looks at the origin
    scale = 0.92 / distance
    points = np.array([[e.x + e.side, e.y - e.gap] for e in events])
    c, s = np.cos(roll), np.sin(roll)
    turn = np.diag([np.sqrt(squash), 1 / np.sqrt(squash)]) @ np.array([[c, -s], [s, c]]) * scale
    border = 0.06 + pan + 0.5 * zoom if rng.random() < 0.93 else -0.08
    slack = np.array([0.0 if e.sounding else border - 0.02 for e in events])  # a near miss may lie at the very border
    places = turn @ points.T  # [2, n]
    low, high = (places + slack).min(axis=1), (places - slack).max(axis=1)
    least, most = -0.5 + border - low, 0.5 - border - high  # how far the picture may be moved
    middle = 0.5 * (least + most)
    reach = np.maximum(0.0, 0.5 * (most - least))
    moved = middle + reach * (2 * rng.beta(1.6, 1.6, 2) - 1)
    centre = -np.linalg.solve(turn, moved)
    centre = (float(centre[0]), float(centre[1]))
    return roll, Camera(centre, squash, pan, zoom, tremor, tuple(sorted(jolts)))


def _look(rng: np.random.Generator) -> Look:
    """Draw light, lens, sensor and codec."""
    some = rng.random(6)
    return Look(
        exposure=float(rng.uniform(0.05, 0.95)),
        gamma=float(np.exp(rng.normal(-0.05, 0.22))),
        contrast=float(np.exp(rng.normal(-0.05, 0.25))),
        brightness=float(np.exp(rng.normal(0.05, 0.2))),
        saturation=0.0 if some[0] < 0.08 else float(rng.uniform(0.1, 1.3)),
        white=tuple(float(v) for v in np.exp(rng.normal(0, 0.12, 3))),
        vignette=float(rng.uniform(0.1, 0.7)) if some[1] < 0.4 else 0.0,
        defocus=float(np.exp(rng.uniform(np.log(0.003), np.log(0.015)))) if some[2] < 0.5 else 0.0,
        noise=float(np.exp(rng.uniform(np.log(0.3), np.log(9.0)))),
        flicker=float(rng.uniform(0.01, 0.08)) if some[3] < 0.4 else 0.0,
        crf=int(rng.integers(24, 39)) if some[4] < 0.35 else 0,
    )
