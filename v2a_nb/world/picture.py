"""Rendering of a recording's frames: still scenery, swaying camera, moving actor and distractors, motion blur."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from v2a_nb.world import game
from v2a_nb.world.compression import compressed
from v2a_nb.world.description import Look, Recording
from v2a_nb.world.motion import actor_path
from v2a_nb.world.photographs import Texture
from v2a_nb.world.scenery import dye as dye_of
from v2a_nb.world.scenery import still, view_of

_SUB = 4  # moments averaged over the exposure of a frame in which something moves fast
_GROUP = 8  # frames that are drawn at a time
_FINE = 4  # the camera's sway is resolved to 1 / _FINE of a pixel


def frames(recording: Recording, times: np.ndarray, size: int, fps: float) -> np.ndarray:
    """Render the pictures at ``times`` (s from the recording's start), uint8 [T, size, size, 3].

    A frame is exposed symmetrically around its time for a share of ``1 / fps``. In the style of a game it shows one
    moment. A frame does not depend on the other times, unless the recording's look is that of compressed video.
    """
    times = np.asarray(times, np.float64)
    move = Move.of(recording, times, size)
    out = _scenery(recording, size, move)
    camera, look = recording.rng("camera-look"), recording.look
    exposure = float(camera.uniform(0.4, 0.95) if look is None else look.exposure) / fps
    flat = recording.style == "game"
    for colour, opacity, shape in _movers(recording, size):
        if flat:
            _outlined(out, shape, times, size, colour, move)
        else:
            lens = (look.defocus * size, 2 * _SUB) if look else (0.0, _SUB)
            _composite(out, shape, times, exposure, size, colour, opacity, move, *lens)
    if flat:
        game.head_up(recording, out)
    elif look is not None:
        return _seen_through(recording, look, out, times, move)
    elif recording.variety == "wide":
        flicker = 1 + camera.uniform(0, 0.025) * np.sin(2 * np.pi * camera.uniform(0.2, 9) * times)
        out *= flicker.astype(np.float32)[:, None, None, None]
        _add_grain(out, times, camera.normal(0, camera.uniform(0.2, 3.5), (size + 31, size + 31, 1)))
    return _rounded(out)


def _rounded(out: np.ndarray) -> np.ndarray:
    """Round to 8 bits; ``out`` is used up."""
    np.clip(out, 0, 255, out=out)
    out += 0.5
    return out.astype(np.uint8)


def _add_grain(out: np.ndarray, times: np.ndarray, grain: np.ndarray) -> None:
    """Add noise to frames [T, size, size, 3]: a table that is 31 pixels larger, shifted anew at each time."""
    size, grain = out.shape[1], grain.astype(np.float32)
    shifts = np.floor(times * 1000).astype(np.int64)
    for frame, k in zip(out, shifts, strict=True):
        i, j = int(k * 7 % 31), int(k * 13 % 29)
        frame += grain[i : i + size, j : j + size]


def _seen_through(recording: Recording, look: Look, out: np.ndarray, times: np.ndarray, move: Move) -> np.ndarray:
    """Add what is before the scene, what the lens, the sensor and the codec do, and return uint8 [T, size, size, 3]."""
    size, rng = out.shape[1], recording.rng("sensor")
    if recording.occluders:
        colour, alpha = _foreground(recording, size)
        margin = (colour.shape[0] - size) // 2
        starts = np.clip(margin - np.round(1.5 * move.shift).astype(int), 0, 2 * margin)
        for frame, (x, y) in zip(out, starts, strict=True):
            frame *= 1 - alpha[y : y + size, x : x + size]
            frame += colour[y : y + size, x : x + size]
    if look.vignette:
        across = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
        out *= (1 - np.float32(look.vignette / 2) * (across[:, None] ** 2 + across**2))[..., None]
    if look.flicker:
        rates, phases = rng.uniform(0.2, (3.0, 12.0)), rng.uniform(0, 2 * np.pi, 2)
        wave = np.sin(2 * np.pi * np.outer(times, rates) + phases).mean(axis=1)
        out *= (1 + look.flicker * wave).astype(np.float32)[:, None, None, None]
    _add_grain(out, times, rng.normal(0, look.noise, (size + 31, size + 31, 3 if rng.random() < 0.5 else 1)))
    pictures = _rounded(out)
    return compressed(pictures, look.crf) if look.crf else pictures


def toned(look: Look | None, colour: np.ndarray) -> np.ndarray:
    """Return linear colours [..., 3] in [0, 1] with the white balance, contrast, gamma and saturation of a look."""
    if look is None:
        return colour
    colour = np.clip(colour, 0, 1) * np.asarray(look.white) * look.brightness
    colour = np.clip((colour - 0.45) * look.contrast + 0.45, 0, 1) ** look.gamma
    grey = colour.mean(axis=-1, keepdims=True)
    return np.clip(grey + look.saturation * (colour - grey), 0, 1)


@dataclass(frozen=True)
class Move:
    """How the camera has moved at each of T times: ``pixel = middle + zoom * (pixel - middle) + shift``.

    Attributes:
        shift: pixels, float [T, 2] as (x, y).
        zoom: float [T]; None: it never zooms.
        size: pixels of a picture's side.
    """

    shift: np.ndarray
    zoom: np.ndarray | None
    size: int

    @classmethod
    def of(cls, recording: Recording, times: np.ndarray, size: int) -> Move:
        """Return the movement of a recording's camera."""
        zoom = None
        if amplitude := recording.camera.zoom:
            rng = recording.rng("zoom")
            wave = np.sin(2 * np.pi * rng.uniform(0.03, 0.15) * times + rng.uniform(0, 2 * np.pi))
            zoom = np.exp(amplitude * wave)
        return cls(sway(recording, times, size), zoom, size)

    def at(self, pixels: np.ndarray, axis: int, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Move coordinates [T, ...] along ``axis`` (0: x) of the frames ``rows``."""
        shape = (-1,) + (1,) * (np.ndim(pixels) - 1)
        if self.zoom is not None:
            zoom = self.zoom[rows].reshape(shape).astype(pixels.dtype)
            pixels = self.size / 2 + zoom * (pixels - self.size / 2)
        return pixels + self.shift[rows, axis].astype(pixels.dtype).reshape(shape)


def margin_of(recording: Recording, size: int) -> int:
    """Pixels by which the scenery exceeds the picture on each side, enough for the camera's movements."""
    camera = recording.camera
    more = camera.pan + 4 * camera.tremor + (0.03 if camera.jolts else 0.0)
    zoom = 0.5 * (np.exp(camera.zoom) - 1)
    return int(np.ceil((4 * recording.sway + more) * np.exp(camera.zoom) * size + zoom * size)) + 2


def sway(recording: Recording, times: np.ndarray, size: int) -> np.ndarray:
    """Shift of the camera, pixels, float [T, 2] as (x, y): slow hand sway, in some recordings jolts at contacts.

    In version 2 also slow pans, the tremor of a hand, and jolts at any time.
    """
    rng, camera = recording.rng("sway"), recording.camera
    shift = np.zeros((len(times), 2))
    for axis in (0, 1):
        for frequency in rng.uniform(0.15, 2.2, 3):
            phase = rng.uniform(0, 2 * np.pi)
            shift[:, axis] += np.sin(2 * np.pi * frequency * times + phase)
    shift *= recording.sway * size * 0.6
    if recording.variety == "wide" and rng.random() < 0.25:
        for event in recording.events:  # the table trembles, and the camera on it
            if event.sounding and event.kind != "scrape":
                shift[:, 1] += 0.0035 * size * event.speed / 2 * _jolt(times - event.time_s)
    for time, amplitude in camera.jolts:
        shift += amplitude * size * _jolt(times - time)[:, None] * (0.5, 1.0)
    more = recording.rng("shake")
    for amplitude, low, high, count in ((camera.pan, 0.03, 0.2, 2), (camera.tremor, 3.0, 9.0, 4)):
        rates, phases = more.uniform(low, high, (2, count)), more.uniform(0, 2 * np.pi, (2, count))
        if amplitude:
            waves = np.sin(2 * np.pi * times[:, None, None] * rates + phases)
            shift += amplitude * size * waves.mean(axis=2)
    limit = margin_of(recording, size) - 1.5
    return np.clip(shift, -limit, limit)


def _jolt(after: np.ndarray) -> np.ndarray:
    """A damped wave that begins at time 0; nothing before."""
    begun, after = after >= 0, np.clip(after, 0, None)
    return np.exp(-after / 0.035) * np.sin(2 * np.pi * 14 * after + 1.2) * begun


@lru_cache(maxsize=4)
def _canvas(recording: Recording, size: int) -> np.ndarray:
    """The scenery with its margin: float32 [N, N, 3], 0 to 255."""
    if recording.style == "game":
        return game.still(recording, size, margin_of(recording, size)) * 255
    canvas = toned(recording.look, still(recording, size, margin_of(recording, size)))
    if recording.look is not None and recording.look.defocus:
        from scipy.ndimage import gaussian_filter

        blur = recording.look.defocus * size
        canvas = gaussian_filter(canvas, (blur, blur, 0), mode="nearest", truncate=2.5)
    return canvas.astype(np.float32) * 255


@lru_cache(maxsize=4)
def _canvases(recording: Recording, size: int) -> np.ndarray:
    """The scenery shifted by all fractions of a pixel: float32 [_FINE, _FINE, N, N, 3], 0 to 255."""
    canvas = _canvas(recording, size)
    n = canvas.shape[0] - 1
    shifted = np.empty((_FINE, _FINE, n, n, 3), np.float32)
    for i in range(_FINE):
        a = i / _FINE
        rows = canvas[:-1] * (1 - a) + canvas[1:] * a
        for j in range(_FINE):
            b = j / _FINE
            shifted[i, j] = rows[:, :-1] * (1 - b) + rows[:, 1:] * b
    return shifted


def _scenery(recording: Recording, size: int, move: Move) -> np.ndarray:
    margin = margin_of(recording, size)
    out = np.empty((len(move.shift), size, size, 3), np.float32)
    if move.zoom is not None:
        return _zoomed(_canvas(recording, size), out, margin, move)
    canvases = _canvases(recording, size)
    steps = np.round((margin - move.shift) * _FINE).astype(int)  # the picture moves with the shake
    for frame, (x, y) in zip(out, steps, strict=True):
        i, j = y // _FINE, x // _FINE
        frame[:] = canvases[y % _FINE, x % _FINE, i : i + size, j : j + size]
    return out


def _zoomed(canvas: np.ndarray, out: np.ndarray, margin: int, move: Move) -> np.ndarray:
    """Fill ``out`` with the canvas, scaled and shifted by linear interpolation."""
    size, n = out.shape[1], canvas.shape[0]
    zoom = np.ones(len(out)) if move.zoom is None else move.zoom
    grid = np.arange(size) + 0.5 - size / 2
    places = (grid - move.shift[..., None]) / zoom[:, None, None] + (size / 2 + margin - 0.5)  # [T, 2, size]
    places = np.clip(places, 0, n - 1.001)
    first = places.astype(np.intp)
    share = (places - first).astype(np.float32)
    for frame, (x, y), (b, a) in zip(out, first, share, strict=True):
        rows = canvas[y]
        rows += a[:, None, None] * (canvas[y + 1] - rows)
        columns = rows[:, x]
        columns += b[:, None] * (rows[:, x + 1] - columns)
        frame[:] = columns
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
    dye = (dye_of(recording) if recording.look is None else _dye(recording)) if wide else np.array([0.25, 0.2, 0.45])
    if flat:
        skin, dye = np.array(game.SKIN), game.paint(recording, "actor")
    actor = recording.actor
    reach = recording.tool_length
    held = {"stick": 0.55, "mallet": 0.7, "hand": 0.3, "hammer": 0.7, "knife": 0.45}.get(actor, 0.5) * reach
    if actor == "stick":
        r = 0.014 * scale
        grip = part(0.5 * reach, 0, 0.6 * reach, 0, 0.05, r)
        parts = [(dye, part(0, 0, 0.75 * reach, 0, r, r)), (skin, grip)]
    elif actor == "mallet":
        r = 0.042 * scale
        parts = [(dye * 0.6, part(0, 0, 0.7 * reach, 0, 0.012, r)), (dye, part(0, 0, 0, 0, r, r))]
    elif actor == "hand":
        r = 0.05 * scale
        sleeve = part(0.2 * reach, 0, 0.9, 0, 0.055 * scale, r)
        parts = [(skin, part(0, 0, 0.3 * reach, 0, r, r)), (dye, sleeve)]
    elif actor == "hammer":
        r = 0.032 * scale
        head = part(0, -0.05 * scale, 0, 0.05 * scale, r, r)
        parts = [(np.array([0.5, 0.33, 0.18]), part(0, 0, 0.7 * reach, 0, 0.014, r))]
        parts.append((dye * 0.5 if recording.look is None else dye, head))
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
    if recording.arm and actor not in ("ball", "foot"):
        look, thick = recording.rng("arm-look"), 0.045 * recording.arm
        bare, bow = look.random() < 0.4, look.uniform(-0.4, 0.4)
        forearm = part(held, 0, held + 1.2, bow, thick, 0)
        cloth = skin if bare else game.paint(recording, "sleeve") if flat else look.uniform(0.02, 0.95, 3)
        parts += [(cloth, forearm), (skin, part(held - 0.03, 0, held + 0.03, 0, 1.15 * thick, 0))]
    movers = _distractors(recording, view, size) + _limbs(recording, view)
    if not flat and (not wide or rng.random() < 0.6):
        movers.append((np.zeros(3), 0.3, _shadow(recording, path, view)))
    if recording.photographs and not flat and (textures := recording.rng("photographs-actor")).random() < 0.4:
        patch = _patch(textures, view.scale)
        parts = [(colour * (0.4 + 1.2 * patch) if k == 0 else colour, shape) for k, (colour, shape) in enumerate(parts)]
    movers += [(colour * 255, 1.0, shape) for colour, shape in parts] + _passers(recording, view)
    return (
        [(toned(recording.look, colour / 255) * 255, *rest) for colour, *rest in movers] if recording.look else movers
    )


@lru_cache(maxsize=4)
def _dye(recording: Recording) -> np.ndarray:
    """Draw the actor's colour, float [3], until it stands out from the picture that there is."""
    rng, margin = recording.rng("dye"), margin_of(recording, 32)
    blocks = _canvas(recording, 32)[margin:-margin, margin:-margin].reshape(4, 8, 4, 8, 3).mean(axis=(1, 3)) / 255
    best, contrast = np.zeros(3), -1.0
    for _ in range(16):
        colour = rng.uniform(0.02, 0.98, 3)
        away = np.abs(blocks - toned(recording.look, colour)).mean(axis=-1)
        away = float(np.quantile(away, 0.2))
        if away > contrast:
            best, contrast = colour, away
        if away > 0.28:
            break
    return best


def _patch(rng: np.random.Generator, scale: float) -> np.ndarray:
    """Draw a piece of a photograph, float32 [64, 64, 3], which a moving thing carries along."""
    grid = np.arange(64, dtype=np.float32) / np.float32(scale)
    return Texture(rng).at(*np.broadcast_arrays(grid[None, :], grid[:, None]))


def _limbs(recording: Recording, view) -> list:
    """Forearms that move all the time, at up to 2 Hz, and may hold something; they strike nothing."""
    movers = []
    for k in range(recording.limbs):
        rng = recording.rng("limb", k)
        cx, cy = rng.uniform(-0.5, 0.5) * recording.distance, rng.uniform(-0.45, 0.05) * recording.distance
        rates, phases = np.exp(rng.uniform(np.log(0.2), np.log(2.0), (2, 3))), rng.uniform(0, 2 * np.pi, (2, 3))
        amplitudes = rng.uniform(0.01, 0.14, (2, 3)) / np.maximum(rates, 0.6)
        lean, turn, thick = rng.uniform(-np.pi, np.pi), rng.uniform(0, 0.5), rng.uniform(0.03, 0.07)

        def hand(times, c=(cx, cy, rates, phases, amplitudes, lean, turn)):
            cx, cy, rates, phases, amplitudes, lean, turn = c
            waves = np.sin(2 * np.pi * times[..., None, None] * rates + phases)
            x, y = ((amplitudes[axis] * waves[..., axis, :]).sum(axis=-1) for axis in (0, 1))
            return cx + x, cy + y, lean + turn * waves[..., 0, 0]

        def bone(begin: float, end: float, radius: float, hand=hand):
            def shape(times: np.ndarray) -> tuple[np.ndarray, ...]:
                x, y, lean = hand(times)
                dx, dy = np.sin(lean), -np.cos(lean)
                a, b = view.to_pixels(x + begin * dx, y + begin * dy), view.to_pixels(x + end * dx, y + end * dy)
                return (*a, *b, radius * view.scale)

            return shape

        skin = np.array([0.87, 0.65, 0.52]) * rng.uniform(0.4, 1.1)
        cloth = skin if rng.random() < 0.4 else rng.uniform(0.02, 0.95, 3)
        if rng.random() < 0.5:
            movers.append(
                (rng.uniform(0.02, 0.95, 3) * 255, 1.0, bone(-rng.uniform(0.1, 0.4), 0.05, rng.uniform(0.01, 0.05)))
            )
        movers += [(cloth * 255, 1.0, bone(0.05, 1.5, thick)), (skin * 255, 1.0, bone(0.0, 0.08, 1.1 * thick))]
    return movers


def _passers(recording: Recording, view) -> list:
    """Things that pass before the scene now and then."""
    movers = []
    for k in range(recording.passers):
        rng = recording.rng("passer", k)
        middle, lasts = rng.uniform(0, recording.duration_s), rng.uniform(0.4, 1.6)
        angle, off, length = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3), rng.uniform(0, 0.4)
        radius = rng.uniform(0.05, 0.2)

        def shape(times, c=(middle, lasts, angle, off, length, radius)):
            middle, lasts, angle, off, length, radius = c
            # it enters on one side and leaves on the other, in picture sides around the middle
            way = np.clip((times - middle) / lasts, -2, 2) * 2.4
            c, s = np.cos(angle), np.sin(angle)
            x, y = c * way - s * off, s * way + c * off
            side = view.size
            a = (0.5 + x) * side, (0.5 + y) * side
            return (*a, a[0] - s * length * side, a[1] + c * length * side, radius * side)

        movers.append((rng.uniform(0.02, 0.8, 3) * 255, 1.0, shape))
    return movers


@lru_cache(maxsize=4)
def _foreground(recording: Recording, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Still things before the scene, out of focus: colour times coverage, float32 [N, N, 3], 0 to 255, and coverage."""
    from scipy.ndimage import gaussian_filter

    rng = recording.rng("occluders")
    view, margin = view_of(recording, size), 1 + int(0.1 * size)
    n = size + 2 * margin
    grid = (np.arange(n, dtype=np.float32) + 0.5 - margin) / size
    x, y = np.broadcast_arrays(grid[None, :], grid[:, None])
    colour, alpha = np.zeros((n, n, 3), np.float32), np.zeros((n, n, 1), np.float32)
    for _ in range(recording.occluders):
        if rng.random() < 0.4 and recording.events:  # it hides a place that is struck
            event = recording.events[int(rng.integers(len(recording.events)))]
            cx, cy = (float(v) / size for v in view.to_pixels(event.x, event.y))
            cx, cy, wide = cx + rng.normal(0, 0.05), cy + rng.normal(0, 0.05), rng.uniform(0.03, 0.1)
        else:
            (cx, cy), wide = rng.uniform(-0.05, 1.05, 2), rng.uniform(0.05, 0.22)
        high, turn = wide * np.exp(rng.normal(0, 0.6)), rng.uniform(0, np.pi)
        u = (np.cos(turn) * (x - cx) + np.sin(turn) * (y - cy)) / wide
        v = (np.cos(turn) * (y - cy) - np.sin(turn) * (x - cx)) / high
        cover = (np.abs(u) < 1) & (np.abs(v) < 1) if rng.random() < 0.4 else u * u + v * v < 1
        tint = rng.uniform(0.02, 0.9, 3)
        if recording.photographs:
            tint = Texture(rng).at(x, y)
        soft = gaussian_filter(cover.astype(np.float32), rng.uniform(0.004, 0.03) * size, truncate=2.5)[..., None]
        tint = np.broadcast_to(toned(recording.look, tint), colour.shape).astype(np.float32)
        colour += soft * (255 * tint - colour)
        alpha += soft * (1 - alpha)
    return colour, alpha


def _shadow(recording: Recording, path, view):
    """The shape of a shadow on the struck surface, which shrinks as the actor comes near."""

    def shape(times: np.ndarray) -> tuple[np.ndarray, ...]:
        x, y = path(times)
        tops = np.array([[t.x, t.width, t.top] for t in recording.things])
        nearest = np.abs(x[..., None] - tops[:, 0]).argmin(-1)
        ground = tops[nearest, 2] + 0.012
        if any(t.face for t in recording.things) and recording.events:  # on the upper side, where it strikes next
            ground = np.interp(times, [e.time_s for e in recording.events], [e.y for e in recording.events]) + 0.012
        height = np.clip(ground - y, 0, 0.4)
        reach = 0.02 + 0.12 * height
        a, b = view.to_pixels(x - reach, ground), view.to_pixels(x + reach, ground)
        return (*a, *b, 0.012 * view.scale)

    return shape


def silent_movers(recording: Recording) -> int:
    """How many things move all the time and never make a sound: distractors, and arms that strike nothing."""
    return recording.limbs + (_how_many(recording.rng("distractors")) if recording.variety == "wide" else 0)


def _how_many(rng: np.random.Generator) -> int:
    """The number of distractors, the first thing that is drawn of them."""
    return int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))


def _distractors(recording: Recording, view, size: int) -> list:
    """Moving things that make no sound: they swing, slide or wave behind the actor."""
    rng = recording.rng("distractors")
    if recording.variety != "wide":
        return []
    movers = []
    for _ in range(_how_many(rng)):
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
    opacity: float, move: Move, blur: float = 0.0, count: int = _SUB,
) -> None:  # fmt: skip
    """Draw one moving capsule over ``out``, blurred over the exposure where it moves fast.

    ``colour`` is one colour [3], or a patch [h, w, 3] that repeats and moves along. ``blur`` softens the edge, pixels.
    ``count`` moments of the exposure are averaged, four of them where it moves by less than 6 pixels, and none where it
    stands still.
    """
    moments = times[:, None] + exposure * (np.arange(count) / (count - 1) - 0.5)  # [T, count]
    ax, ay, bx, by, radius = shape(moments)
    radius, edge = max(radius, 0.6), 1 + 2.5 * blur
    speed = np.maximum(np.ptp(ax, axis=1) + np.ptp(ay, axis=1), np.ptp(bx, axis=1) + np.ptp(by, axis=1))
    still = [v.astype(np.float32) for v in (ax, ay, bx, by)]
    ends = [move.at(v, k % 2) for k, v in enumerate(still)]
    zoom = 1.0 if move.zoom is None else move.zoom.astype(np.float32)
    reach = radius * zoom + edge / 2 + 0.5  # [T], or one number
    low = [np.minimum(ends[k], ends[k + 2]).min(axis=1) - reach for k in (0, 1)]
    high = [np.maximum(ends[k], ends[k + 2]).max(axis=1) + reach + 1 for k in (0, 1)]
    visible = (low[0] < size) & (low[1] < size) & (high[0] > 0) & (high[1] > 0)
    pace = (speed > 0.8) + 1 * (speed > 6)
    for step in (0, 1, 2):
        chosen = np.flatnonzero(visible & (pace == step))
        for rows in np.split(chosen, range(_GROUP, len(chosen), _GROUP)):  # near in time is near in place
            if not len(rows):
                continue
            x0, y0 = (int(max(0, v[rows].min())) for v in low)
            x1, y1 = (int(min(size, v[rows].max())) for v in high)
            if x1 <= x0 or y1 <= y0:
                continue
            a = [v[rows] for v in still]
            if step == 0:
                a = [v.mean(1, keepdims=True) for v in a]
            elif step == 1 and count > _SUB:
                a = [v[:, [0, count // 3, count - 1 - count // 3, count - 1]] for v in a]
            a = [move.at(v, k % 2, rows) for k, v in enumerate(a)]
            gx = np.arange(x0, x1, dtype=np.float32) + 0.5
            gy = np.arange(y0, y1, dtype=np.float32) + 0.5
            wide = radius if move.zoom is None else (radius * zoom[rows])[:, None, None]
            alpha = np.zeros((len(rows), y1 - y0, x1 - x0), np.float32)
            for m in range(a[0].shape[1]):
                alpha += _capsule(gx, gy, *(v[:, m] for v in a), wide, edge)
            alpha *= opacity / a[0].shape[1]
            paint = colour.astype(np.float32)
            if paint.ndim == 3:
                tall, broad = paint.shape[:2]
                down = (np.arange(y0, y1) - np.floor(a[1].mean(1))[:, None]).astype(int) % tall
                across = (np.arange(x0, x1) - np.floor(a[0].mean(1))[:, None]).astype(int) % broad
                paint = paint[down[:, :, None], across[:, None, :]]
            whole = rows[-1] - rows[0] + 1 == len(rows)
            region = out[slice(rows[0], rows[-1] + 1) if whole else rows, y0:y1, x0:x1]
            change = paint - region
            change *= alpha[..., None]
            region += change
            if not whole:  # a copy
                out[rows, y0:y1, x0:x1] = region


def _outlined(out: np.ndarray, shape, times: np.ndarray, size: int, colour: np.ndarray, move: Move) -> None:
    """Draw one moving capsule over ``out`` as it is at each time, in one colour with an outline around it."""
    ax, ay, bx, by, radius = shape(times)
    line = game.line_of(size)
    radius = max(radius, 0.6) + line
    ends = [move.at(v, axis).astype(np.float32) for v, axis in ((ax, 0), (ay, 1), (bx, 0), (by, 1))]
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


def _capsule(gx, gy, ax, ay, bx, by, radius, edge: float = 1.0) -> np.ndarray:
    """Coverage [T, h, w] of capsules from (ax, ay) to (bx, by), all [T], whose edge is ``edge`` pixels wide."""
    depth = _depth(gx, gy, ax, ay, bx, by, radius)
    if edge > 1:
        depth += (edge - 1) / 2
        depth /= edge
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
