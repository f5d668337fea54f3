"""Files in and out, on PyAV: any container and codec its FFmpeg reads; H.264 + AAC out.

Time is taken from timestamps, never from counting: the first picture's timestamp is time zero, and the
sound is laid against it, so sound that starts late or ends early stays where it belongs.
"""

from __future__ import annotations

import os
import wave as wave_file
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from v2a_nb import mp4
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError


@dataclass(frozen=True)
class MediaInfo:
    """What a file says about itself, without decoding it."""

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


def info(path: str | Path) -> MediaInfo:
    """Read a video's headers (and one frame, for its rotation).

    Raises:
        MediaError: the file cannot be read or has no pictures.
    """
    with _container(path) as container:
        video = _video_stream(container, path)
        sound = container.streams.audio[0] if container.streams.audio else None
        first = _first_frame(container, video, path)
        rotation = int(round(first.rotation)) % 360
        width, height = first.width, first.height
        if rotation in (90, 270):
            width, height = height, width
        return MediaInfo(
            path=str(path),
            duration=_duration(container, video),
            width=width,
            height=height,
            fps=_fps(video),
            rotation=rotation,
            video_codec=video.codec_context.name,
            audio_codec=sound.codec_context.name if sound else None,
            sample_rate=sound.rate if sound else None,
            channels=sound.channels if sound else None,
        )


def open(
    path: str | Path,
    *,
    start: float = 0.0,
    duration: float | None = None,
    size: int | None = None,
    sample_rate: int | None = None,
) -> Clip:
    """Read a video, or a part of it, into a :class:`~v2a_nb.clip.Clip`.

    Args:
        path: any container and codec that FFmpeg reads.
        start: seconds from the first picture.
        duration: seconds; left out, to the end.
        size: shrink so that the short side has this many pixels (never enlarges).
        sample_rate: resample the sound; left out, its own rate.

    Returns:
        frames turned upright, their times from timestamps, and the sound laid against them: cut or
        filled with silence to the pictures' length. A file without sound gives ``sound=None``.

    Raises:
        MediaError: the file is missing, empty, damaged, no media, or has no pictures.
        UsageError: the part lies outside of the video.
    """
    if start < 0 or (duration is not None and duration <= 0):
        raise UsageError(f"{path}: cannot read {duration} s from {start} s")
    with _container(path) as container:
        video = _video_stream(container, path)
        zero = _zero(container, video, path)
        stop = None if duration is None else start + duration
        shown = _Shown(container, video, path, zero, start, stop)
        frames, times = zip(*((_upright(frame, size), time) for frame, time in shown), strict=True)
        end = shown.last if stop is None else min(stop, shown.last)
        sound = None
        if container.streams.audio:
            sound = _read_sound(path, zero + start, end - start)
    if sound is not None and sample_rate:
        sound = sound.resample(sample_rate).fit(end - start)
    return Clip(np.stack(frames), np.array(times), shown.fps, end - start, sound, Path(path).stem)


def windows(path: str | Path, seconds: float, **options: object) -> Iterator[Clip]:
    """A long file in consecutive clips of ``seconds``; only one is in memory at a time.

    Args:
        options: ``size`` and ``sample_rate`` as in :func:`open`.
    """
    if seconds <= 0:
        raise UsageError(f"windows of {seconds} s are impossible")
    total, start = info(path).duration, 0.0
    while start < total - 1e-3:
        try:
            yield open(path, start=start, duration=seconds, **options)
        except UsageError:
            return  # headers promised more than there is
        start += seconds


def open_sound(path: str | Path) -> Sound:
    """The sound of any media file, from its own beginning.

    Raises:
        MediaError: the file cannot be read or has no sound.
    """
    with _container(path) as container:
        if not container.streams.audio:
            raise MediaError(f"{path}: no sound in this file")
        samples, rate, _ = _decode_audio(container, path, None, None)
    if samples.shape[1] == 0:
        raise MediaError(f"{path}: its sound stream holds no samples")
    return Sound(samples, rate)


def save_wav(path: str | Path, sound: Sound) -> Path:
    """Write 16-bit PCM, whole or not at all; samples over full scale are clipped."""
    path = Path(path)
    pcm = np.clip(np.round(sound.samples.T * 32767.0), -32768, 32767).astype("<i2")
    partial = mp4.partial_of(path)
    try:
        with wave_file.open(str(partial), "wb") as file:
            file.setnchannels(sound.channels)
            file.setsampwidth(2)
            file.setframerate(sound.sample_rate)
            file.writeframes(pcm.tobytes())
        os.replace(partial, path)
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def save_mp4(
    path: str | Path, clip: Clip, sound: Sound | None = None, *, crf: int = 20, preset: str = "veryfast"
) -> Path:
    """Write H.264 + AAC, whole or not at all.

    The sound is made exactly as long as the pictures and starts at zero: the encoder's delay is written
    as an edit list, so that players and :func:`open` put a click back where it was to within 5 ms. Odd
    sizes lose their last row or column, because H.264 in 4:2:0 has none.

    Args:
        clip: its frames and their times; its own sound where ``sound`` is left out.
        sound: another soundtrack, cut or filled to the clip's length.
        crf: quality, 0 (best) to 51.
    """
    sound = clip.sound if sound is None else sound
    ends = np.append(clip.times[1:], max(clip.duration, clip.times[-1] + 1e-3))
    pictures = zip(clip.frames, clip.times.tolist(), ends.tolist(), strict=True)
    sound = None if sound is None else sound.fit(clip.duration)
    return mp4.write(path, pictures, sound, fps=clip.fps, crf=crf, preset=preset)


def dub(
    path: str | Path,
    video: str | Path,
    sound: Sound,
    *,
    start: float = 0.0,
    duration: float | None = None,
    crf: int = 20,
) -> Path:
    """Write the pictures of a file with another soundtrack; only one picture is in memory at a time.

    Args:
        path: the mp4 to write, as :func:`save_mp4` does.
        video: the file whose pictures are taken, in full size.
        start, duration: the part of it, as in :func:`open`; ``sound`` is fitted to it.

    Raises:
        MediaError, UsageError: as :func:`open` and :func:`save_mp4`.
    """
    with _container(video) as container:
        stream = _video_stream(container, video)
        zero = _zero(container, stream, video)
        shown = _Shown(container, stream, video, zero, start, None if duration is None else start + duration)
        return mp4.write(path, _lasting(shown), sound, fps=shown.fps, crf=crf)


def _lasting(shown: _Shown) -> Iterator[tuple[np.ndarray, float, float]]:
    """Pictures with the times from and until which they are seen."""
    before = None
    for frame, time in shown:
        if before is not None:
            yield _upright(before[0], None), before[1], time
        before = frame, time
    if before is not None:
        end = shown.last if shown.stop is None else min(shown.stop, shown.last)
        yield _upright(before[0], None), before[1], max(end - shown.start, before[1] + 1e-3)


# --- reading, piece by piece --------------------------------------------------------------------


def _container(path: str | Path):
    import av

    path = Path(path)
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    if path.is_dir():
        raise MediaError(f"{path}: a folder, not a file")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty")
    try:
        return av.open(str(path))
    except (av.FFmpegError, OSError, ValueError) as error:
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


def _first_frame(container, video, path: str | Path):
    import av

    try:
        return next(container.decode(video))
    except (StopIteration, av.FFmpegError) as error:
        raise MediaError(f"{path}: not one picture could be decoded") from error


def _zero(container, video, path: str | Path) -> float:
    """The first picture's timestamp, seconds; the container is rewound."""
    frame = _first_frame(container, video, path)
    zero = 0.0 if frame.pts is None else float(frame.pts * video.time_base)
    container.seek(0)
    return zero


def _fps(video) -> float:
    rate = video.average_rate or video.guessed_rate or video.base_rate or Fraction(25)
    return float(rate)


def _duration(container, video) -> float:
    if video.duration:
        return float(video.duration * video.time_base)
    return container.duration / 1e6 if container.duration else 0.0


class _Shown:
    """The frames that are seen in a part of a video, as (frame, seconds from the part's start), one at a time.

    ``last`` is when the newest one ends, on the video's own clock.
    """

    def __init__(self, container, video, path, zero: float, start: float, stop: float | None) -> None:
        self.container, self.video, self.path = container, video, path
        self.zero, self.start, self.stop = zero, start, stop
        self.fps, self.last = _fps(video), 0.0

    def __iter__(self) -> Iterator[tuple]:
        import av

        start, stop, base = self.start, self.stop, self.video.time_base
        if start > 0:  # to the key frame before, then decode up to the start
            offset = int((self.zero + start) / float(base))
            self.container.seek(max(0, offset), stream=self.video, backward=True)
        held, newest, count = None, None, 0
        broken: Exception | None = None
        decoder = self.container.decode(self.video)
        while True:
            try:
                frame = next(decoder)
            except StopIteration:
                break
            except av.FFmpegError as error:
                broken = error
                break
            time = (float(frame.pts * base) - self.zero) if frame.pts is not None else count / self.fps
            lasts = float(frame.duration * base) if frame.duration else 1 / self.fps
            if stop is not None and time >= stop - 1e-6:
                self.last = max(self.last, stop)
                break
            self.last = max(self.last, time + lasts)
            if time < start - 1e-6:
                held = frame  # it may still be showing when the part begins
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
                raise MediaError(f"{self.path}: not one picture could be decoded")
            raise UsageError(f"{self.path}: the video ends before {start} s")
        promised = _duration(self.container, self.video)
        if broken is not None and self.last < 0.5 * promised:
            raise MediaError(f"{self.path}: cut off or damaged after {self.last:.2f} s of {promised:.2f} s")


def _upright(frame, size: int | None) -> np.ndarray:
    """The picture as shown: turned by its rotation, shrunk to ``size``."""
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


def _read_sound(path: str | Path, start: float, duration: float) -> Sound | None:
    """Sound from ``start`` (s, on the file's clock) for ``duration``, silence where there is none."""
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
    """Samples float32 [channels, n], rate, and the first sample's time (s, file clock)."""
    import av

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
    except av.FFmpegError as error:
        if not parts:
            raise MediaError(f"{path}: its sound could not be decoded: {error}") from error
    if not parts:
        return np.zeros((max(1, stream.channels), 0), np.float32), rate or 16000, start or 0.0
    channels = max(p.shape[0] for p in parts)
    parts = [p if p.shape[0] == channels else np.repeat(p[:1], channels, axis=0) for p in parts]
    return np.concatenate(parts, axis=1), rate, first
