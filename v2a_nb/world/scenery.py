"""The still part of a Strike World picture: background, table and objects.

It is drawn once per recording on a canvas with a margin, so that the camera's sway is a shift of the canvas. Colours
are linear in [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from v2a_nb.world.description import Recording, Thing
from v2a_nb.world.photographs import Texture


@dataclass(frozen=True)
class View:
    """The map from world lengths to pixels: ``pixel = scale * R(roll) (world - centre) + middle``.

    ``squash`` is the horizontal over the vertical scale; ``scale`` is their geometric mean.
    """

    size: int
    scale: float
    roll: float
    centre: tuple[float, float] = (0.0, 0.08)
    squash: float = 1.0

    @property
    def scales(self) -> tuple[float, float]:
        """Pixels of a world length, horizontally and vertically in the picture."""
        return self.scale * self.squash**0.5, self.scale / self.squash**0.5

    def to_pixels(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u, v = np.asarray(x) - self.centre[0], np.asarray(y) - self.centre[1]
        c, s = np.cos(self.roll), np.sin(self.roll)
        half, (wide, high) = self.size / 2, self.scales
        return wide * (c * u - s * v) + half, high * (s * u + c * v) + half

    def to_world(self, px: np.ndarray, py: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        wide, high = self.scales
        u, v = (px - self.size / 2) / wide, (py - self.size / 2) / high
        c, s = np.cos(self.roll), np.sin(self.roll)
        return c * u + s * v + self.centre[0], -s * u + c * v + self.centre[1]


def view_of(recording: Recording, size: int) -> View:
    """The camera of a recording for pictures of ``size`` pixels."""
    camera = recording.camera
    return View(size, size * 0.92 / recording.distance, recording.roll, camera.centre, camera.squash)


def still(recording: Recording, size: int, margin: int) -> np.ndarray:
    """Draw background, table and objects: float32 [size + 2 margin, size + 2 margin, 3]."""
    view = view_of(recording, size)
    over = 2 if size < 160 else 1  # drawn finer and averaged: straight edges stay straight
    n = (size + 2 * margin) * over
    grid = (np.arange(n, dtype=np.float32) + 0.5) / over - margin
    x, y = view.to_world(grid[None, :], grid[:, None])
    x, y = x.astype(np.float32), y.astype(np.float32)
    picture = _background(recording, x, y)
    for thing in recording.things:
        _draw_thing(recording, thing, picture, x, y)
    light = recording.rng("light")
    if recording.variety == "wide":
        picture *= np.float32(light.uniform(0.6, 1.15))
        picture *= light.uniform(0.85, 1.12, 3).astype(np.float32)  # colour of the light
        picture *= (1 + np.float32(light.normal(0, 0.35)) * x + np.float32(light.normal(0, 0.25)) * y)[..., None]
    picture = picture.reshape(n // over, over, n // over, over, 3).mean(axis=(1, 3))
    return np.clip(picture, 0, 1).astype(np.float32)


def silhouette(
    recording: Recording, thing: Thing, size: int, zoom: float = 1.0, shift: tuple[float, float] = (0.0, 0.0)
) -> np.ndarray:
    """The object's pixels, bool [size, size], where the camera has moved by ``zoom`` and ``shift`` (pixels: x, y)."""
    view = view_of(recording, size)
    grid = np.arange(size, dtype=np.float32) + 0.5
    across, down = ((grid - shift[axis] - size / 2) / zoom + size / 2 for axis in (0, 1))
    x, y = view.to_world(across[None, :], down[:, None])
    return cover_of(thing, x, y) > 0.5


def texture(rng: np.random.Generator, x: np.ndarray, y: np.ndarray, cells: float) -> np.ndarray:
    """Smooth value noise in [-1, 1] with about ``cells`` cells per world length."""
    table = rng.uniform(-1, 1, (16, 16)).astype(np.float32)
    u, v = x * cells + 40, y * cells + 40
    i, j = np.floor(u).astype(np.int32), np.floor(v).astype(np.int32)
    a, b = (u - i).astype(np.float32), (v - j).astype(np.float32)
    a, b = a * a * (3 - 2 * a), b * b * (3 - 2 * b)
    i, j = i % 16, j % 16
    i1, j1 = (i + 1) % 16, (j + 1) % 16
    top = table[j, i] * (1 - a) + table[j, i1] * a
    low = table[j1, i] * (1 - a) + table[j1, i1] * a
    return top * (1 - b) + low * b


def palette(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Draw the colours of wall and table, float [3] each; most are muted."""
    rng = recording.rng("palette")
    wall, table = (rng.uniform(0.1, 0.9) + rng.beta(1, 2) * rng.uniform(-0.5, 0.5, 3) for _ in range(2))
    if rng.random() < 0.25:
        wall = np.array([0.25, 0.4, 0.2]) * rng.uniform(0.5, 1.5)  # outdoors
    return np.clip(wall, 0.04, 0.96), np.clip(table, 0.04, 0.96)


def dye(recording: Recording) -> np.ndarray:
    """Draw the actor's colour, float [3], until it stands out from wall and table."""
    rng = recording.rng("dye")
    surroundings = np.stack(palette(recording))
    best, contrast = np.zeros(3), -1.0
    for _ in range(6):
        colour = rng.uniform(0.03, 0.97, 3)
        away = float(np.abs(surroundings - colour).mean(axis=1).min())
        if away > contrast:
            best, contrast = colour, away
        if away > 0.3:
            break
    return best


def _background(recording: Recording, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    rng = recording.rng("background")
    picture = np.empty((*np.broadcast_shapes(x.shape, y.shape), 3), np.float32)
    x, y = np.broadcast_arrays(x, y)
    if recording.variety != "wide":
        picture[:] = (0.80, 0.82, 0.84)
        picture[y > 0.16] = (0.52, 0.44, 0.38)
        return picture
    wall, table = palette(recording)
    picture[:] = wall
    for cells in rng.uniform(2, 24, int(rng.integers(0, 4))):
        strength = np.float32(rng.uniform(0.02, 0.14))
        picture += (strength * texture(rng, x, y, cells))[..., None] * rng.uniform(0.4, 1, 3)
    if rng.random() < 0.35:
        a = rng.uniform(0, np.pi)
        wave = np.sin(2 * np.pi * rng.uniform(3, 14) * (np.cos(a) * x + np.sin(a) * y))
        picture += (np.float32(rng.uniform(0.03, 0.12)) * np.sign(wave))[..., None]
    photographs = recording.rng("photographs") if recording.photographs else None
    if photographs is not None and photographs.random() < 0.8:
        picture[:] = Texture(photographs).at(x, y)
    for _ in range(int(rng.integers(0, 5))):  # furniture, windows, people: rectangles and discs
        cx, cy, w, h = rng.uniform(-0.6, 0.6), rng.uniform(-0.6, 0.2), *rng.uniform(0.05, 0.3, 2)
        if rng.random() < 0.5:
            inside = (np.abs(x - cx) < w) & (np.abs(y - cy) < h)
        else:
            inside = ((x - cx) / w) ** 2 + ((y - cy) / h) ** 2 < 1
        picture[inside] = rng.uniform(0.05, 0.95, 3)
    if rng.random() < 0.8:  # a table or the ground
        edge = np.float32(rng.uniform(0.0, 0.22)) + np.float32(rng.normal(0, 0.06)) * x
        ground = y > edge
        shade = np.ones_like(x)
        for cells in rng.uniform(3, 30, 2):
            shade = shade + np.float32(rng.uniform(0.03, 0.2)) * texture(rng, x, y * 2, cells)
        picture[ground] = (table * shade[..., None])[ground]
        if photographs is not None and photographs.random() < 0.6:
            picture[ground] = Texture(photographs).at(x[ground], y[ground])
    return picture


def cover_of(thing: Thing, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Coverage (0 or 1) of an object's silhouette."""
    half, height = thing.width / 2, thing.base - thing.top
    u, v = (x - thing.x) / half, (y - thing.top) / height  # v: 0 at the top, 1 at the base
    inside = (v >= -0.001) & (v <= 1)
    if thing.shape == "slab":
        body = inside & (np.abs(u) < 1)
    elif thing.shape == "wedge":
        body = inside & (np.abs(u) < 1 - 0.5 * v)
    elif thing.shape == "dome" or thing.material == "metal":  # a bowl
        body = inside & (np.abs(u) < np.sqrt(np.clip(1 - np.clip(v, 0, 1) ** 2 * 0.8, 0, 1)))
    elif thing.material == "glass":  # a tumbler, wider at the top
        body = inside & (np.abs(u) < 0.62 - 0.14 * v)
    elif thing.material == "ceramic":  # a cup with a foot
        body = inside & (np.abs(u) < np.where(v < 0.85, 0.9 - 0.45 * v**2, 0.45))
    else:  # a block, a drum
        body = inside & (np.abs(u) < 1)
    return body.astype(np.float32)


def _draw_thing(recording: Recording, thing: Thing, picture: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    rng = recording.rng("look-" + thing.material, thing.index)
    wide = recording.variety == "wide"
    half, height = thing.width / 2, thing.base - thing.top
    x, y = np.broadcast_arrays(x, y)
    u, v = (x - thing.x) / half, (y - thing.top) / height
    cover = cover_of(thing, x, y)
    jitter = (rng.uniform(0.75, 1.25) if wide else 1.0) * (1 + (rng.normal(0, 0.1, 3) if wide else np.zeros(3)))
    round_shade = (1 - 0.45 * np.clip(u, -1, 1) ** 2)[..., None]
    shadow = np.exp(-(((x - thing.x) / (1.3 * half)) ** 2) - ((y - thing.base) / 0.03) ** 2)
    picture *= (1 - np.float32(0.45) * shadow * (cover < 0.5))[..., None]
    if thing.material == "wood":
        grain = np.sin(2 * np.pi * (v * rng.uniform(2.5, 5) + 0.35 * texture(rng, x, y, 6)))
        colour = np.array([0.58, 0.38, 0.2]) * jitter * (1 + 0.22 * grain)[..., None]
    elif thing.material == "metal":
        gloss = np.exp(-(((u + 0.35) / 0.16) ** 2)) + 0.5 * np.exp(-(((u - 0.5) / 0.1) ** 2))
        tone = np.array([0.55, 0.58, 0.63]) if rng.random() < 0.7 else np.array([0.72, 0.58, 0.28])
        colour = tone * jitter * (0.45 + 0.5 * (1 - v) ** 2 + 0.75 * gloss)[..., None]
    elif thing.material == "glass":
        rim = np.clip((np.abs(u) - (0.48 - 0.14 * v)) / 0.1, 0, 1) + (v > 0.9) + (v < 0.07)
        shine = np.exp(-(((u + 0.25) / 0.07) ** 2)) * (v > 0.12) * (v < 0.8)
        tint = np.array([0.78, 0.92, 0.95]) * jitter
        clear = 0.35 * picture + 0.4 * tint
        colour = clear + (0.4 * np.clip(rim, 0, 1) + 0.4 * shine)[..., None]
    elif thing.material == "ceramic":
        glaze = np.array([0.95, 0.94, 0.9]) * (0.9 + 0.1 * jitter)
        band = ((v > 0.14) & (v < 0.3)) | ((v > 0.55) & (v < 0.62))
        paint = np.array([[0.15, 0.3, 0.7], [0.75, 0.2, 0.15], [0.1, 0.5, 0.4]])[rng.integers(3)]
        colour = np.where(band[..., None], paint, glaze) * round_shade
        colour = colour + 0.25 * np.exp(-(((u + 0.4) / 0.12) ** 2))[..., None]
    else:
        shell = rng.uniform(0.1, 0.8, 3) if wide else np.array([0.7, 0.12, 0.12])
        lace = np.abs(((u * 3 + np.abs(v * 2 - 1)) % 1) - 0.5) < 0.09
        colour = np.where(lace[..., None], 0.92, shell * round_shade)
        hoop = (v < 0.16) | (v > 0.9)
        colour = np.where(hoop[..., None], np.array([0.85, 0.8, 0.68]), colour)
    if thing.material in ("wood", "drum", "metal", "ceramic"):
        lip = (v < (thing.face / height or 0.1))[..., None]  # the top edge, or the upper side, catches the light
        colour = np.where(lip, colour * 0.5 + 0.5, colour)
    photographs = recording.rng("photographs", thing.index)
    if recording.photographs and photographs.random() < 0.5:  # prints and wear, in the material's colour
        grey = Texture(photographs).at(x, y).mean(axis=2, keepdims=True)
        colour = colour * (0.45 + np.float32(photographs.uniform(0.4, 1.2)) * grey)
    mask = cover[..., None]
    picture += mask * (colour.astype(np.float32) - picture)
    if thing.damped_by_hand:
        flat = ((x - thing.x - 0.55 * half) / (0.5 * half)) ** 2 + ((y - thing.top) / 0.045) ** 2 < 1
        picture[flat] = (0.86, 0.62, 0.5)
