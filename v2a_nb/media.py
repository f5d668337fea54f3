"""Reading and writing media files with PyAV: any container and codec that its FFmpeg reads; H.264 and AAC are written.

Times come from timestamps, not from counting frames. The first picture's timestamp is time zero, and the sound is
placed on the same clock: a sound that starts late or ends early stays where it belongs.
"""

from __future__ import annotations

import wave as wave_file
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb import mp4
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, check_types
from v2a_nb.files import atomic


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
        self._container = _container(path)
        try:
            self._stream = _video_stream(self._container, path)
            decoder = self._container.decode(self._stream)
            first = _first_frame(decoder, path)
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
            duration=_duration(self._container, video),
            width=width,
            height=height,
            fps=_fps(video),
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
        frames, times = zip(*((_upright(frame, size), time) for frame, time in part), strict=True)
        end = part.end
        track = None
        if sound and self.info.audio_codec is not None:
            track = _read_sound(self.path, self._zero + start, end - start)
            track = track.resample(sample_rate).fit(end - start) if sample_rate else track
        return Clip(np.stack(frames), np.array(times), self.info.fps, end - start, track, Path(self.path).stem)

    def dub(
        self, sound: Sound, path: str | Path, *, start: float = 0.0, duration: float | None = None, crf: int = 20
    ) -> Path:
        """Write the pictures, or a part of them, with another soundtrack; the arguments are those of :func:`dub`."""
        part = _Part(self, start, duration)
        return mp4.write(_lasting(part), sound, path, fps=self.info.fps, crf=crf)

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
def open_sound(path: str | Path) -> Sound:
    """Read the sound of any media file, from the sound's own beginning.

    Raises:
        MediaError: the file cannot be read or has no sound.
        UsageError: ``path`` is not a path.
    """
    with _container(path) as container:
        if not container.streams.audio:
            raise MediaError(f"{path}: no sound in this file")
        samples, rate, _ = _decode_audio(container, path, None, None)
    if samples.shape[1] == 0:
        raise MediaError(f"{path}: its sound stream holds no samples")
    return Sound(samples, rate)


@check_types
def save_wav(sound: Sound, path: str | Path) -> Path:
    """Write a sound as 16-bit PCM; samples beyond full scale are clipped.

    The file gets its name when it is complete, so that no half-written file is left behind.

    Returns:
        ``path``.

    Raises:
        MediaError: the file cannot be written.
        UsageError: an argument is of the wrong type.
    """
    path = Path(path)
    pcm = np.clip(np.round(sound.samples.T * 32767.0), -32768, 32767).astype("<i2")
    try:
        with atomic(path) as partial, wave_file.open(str(partial), "wb") as file:
            file.setnchannels(sound.channels)
            file.setsampwidth(2)
            file.setframerate(sound.sample_rate)
            file.writeframes(pcm.tobytes())
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error}") from error
    return path


@check_types
def save_mp4(clip: Clip, sound: Sound | None, path: str | Path, *, crf: int = 20, preset: str = "veryfast") -> Path:
    """Write a clip as H.264 with its own sound, or another one, as AAC.

    The sound becomes exactly as long as the pictures and starts at zero. The encoder's delay is written as an edit
    list, so that players and :func:`open` put a click back where it was to within 5 ms. Pictures of odd width or
    height lose their last column or row, which H.264 in 4:2:0 cannot hold. The file gets its name when it is complete.

    Args:
        clip: gives the pictures and their times.
        sound: a soundtrack, cut or filled to the clip's length; None writes the clip's own sound, if it has one.
        path: the file to write.
        crf: the encoder's constant rate factor, 0 (best) to 51.
        preset: the encoder's preset, from ``"ultrafast"`` to ``"veryslow"``.

    Returns:
        ``path``.

    Raises:
        MediaError: the file cannot be written, or the pictures are too small for H.264.
        UsageError: an argument is of the wrong type.
    """
    sound = clip.sound if sound is None else sound
    ends = np.append(clip.times[1:], max(clip.duration, clip.times[-1] + 1e-3))
    pictures = zip(clip.frames, clip.times.tolist(), ends.tolist(), strict=True)
    sound = None if sound is None else sound.fit(clip.duration)
    return mp4.write(pictures, sound, path, fps=clip.fps, crf=crf, preset=preset)


@check_types
def dub(
    video: str | Path,
    sound: Sound,
    path: str | Path,
    *,
    start: float = 0.0,
    duration: float | None = None,
    crf: int = 20,
) -> Path:
    """Write the pictures of a file, in full size, with another soundtrack; one picture at a time is in memory.

    Args:
        video: the file whose pictures are taken.
        sound: the new soundtrack.
        path: the mp4 file to write, as :func:`save_mp4` does.
        start, duration: the part of the video that is taken, seconds, as in :func:`open`.
        crf: as in :func:`save_mp4`.

    Raises:
        MediaError, UsageError: as :func:`open` and :func:`save_mp4`.
    """
    with Video(video) as file:
        return file.dub(sound, path, start=start, duration=duration, crf=crf)


def _lasting(part: _Part) -> Iterator[tuple[np.ndarray, float, float]]:
    """Pictures with the times at which they appear and disappear, seconds."""
    before = None
    for frame, time in part:
        if before is not None:
            yield _upright(before[0], None), before[1], time
        before = frame, time
    if before is not None:
        yield _upright(before[0], None), before[1], max(part.end - part.start, before[1] + 1e-3)


# --- reading, piece by piece --------------------------------------------------------------------


def _container(path: str | Path):
    import av
    from av.error import FFmpegError

    path = Path(path)
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    if path.is_dir():
        raise MediaError(f"{path}: a folder, not a file")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty")
    try:
        return av.open(str(path))
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path}: cannot be read as video or sound (damaged, cut off, or another kind of file)"
        ) from error


def _video_stream(container, path: str | Path):
    # a cover picture inside a sound file is no video
    real = [s for s in container.streams.video if not s.disposition & s.disposition.__class__.attached_pic]
    if not real:
        raise MediaError(f"{path}: no video stream in this file")
    real[0].thread_type = "AUTO"
    return real[0]


def _first_frame(decoder: Iterator, path: str | Path):
    from av.error import FFmpegError

    try:
        return next(decoder)
    except (StopIteration, FFmpegError) as error:
        raise MediaError(f"{path}: not one picture could be decoded") from error


def _fps(video) -> float:
    rate = video.average_rate or video.guessed_rate or video.base_rate or Fraction(25)
    return float(rate)


def _duration(container, video) -> float:
    if video.duration:
        return float(video.duration * video.time_base)
    return container.duration / 1e6 if container.duration else 0.0


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


def _upright(frame, size: int | None) -> np.ndarray:
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


def _read_sound(path: str | Path, start: float, duration: float) -> Sound:
    """``duration`` seconds of sound from ``start`` (s, on the file's clock) on; silence where the file has none."""
    with _container(path) as container:
        samples, rate, first = _decode_audio(container, path, start, start + duration)
    n = int(round(duration * rate))
    out = np.zeros((samples.shape[0], n), np.float32)
    offset = int(round((first - start) * rate))
    a, b = max(0, offset), min(n, offset + samples.shape[1])
    if b > a:
        out[:, a:b] = samples[:, a - offset : b - offset]
    return Sound(out, rate)


def _decode_audio(container, path, start: float | None, stop: float | None):
    """Decode the first audio stream from ``start`` to ``stop`` (s, on the file's clock) or a little beyond.

    Returns:
        samples float32 [channels, n], their rate, and the time of the first one (s, on the file's clock).
    """
    import av
    from av.error import FFmpegError

    stream = container.streams.audio[0]
    if start is not None and start > 1.0:
        # a little early: AAC frames before the wanted one prime the decoder
        container.seek(int((start - 0.5) / float(stream.time_base)), stream=stream, backward=True)
    parts, first, clock, rate = [], None, 0.0, stream.rate or stream.codec_context.sample_rate
    resampler = None
    try:
        for frame in container.decode(stream):
            time = float(frame.pts * frame.time_base) if frame.pts is not None else clock
            if resampler is None:
                rate = frame.sample_rate
                resampler = av.AudioResampler(format="fltp", layout=frame.layout, rate=rate)
            if stop is not None and time > stop:
                break
            for piece in resampler.resample(frame):
                data = piece.to_ndarray()
                if first is None:
                    first = time
                elif time - clock > 0.02:  # a hole in the stream is silence, not a shift
                    parts.append(np.zeros((data.shape[0], int(round((time - clock) * rate))), np.float32))
                parts.append(data.astype(np.float32))
                clock = time + data.shape[1] / rate
    except FFmpegError as error:
        if not parts:
            raise MediaError(f"{path}: its sound could not be decoded: {error}") from error
    if not parts:
        return np.zeros((max(1, stream.channels), 0), np.float32), rate or 16000, start or 0.0
    channels = max(p.shape[0] for p in parts)
    parts = [p if p.shape[0] == channels else np.repeat(p[:1], channels, axis=0) for p in parts]
    return np.concatenate(parts, axis=1), rate, first or 0.0
