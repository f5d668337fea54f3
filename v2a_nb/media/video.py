"""Reading the pictures of a video file, whole, in parts or in windows.

Times come from timestamps, not from counting frames. The first picture's timestamp is time zero, and the sound is
placed on the same clock: a sound that starts late or ends early stays where it belongs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, check_types
from v2a_nb.media import decoding, remuxing
from v2a_nb.media.pictures import upright
from v2a_nb.media.sounds import read_sound


@dataclass(frozen=True)
class MediaInfo:
    """What the headers of a video file say, and the size and rotation of its first picture.

    Attributes:
        path: the file.
        duration: seconds, as the header says; 0 where it says nothing.
        width, height: pixels of the upright picture.
        fps: average frames per second.
        rotation: degrees by which the stored pictures are turned for display: 0, 90, 180 or 270.
        video_codec: name of the codec, such as ``"h264"``.
        audio_codec, sample_rate, channels: of the first audio stream; None in a file without sound.
    """

    path: str
    duration: float
    width: int
    height: int
    fps: float
    rotation: int
    video_codec: str
    audio_codec: str | None
    sample_rate: int | None
    channels: int | None


class Video:
    """A video file that is opened once; its pictures can be read in parts.

    Use it in a ``with`` block, which closes the file. :func:`open`, :func:`info`, :func:`windows` and :func:`dub`
    read through it; use it directly where several of them are wanted of one file.

    Attributes:
        path: the file.
        info: its :class:`MediaInfo`.

    Raises:
        MediaError: the file cannot be read or has no pictures.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = path
        self._container = decoding.container(path)
        try:
            self._stream = decoding.video_stream(self._container, path)
            decoder = self._container.decode(self._stream)
            first = decoding.first_frame(decoder, path)
            self.info = self._info(first)
        except BaseException:
            self._container.close()
            raise
        self._base = self._stream.time_base or Fraction(1)
        self._zero = 0.0 if first.pts is None else float(first.pts * self._base)
        self._unread = chain([first], decoder)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._container.close()

    def _info(self, first) -> MediaInfo:
        streams, video = self._container.streams, self._stream
        sound = streams.audio[0] if streams.audio else None
        rotation = int(round(first.rotation)) % 360
        width, height = (first.height, first.width) if rotation in (90, 270) else (first.width, first.height)
        return MediaInfo(
            path=str(self.path),
            duration=decoding.duration_of(self._container, video),
            width=width,
            height=height,
            fps=decoding.fps_of(video),
            rotation=rotation,
            video_codec=video.codec_context.name,
            audio_codec=sound.codec_context.name if sound else None,
            sample_rate=sound.rate if sound else None,
            channels=sound.channels if sound else None,
        )

    def read(
        self,
        *,
        start: float = 0.0,
        duration: float | None = None,
        size: int | None = None,
        sample_rate: int | None = None,
        sound: bool = True,
    ) -> Clip:
        """Read the video, or a part of it, into memory; the arguments and the result are those of :func:`open`."""
        if start < 0 or (duration is not None and duration <= 0):
            raise UsageError(f"{self.path}: cannot read {duration} s from {start} s")
        part = _Part(self, start, duration)
        frames, times = zip(*((upright(frame, size), time) for frame, time in part), strict=True)
        end = part.end
        track = None
        if sound and self.info.audio_codec is not None:
            track = read_sound(self.path, self._zero + start, end - start)
            track = track.resample(sample_rate).fit(end - start) if sample_rate else track
        return Clip(np.stack(frames), np.array(times), self.info.fps, end - start, track, Path(self.path).stem)

    def dub(
        self,
        sound: Sound | Iterable[Sound],
        path: str | Path,
        *,
        start: float = 0.0,
        duration: float | None = None,
        keep_original: bool = False,
        mix: float | None = None,
        crf: int = remuxing.CRF,
        report: Callable[[str], None] | None = None,
    ) -> Path:
        """Write the pictures, or a part of them, with another soundtrack; the arguments are those of :func:`dub`."""
        return remuxing.dub(
            self.path,
            path,
            sound,
            _lasting(self.path, start, duration),
            zero=self._zero,
            fps=self.info.fps,
            start=start,
            duration=duration,
            track=None,
            keep_original=keep_original,
            mix=mix,
            crf=crf,
            report=report,
        )

    def _decode(self, start: float) -> Iterator:
        """Frames from the key frame before ``start`` (s) on; the file is rewound where it must be."""
        fresh, self._unread = self._unread, None
        if start == 0 and fresh is not None:
            return fresh
        if start > 0:
            offset = int((self._zero + start) / float(self._base))
            self._container.seek(max(0, offset), stream=self._stream, backward=True)
        else:
            self._container.seek(0)
        return self._container.decode(self._stream)


@check_types
def info(path: str | Path) -> MediaInfo:
    """Read a video's headers, and one picture for its size and rotation.

    Raises:
        MediaError: the file cannot be read or has no pictures.
    """
    with Video(path) as video:
        return video.info


@check_types
def open(
    path: str | Path,
    *,
    start: float = 0.0,
    duration: float | None = None,
    size: int | None = None,
    sample_rate: int | None = None,
    sound: bool = True,
) -> Clip:
    """Read a video, or a part of it, into a :class:`~v2a_nb.clip.Clip`.

    Args:
        path: any container and codec that FFmpeg reads.
        start: seconds from the first picture.
        duration: seconds; left out, to the end.
        size: shrink the pictures so that the short side has this many pixels; they are never enlarged.
        sample_rate: Hz to which the sound is resampled; left out, its own rate.
        sound: False leaves the file's sound unread: ``clip.sound`` is None.

    Returns:
        a clip of upright pictures, their times taken from timestamps. Its sound is cut, or filled with silence, to
        the pictures' length; it is None for a file without sound.

    Raises:
        MediaError: the file is missing, empty, damaged, no media, or has no pictures.
        UsageError: the part lies outside of the video, or an argument is of the wrong type.
    """
    with Video(path) as video:
        return video.read(start=start, duration=duration, size=size, sample_rate=sample_rate, sound=sound)


@check_types
def windows(path: str | Path, seconds: float, **options: Any) -> Iterator[Clip]:
    """Yield a long file in consecutive clips of ``seconds``, of which one at a time is in memory.

    Args:
        path: as for :func:`open`.
        seconds: length of each clip; the last one may be shorter.
        options: ``size``, ``sample_rate`` and ``sound`` as for :func:`open`.

    Raises:
        MediaError, UsageError: as :func:`open`.
    """
    if seconds <= 0:
        raise UsageError(f"windows of {seconds} s are impossible")
    with Video(path) as video:
        start = 0.0
        while start < video.info.duration - 1e-3:
            try:
                yield video.read(start=start, duration=seconds, **options)
            except UsageError:
                return  # the headers promised more than there is
            start += seconds


@check_types
def dub(
    video: str | Path,
    sound: Sound | Iterable[Sound],
    path: str | Path,
    *,
    start: float = 0.0,
    duration: float | None = None,
    keep_original: bool = False,
    mix: float | None = None,
    crf: int = remuxing.CRF,
    report: Callable[[str], None] | None = None,
) -> Path:
    """Write the pictures of a file with another soundtrack, into an mp4.

    The whole file's pictures are copied bit for bit where an mp4 can hold them. A part of them, another codec, or
    pictures without usable times are encoded again: visually lossless, in full size, one at a time in memory. Title,
    date, chapters, subtitles, colour tags, rotation, mirroring and the shape of the pixels stay.

    Args:
        video: the file whose pictures are taken.
        sound: the new soundtrack, or an iterable of consecutive pieces of it, which are written as they come; it is
            cut or filled with silence to the pictures' length.
        path: the mp4 file to write.
        start, duration: the part of the video that is taken, seconds, as in :func:`open`.
        keep_original: the file's own sound becomes a second track.
        mix: a level in dB at which the new sound is mixed with the file's own, instead of replacing it. Where the sum
            goes beyond full scale, a limiter turns both down, smoothly over 50 ms on either side of the peak.
        crf: constant rate factor for pictures that are encoded again, 0 (lossless) to 51.
        report: receives one line for each thing that an mp4 cannot hold, such as subtitles that are pictures.

    Returns:
        ``path``.

    Raises:
        MediaError, UsageError: as :func:`open` and :func:`save_mp4`; and ``path`` is the video itself.
    """
    with Video(video) as file:
        return file.dub(
            sound,
            path,
            start=start,
            duration=duration,
            keep_original=keep_original,
            mix=mix,
            crf=crf,
            report=report,
        )


def _lasting(path: str | Path, start: float, duration: float | None) -> Iterator[tuple]:
    """Decode a part of a video: frames with the times at which they appear and disappear, seconds from ``start``.

    The file is opened anew, since the sound of its pictures may be made, from another part, at the same time.
    """
    with Video(path) as video:
        part, before = _Part(video, start, duration), None
        for frame, time in part:
            if before is not None:
                yield *before, time
            before = frame, time
        if before is not None:
            yield *before, max(part.end - part.start, before[1] + 1e-3)


class _Part:
    """The frames that are visible in a part of a video: an iterator of (frame, seconds from the part's start).

    Attributes:
        start, stop: of the part, seconds from the first picture; ``stop`` is None for the end of the file.
        last: when the newest frame ends, seconds from the first picture; known once the iterator is exhausted.
    """

    def __init__(self, video: Video, start: float, duration: float | None) -> None:
        self.video, self.start, self.last = video, start, 0.0
        self.stop = None if duration is None else start + duration

    @property
    def end(self) -> float:
        """When the part ends, seconds from the first picture; known once the iterator is exhausted."""
        return self.last if self.stop is None else min(self.stop, self.last)

    def __iter__(self) -> Iterator[tuple]:
        from av.error import FFmpegError

        video, start, stop = self.video, self.start, self.stop
        base, path = video._base, video.path
        held, newest, count = None, None, 0
        broken: Exception | None = None
        decoder = video._decode(start)
        while True:
            try:
                frame = next(decoder)
            except StopIteration:
                break
            except FFmpegError as error:
                broken = error
                break
            time = (float(frame.pts * base) - video._zero) if frame.pts is not None else count / video.info.fps
            lasts = float(frame.duration * base) if frame.duration else 1 / video.info.fps
            if stop is not None and time >= stop - 1e-6:
                self.last = max(self.last, stop)
                break
            self.last = max(self.last, time + lasts)
            if time < start - 1e-6:
                held = frame  # it may still be visible when the part begins
                continue
            if newest is not None and time <= newest:
                continue  # a repeated timestamp shows nothing new
            if newest is None and held is not None and time > start + 1e-6:
                yield held, 0.0
                count += 1
            held, newest = None, time
            yield frame, time - start
            count += 1
        if newest is None and held is not None and self.last > start + 1e-6:
            yield held, 0.0
            count += 1
        if not count:
            if broken is not None or start == 0:
                raise MediaError(f"{path}: not one picture could be decoded")
            raise UsageError(f"{path}: the video ends before {start} s")
        promised = video.info.duration
        if broken is not None and self.last < 0.5 * promised:
            raise MediaError(f"{path}: cut off or damaged after {self.last:.2f} s of {promised:.2f} s")
