"""Frames made ready for an encoder."""

from __future__ import annotations

import numpy as np

from v2a_nb.errors import UsageError

FITS = ("crop", "squash")
"""How a picture becomes square: its middle is cut out, or its longer side is squashed (Action2Sound, as released)."""
RESAMPLING = ("bilinear", "bicubic")
"""How it is resized, with antialiasing; the released code of the papers is bicubic."""


def square(frames: np.ndarray, size: int, *, fit: str = "crop", resize: str = "bilinear") -> np.ndarray:
    """Square pictures: uint8 [T, H, W, 3] to [T, size, size, 3].

    Args:
        fit: one of :data:`FITS`.
        resize: one of :data:`RESAMPLING`.

    Raises:
        UsageError: an unknown word.
    """
    from PIL import Image

    check_fit_and_resize(fit, resize)
    height, width = frames.shape[1:3]
    if (height, width) == (size, size):
        return frames
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    box = (left, top, left + side, top + side) if fit == "crop" else (0, 0, width, height)
    out = np.empty((len(frames), size, size, 3), np.uint8)
    for i, frame in enumerate(frames):
        # PIL's filters grow with the reduction, so small sticks fade instead of vanishing
        picture = Image.fromarray(frame).resize((size, size), Image.Resampling[resize.upper()], box=box)
        out[i] = np.asarray(picture)
    return out


def check_fit_and_resize(fit: str, resize: str) -> None:
    """Raise :class:`UsageError` for words that are unknown."""
    for what, value, known in (("fit", fit, FITS), ("resize", resize, RESAMPLING)):
        if value not in known:
            raise UsageError(f"{what} must be one of {', '.join(known)}, not {value!r}")
