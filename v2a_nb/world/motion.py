"""The path of the actor's striking point, as a function of a recording's events.

The path is piecewise: moves between places are minimum-jerk (as human reaches are: Flash and Hogan,
1985), downswings accelerate until contact, rebounds and drops are ballistic. A near miss swings like
a strike and ends above the surface or beside the object, in one of the manners of
:data:`~v2a_nb.world.description.MANNERS`. A restless actor moves about between events.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from v2a_nb.world.description import METRES, REBOUND_S, Event, Recording, swing_time

Piece = tuple[float, float, Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]]

HOVER = 0.14  # height at which the actor waits above an object, world lengths


def actor_path(recording: Recording) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function from times (s, any shape) to the striking point ``(x, y)`` in world lengths."""
    pieces = _ball(recording) if recording.actor == "ball" else _tool(recording)
    starts = np.array([piece[0] for piece in pieces])

    def at(times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        times = np.asarray(times, np.float64)
        x, y = np.zeros_like(times), np.zeros_like(times)
        which = np.clip(np.searchsorted(starts, times, side="right") - 1, 0, len(pieces) - 1)
        for k in np.unique(which):
            chosen = which == k
            t0, t1, piece = pieces[k]
            x[chosen], y[chosen] = piece(np.clip(times[chosen], t0, t1))
        return x, y

    return at


def _ease(t0: float, t1: float, a: tuple[float, float], b: tuple[float, float]) -> Piece:
    def piece(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = (t - t0) / max(t1 - t0, 1e-6)
        s = s**3 * (10 - 15 * s + 6 * s * s)
        return a[0] + (b[0] - a[0]) * s, a[1] + (b[1] - a[1]) * s

    return t0, t1, piece


def _swing(
    t0: float, t1: float, a: tuple[float, float], b: tuple[float, float], power: float = 2.0, bend: float = 0.0
) -> Piece:
    """Move from rest at ``a`` to ``b``, faster and faster, in an arc that bows by ``bend`` of the way."""

    def piece(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = ((t - t0) / max(t1 - t0, 1e-6)) ** power
        bow = bend * 16 * (s * (1 - s)) ** 2  # its slope at both ends is zero, so the speed of the contact stays
        x, y = a[0] + (b[0] - a[0]) * s, a[1] + (b[1] - a[1]) * s
        return x - bow * (b[1] - a[1]), y + bow * (b[0] - a[0])

    return t0, t1, piece


def _throw(t0: float, t1: float, a: tuple[float, float], up: float, gravity: float, drift: float = 0.0) -> Piece:
    """Fly from ``a`` upwards at ``up`` and sideways at ``drift`` lengths per second under ``gravity``."""

    def piece(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = t - t0
        return a[0] + drift * s, a[1] - up * s + 0.5 * gravity * s * s

    return t0, t1, piece


def _rub(event: Event, width: float) -> Piece:
    """Move to and fro on the surface for as long as a scrape lasts."""
    t0, t1 = event.time_s, event.time_s + event.duration_s
    reach = min(0.3 * width, 0.14) * (1 if event.x <= 0 else -1)

    def piece(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = (t - t0) / (t1 - t0)
        return event.x + reach * np.sin(np.pi * s), np.full_like(s, event.y)

    return t0, t1, piece


def _tool(recording: Recording) -> list[Piece]:
    first = recording.things[0]
    here, now = (first.x, first.top - HOVER), 0.0
    pieces: list[Piece] = []
    for event in recording.events:
        target = (event.x + event.side, event.y - event.gap)
        if event.side:  # beside the object it goes deeper, but touches nothing
            target = (target[0], event.y + 0.02)
        raised, fall, approach = _approach(event, target)
        least = 0.04 if np.hypot(raised[0] - here[0], raised[1] - here[1]) > 1e-6 else 0.0
        begin = max(now + least, event.time_s - fall)  # there may be less time before a slow scrape
        pieces += _between(recording, event, now, begin, here, raised)
        pieces += approach(begin)
        leaving, now, here = _leave(recording, event, raised, target)
        pieces += leaving
    end = (first.x, first.top - HOVER)
    pieces.append(_ease(now, now + 0.6, here, end))
    return _monotone(pieces)


def _approach(event: Event, target: tuple) -> tuple[tuple, float, Callable[[float], list[Piece]]]:
    """Return where the approach begins, how long it takes, and a function from its beginning to its pieces."""
    time, lift = event.time_s, event.lift
    away = (np.sin(event.slant), -np.cos(event.slant))
    raised = (target[0] + lift * away[0], target[1] + lift * away[1])
    fall = swing_time(event.speed, lift, event.power)
    if event.kind == "scrape":
        return raised, max(0.12, min(fall, 0.3)), lambda begin: [_ease(begin, time, raised, target)]
    if event.manner in ("hover", "touch"):
        return raised, event.settle_s, lambda begin: [_ease(begin, time, raised, target)]
    if event.manner == "stop":
        way = 0.5 * event.settle_s * event.speed / METRES
        over = (target[0] + way * away[0], target[1] + way * away[1])
        raised = (over[0] + lift * away[0], over[1] + lift * away[1])
        brake = time - event.settle_s

        def stopped(begin: float) -> list[Piece]:
            return [_swing(begin, brake, raised, over, event.power), _slow(brake, time, over, target)]

        return raised, fall + event.settle_s, stopped
    return raised, fall, lambda begin: [_swing(begin, time, raised, target, event.power, event.bend)]


def _leave(recording: Recording, event: Event, raised: tuple, at: tuple) -> tuple[list[Piece], float, tuple]:
    """Return the pieces after an event that arrived at ``at``, and when and where they end."""
    pieces: list[Piece] = []
    now, speed = event.time_s, event.speed / METRES
    if event.kind == "scrape":
        piece = _rub(event, recording.things[event.thing].width)
        pieces.append(piece)
        now = piece[1]
        x, y = piece[2](np.array([now]))
        at = (float(x[0]), float(y[0]))
    elif event.slide:
        end = (at[0] + event.slide, at[1])
        pieces.append(_slow(now, now + event.duration_s, at, end))
        now, at = now + event.duration_s, end
    if event.manner == "pass":
        share = 0.5 * event.rise_s * speed / max(event.lift, 1e-6)
        end = (at[0] + share * (at[0] - raised[0]), at[1] + share * (at[1] - raised[1]))
        return [_slow(now, now + event.rise_s, at, end)], now + event.rise_s, end
    if event.rest_s or event.slide or event.manner != "turn":
        pieces.append(_ease(now, now + event.rest_s, at, at))
        now += event.rest_s
        top = (at[0] + 0.07 * np.sin(event.leave), at[1] - 0.07 * np.cos(event.leave))
        pieces.append(_ease(now, now + event.rise_s, at, top))
        return pieces, now + event.rise_s, top
    # the rebound starts with a share of the speed and is slowed evenly to rest
    up = (0.3 if event.kind == "scrape" else event.rebound) * speed
    if event.rise_s:
        rest = event.rise_s
        height = 0.5 * up * rest
    else:
        height = min(0.12, 0.03 + 0.04 * up)
        rest = min(REBOUND_S, max(0.05, 2 * height / up))
    top = (at[0] + height * np.sin(event.leave), at[1] - height * np.cos(event.leave))
    pieces.append(_slow(now, now + rest, at, top))
    return pieces, now + rest, top


def _between(recording: Recording, event: Event, now: float, begin: float, here: tuple, raised: tuple) -> list[Piece]:
    """The way to where the next approach begins; a restless actor waits, gestures or leaves the picture on it."""
    rng = recording.rng("drift", event.serial)
    last = begin - float(rng.uniform(0.15, 0.6)) if recording.restless else now
    pieces: list[Piece] = []
    while last - now > 0.25 and rng.random() < recording.restless:
        until = min(last, now + float(rng.uniform(0.22, 1.0)))
        what, turn, way = rng.random(), rng.uniform(0, 2 * np.pi), rng.uniform(0.05, 0.3)
        if what < 0.3:
            way *= 0.15
        elif what < 0.42 and last - now > 1.2:  # out of the picture, to where the arm comes from, and slowly back
            until, way, turn = (
                min(now + rng.uniform(0.5, 1.0), last - 0.5),
                1.1 * recording.distance,
                recording.hand_angle,
            )
            last = until
        x, y = here[0] + way * np.sin(turn), here[1] - way * np.cos(turn)
        point = (float(np.clip(x, -1.5, 1.5)), float(min(y, event.y - 0.07)))
        pieces.append(_ease(now, until, here, point))
        here, now = point, until
    return [*pieces, _ease(now, begin, here, raised)]


def _slow(t0: float, t1: float, a: tuple[float, float], b: tuple[float, float]) -> Piece:
    """Move from ``a`` at speed, slowed evenly, to rest at ``b``."""

    def piece(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = 1 - (1 - (t - t0) / max(t1 - t0, 1e-6)) ** 2
        return a[0] + (b[0] - a[0]) * s, a[1] + (b[1] - a[1]) * s

    return t0, t1, piece


def _ball(recording: Recording) -> list[Piece]:
    gravity = recording.gravity
    first = recording.things[0]
    here, now = (first.x, first.top - 0.3), 0.0
    pieces: list[Piece] = []
    events = recording.events
    for i, event in enumerate(events):
        surface = (event.x, event.y - event.gap)
        if event.lift:  # a new drop: carry the ball over, then let go
            height = event.lift if not event.gap else event.lift * 0.8
            fall = float(np.sqrt(2 * height / gravity))
            above = (event.x, surface[1] - height)
            begin = max(now, event.time_s - fall)
            pieces.append(_ease(now, begin, here, above))
            pieces.append(_swing(begin, event.time_s, above, surface))
        following = events[i + 1] if i + 1 < len(events) else None
        now = event.time_s
        if following is not None and following.drop == event.drop:
            flight = following.time_s - event.time_s
            drift = (following.x - event.x) / flight
            pieces.append(_throw(now, following.time_s, surface, 0.5 * gravity * flight, gravity, drift))
            now, here = following.time_s, (following.x, surface[1])
        else:
            low = (surface[0], surface[1] - 0.004)
            pieces.append(_ease(now, now + 0.12, surface, low))  # it lies, or is held, a moment
            now, here = now + 0.12, low
    pieces.append(_ease(now, now + 0.8, here, (first.x, first.top - 0.3)))
    return _monotone(pieces)


def _monotone(pieces: list[Piece]) -> list[Piece]:
    """Drop pieces of no length, so that the starts are strictly increasing."""
    kept = [piece for piece in pieces if piece[1] - piece[0] > 1e-9]
    return kept or pieces[:1]
