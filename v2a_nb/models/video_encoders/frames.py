"""Frames made ready for an encoder."""

from __future__ import annotations

import numpy as np

from v2a_nb.clip import Clip
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


def visible_at(clip: Clip, times: np.ndarray) -> np.ndarray:
    """The frames that are on the screen at some times (s): uint8 [len(times), height, width, 3]; none is mixed."""
    return clip.frames[np.clip(np.searchsorted(clip.times, times + 1e-4, side="right") - 1, 0, clip.n - 1)]


SAME_S = 0.002  # a frame this near to a wanted time is taken as it is: containers round times to a millisecond
EXPOSURE = 0.9  # share of a frame's time over which a faster camera's frames are averaged


def at_rate(clip: Clip, fps: float) -> Clip:
    """Frames at even times, as a camera of ``fps`` would have given them: what an encoder of one frame rate reads.

    A wanted time between two frames gets a mix of both, each weighted by its nearness. Taking the newest frame instead
    delays what an encoder sees by half a frame, taking the nearest one makes motion uneven. Of a clip that is at least
    one and a half times as fast, the frames within a slower camera's exposure are averaged. A clip that has the wanted
    rate stays as it is.

    Args:
        clip: of any frame rate, also a varying one.
        fps: frames a second.

    Returns:
        a clip of ``ceil(duration * fps)`` frames, without sound.
    """
    wanted = np.arange(max(1, int(np.ceil(clip.duration * fps - 1e-6)))) / fps
    return Clip(at_times(clip, wanted, fps), wanted, fps, clip.duration, name=clip.name)


def at_times(clip: Clip, wanted: np.ndarray, fps: float) -> np.ndarray:
    """The frames of :func:`at_rate` at any times: uint8 [len(wanted), H, W, 3].

    Args:
        wanted: seconds, increasing.
        fps: of the camera that is imitated.
    """
    frames, times, last = clip.frames, clip.times, clip.n - 1
    left = np.clip(np.searchsorted(times, wanted, side="right") - 1, 0, last)
    right = np.minimum(left + 1, last)
    nearest = np.where(np.abs(times[right] - wanted) < np.abs(times[left] - wanted), right, left)
    out = frames[nearest]
    half = EXPOSURE / fps / 2
    for i, time in enumerate(wanted):
        if abs(times[nearest[i]] - time) > SAME_S and left[i] != right[i] and time > times[left[i]]:
            share = (time - times[left[i]]) / (times[right[i]] - times[left[i]])
            mixed = (1 - share) * frames[left[i]].astype(np.float32) + share * frames[right[i]]
            out[i] = np.round(mixed)
        if clip.fps >= 1.5 * fps:
            a, b = np.searchsorted(times, (time - half, time + half))
            if b - a > 1:
                out[i] = np.round(frames[a:b].mean(0, dtype=np.float32))
    return out


def check_fit_and_resize(fit: str, resize: str) -> None:
    """Raise :class:`UsageError` for words that are unknown."""
    for what, value, known in (("fit", fit, FITS), ("resize", resize, RESAMPLING)):
        if value not in known:
            raise UsageError(f"{what} must be one of {', '.join(known)}, not {value!r}")
