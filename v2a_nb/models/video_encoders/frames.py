"""Frames made ready for an encoder."""

from __future__ import annotations

import numpy as np


def square(frames: np.ndarray, size: int) -> np.ndarray:
    """Centre-crop to a square and resize by area: uint8 [T, H, W, 3] to [T, size, size, 3]."""
    from PIL import Image

    height, width = frames.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    if (height, width) == (size, size):
        return frames
    box = (left, top, left + side, top + side)
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for i, frame in enumerate(frames):
        # BOX with reduction is an area average: small sticks fade instead of vanishing
        picture = Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR, box=box)
        out[i] = np.asarray(picture)
    return out
