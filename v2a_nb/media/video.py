"""Reading the pictures of a video file, whole, in parts or in windows.

Times come from timestamps, not from counting frames. The first picture's timestamp is time zero, and the sound is
placed on the same clock: a sound that starts late or ends early stays where it belongs.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, check_types
from v2a_nb.media import decoding, remuxing
from v2a_nb.media.finding import check_file
from v2a_nb.media.frames import Pictures
from v2a_nb.media.pictures import is_rgb, orientation_of, pixel_shape, shown_size, suffers_from_420, upright
from v2a_nb.media.sounds import Sounds


@dataclass(frozen=True)
class MediaInfo:
    """What the headers of a video file say, and the size and orientation of its first picture.

    Attributes:
        path: the file.
        duration: seconds, as the header says. Where it says nothing, the packets of the file are counted without
            being decoded; 0 where that fails too, or the file is larger than 2 GB.
        width, height: pixels of the picture as players show it, upright and with square pixels.
        fps: average frames per second.
        rotation: degrees by which the stored pictures are turned for display: 0, 90, 180 or 270.
        video_codec: name of the codec, such as ``"h264"``.
        audio_codec, sample_rate, channels: of the audio stream that is read; None in a file without sound.
        audio_tracks: how many audio streams the file has.
        sar: width over height of the stored pixels, which ``width`` has absorbed.
        mirrored: whether the stored pictures are mirror images of the shown ones.
        color: primaries, transfer, matrix (numbers of ITU-T H.273; 2: not said) and range (1: limited, 2: full, 0: not
            said) of the stored pictures.
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
    audio_tracks: int = 0
    sar: float = 1.0
    mirrored: bool = False
    color: tuple[int, int, int, int] = (2, 2, 2, 0)


class Video:
    """A video file that is opened once; its pictures can be read in parts.

    Use it in a ``with`` block, which closes the file. :func:`open`, :func:`info`, :func:`windows` and :func:`dub`
    read through it; use it directly where several of them are wanted of one file. Consecutive parts are decoded once,
    without going back.

    Args:
        path: any container and codec that FFmpeg reads.
        audio_track: which of several sounds, counted from 0; left out, the one that the file flags as default.

    Attributes:
        path: the file.
        info: its :class:`MediaInfo`.

    Raises:
        MediaError: the file cannot be read or has no pictures.
        UsageError: there is no such audio track.
    """

    def __init__(self, path: str | Path, *, audio_track: int | None = None) -> None:
        self.path = os.path.expanduser(path)
        self._track = audio_track
        self._pictures = Pictures(path)
        self._sounds: Sounds | None = None
        try:
            self.info = self._info()
        except BaseException:
            self._pictures.close()
            raise

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self._pictures.close()
        if self._sounds is not None:
            self._sounds.close()

    @property
    def problems(self) -> tuple[str, ...]:
        """What could not be decoded in the parts that were read so far, one short line each."""
        return self._pictures.damage.lines()

    def _info(self) -> MediaInfo:
        pictures = self._pictures
        container, video, first = pictures.container, pictures.stream, pictures.peek()
        sound = decoding.audio_stream(container, self.path, self._track)
        codec = sound.codec_context if sound is not None else None
        duration = pictures.duration
        if not duration and check_file(self.path).stat().st_size <= decoding.SCAN_BYTES:
            duration = decoding.scan(self.path)
        sar = pixel_shape(video)
        self._how, self._is_rgb = orientation_of(first), is_rgb(first.format)
        width, height = shown_size(first, self._how, sar)
        return MediaInfo(
            path=str(self.path),
            duration=duration,
            width=width,
            height=height,
            fps=pictures.fps,
            rotation=int(round(first.rotation)) % 360,
            video_codec=video.codec_context.name,
            audio_codec=codec.name if codec else None,
            sample_rate=codec.sample_rate if codec else None,
            channels=codec.channels if codec else None,
            audio_tracks=len(container.streams.audio),
            sar=sar,
            mirrored=self._how.mirrored,
            color=(int(first.color_primaries), int(first.color_trc), int(first.colorspace), int(first.color_range)),
        )

    def scan(self) -> float:
        """Seconds from the first packet to the end of the last one, whatever the header says; nothing is decoded."""
        return decoding.scan(self.path)

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
        part = _Part(self, start, duration)
        seconds = self.info.duration - start if duration is None else min(duration, self.info.duration - start)
        frames, times = _gathered(part, size, expected=round(max(0.0, seconds) * self.info.fps) + 2)
        length = part.end - start
        track = None
        if sound and self.info.audio_codec is not None:
            if self._sounds is None:
                self._sounds = Sounds(self.path, self._track, self._pictures.damage, self._pictures.zero)
            track = self._sounds.read(start, length)
            track = track.resample(sample_rate).fit(length) if sample_rate else track
        problems = self._pictures.damage.lines(start, part.stop)
        return Clip(frames, times, self.info.fps, length, track, Path(self.path).stem, problems, str(self.path))

    def windows(
        self, seconds: float, *, start: float = 0.0, duration: float | None = None, **options: Any
    ) -> Iterator[Clip]:
        """Yield the video, or a part of it, in consecutive clips of ``seconds``; none is kept here.

        Args:
            seconds: length of each clip; the last one may be shorter.
            start, duration: the part, seconds, as for :meth:`read`.
            options: ``size``, ``sample_rate`` and ``sound`` as for :meth:`read`.
        """
        if not seconds > 0:
            raise UsageError(f"windows of {seconds} s are impossible")
        for number in count():
            begin, clips = number * seconds, []
            left = seconds if duration is None else min(seconds, duration - begin)
            if number and left < 1e-3:
                return
            try:
                clips.append(self.read(start=start + begin, duration=left, **options))
            except UsageError:
                if not number:
                    raise
                return  # the end
            ended = clips[0].duration < left - 1e-3
            yield clips.pop()
            if ended:
                return

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
            zero=self._pictures.zero or 0.0,
            fps=self.info.fps,
            start=start,
            duration=duration,
            track=self._track,
            keep_original=keep_original,
            mix=mix,
            crf=crf,
            full_colours=self._is_rgb and _has_fine_colours(self.path, start, duration),
            report=report,
        )

    def _upright(self, frame, size: int | None) -> np.ndarray:
        """The picture as players show it, as large as the first one, or with ``size`` pixels on its short side."""
        try:
            return upright(frame, self._how, (self.info.width, self.info.height), size)
        except (OSError, ValueError, MemoryError) as error:
            raise MediaError(f"{self.path}: a picture cannot be shown: {error}") from error


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
    audio_track: int | None = None,
) -> Clip:
    """Read a video, or a part of it, into a :class:`~v2a_nb.clip.Clip`.

    Args:
        path: any container and codec that FFmpeg reads.
        start: seconds from the first picture.
        duration: seconds; left out, to the end.
        size: shrink the pictures so that the short side has this many pixels; they are never enlarged.
        sample_rate: Hz to which the sound is resampled; left out, its own rate.
        sound: False leaves the file's sound unread: ``clip.sound`` is None.
        audio_track: which of several sounds, counted from 0; left out, the one that the file flags as default.

    Returns:
        a clip of upright pictures with square pixels, their times taken from timestamps. Its sound is cut, or filled
        with silence, to the pictures' length; it is None for a file without sound. What cannot be decoded is left
        out, and what follows stays at its time; ``clip.problems`` says so.

    Raises:
        MediaError: the file is missing, empty, no media, or has not one picture that can be decoded.
        UsageError: the part lies outside of the video, there is no such audio track, or an argument is of the wrong
            type.
    """
    with Video(path, audio_track=audio_track) as video:
        return video.read(start=start, duration=duration, size=size, sample_rate=sample_rate, sound=sound)


@check_types
def windows(path: str | Path, seconds: float, *, audio_track: int | None = None, **options: Any) -> Iterator[Clip]:
    """Yield a long file in consecutive clips of ``seconds``, of which one at a time is in memory.

    The file is decoded once, to its end, whatever length its header names.

    Args:
        path, audio_track: as for :func:`open`.
        seconds: length of each clip; the last one may be shorter.
        options: ``size``, ``sample_rate`` and ``sound`` as for :func:`open`.

    Raises:
        MediaError, UsageError: as :func:`open`.
    """
    with Video(path, audio_track=audio_track) as video:
        yield from video.windows(seconds, **options)


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
    audio_track: int | None = None,
    crf: int = remuxing.CRF,
    report: Callable[[str], None] | None = None,
) -> Path:
    """Write the pictures of a file with another soundtrack, into an mp4.

    The whole file's pictures are copied bit for bit where an mp4 can hold them. A part of them, another codec, or
    pictures without usable times are encoded again: visually lossless, in full size, one at a time in memory. RGB, as
    in GIFs, becomes 4:2:0, which all players show, unless that would cost fine colours (PSNR under 45 dB): then it
    becomes 4:4:4, and ``report`` says so. Title, date, chapters, subtitles, colour tags, rotation, mirroring and the
    shape of the pixels stay, and so does what an HDR video says of its screen and of its brightest light.

    Args:
        video: the file whose pictures are taken.
        sound: the new soundtrack, or an iterable of consecutive pieces of it, which are written as they come; it is
            cut or filled with silence to the pictures' length.
        path: the mp4 file to write.
        start, duration: the part of the video that is taken, seconds, as in :func:`open`.
        keep_original: the file's own sound becomes a second track.
        mix: a level in dB at which the new sound is mixed with the file's own, instead of replacing it. Where the sum
            goes beyond full scale, a limiter turns both down, smoothly over 50 ms on either side of the peak.
        audio_track: which of the file's own sounds, counted from 0; left out, the one that it flags as default.
        crf: constant rate factor for pictures that are encoded again, 0 (lossless) to 51.
        report: receives one line for each thing that an mp4 cannot hold, such as subtitles that are pictures.

    Returns:
        ``path``.

    Raises:
        MediaError, UsageError: as :func:`open` and :func:`save_mp4`; and ``path`` is the video itself.
    """
    with Video(video, audio_track=audio_track) as file:
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


def _gathered(part: _Part, size: int | None, expected: int) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of a part, uint8 [T, H, W, 3], and their times; no second copy of them is made.

    Args:
        part: the pictures.
        size: as for :func:`open`.
        expected: how many pictures the file promises. Memory is taken when it is written to.
    """
    frames: np.ndarray | None = None
    times: list[float] = []
    for frame, time in part:
        picture = part.video._upright(frame, size)
        if frames is None:
            frames = np.empty((max(1, min(expected, int(2e9) // picture.nbytes)), *picture.shape), np.uint8)
        elif len(times) == len(frames):
            frames.resize((len(times) + max(16, len(times) // 8), *picture.shape), refcheck=False)
        frames[len(times)] = picture
        times.append(time)
    assert frames is not None  # a part has one picture or raises
    frames.resize((len(times), *frames.shape[1:]), refcheck=False)
    return frames, np.array(times)


def _has_fine_colours(path: str | Path, start: float, duration: float | None) -> bool:
    """Whether one of five pictures of a part would suffer where its colours have half the resolution."""
    with Video(path) as video:
        seconds = min(video.info.duration - start, math.inf if duration is None else duration)
        for k in range(5):
            try:
                clip = video.read(start=start + max(0.0, seconds) * k / 5, duration=1e-3, sound=False)
            except UsageError:  # it is shorter than its header says
                break
            if suffers_from_420(clip.frames[0]):
                return True
    return False


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
        video: whose part it is.
        start, stop: of the part, seconds from the first picture; ``stop`` is None for the end of the file.
        end: when the part ends, seconds from the first picture; known once the iterator is exhausted.
    """

    def __init__(self, video: Video, start: float, duration: float | None) -> None:
        if not start >= 0 or (duration is not None and not duration > 0):
            raise UsageError(f"{video.path}: cannot read {duration} s from {start} s")
        self.video, self.start, self.end = video, start, start
        self.stop = None if duration is None else start + duration

    def __iter__(self) -> Iterator[tuple]:
        pictures, start, stop = self.video._pictures, self.start, self.stop
        pictures.begin_at(start)
        any_yet = False
        while (picture := pictures.next(stop)) is not None:
            until = picture.time + picture.lasts
            if picture.time < start and until < start + 1e-3 and pictures.peek() is None:
                break  # the last picture is over
            any_yet, self.end = True, until
            yield picture.frame, max(0.0, picture.time - start)
        if not any_yet:
            raise UsageError(f"{self.video.path}: the video ends before {start} s")
        if stop is not None:
            self.end = stop if pictures.peek() is not None else min(self.end, stop)
