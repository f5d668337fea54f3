"""Reading the sound of a file, whole or in parts, on the clock of its pictures."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.clip import CHANNELS, Sound
from v2a_nb.errors import MediaError, check_types
from v2a_nb.media import decoding
from v2a_nb.media.frames import AHEAD, BACK, JUMP, Pictures
from v2a_nb.media.structure import BROADCAST, Structure

HOLE_S = 0.02
"""Seconds by which timestamps and samples may disagree before a hole, or an overlap, is believed."""
STEPS = (0.5, 2.0, 8.0)  # seconds before the wanted moment to which a seek goes
PREROLL_S = 0.1  # seconds that a decoder needs after a seek, until its samples are those of the whole file
MOST_BYTES = 8e9  # of sound that is read at once
DIRECT = {"s16": (2.0**-15, 0), "s32": (2.0**-31, 0), "u8": (2.0**-7, 128), "flt": (1.0, 0), "dbl": (1.0, 0)}
"""Formats of samples that become floats in one step: as (sample - second) * first, which is what swresample does."""
PLANES = 7  # of channels that PyAV reads
SURE = ("mov", "mp4", "wav", "matroska", "avi")  # containers in which a sound stream's length is no estimate


@check_types
def open_sound(path: str | Path, *, audio_track: int | None = None, problems: list[str] | None = None) -> Sound:
    """Read the sound of any media file, to the sound's own end.

    In a file with pictures, the sound starts with the first picture, as in :func:`~v2a_nb.media.open`: a sound that
    begins later is preceded by silence. In a file without, it starts with its own first sample.

    Args:
        path: any container and codec that FFmpeg reads.
        audio_track: which of several sounds, counted from 0; left out, the one that the file flags as default.
        problems: receives a line for each kind of damage.

    Raises:
        MediaError: the file cannot be read or has no sound.
        UsageError: there is no such track, or an argument is of the wrong type.
    """
    damage, zero = decoding.Damage(), None
    with decoding.container(path) as container:
        if decoding.audio_stream(container, path, audio_track) is None:
            raise MediaError(f"{path}: no sound in this file")
        if decoding.video_streams(container):
            try:
                video = Pictures(path)
                zero = video.zero
                video.close()
            except MediaError:
                pass  # pictures that nobody can see
        sound = Sounds(path, audio_track, damage, zero, container).read_all()
    if sound.n == 0:
        raise MediaError(f"{path}: its sound stream holds no samples")
    if problems is not None:
        problems += damage.lines()
    return sound


class Sounds:
    """The sound of a file, read forwards; from an earlier, or a much later, moment on after a seek.

    Where the file has no sound, or a packet cannot be decoded, there is silence. Rate and channels are those of the
    first frame; where they change in the middle, the rest is converted.

    Args:
        path: the file.
        track: as ``audio_track`` of :func:`open_sound`.
        damage: receives what could not be decoded.
        zero: the time on the file's clock (s) from which seconds are counted; None: that of the first sample.
        container: the file, if it is open at its beginning; its opening takes longer than a short sound's reading.

    Attributes:
        rate: samples per second.
        layout: names of the channels, as :class:`~v2a_nb.clip.Sound` has them.

    Raises:
        MediaError: the file cannot be read, or nothing of its sound can be decoded.
    """

    def __init__(
        self, path: str | Path, track: int | None, damage: decoding.Damage, zero: float | None, container: Any = None
    ) -> None:
        self.path, self.track, self.damage, self.zero = path, track, damage, zero
        self.rate, self.layout, self.channels = 0, None, 1
        self._av_layout: Any = None
        self._grid: tuple[int, int] | None = None  # where the second frame begins, and the length of all others
        self._seekable = True
        self._container: Any = None
        self._stream: Any = None
        self._open(container)
        first = [chunk for _ in range(2) if (chunk := self._next()) is not None]
        if not first:
            if self._failed:
                self.close()
                raise MediaError(f"{path}: its sound could not be decoded")
            self.rate = self._stream.codec_context.sample_rate or 16000
        self._unread.extend(first)

    def close(self) -> None:
        self._container.close()

    def read(self, start: float, duration: float) -> Sound:
        """``duration`` seconds of sound from ``start`` (s) on; silence where the file has none."""
        begin, n = int(round(start * self.rate)), int(round(duration * self.rate))
        if 4 * n * self.channels > MOST_BYTES:
            raise MediaError(f"{self.path}: {duration / 3600:.0f} hours of sound do not fit into memory; read a part")
        at = self._unread[0][0] if self._unread else None
        early = begin < self._reached if at is None else (begin < at and begin < self._reached)
        if early or (at is not None and begin - at > AHEAD * self.rate):
            self._go(begin)
        out = np.zeros((self.channels, n), np.float32)
        while (chunk := self._next()) is not None:
            position, samples = chunk
            a, b = max(begin, position), min(begin + n, position + samples.shape[1])
            if b > a:
                out[:, a - begin : b - begin] = samples[:, a - position : b - position]
            if position + samples.shape[1] > begin + n:  # the rest belongs to the next part
                self._unread.appendleft((max(position, begin + n), samples[:, max(0, begin + n - position) :]))
                break
        self._reached = begin + n
        out.flags.writeable = False  # so that it is not copied: silence that nothing was written to needs no memory
        return Sound(out, self.rate, self.layout)

    def read_all(self) -> Sound:
        """All of the sound from time zero on; memory holds it once."""
        n, out = 0, np.zeros((self.rate, self.channels), np.float32)
        while (chunk := self._next()) is not None:
            position, samples = chunk
            samples, position = samples[:, max(0, n - position) :], max(n, position)
            n = position + samples.shape[1]
            if n > len(out):  # grows in place: no second copy is made
                out.resize((n + n // 8, self.channels), refcheck=False)
            out[position:n] = samples.T
        out.resize((n, self.channels), refcheck=False)
        out.flags.writeable = False
        return Sound(out.T, self.rate, self.layout)

    def _open(self, container: Any = None) -> None:
        """Begin at the beginning of the file."""
        if self._container is not None:
            self._container.close()
        self._container = container or decoding.container(self.path)
        self._stream = decoding.audio_stream(self._container, self.path, self.track)
        if self._stream is None or self._stream.codec_context is None:
            self._container.close()
            raise MediaError(f"{self.path}: its sound is of a kind that cannot be decoded")
        self._base = float(self._stream.time_base or 1)
        self._structure = Structure(self.path, self._container.format.name, self._stream.index)
        self._exact = self._stream.codec_context.name.startswith("pcm")  # whose numbers are the file's own
        self._start_over(after_seek=False)

    def _start_over(self, after_seek: bool) -> None:
        self._unread: deque[tuple[int, np.ndarray]] = deque()
        self._reached, self._failed = 0, False
        self._resampler: Any = None
        self._kind: tuple | None = None
        self._chunks = self._decode(after_seek)

    def _next(self) -> tuple[int, np.ndarray] | None:
        return self._unread.popleft() if self._unread else next(self._chunks, None)

    def _go(self, begin: int) -> None:
        """Seek so that the next chunk lies before sample ``begin``; at last to the beginning of the file."""
        from av.error import FFmpegError

        for step in STEPS if self._seekable else ():
            time = begin / self.rate - step
            if time <= 0:
                break
            try:
                offset = int((time + (self.zero or 0.0)) / self._base)
                self._container.seek(offset, stream=self._stream, backward=True)
            except (FFmpegError, OSError):
                continue
            self._start_over(after_seek=True)
            first = self._next()
            if first is not None and first[0] <= begin - PREROLL_S * self.rate:
                self._unread.appendleft(first)
                return
            if not self._seekable:
                break
        self._open()

    def _decode(self, after_seek: bool) -> Iterator[tuple[int, np.ndarray]]:
        """Pieces of sound, float32 [channels, n], with the number of their first sample, in order."""
        stream, base = self._stream, self._base
        clock: int | None = None  # the sample at which the next piece begins, if nothing is missing
        shift, failed, frames_done = 0.0, False, 0
        ends = math.inf  # when the last packet ends, seconds on the file's clock
        broadcast = self._container.format.name in BROADCAST
        for packet in decoding.packets(self._container, stream):
            if packet is not None and packet.pts is not None:
                begin = float(packet.pts * packet.time_base)
                if begin - ends > HOLE_S and self._structure.proves(ends, begin - HOLE_S / 2):
                    self.damage.silence[round(ends - (self.zero or 0.0) + shift / (self.rate or 1), 4)] = begin - ends
                ends = begin + float(packet.duration * packet.time_base) if packet.duration else math.inf
            frames, error = decoding.decode(stream, packet)
            if error:
                failed = self._failed = True
                if clock is not None or not after_seek:  # the half packet behind a seek is nobody's loss
                    self._lose(packet, shift)
            for frame in frames:
                pieces = self._floats(frame)
                if not self._exact and not all(np.isfinite(p.sum()) for p in pieces):  # what damage can decode to
                    self._lose(packet, shift)
                    pieces = [np.nan_to_num(p, nan=0.0, posinf=0.0, neginf=0.0) for p in pieces]
                if frame.pts is None:
                    if after_seek and clock is None:
                        self._seekable = False
                        return
                    position = clock or 0
                else:
                    time = float(frame.pts * frame.time_base)
                    if self.zero is None:
                        self.zero = time
                    place = (time - self.zero) * self.rate
                    if after_seek and clock is None:
                        found = self._on_grid(place, frame.samples)
                        if found is None:
                            self._seekable = False
                            return
                        clock = found
                    place += shift
                    position = int(round(place))
                    if clock is not None:
                        off = (place - clock) / self.rate
                        if off < -BACK or (broadcast and off > JUMP):  # the clock was set anew
                            shift, off, self._seekable = shift - off * self.rate, 0.0, False
                        least = 2.5 * base + 1 / self.rate  # what timestamps are rounded to
                        allowed = least if failed else max(least, 0.6 * frame.samples / self.rate)
                        if abs(off) <= min(HOLE_S, allowed):
                            position = clock
                        elif not shift:
                            exact = self._on_grid(place, frame.samples)
                            position = position if exact is None else exact
                    # a frame of another length than all others may be noise that was decoded
                    odd = self._grid is not None and frame.samples != self._grid[1]
                    failed = odd or (failed and not pieces)
                frames_done += 1
                if not after_seek and self._grid is None and frames_done == 2 and clock is not None:
                    self._grid = clock, frame.samples
                for samples in pieces:
                    skip = 0 if clock is None else max(0, clock - position)
                    position, samples = position + skip, samples[:, skip:]
                    if samples.shape[1]:
                        clock = position + samples.shape[1]
                        yield position, samples
                    position = position if clock is None else max(position, clock)
        for samples in self._flushed():
            position = clock or 0
            clock = position + samples.shape[1]
            yield position, samples
        self._check_end(clock)

    def _on_grid(self, place: float, samples: int) -> int | None:
        """The sample at which a frame begins after a seek, as it would begin when all is decoded; None: unknown.

        Timestamps are rounded, to milliseconds in Matroska. Where all frames are equally long, their true places
        are known.
        """
        tick = self._base * self.rate
        if self._grid is not None and self._grid[1] == samples and samples >= 4 * tick:
            first, length = self._grid
            nearest = first + round((place - first) / length) * length
            if abs(place - nearest) <= 1.6 * tick + 1:
                return nearest
        return int(round(place)) if tick <= 1 + 1e-9 else None

    def _floats(self, frame) -> list[np.ndarray]:
        """A frame's samples, float32 [channels, n], in the rate and the channels of the first frame."""
        import av

        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        pieces = []
        if kind != self._kind:
            if self._kind is not None:
                pieces = self._flushed()
            if not self.rate:
                self.rate, self._av_layout = frame.sample_rate, frame.layout
                self.channels = frame.layout.nb_channels
                self.layout = _layout_of(frame.layout)
            own = kind[1:] == (self._av_layout.name, self.rate)
            direct = own and frame.format.packed.name in DIRECT and (frame.format.is_packed or self.channels <= PLANES)
            how = {"format": "flt", "layout": self._av_layout, "rate": self.rate}
            self._resampler = None if direct else av.AudioResampler(**how)
            self._kind = kind
        if self._resampler is None:  # nearly every file: the resampler would take twenty times as long
            return [*pieces, _floats_of(frame)]
        pieces += [_planar(piece) for piece in self._resampler.resample(frame)]
        return pieces

    def _flushed(self) -> list[np.ndarray]:
        """Return the samples that are left in the resampler."""
        if self._resampler is None or self._kind is None or self._kind[2] == self.rate:
            return []
        return [_planar(piece) for piece in self._resampler.resample(None)]

    def _lose(self, packet, shift: float) -> None:
        if packet is not None and packet.pts is not None and self.rate:
            time = float(packet.pts * packet.time_base) - (self.zero or 0.0) + shift / self.rate
            seconds = float((packet.duration or 0) * packet.time_base)
            self.damage.silence[round(time, 4)] = seconds or (self._grid[1] / self.rate if self._grid else 0.0)

    def _check_end(self, clock: int | None) -> None:
        """Note a sound that ends before the file says so."""
        stream = self._stream
        sure = any(name in self._container.format.name for name in SURE)
        length = decoding.own_duration(stream) if sure else 0.0
        if clock is None:
            return
        promised = float((stream.start_time or 0) * stream.time_base) + length - (self.zero or 0.0)
        end = clock / self.rate
        if end < promised - decoding.SHORT_S:
            self.damage.ends["its sound"] = end, promised
        elif (not length or end < promised - HOLE_S) and self._structure.broken_at is not None:
            self._structure.note(self.damage, end)


def _floats_of(frame) -> np.ndarray:
    """Samples float32 [channels, n] of a frame in one of the formats :data:`DIRECT`."""
    scale, zero = DIRECT[frame.format.packed.name]
    samples = frame.to_ndarray()
    samples = samples.reshape(-1, frame.layout.nb_channels).T if frame.format.is_packed else samples
    samples = samples.astype(np.float32)
    samples -= np.float32(zero)
    samples *= np.float32(scale)
    return samples


def _planar(frame) -> np.ndarray:
    """Samples float32 [channels, n] of a frame whose channels are interleaved, since PyAV misreads eight planes."""
    return frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T


def _layout_of(layout) -> str | None:
    """The name of a channel layout, or the names of its channels; None where the file does not say which they are."""
    names = [channel.name for channel in layout.channels]
    if layout.name in CHANNELS:
        return layout.name
    return "+".join(names) if all(name in SPEAKERS for name in names) else None


SPEAKERS = {name for names in CHANNELS.values() for name in names.split("+")}
