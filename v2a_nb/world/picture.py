"""Rendering of a recording's frames: still scenery, swaying camera, moving actor and distractors, motion blur."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from v2a_nb.world import game
from v2a_nb.world.motion import actor_path
from v2a_nb.world.recording import Recording
from v2a_nb.world.scenery import dye as dye_of
from v2a_nb.world.scenery import still, view_of

_SUB = 4  # moments averaged over the exposure of a frame in which something moves fast
_FINE = 4  # the camera's sway is resolved to 1 / _FINE of a pixel


def frames(recording: Recording, times: np.ndarray, size: int, fps: float) -> np.ndarray:
    """Render the pictures at ``times`` (s from the recording's start), uint8 [T, size, size, 3].

    A frame is exposed symmetrically around its time for a share of ``1 / fps``. In the style of a game it shows one
    moment.
    """
    times = np.asarray(times, np.float64)
    shake = sway(recording, times, size)
    out = _scenery(recording, size, shake)
    camera = recording.rng("camera-look")
    exposure = float(camera.uniform(0.4, 0.95)) / fps
    flat = recording.style == "game"
    for colour, opacity, shape in _movers(recording, size):
        if flat:
            _outlined(out, shape, times, size, colour, shake)
        else:
            _composite(out, shape, times, exposure, size, colour, opacity, shake)
    if flat:
        game.head_up(recording, out)
    elif recording.variety == "wide":
        flicker = 1 + camera.uniform(0, 0.025) * np.sin(2 * np.pi * camera.uniform(0.2, 9) * times)
        out *= flicker.astype(np.float32)[:, None, None, None]
        grain = camera.normal(0, camera.uniform(0.2, 3.5), (size + 31, size + 31)).astype(np.float32)
        shifts = np.floor(times * 1000).astype(np.int64)
        for frame, k in zip(out, shifts, strict=True):
            i, j = int(k * 7 % 31), int(k * 13 % 29)
            frame += grain[i : i + size, j : j + size, None]
    np.clip(out, 0, 255, out=out)
    return (out + 0.5).astype(np.uint8)


def margin_of(recording: Recording, size: int) -> int:
    """Pixels by which the scenery exceeds the picture on each side, enough for the camera's sway."""
    return int(np.ceil(4 * recording.sway * size)) + 2


def sway(recording: Recording, times: np.ndarray, size: int) -> np.ndarray:
    """Shift of the camera, pixels, float [T, 2] as (x, y): slow hand sway, in some recordings jolts at contacts."""
    rng = recording.rng("sway")
    shift = np.zeros((len(times), 2))
    for axis in (0, 1):
        for frequency in rng.uniform(0.15, 2.2, 3):
            phase = rng.uniform(0, 2 * np.pi)
            shift[:, axis] += np.sin(2 * np.pi * frequency * times + phase)
    shift *= recording.sway * size * 0.6
    if recording.variety == "wide" and rng.random() < 0.25:
        for event in recording.events:  # the table trembles, and the camera on it
            if event.sounding and event.kind != "scrape":
                after = np.clip(times - event.time_s, 0, None)
                jolt = np.exp(-after / 0.035) * np.sin(2 * np.pi * 14 * after + 1.2)
                shift[:, 1] += 0.0035 * size * event.speed / 2 * jolt * (times >= event.time_s)
    limit = margin_of(recording, size) - 1.5
    return np.clip(shift, -limit, limit)


@lru_cache(maxsize=4)
def _canvases(recording: Recording, size: int) -> np.ndarray:
    """The scenery shifted by all fractions of a pixel: float32 [_FINE, _FINE, N, N, 3], 0 to 255."""
    drawn = game.still if recording.style == "game" else still
    canvas = drawn(recording, size, margin_of(recording, size)) * 255
    n = canvas.shape[0] - 1
    shifted = np.empty((_FINE, _FINE, n, n, 3), np.float32)
    for i in range(_FINE):
        a = i / _FINE
        rows = canvas[:-1] * (1 - a) + canvas[1:] * a
        for j in range(_FINE):
            b = j / _FINE
            shifted[i, j] = rows[:, :-1] * (1 - b) + rows[:, 1:] * b
    return shifted


def _scenery(recording: Recording, size: int, shake: np.ndarray) -> np.ndarray:
    canvases = _canvases(recording, size)
    margin = margin_of(recording, size)
    out = np.empty((len(shake), size, size, 3), np.float32)
    steps = np.round((margin - shake) * _FINE).astype(int)  # the picture moves with the shake
    for frame, (x, y) in zip(out, steps, strict=True):
        i, j = y // _FINE, x // _FINE
        frame[:] = canvases[y % _FINE, x % _FINE, i : i + size, j : j + size]
    return out


# --- movers: things drawn over the scenery, as capsules (a segment with a radius) in pixels -----------


def _movers(recording: Recording, size: int) -> list:
    """All moving things, as ``(colour, opacity, shape)``.

    ``shape(times)`` returns ``(ax, ay, bx, by, radius)`` of a capsule, pixels.
    """
    view = view_of(recording, size)
    rng = recording.rng("actor-look")
    wide = recording.variety == "wide"
    path = actor_path(recording)
    scale, lean = recording.actor_scale, recording.hand_angle
    parts = []

    def part(along: float, across: float, to: float, to_across: float, radius: float, below: float):
        """The shape of a capsule from ``along`` to ``to`` on the tool's axis, with the striking point at ``below``."""

        def shape(times: np.ndarray) -> tuple[np.ndarray, ...]:
            x, y = path(times)
            # the wrist turns the tool as it goes up: 0.6 rad over a wind-up of 0.3
            turn = lean + 0.9 * np.sign(lean + 1e-9) * (recording.things[0].top - y)
            dx, dy = np.sin(turn), -np.cos(turn)
            cx, cy = x, y - below
            ax, ay = cx + dx * along - dy * across, cy + dy * along + dx * across
            bx, by = cx + dx * to - dy * to_across, cy + dy * to + dx * to_across
            return (*view.to_pixels(ax, ay), *view.to_pixels(bx, by), radius * view.scale)

        return shape

    flat = recording.style == "game"
    skin = np.array([0.87, 0.65, 0.52]) * (rng.uniform(0.45, 1.1) if wide else 1.0)
    dye = dye_of(recording) if wide else np.array([0.25, 0.2, 0.45])
    if flat:
        skin, dye = np.array(game.SKIN), game.paint(recording, "actor")
    actor = recording.actor
    if actor == "stick":
        r = 0.014 * scale
        parts = [(dye, part(0, 0, 0.75, 0, r, r)), (skin, part(0.5, 0, 0.6, 0, 0.05, r))]
    elif actor == "mallet":
        r = 0.042 * scale
        parts = [(dye * 0.6, part(0, 0, 0.7, 0, 0.012, r)), (dye, part(0, 0, 0, 0, r, r))]
    elif actor == "hand":
        r = 0.05 * scale
        sleeve = part(0.2, 0, 0.9, 0, 0.055 * scale, r)
        parts = [(skin, part(0, 0, 0.3, 0, r, r)), (dye, sleeve)]
    elif actor == "hammer":
        r = 0.032 * scale
        head = part(0, -0.05 * scale, 0, 0.05 * scale, r, r)
        parts = [(np.array([0.5, 0.33, 0.18]), part(0, 0, 0.7, 0, 0.014, r)), (dye * 0.5, head)]
    elif actor == "knife":
        r = 0.012
        blade = part(0, 0, 0.26 * scale, 0, 0.018 * scale, r)
        parts = [(np.array([0.8, 0.82, 0.85]), blade), (dye * 0.5, part(0.26, 0, 0.5, 0, 0.024, r))]
    elif actor == "ball":
        r = 0.045 * scale
        parts = [(dye, part(0, 0, 0, 0, r, r))]
    else:  # foot
        r = 0.05 * scale
        leg = part(0.05, 0.0, 0.9, 0.1, 0.065 * scale, r)
        parts = [(dye * 0.7, leg), (dye, part(0, -0.03, 0, 0.1 * scale, r, r))]
    movers = _distractors(recording, view, size)
    if not flat and (not wide or rng.random() < 0.6):
        movers.append((np.zeros(3), 0.3, _shadow(recording, path, view)))
    movers += [(colour * 255, 1.0, shape) for colour, shape in parts]
    return movers


def _shadow(recording: Recording, path, view):
    """The shape of a shadow on the struck surface, which shrinks as the actor comes near."""

    def shape(times: np.ndarray) -> tuple[np.ndarray, ...]:
        x, y = path(times)
        tops = np.array([[t.x, t.width, t.top] for t in recording.things])
        nearest = np.abs(x[..., None] - tops[:, 0]).argmin(-1)
        ground = tops[nearest, 2] + 0.012
        height = np.clip(ground - y, 0, 0.4)
        reach = 0.02 + 0.12 * height
        a, b = view.to_pixels(x - reach, ground), view.to_pixels(x + reach, ground)
        return (*a, *b, 0.012 * view.scale)

    return shape


def _distractors(recording: Recording, view, size: int) -> list:
    """Moving things that make no sound: they swing, slide or wave behind the actor."""
    rng = recording.rng("distractors")
    if recording.variety != "wide":
        return []
    movers = []
    for _ in range(int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))):
        cx, cy = rng.uniform(-0.45, 0.45), rng.uniform(-0.4, 0.45)
        reach, pace, phase = rng.uniform(0.03, 0.2), rng.uniform(0.2, 2.5), rng.uniform(0, 6.28)
        angle, length = rng.uniform(0, np.pi), rng.uniform(0, 0.25)
        radius, sharp = rng.uniform(0.012, 0.06), rng.uniform(0, 1)

        def shape(times, c=(cx, cy, reach, pace, phase, angle, length, radius, sharp)):
            cx, cy, reach, pace, phase, angle, length, radius, sharp = c
            wave = np.sin(2 * np.pi * pace * times + phase)
            wave = (1 - sharp) * wave + sharp * (2 * np.abs(wave) - 1)  # some turn abruptly
            x, y = cx + reach * wave * np.cos(angle), cy + reach * wave * np.sin(angle)
            tilt = angle + 1.2 + 0.8 * wave
            bx, by = x + length * np.cos(tilt), y - length * np.abs(np.sin(tilt))
            return (*view.to_pixels(x, y), *view.to_pixels(bx, by), radius * view.scale)

        colour = rng.uniform(0.05, 0.95, 3)
        if recording.style == "game":
            colour = game.paint(recording, "distractor", len(movers))
        movers.append((colour * 255, 1.0, shape))
    return movers


def _composite(
    out: np.ndarray, shape, times: np.ndarray, exposure: float, size: int, colour: np.ndarray,
    opacity: float, shake: np.ndarray,
) -> None:  # fmt: skip
    """Draw one moving capsule over ``out``, blurred over the exposure where it moves fast."""
    moments = times[:, None] + exposure * (np.arange(_SUB) / (_SUB - 1) - 0.5)  # [T, SUB]
    ax, ay, bx, by, radius = shape(moments)
    radius = max(radius, 0.6)
    speed = np.maximum(np.ptp(ax, axis=1) + np.ptp(ay, axis=1), np.ptp(bx, axis=1) + np.ptp(by, axis=1))
    for rows, slow in ((np.flatnonzero(speed <= 0.8), True), (np.flatnonzero(speed > 0.8), False)):
        if not len(rows):
            continue
        a = [v[rows].astype(np.float32) for v in (ax, ay, bx, by)]
        if slow:
            a = [v.mean(1, keepdims=True) for v in a]
        for k, move in ((0, 0), (1, 1), (2, 0), (3, 1)):
            a[k] = a[k] + shake[rows, move].astype(np.float32)[:, None]
        low_x, high_x = min(a[0].min(), a[2].min()), max(a[0].max(), a[2].max())
        low_y, high_y = min(a[1].min(), a[3].min()), max(a[1].max(), a[3].max())
        x0, x1 = int(max(0, low_x - radius - 1)), int(min(size, high_x + radius + 2))
        y0, y1 = int(max(0, low_y - radius - 1)), int(min(size, high_y + radius + 2))
        if x1 <= x0 or y1 <= y0:
            continue
        gx = np.arange(x0, x1, dtype=np.float32) + 0.5
        gy = np.arange(y0, y1, dtype=np.float32) + 0.5
        alpha = np.zeros((len(rows), y1 - y0, x1 - x0), np.float32)
        for m in range(a[0].shape[1]):
            alpha += _capsule(gx, gy, *(v[:, m] for v in a), radius)
        alpha *= opacity / a[0].shape[1]
        which = slice(None) if len(rows) == len(out) else rows
        region = out[which, y0:y1, x0:x1]
        region = region + alpha[..., None] * (colour.astype(np.float32) - region)
        out[which, y0:y1, x0:x1] = region


def _outlined(out: np.ndarray, shape, times: np.ndarray, size: int, colour: np.ndarray, shake: np.ndarray) -> None:
    """Draw one moving capsule over ``out`` as it is at each time, in one colour with an outline around it."""
    ax, ay, bx, by, radius = shape(times)
    line = game.line_of(size)
    radius = max(radius, 0.6) + line
    ends = [(v + shake[:, axis]).astype(np.float32) for v, axis in ((ax, 0), (ay, 1), (bx, 0), (by, 1))]
    low = [np.minimum(ends[axis], ends[axis + 2]) - radius - 1 for axis in (0, 1)]
    high = [np.maximum(ends[axis], ends[axis + 2]) + radius + 2 for axis in (0, 1)]
    for rows in np.array_split(np.arange(len(times)), max(1, len(times) // 4)):  # near in time is near in place
        x0, y0 = (int(max(0, v[rows].min())) for v in low)
        x1, y1 = (int(min(size, v[rows].max())) for v in high)
        if x1 <= x0 or y1 <= y0:
            continue
        gx, gy = (np.arange(a, b, dtype=np.float32) + 0.5 for a, b in ((x0, x1), (y0, y1)))
        depth = _depth(gx, gy, *(v[rows] for v in ends), radius)
        inside = depth > 0
        depth = depth[inside][:, None]  # [pixels, 1]
        region = out[rows[0] : rows[-1] + 1, y0:y1, x0:x1]
        drawn = game.INK * 255 + np.clip(depth - line, 0, 1) * (colour.astype(np.float32) - game.INK * 255)
        under = region[inside]
        region[inside] = under + np.minimum(depth, 1) * (drawn - under)


def _capsule(gx, gy, ax, ay, bx, by, radius) -> np.ndarray:
    """Antialiased coverage [T, h, w] of capsules from (ax, ay) to (bx, by), all [T]."""
    depth = _depth(gx, gy, ax, ay, bx, by, radius)
    return np.clip(depth, 0, 1, out=depth)


def _depth(gx, gy, ax, ay, bx, by, radius) -> np.ndarray:
    """Depth of pixels inside capsules, plus half a pixel, [T, h, w]; negative outside."""
    px, py = gx[None, :] - ax[:, None], gy[None, :] - ay[:, None]  # [T, w], [T, h]
    dx, dy = bx - ax, by - ay
    length2 = dx * dx + dy * dy
    if float(length2.max()) < 1e-3:
        d2 = (px * px)[:, None, :] + (py * py)[:, :, None]
    else:
        length2 = np.maximum(length2, 1e-6)
        h = (px * (dx / length2)[:, None])[:, None, :] + (py * (dy / length2)[:, None])[:, :, None]
        np.clip(h, 0, 1, out=h)
        ex = px[:, None, :] - h * dx[:, None, None]
        ey = py[:, :, None] - h * dy[:, None, None]
        ex *= ex
        ey *= ey
        d2 = ex
        d2 += ey
    np.sqrt(d2, out=d2)
    return np.subtract(radius + 0.5, d2, out=d2)
