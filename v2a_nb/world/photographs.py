"""Photographs that other packages ship, as backgrounds and textures of version 2 of Strike World.

None is part of this package. ``data/README.md`` names their licences.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from v2a_nb.errors import V2AError

PHOTOGRAPHS = (
    ("sklearn", "datasets/images/china.jpg"), ("sklearn", "datasets/images/flower.jpg"),
    ("matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    *(("skimage", f"data/{name}") for name in (
        "astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png", "grass.png", "gravel.png",
        "hubble_deep_field.jpg", "moon.png", "rocket.jpg",
    )),
)  # fmt: skip
"""Packages and paths in them: 14 photographs of people, animals, things, places and surfaces."""
SIDE = 256
"""Pixels of the longer side, to which they are scaled."""


@lru_cache(maxsize=len(PHOTOGRAPHS))
def photograph(which: int) -> np.ndarray:
    """Read photograph ``which`` of :data:`PHOTOGRAPHS`, float32 [h, w, 3] in [0, 1], at most 256 pixels a side.

    Raises:
        V2AError: the package that ships it is missing, or does not hold it.
    """
    from PIL import Image

    package, name = PHOTOGRAPHS[which]
    spec = find_spec(package)
    path = Path(spec.submodule_search_locations[0], name) if spec and spec.submodule_search_locations else None
    if path is None or not path.is_file():
        shipped = {"sklearn": "scikit-learn", "skimage": "scikit-image"}.get(package, package)
        raise V2AError(f"version 2 of Strike World needs {name} of {shipped}: pip install {shipped}")
    with Image.open(path) as image:
        picture = image.convert("RGB")
        picture.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
        return np.asarray(picture, np.float32) / 255


class Texture:
    """A piece of a photograph, turned, scaled and tinted at random, that repeats mirrored without end."""

    def __init__(self, rng: np.random.Generator, tint: float = 0.35) -> None:
        """Draw a texture.

        Args:
            rng: of the piece.
            tint: how far its colours are drawn to one random colour, 0 to 1.
        """
        picture = photograph(int(rng.integers(len(PHOTOGRAPHS))))
        angle, scale = rng.uniform(0, 2 * np.pi) if rng.random() < 0.5 else 0.0, np.exp(rng.uniform(4.6, 6.0))
        self._turn = np.float32(scale) * np.array(
            [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]], np.float32
        )
        self._begin = rng.uniform(0, 2 * SIDE, 2)
        share, middle = rng.uniform(0, tint), picture.mean(axis=(0, 1))
        picture = middle + np.float32(rng.uniform(0.35, 1.0)) * (picture - middle)
        self.picture = (1 - share) * picture + np.float32(share) * rng.uniform(0, 1, 3).astype(np.float32)
        self.picture = (self.picture * np.float32(rng.uniform(0.6, 1.2))).astype(np.float32)

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the colours at places in world lengths, float32 [..., 3]."""
        height, width = self.picture.shape[:2]
        u = (self._turn[0, 0] * x + self._turn[0, 1] * y + self._begin[0]).astype(np.int32) % (2 * width)
        v = (self._turn[1, 0] * x + self._turn[1, 1] * y + self._begin[1]).astype(np.int32) % (2 * height)
        return self.picture[np.minimum(v, 2 * height - 1 - v), np.minimum(u, 2 * width - 1 - u)]
