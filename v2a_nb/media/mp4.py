"""The MP4 writer: H.264 and AAC, encoded picture by picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import MediaError
from v2a_nb.files import atomic

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
TICKS = 90000  # of the video stream's clock, per second


def write(
    pictures: Iterable[tuple[np.ndarray, float, float]],
    sound: Sound | None,
    path: str | Path,
    *,
    fps: float,
    crf: int = 20,
    preset: str = "veryfast",
) -> Path:
    """Write an mp4 file, which gets its name when it is complete; one picture at a time is in memory.

    Args:
        pictures: tuples (picture, from, until): uint8 [H, W, 3] and two times in seconds, in order. The first
            picture gives the size.
        sound: a soundtrack as long as the pictures, or None.
        path: the file; missing folders above it are made.
        fps: the frame rate in the header; the times of the frames are those of ``pictures``.
        crf, preset: settings of the H.264 encoder.

    Returns:
        ``path``.

    Raises:
        MediaError: the file cannot be written, there is no picture, or the first one is too small for H.264.
    """
    import av
    from av.error import FFmpegError

    path = Path(path)
    coming = iter(pictures)
    try:
        first = next(coming, None)
        if first is None:
            raise MediaError(f"{path}: there is no picture to write")
        height, width = (v // 2 * 2 for v in first[0].shape[:2])
        if height == 0 or width == 0:
            raise MediaError(f"{path}: a picture of {first[0].shape[1]}x{first[0].shape[0]} is too small for H.264")
        with atomic(path) as partial, av.open(str(partial), "w", format="mp4") as container:
            video = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001 * 60))
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            # without cpu-independent, x264 differs from run to run at small sizes; with B-frames, an mp4 of
            # uneven frame times ends at the wrong moment
            video.options = {"crf": str(crf), "preset": preset, "x264-params": "cpu-independent=1:bframes=0"}
            video.codec_context.time_base = Fraction(1, TICKS)
            audio = None
            if sound is not None:
                sound = _for_aac(sound)
                audio = container.add_stream("aac", rate=sound.sample_rate)
                audio.layout = "mono" if sound.channels == 1 else "stereo"
                audio.bit_rate = 128000 if sound.channels == 1 else 192000
            _encode_video(container, video, first, coming)
            if sound is not None:
                _encode_audio(container, audio, sound)
    except (OSError, FFmpegError) as error:
        raise MediaError(f"{path}: cannot be written: {error}") from error
    return path


def _for_aac(sound: Sound) -> Sound:
    """The sound with at most two channels, at a rate that AAC has."""
    if sound.channels > 2:
        sound = sound.stereo()
    if sound.sample_rate not in AAC_RATES:
        higher = [r for r in AAC_RATES if r >= sound.sample_rate]
        sound = sound.resample(higher[0] if higher else AAC_RATES[-1])
    return sound


def _encode_video(container, stream, first: tuple, coming: Iterator[tuple]) -> None:
    """Encode and multiplex pictures; ``first`` and ``coming`` are tuples as for :func:`write`."""
    import av

    height, width = stream.height, stream.width
    durations: dict[int, int] = {}  # in ticks, by presentation time

    def mux(packets) -> None:
        for packet in packets:  # the last frame's duration follows from no other frame's time
            packet.duration = durations.pop(packet.pts, packet.duration)
            container.mux(packet)

    item: tuple | None = first
    while item is not None:
        picture, time, end = item
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
        frame.pts, frame.time_base = int(round(time * TICKS)), Fraction(1, TICKS)
        frame.duration = durations[frame.pts] = int(round((end - time) * TICKS))
        mux(stream.encode(frame))
        item = next(coming, None)
    mux(stream.encode(None))


def _encode_audio(container, stream, sound: Sound) -> None:
    """Encode and multiplex the sound, block by block as the encoder takes it."""
    import av

    block = stream.codec_context.frame_size or 1024
    for start in range(0, sound.n, block):
        part = np.ascontiguousarray(sound.samples[:, start : start + block])
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=stream.layout.name)
        frame.sample_rate, frame.pts = sound.sample_rate, start
        frame.time_base = Fraction(1, sound.sample_rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))
