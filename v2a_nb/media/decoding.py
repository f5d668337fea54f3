"""Opening containers, finding their streams, reading their packets, and noting what could not be decoded."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from v2a_nb.errors import MediaError, UsageError
from v2a_nb.media.finding import check_file

SHORT_S = 0.5
"""Seconds by which a file may end before its header says so without a word."""
SCAN_BYTES = 2e9
"""The largest file whose packets are counted for want of a duration in its header."""

MOST_PIXELS = 70e6
"""Pixels of the largest picture that is decoded: twice 8K. Damaged headers promise more, a gigabyte a picture."""


def container(path: str | Path, **options: str):
    """Open a file; ``options`` are FFmpeg's, of its demultiplexer."""
    import av
    from av.error import FFmpegError

    file = check_file(path)
    try:
        # in full: FFmpeg would take "take:1.mp4" for an address
        return av.open(os.path.abspath(file), metadata_errors="replace", options=options)
    except (FFmpegError, OSError, ValueError) as error:
        raise MediaError(
            f"{path}: cannot be read as video or sound (damaged, cut off, or another kind of file)"
        ) from error


def video_streams(container) -> list:
    """The video streams that can be decoded, without the cover picture of a sound file."""
    streams = [s for s in container.streams.video if s.codec_context is not None]
    return [s for s in streams if not s.disposition & s.disposition.__class__.attached_pic]


def check_size(path: str | Path, picture) -> None:
    """Refuse a stream, or a frame, of more than :data:`MOST_PIXELS`.

    Raises:
        MediaError: it is larger.
    """
    if picture.width * picture.height > MOST_PIXELS:
        raise MediaError(f"{path}: pictures of {picture.width}x{picture.height} are larger than any camera's")


def video_stream(container, path: str | Path, *, frame_threads: bool = True):
    streams = video_streams(container)
    if not streams:
        raise MediaError(f"{path}: no video stream in this file")
    check_size(path, streams[0].codec_context)
    streams[0].codec_context.options = {"max_pixels": str(int(MOST_PIXELS))}  # pictures may say other than headers
    streams[0].thread_type = "AUTO" if frame_threads else "NONE"
    return streams[0]


def audio_stream(container, path: str | Path, track: int | None = None):
    """The audio stream that players choose: the first that is flagged as default, or the first; None without sound.

    Args:
        track: takes another one; counted from 0 among the audio streams.

    Raises:
        UsageError: there is no such track.
    """
    streams = container.streams.audio
    if track is not None:
        if not 0 <= track < len(streams):
            raise UsageError(f"{path}: no audio track {track}: it has {len(streams)}, counted from 0")
        return streams[track]
    usable = [s for s in streams if s.codec_context is not None]
    default = [s for s in usable if s.disposition & s.disposition.__class__.default]
    return next(iter(default or usable), None)


def packets(container, stream) -> Iterator:
    """The packets of a stream, or of several, up to the empty one that flushes the decoder.

    What cannot be read is stepped over.
    """
    from av.error import FFmpegError

    failures = 0
    while True:
        try:
            for packet in container.demux(stream):
                if packet.size or packet.dts is None:  # an empty packet in the middle would end the decoding
                    yield packet
                    failures = 0
            return
        except IndexError:  # a packet of a stream that began later, which PyAV does not know
            continue
        except (FFmpegError, OSError):
            failures += 1
            if failures > 20:
                # the empty packet that the demultiplexer owes
                yield None
                return


def decode(stream, packet) -> tuple[list, bool]:
    """The frames that a packet completes, and whether it, or one before it, could not be decoded."""
    from av.error import EOFError, FFmpegError

    if packet is not None and packet.size:
        try:
            return packet.decode(), False
        except (FFmpegError, OSError, ValueError):
            return [], True
    frames, failed = [], False
    for _ in range(64):  # after an error there may be more frames in the decoder
        try:
            frames += stream.decode(None)
        except EOFError:
            break
        except (FFmpegError, OSError, ValueError):
            failed = True
    return frames, failed


def fps_of(video) -> float:
    rate = video.average_rate or video.guessed_rate or video.base_rate or Fraction(25)
    return float(rate)


def duration_of(container, video) -> float:
    """Seconds, as the header says; 0 where it says nothing."""
    return own_duration(video) or max(0.0, (container.duration or 0) / 1e6)


def own_duration(stream) -> float:
    """Seconds of one stream, as its header says, or in Matroska a tag; 0 where neither says anything."""
    found = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if found:
        return sum(float(part) * seconds for part, seconds in zip(found.groups(), (3600, 60, 1)))
    return float(stream.duration * stream.time_base) if (stream.duration or 0) > 0 else 0.0


def scan(path: str | Path, *, after: float | None = None) -> float:
    """When the last packet of sound or picture ends, seconds after the first one; no packet is decoded.

    Args:
        after: time on the file's clock, seconds, from which on packets are looked at.
    """
    from av.error import FFmpegError

    with container(path) as file:
        streams = [*video_streams(file), *(s for s in file.streams.audio if s.codec_context is not None)]
        if after is not None and after > 0:
            with suppress(FFmpegError, OSError):
                file.seek(int(after * 1e6))
        first, last, counted = None, 0.0, 0.0
        for packet in packets(file, streams):
            if packet is None:
                continue
            length = float((packet.duration or 0) * packet.time_base)
            counted += length if packet.stream is streams[0] else 0.0
            if packet.pts is not None:
                time = float(packet.pts * packet.time_base)
                first = time if first is None else min(first, time)
                last = max(last, time + length)
    if first is None:
        return round(counted, 6)
    return last if after is not None else last - first


class Damage:
    """What of a file could not be decoded, by time; each picture and piece of sound counts once.

    Attributes:
        lost: how many pictures are missing, by time; seconds.
        flawed: times of pictures that the decoder calls damaged; seconds.
        silence: seconds of sound that are missing, by time.
        ends: (end, promised end) of the pictures and of the sound, seconds, where they end too early; the first counts.
        cut: when a file ends that is cut off, seconds; None where nobody knows of that.
        broken: a line for a file that is damaged, and nobody knows what that costs.
        pictures: how many pictures the file promises, or 0.
    """

    def __init__(self) -> None:
        self.lost: dict[float, int] = {}
        self.flawed: set[float] = set()
        self.silence: dict[float, float] = {}
        self.ends: dict[str, tuple[float, float]] = {}
        self.cut: float | None = None
        self.broken = ""
        self.pictures = 0

    def lines(self, start: float = 0.0, stop: float | None = None) -> tuple[str, ...]:
        """What happened between two times, one short line for each kind."""

        def inside(times) -> list[float]:
            return sorted(t for t in times if t >= start - SHORT_S and (stop is None or t < stop))

        said = []
        of = f" of {self.pictures}" if self.pictures else ""
        if lost := inside(self.lost):
            count = sum(self.lost[t] for t in lost)
            said.append(f"{count}{of} pictures {_where(lost)} could not be decoded")
        if flawed := inside(self.flawed):
            said.append(f"{len(flawed)}{of} pictures {_where(flawed)} are damaged")
        if silence := inside(self.silence):
            seconds = sum(self.silence[t] for t in silence)
            said.append(f"{seconds:.2f} s of the sound {_where(silence)} could not be decoded")
        for what, (end, promised) in list(self.ends.items())[:1]:
            if stop is None or stop > end:
                said.append(f"{what} ends at {end:.2f} s of the {promised:.2f} s that the file promises")
        if self.cut is not None and not self.ends and (stop is None or stop > self.cut):
            said.append(f"the file is cut off at {self.cut:.2f} s")
        if self.broken and not said:
            said.append(self.broken)
        return tuple(said)


def _where(times: list[float]) -> str:
    if times[-1] - times[0] < 1.0:
        return f"near {max(0.0, times[0]):.2f} s"
    return f"between {max(0.0, times[0]):.2f} and {times[-1]:.2f} s"
