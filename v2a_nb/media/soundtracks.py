"""Sounds of any length on their way into a file: one block at a time is in memory.

A soundtrack is a :class:`~v2a_nb.clip.Sound`, or an iterable of consecutive ones. Its samples come out the same
whichever way it is cut: rates are converted across the seams.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, count, repeat
from pathlib import Path

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, check_value
from v2a_nb.media import decoding
from v2a_nb.media.sounds import Sounds

LOOKAHEAD = 0.05  # seconds in which the limiter turns the level down before a peak, and up again behind it


@dataclass(frozen=True)
class Soundtrack:
    """A signal that is read once.

    Attributes:
        blocks: arrays float32 [channels, n] of any lengths, one after the other.
        sample_rate: Hz.
        channels: of every block.
        layout: of its sounds; None: unknown.
    """

    blocks: Iterator[np.ndarray]
    sample_rate: int
    channels: int
    layout: str | None

    @classmethod
    def of(cls, sound: Sound | Iterable[Sound], function: str) -> Soundtrack:
        """Take a sound or consecutive ones.

        Args:
            sound: one sound, or an iterable of sounds with the same rate and number of channels.
            function: the caller's name, for errors.

        Raises:
            UsageError: there is no sound, or something that is none; while reading, a sound of another rate or
                number of channels than the first one's.
        """
        check_value(function, "sound", sound, Sound, Iterable)
        pieces = iter([sound] if isinstance(sound, Sound) else sound)
        first = next(pieces, None)
        if first is None:
            raise UsageError(f"{function}: sound has no pieces; give at least one Sound")
        check_value(function, "sound", first, Sound)

        def blocks() -> Iterator[np.ndarray]:
            for piece in chain([first], pieces):
                check_value(function, "sound", piece, Sound)
                if (piece.sample_rate, piece.channels) != (first.sample_rate, first.channels):
                    raise UsageError(
                        f"{function}: pieces of a sound must be alike, not {first.sample_rate} Hz, {first.channels} "
                        f"channels and {piece.sample_rate} Hz, {piece.channels} channels"
                    )
                yield piece.samples

        return cls(blocks(), first.sample_rate, first.channels, first.layout)

    @property
    def places(self) -> str:
        """FFmpeg's name of the layout; the usual one where it is unknown."""
        return self.layout or LAYOUTS.get(self.channels, f"{self.channels} channels")

    def with_channels(self, channels: int | None) -> Soundtrack:
        """Return one or two channels, as :meth:`Sound.mono` and :meth:`Sound.stereo` mix them; None changes nothing."""
        if channels in (None, self.channels):
            return self
        mixed = Sound.mono if channels == 1 else Sound.stereo
        blocks = (mixed(Sound(block, self.sample_rate, self.layout)).samples for block in self.blocks)
        return replace(self, blocks=blocks, channels=channels, layout=LAYOUTS[channels])

    def resampled(self, sample_rate: int) -> Soundtrack:
        """Convert to another rate, with the values that :meth:`Sound.resample` gives for the whole of it."""
        if sample_rate == self.sample_rate:
            return self
        common = math.gcd(sample_rate, self.sample_rate)
        up, down = sample_rate // common, self.sample_rate // common
        return replace(self, blocks=_resample(self.blocks, up, down), sample_rate=sample_rate)

    def fitted(self, seconds: Callable[[], float | None]) -> Soundtrack:
        """Cut the end off, or append silence.

        Args:
            seconds: returns the length, or None while it is unknown but longer than what was read so far.
        """

        most = self.sample_rate // 8 + 1  # samples that are read ahead

        def blocks() -> Iterator[np.ndarray]:
            n = 0
            parts = (block[:, k : k + most] for block in self.blocks for k in range(0, block.shape[1], most))
            silence = repeat(np.zeros((self.channels, most), np.float32))
            for part in chain(parts, silence):
                end = seconds()
                left = most if end is None else max(0, round(end * self.sample_rate) - n)
                yield part[:, :left]
                n += part.shape[1]
                if end is not None and n >= round(end * self.sample_rate):
                    return

        return replace(self, blocks=blocks())

    def cut(self, n: int) -> Iterator[np.ndarray]:
        """Yield blocks of exactly ``n`` samples; the last one may be shorter."""
        held = np.zeros((self.channels, 0), np.float32)
        for block in self.blocks:
            while block.shape[1]:
                take = n - held.shape[1]
                held, block = np.concatenate([held, block[:, :take]], axis=1), block[:, take:]
                if held.shape[1] == n:
                    yield held
                    held = held[:, :0]
        if held.shape[1]:
            yield held


LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""The usual places of so many channels."""


def mix(first: Soundtrack, second: Soundtrack, db: float) -> Soundtrack:
    """Add ``first``, at a level of ``db`` decibels, to ``second``; both get the higher rate and the larger number of
    channels, two at most, and the longer one's end is the end.

    Where the sum would go beyond full scale, both are turned down together: a limiter looks 50 ms ahead and
    lowers the level smoothly, to full scale at the peak, and as smoothly up again. All other samples stay as they are.
    """
    rate = max(first.sample_rate, second.sample_rate)
    channels = min(2, max(first.channels, second.channels))
    a, b = (track.with_channels(channels).resampled(rate).cut(rate) for track in (first, second))
    gain = np.float32(10 ** (db / 20))

    def sums() -> Iterator[np.ndarray]:
        silence = np.zeros((channels, 0), np.float32)
        while True:
            x, y = next(a, silence), next(b, silence)
            n = max(x.shape[1], y.shape[1])
            if not n:
                return
            x, y = (np.pad(v, ((0, 0), (0, n - v.shape[1]))) for v in (x, y))
            yield gain * x + y

    return Soundtrack(_limit(sums(), max(1, round(LOOKAHEAD * rate))), rate, channels, LAYOUTS[channels])


def _resample(blocks: Iterator[np.ndarray], up: int, down: int) -> Iterator[np.ndarray]:
    """Resample by ``up / down`` with the filter of ``Sound.resample``, which sees both sides of every seam."""
    from scipy.signal import firwin, resample_poly

    largest = max(up, down)
    half = 10 * largest
    taps = firwin(2 * half + 1, 1 / largest, window=("kaiser", 5.0))  # pyright: ignore[reportArgumentType]
    around = down * (half // (up * down) + 1)  # samples of context, a multiple of ``down``: outputs stay aligned
    size = down * -(-16384 // down)
    held, before, read, sent, over = None, 0, 0, 0, False
    while not over:
        block = next(blocks, None)
        over = block is None
        if block is not None:
            held = block if held is None else np.concatenate([held, block], axis=1)
            read += block.shape[1]
        while held is not None and held.shape[1] and (over or held.shape[1] >= before + size + around):
            n = held.shape[1] - before if over else size  # of the samples that are converted now
            part = resample_poly(held[:, : before + n + around].astype(np.float64), up, down, axis=1, window=taps)
            start = before // down * up
            stop = start + (round(read * up / down) - sent if over else n // down * up)
            yield part[:, start:stop].astype(np.float32)
            sent += stop - start
            if over:
                break
            keep = min(before + n, around)
            held, before = held[:, before + n - keep :], keep


def _limit(blocks: Iterator[np.ndarray], reach: int) -> Iterator[np.ndarray]:
    """Turn peaks beyond full scale down to it, smoothly over ``reach`` samples on either side."""
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    width = 2 * reach + 1
    held, before, over = None, 0, False
    while not over:
        block = next(blocks, None)
        over = block is None
        if block is not None:
            held = block if held is None else np.concatenate([held, block], axis=1)
        if held is None or (not over and held.shape[1] <= before + 2 * reach):
            continue
        n = held.shape[1] - before - (0 if over else 2 * reach)  # samples whose surroundings are known
        peaks = np.maximum(np.abs(held).max(axis=0), 1.0).astype(np.float64)
        gain = uniform_filter1d(minimum_filter1d(1 / peaks, width, mode="nearest"), width, mode="nearest")
        out = held[:, before : before + n] * gain[before : before + n]
        yield np.clip(out, -1.0, 1.0).astype(np.float32)  # rounding alone goes beyond
        keep = min(before + n, 2 * reach)
        held, before = held[:, before + n - keep :], keep


def of_file(path: str | Path, track: int | None, zero: float, start: float) -> Soundtrack:
    """Read a file's own sound without end: behind its end, and where it cannot be decoded, there is silence.

    Args:
        path: the file.
        track: which of several sounds; None takes the default one.
        zero: time of the first picture on the file's clock, seconds.
        start: seconds from the first picture.
    """
    sounds = Sounds(path, track, decoding.Damage(), zero)

    def blocks() -> Iterator[np.ndarray]:
        try:
            for k in count():
                yield sounds.read(start + k, 1.0).samples
        finally:
            sounds.close()

    return Soundtrack(blocks(), sounds.rate, sounds.channels, sounds.layout)
