"""The path of the actor's striking point, as a function of a recording's events.

The path is piecewise: moves between places are minimum-jerk (as human reaches are: Flash and Hogan,
1985), downswings accelerate evenly until contact, rebounds and drops are ballistic. A near miss
swings like a strike and turns above the surface, or beside the object.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from v2a_nb.world.recording import METRES, REBOUND_S, Event, Recording, swing_time

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


def _swing(t0: float, t1: float, a: tuple[float, float], b: tuple[float, float]) -> Piece:
    """Move from rest at ``a`` to ``b`` with constant acceleration."""

    def piece(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = ((t - t0) / max(t1 - t0, 1e-6)) ** 2
        return a[0] + (b[0] - a[0]) * s, a[1] + (b[1] - a[1]) * s

    return t0, t1, piece


def _throw(t0: float, t1: float, a: tuple[float, float], up: float, gravity: float) -> Piece:
    """Fly from ``a`` upwards at ``up`` lengths per second under ``gravity``."""

    def piece(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        s = t - t0
        return np.full_like(s, a[0]), a[1] - up * s + 0.5 * gravity * s * s

    return t0, t1, piece


def _rub(event: Event, width: float) -> Piece:
    """Move to and fro on the surface for as long as a scrape lasts."""
    t0, t1 = event.time_s, event.time_s + event.duration_s
    reach = 0.3 * width * (1 if event.x <= 0 else -1)

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
        fall = swing_time(event.speed, event.lift)
        if event.kind == "scrape":
            fall = max(0.12, min(fall, 0.3))
        raised = (target[0], target[1] - event.lift)
        begin = max(now + 0.04, event.time_s - fall)  # there may be less time before a slow scrape
        pieces.append(_ease(now, begin, here, raised))
        settle = _ease if event.kind == "scrape" else _swing
        pieces.append(settle(begin, event.time_s, raised, target))
        now = event.time_s
        if event.kind == "scrape":
            piece = _rub(event, recording.things[event.thing].width)
            pieces.append(piece)
            now = piece[1]
            x, y = piece[2](np.array([now]))
            target = (float(x[0]), float(y[0]))
        # the rebound starts with a share of the speed and is slowed evenly to rest
        up = (0.3 if event.kind == "scrape" else 0.45) * event.speed / METRES
        height = min(0.12, 0.03 + 0.04 * up)
        rest = min(REBOUND_S, max(0.05, 2 * height / up))
        top = (target[0], target[1] - height)
        pieces.append(_slow(now, now + rest, target, top))
        now, here = now + rest, top
    end = (first.x, first.top - HOVER)
    pieces.append(_ease(now, now + 0.6, here, end))
    return _monotone(pieces)


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
            pieces.append(_throw(now, following.time_s, surface, 0.5 * gravity * flight, gravity))
            now, here = following.time_s, surface
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
