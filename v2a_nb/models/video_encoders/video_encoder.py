"""The one interface of all video encoders: frames in, one token for each step of time out.

:mod:`v2a_nb.models.video_encoders.registry` lists the encoders and loads one by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Protocol

import numpy as np
from torch import Tensor

from v2a_nb.clip import Clip


class VideoEncoder(Protocol):
    """The interface. Token i stands for the time (i + 0.5) / rate, in seconds from the clip's start."""

    @property
    def dim(self) -> int:
        """Channels of a token."""
        ...

    @property
    def rate(self) -> float:
        """Tokens a second."""
        ...

    def features(self, clip: Clip) -> Tensor:
        """Tokens [T, dim] of a clip of any size, frame rate and length.

        T is ``ceil(rate * duration)``; an encoder that gives several tokens a frame gives all of its last one.
        """
        ...

    def encode(self, frames: np.ndarray, fps: float) -> Tensor:
        """Tokens [T, dim] of frames."""
        ...


class EncodesFrames:
    """Gives an encoder that reads clips its :meth:`encode`."""

    def encode(self: VideoEncoder, frames: np.ndarray, fps: float) -> Tensor:
        """Tokens [T, dim] of frames; resizing, cropping and normalising are done inside.

        Args:
            frames: uint8 [n, height, width, 3], RGB, evenly spaced.
            fps: frames a second.

        Raises:
            MediaError: frames of another type or shape, or an impossible rate.
        """
        return self.features(Clip(frames, fps=fps))


def token_count(duration: float, rate: float) -> int:
    """Tokens of a clip: one for each begun 1 / rate, and at least one.

    Examples:
        >>> token_count(2.56, 12.5), token_count(0.01, 2.0)
        (32, 1)
    """
    return max(1, ceil(duration * rate - 1e-6))


def window_starts(count: int, size: int) -> list[int]:
    """Starts of windows of ``size`` that cover ``count`` steps: side by side, the last one ending with the clip.

    Examples:
        >>> window_starts(7, 3), window_starts(6, 3), window_starts(2, 3)
        ([0, 3, 4], [0, 3], [0])
    """
    return [*range(0, count - size, size), max(0, count - size)]


def new_in_windows(count: int, size: int) -> Iterator[tuple[int, slice]]:
    """Starts of windows, and which steps of each window the windows before did not have.

    Examples:
        >>> list(new_in_windows(7, 3))
        [(0, slice(0, 3, None)), (3, slice(0, 3, None)), (4, slice(2, 3, None))]
    """
    done = 0
    for start in window_starts(count, size):
        end = min(start + size, count)
        yield start, slice(done - start, end - start)
        done = end
