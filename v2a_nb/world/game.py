"""Strike World as flat game graphics, ``style="game"``: the same recordings with other pictures.

Objects, places, motion and camera are the same. They are drawn in flat saturated colours with outlines on a background
of two tones, under a head-up display, without texture, shadow, soft light, motion blur or sensor noise. Nothing is
trained on this style. It takes the place of the game that Action2Sound was tried on after learning from real kitchens
(section 5.6).
"""

from __future__ import annotations

import numpy as np

from v2a_nb.world.description import Recording, Thing
from v2a_nb.world.scenery import cover_of, view_of

INK = np.array([0.09, 0.08, 0.13], np.float32)
"""Colour of every outline."""
BACKGROUNDS = (
    ((0.45, 0.76, 0.94), (0.98, 0.83, 0.52)), ((0.60, 0.52, 0.88), (0.96, 0.72, 0.78)),
    ((0.98, 0.80, 0.45), (0.42, 0.66, 0.42)), ((0.40, 0.80, 0.74), (0.95, 0.92, 0.78)),
    ((0.98, 0.66, 0.58), (0.52, 0.45, 0.62)), ((0.72, 0.88, 0.56), (0.80, 0.60, 0.42)),
)  # fmt: skip
"""Pairs of colours of wall and table."""
PAINTS = (
    (0.91, 0.16, 0.20), (0.13, 0.36, 0.90), (0.99, 0.85, 0.10), (0.10, 0.70, 0.30), (0.85, 0.20, 0.75),
    (0.98, 0.50, 0.08), (0.05, 0.72, 0.85), (0.45, 0.20, 0.75),
)  # fmt: skip
"""Colours of moving things and of drums."""
SKIN = (0.99, 0.77, 0.58)


def line_of(size: int) -> float:
    """Width of an outline, pixels."""
    return max(1.0, 0.012 * size)


def background(recording: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Colours of wall and table, float [3] each."""
    which = int(recording.rng("game-background").integers(len(BACKGROUNDS))) if recording.variety == "wide" else 0
    wall, table = BACKGROUNDS[which]
    return np.array(wall, np.float32), np.array(table, np.float32)


def paint(recording: Recording, word: str, more: int = 0) -> np.ndarray:
    """Draw a colour, float [3], that stands out from wall and table."""
    surroundings = np.stack(background(recording))
    paints = np.array(PAINTS, np.float32)
    away = np.abs(paints[:, None] - surroundings).mean(axis=2).min(axis=1)
    free = np.flatnonzero(away > 0.25)
    return paints[int(recording.rng("game-" + word, more).choice(free))]


def still(recording: Recording, size: int, margin: int) -> np.ndarray:
    """Draw background, table and objects: float32 [size + 2 margin, size + 2 margin, 3] in [0, 1]."""
    from scipy.ndimage import binary_dilation

    view = view_of(recording, size)
    over = 2 if size < 160 else 1
    n = (size + 2 * margin) * over
    grid = (np.arange(n, dtype=np.float32) + 0.5) / over - margin
    x, y = np.broadcast_arrays(*view.to_world(grid[None, :], grid[:, None]))
    wall, table = background(recording)
    edge = float(recording.rng("game-edge").uniform(0.02, 0.16))
    picture = np.where((y > edge)[..., None], table, wall)
    picture[np.abs(y - edge) < 0.5 * line_of(size) / view.scale] = INK
    around = np.ones((3, 3), bool)
    for thing in recording.things:
        cover = cover_of(thing, x, y) > 0.5
        picture[binary_dilation(cover, around, max(1, round(line_of(size) * over)))] = INK
        picture[cover] = _fill(recording, thing, x, y)[cover]
        if thing.damped_by_hand:
            half = thing.width / 2
            away = ((x - thing.x - 0.55 * half) / (0.5 * half)) ** 2 + ((y - thing.top) / 0.045) ** 2
            picture[away < 1.7] = INK
            picture[away < 1] = SKIN
    return picture.reshape(n // over, over, n // over, over, 3).mean(axis=(1, 3)).astype(np.float32)


def _fill(recording: Recording, thing: Thing, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return an object's flat colours [h, w, 3]: two or three tones for each material."""
    half, height = thing.width / 2, thing.base - thing.top
    u, v = (x - thing.x) / half, (y - thing.top) / height  # v: 0 at the top, 1 at the base
    rng = recording.rng("game-thing", thing.index)
    if thing.material == "wood":
        marks, tones = (np.abs(v - 0.42) < 0.07) | (np.abs(v - 0.74) < 0.07), ((0.80, 0.47, 0.18), (0.56, 0.29, 0.08))
    elif thing.material == "metal":
        plates = (((0.62, 0.68, 0.76), (0.97, 0.98, 1.0)), ((0.95, 0.72, 0.12), (1.0, 0.95, 0.6)))
        marks, tones = np.abs(u + 0.38 + 0.1 * v) < 0.12, plates[int(rng.random() < 0.3)]
    elif thing.material == "glass":
        marks, tones = (np.abs(u + 0.22) < 0.09) & (v > 0.15) & (v < 0.85), ((0.62, 0.93, 1.0), (1.0, 1.0, 1.0))
    elif thing.material == "ceramic":
        marks, tones = np.abs(v - 0.34) < 0.15, ((1.0, 0.99, 0.95), (0.16, 0.38, 0.85))
    else:
        shell = paint(recording, "drum", thing.index) if recording.variety == "wide" else PAINTS[0]
        marks, tones = (v < 0.2) | (v > 0.86), (tuple(shell), (1.0, 0.93, 0.72))
    return np.where(marks[..., None], np.float32(tones[1]), np.float32(tones[0]))


def head_up(recording: Recording, out: np.ndarray) -> None:
    """Draw a head-up display over frames [T, size, size, 3], 0 to 255; what it shows has no meaning."""
    size = out.shape[1]
    rng = recording.rng("game-display")
    tall, gap = max(3, round(0.055 * size)), max(1, round(0.02 * size))
    wide, full = round(0.34 * size), float(rng.uniform(0.3, 1.0))

    def block(x: int, width: int, colour, inner: int = 0) -> None:
        out[:, gap + inner : gap + tall - inner, x + inner : x + width - inner] = np.float32(colour) * 255

    block(gap, wide, INK)
    block(gap, round(full * wide), (0.2, 0.85, 0.3) if full > 0.5 else (0.95, 0.25, 0.2), 1)
    for k in range(int(rng.integers(1, 5))):
        x = size - (k + 1) * (tall + gap)
        block(x, tall, INK)
        block(x, tall, (1.0, 0.84, 0.1), 1)
