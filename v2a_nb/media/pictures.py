"""Pictures as players show them."""

from __future__ import annotations

import numpy as np


def upright(frame, size: int | None) -> np.ndarray:
    """The picture as players show it, uint8 [H, W, 3]: turned by its rotation, its short side at most ``size``."""
    width, height = frame.width, frame.height
    if size and min(width, height) > size:
        scale = size / min(width, height)
        width, height = (max(2, int(round(v * scale))) for v in (width, height))
        picture = frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")
        picture = picture.to_ndarray()
    else:
        picture = frame.to_ndarray(format="rgb24")
    turns = int(round(frame.rotation / 90)) % 4
    return np.rot90(picture, turns) if turns else picture
