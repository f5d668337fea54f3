"""A sound that is too long for memory, on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator

import numpy as np

from v2a_nb.clip import Sound

PIECE = 1 << 18  # samples per channel that are read at a time


class SpooledSound:
    """Consecutive sounds, held in a temporary file as they came, to be read again as often as wanted.

    Iterating over it gives consecutive :class:`~v2a_nb.clip.Sound` values, which :func:`v2a_nb.media.save_sound` and
    :func:`v2a_nb.media.dub` take in place of one. Use it in a ``with`` block, which removes the file.

    Args:
        pieces: at least one sound; all of one rate and as many channels.

    Attributes:
        sample_rate, channels: of the sounds.
        n: samples per channel in all.
    """

    def __init__(self, pieces: Iterable[Sound]) -> None:
        self._file = tempfile.TemporaryFile(prefix="v2a-nb-")  # noqa: SIM115 - closed by __exit__
        self.n = self.sample_rate = self.channels = 0
        try:
            for piece in pieces:
                self.sample_rate, self.channels = piece.sample_rate, piece.channels
                self._file.write(np.ascontiguousarray(piece.samples.T).tobytes())
                self.n += piece.n
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> SpooledSound:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.n / self.sample_rate

    def __iter__(self) -> Iterator[Sound]:
        width = 4 * self.channels
        for start in range(0, self.n, PIECE):
            self._file.seek(start * width)
            data = self._file.read(min(PIECE, self.n - start) * width)
            yield Sound(np.frombuffer(data, np.float32).reshape(-1, self.channels).T, self.sample_rate)

    def first(self, seconds: float) -> Sound:
        """The first so many seconds, or all of it where it is shorter, in memory."""
        self._file.seek(0)
        data = self._file.read(4 * self.channels * min(self.n, round(seconds * self.sample_rate)))
        return Sound(np.frombuffer(data, np.float32).reshape(-1, self.channels).T, self.sample_rate)
