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

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


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
        frames, times, fps, last = _read_frames(container, video, path, zero, start, stop, size)
        end = last if stop is None else min(stop, last)
        sound = None
        if container.streams.audio:
            sound = _read_sound(path, zero + start, end - start)
    if sound is not None and sample_rate:
        sound = sound.resample(sample_rate).fit(end - start)
    return Clip(frames, times, fps, end - start, sound, Path(path).stem)


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
    partial = _partial(path)
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
    import av

    path = Path(path)
    sound = clip.sound if sound is None else sound
    height, width = clip.height // 2 * 2, clip.width // 2 * 2
    if height == 0 or width == 0:
        raise MediaError(f"{path}: a picture of {clip.width}x{clip.height} is too small for H.264")
    partial = _partial(path)
    try:
        with av.open(str(partial), "w", format="mp4") as container:
            rate = Fraction(clip.fps).limit_denominator(1001 * 60)
            video = container.add_stream("libx264", rate=rate)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            # without cpu-independent, x264 differs from run to run at small sizes; with B-frames, an mp4 of
            # uneven frame times ends at the wrong moment
            video.options = {"crf": str(crf), "preset": preset, "x264-params": "cpu-independent=1:bframes=0"}
            base = Fraction(1, 90000)
            video.codec_context.time_base = base
            audio = None
            if sound is not None:
                if sound.channels > 2:
                    sound = sound.stereo()
                if sound.sample_rate not in AAC_RATES:
                    higher = [r for r in AAC_RATES if r >= sound.sample_rate]
                    sound = sound.resample(higher[0] if higher else AAC_RATES[-1])
                audio = container.add_stream("aac", rate=sound.sample_rate)
                audio.layout = "mono" if sound.channels == 1 else "stereo"
                audio.bit_rate = 128000 if sound.channels == 1 else 192000
            ends = np.append(clip.times[1:], max(clip.duration, clip.times[-1] + 1e-3))
            lasting: dict[int, int] = {}

            def mux(packets) -> None:
                for packet in packets:  # the last frame's length is in no other frame's time
                    packet.duration = lasting.get(packet.pts, packet.duration)
                    container.mux(packet)

            for picture, time, end in zip(clip.frames, clip.times, ends, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
                frame.pts, frame.time_base = int(round(time * 90000)), base
                frame.duration = lasting[frame.pts] = int(round((end - time) * 90000))
                mux(video.encode(frame))
            mux(video.encode(None))
            if audio is not None:
                _encode_audio(container, audio, sound.fit(clip.duration))
        os.replace(partial, path)
    except (OSError, av.FFmpegError) as error:
        raise MediaError(f"{path}: cannot be written: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def _encode_audio(container, stream, sound: Sound) -> None:
    import av

    block = stream.codec_context.frame_size or 1024
    for start in range(0, sound.n, block):
        part = np.ascontiguousarray(sound.samples[:, start : start + block])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts = sound.sample_rate, start
        frame.time_base = Fraction(1, sound.sample_rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


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


def _read_frames(container, video, path, zero, start, stop, size):
    import av

    fps = _fps(video)
    if start > 0:  # to the key frame before, then decode up to the start
        offset = int((zero + start) / float(video.time_base))
        container.seek(max(0, offset), stream=video, backward=True)
    frames, times, held, last = [], [], None, 0.0
    broken: Exception | None = None
    decoder = container.decode(video)
    while True:
        try:
            frame = next(decoder)
        except StopIteration:
            break
        except av.FFmpegError as error:
            broken = error
            break
        index = len(times)
        time = (float(frame.pts * video.time_base) - zero) if frame.pts is not None else index / fps
        lasts = float(frame.duration * video.time_base) if frame.duration else 1 / fps
        if stop is not None and time >= stop - 1e-6:
            last = max(last, stop)
            break
        last = max(last, time + lasts)
        if time < start - 1e-6:
            held = frame  # it may still be showing when the part begins
            continue
        if times and time <= times[-1]:
            continue  # a repeated timestamp shows nothing new
        if not times and held is not None and time > start + 1e-6:
            frames.append(_upright(held, size))
            times.append(start)
        held = None
        frames.append(_upright(frame, size))
        times.append(time)
    if not frames and held is not None and last > start + 1e-6:
        frames, times = [_upright(held, size)], [start]
    if not frames:
        if broken is not None or start == 0:
            raise MediaError(f"{path}: not one picture could be decoded")
        raise UsageError(f"{path}: the video ends before {start} s")
    promised = _duration(container, video)
    if broken is not None and last < 0.5 * promised:
        raise MediaError(f"{path}: cut off or damaged after {last:.2f} s of {promised:.2f} s")
    return np.stack(frames), np.array(times) - start, fps, last


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


def _partial(path: Path) -> Path:
    """Where a file is written before it gets its name."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
    return path.with_name(f".{path.name}.part")
