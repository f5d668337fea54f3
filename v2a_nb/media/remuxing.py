"""A video with another sound: its pictures are copied bit for bit where an mp4 can hold them, else encoded again.

The title, date, chapters, subtitles, colour tags, rotation, mirroring and shape of the pixels go along both ways.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.media import decoding, mp4, soundtracks
from v2a_nb.media.frames import JUMP
from v2a_nb.media.soundtracks import Soundtrack
from v2a_nb.media.structure import BROADCAST

CRF = 6
"""Constant rate factor with which pictures are encoded again: 45 dB or more against the decoded original, in RGB."""
SOUNDS = ("aac", "ac3", "alac", "eac3", "flac", "mp3", "opus")
"""Codecs of sound that are copied; players find others in an mp4 hard to read."""
PLAIN = ("subrip", "text", "webvtt")
"""Subtitles that are plain text, which mp4 has as another kind of text."""
APPLE = {"creationdate": "date", "location.ISO6709": "location", "title": "title", "description": "description"}
"""Metadata that QuickTime files have under ``com.apple.quicktime.``, and their names in an mp4."""
LOST = ("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "duration")
"""Metadata about the old file itself."""
TEXT_CLOCK = Fraction(1, 1000)
NONE = -(2**63)
"""Stands for a timestamp that is missing."""
PRIMING = 0.1  # seconds of sound before the beginning that a decoder needs


def dub(
    path: str | Path,
    target: str | Path,
    sound: Sound | Iterable[Sound],
    frames: Iterable[tuple],
    *,
    zero: float,
    fps: float,
    start: float,
    duration: float | None,
    track: int | None,
    keep_original: bool,
    mix: float | None,
    crf: int,
    full_colours: bool,
    report: Callable[[str], None] | None,
) -> Path:
    """Write a file's pictures, or a part of them, with another sound.

    Args:
        path: the file.
        target: the mp4 file to write.
        sound: the new sound, or consecutive pieces of it.
        frames: decodes the part: tuples (``av.VideoFrame``, from, until), seconds from ``start``. It is not read
            where the pictures are copied.
        zero: time of the first picture on the file's clock, seconds.
        fps: the frame rate in the header.
        start, duration: the part, seconds from the first picture.
        track: which of the file's own sounds is kept or mixed, counted from 0; None takes the default one.
        keep_original, mix, crf, report: as for :func:`v2a_nb.media.dub`.
        full_colours: whether RGB pictures that are encoded again become 4:4:4.

    Returns:
        ``target``.
    """
    target = Path(target)
    if target.exists() and target.samefile(path):
        raise MediaError(f"{target}: is the video itself; choose another name for the result")
    if not start >= 0 or (duration is not None and not duration > 0):
        raise UsageError(f"{path}: cannot write {duration} s from {start} s")
    if mix is not None and (keep_original or not math.isfinite(mix)):
        raise UsageError(f"{path}: mix must be a number of decibels, and without keep_original, not {mix}")
    made = Soundtrack.of(sound, "dub")
    timing = _timing(path, zero, fps, duration) if start == 0 else None
    with decoding.container(path) as source, mp4.create(target) as container:
        video = decoding.video_stream(source, path)
        copy = _template(container, video) if timing else None
        clock = _Clock(timing.zero, timing.end) if timing and copy else _Clock(zero + start, None)
        if copy:
            if video.sample_aspect_ratio:
                copy.sample_aspect_ratio = video.sample_aspect_ratio
            if video.codec_context.codec.canonical_name == "hevc" and video.codec_context.codec_tag != "hev1":
                copy.codec_tag = "hvc1"  # which Apple's players need
            streams, sources, pictures = {video.index: copy}, [], copy
        else:
            pictures, packets = mp4.add_pictures(
                container,
                clock.follow(frames),
                path,
                fps=fps,
                crf=crf,
                preset="veryfast",
                tune="psnr",
                aspect=video.sample_aspect_ratio,
                full_colours=full_colours,
            )
            if full_colours and report:
                report(f"{path}: its fine colours are kept (H.264 4:4:4), which not every player shows")
            streams, sources = {}, [packets]
        pictures.metadata.update(_tags(video.metadata))
        own = decoding.audio_stream(source, path, track) if keep_original or mix is not None else None
        own = None if own is None or own.codec_context is None else own
        if own is None and (keep_original or mix is not None) and report:
            report(f"{path}: has no sound of its own that could be kept or mixed")
        if own is not None and mix is not None:
            made = soundtracks.mix(made, soundtracks.of_file(path, track, clock.zero - start, start), mix)
        first, packets = mp4.add_sound(container, made, clock.seconds)
        first.disposition = 1  # the default
        sources.append(packets)
        if own is not None and keep_original:
            first.metadata.update(title="Generated sound", handler_name="Generated sound")
            second = _template(container, own) if own.codec_context.codec.canonical_name in SOUNDS else None
            if second:
                streams[own.index] = second
            else:
                original = soundtracks.of_file(path, track, clock.zero - start, start)
                second, packets = mp4.add_sound(container, original, clock.seconds, surround=True)
                sources.append(packets)
            tags = _tags(own.metadata)
            name = tags.get("title") or tags.get("handler_name") or "Original sound"
            second.metadata.update(tags | {"title": name, "handler_name": name})  # players show one or the other
            second.disposition = 0
        streams |= _subtitles(container, source, path, report)
        container.metadata.update(_tags(source.metadata))
        container.set_chapters(_chapters(source, clock.zero, clock.end or duration or math.inf))
        if streams:
            sources.append(_copy(source, streams, clock, timing if copy else None))
        mp4.mux(container, *sources)
    return target


class _Clock:
    """Maps the file's clock to the result's, and knows how long the result is.

    Attributes:
        zero: seconds on the file's clock.
        end: seconds from ``zero``; None until the last picture was decoded.
    """

    def __init__(self, zero: float, end: float | None) -> None:
        self.zero, self.end = zero, end

    def seconds(self) -> float | None:
        return self.end

    def follow(self, frames: Iterable[tuple]) -> Iterator[tuple]:
        """Pass frames on, and note when the last one disappears."""
        until = 0.0
        for frame, begin, until in frames:
            yield frame, begin, until
        self.end = until


@dataclass(frozen=True)
class _Timing:
    """When the packets of a video stream, from its first key frame on, are decoded and shown.

    Attributes:
        zero: time of the first picture on the file's clock, seconds.
        end: when the last picture disappears, seconds from ``zero``.
        dts, pts: int64 [n]: when each packet is decoded, and when it is shown; ticks of the stream's clock.
        step: ticks per picture, for packets that do not say how long they last.
    """

    zero: float
    end: float
    dts: np.ndarray
    pts: np.ndarray
    step: int


def _timing(path: str | Path, zero: float, fps: float, duration: float | None) -> _Timing | None:
    """Read the timestamps of all packets of a video, to see whether they can be copied.

    Returns:
        None where the timestamps do not say when each picture is shown, or where ``duration`` (s) ends before the
        pictures do.
    """
    dts, pts, ends = array("q"), array("q"), 0
    with decoding.container(path) as source:
        video = decoding.video_stream(source, path)
        base, reordered = video.time_base, video.codec_context.has_b_frames
        step = max(1, round(1 / (fps * base)))
        for packet in _key_frame_on(_packets(source, [video]), video.index):
            dts.append(NONE if packet.dts is None else packet.dts)
            pts.append(NONE if packet.pts is None else packet.pts)
            ends = max(ends, pts[-1] + (packet.duration or step))
        kind = source.format.name
    decoded, shown = np.array(dts), np.array(pts)
    n = len(shown)
    if n and (decoded == NONE).all() and (shown == NONE).all() and not reordered:  # a bare stream, such as .h264
        decoded = shown = np.round(np.arange(n) / (fps * float(base))).astype(np.int64)
        zero, ends = 0.0, round(n / (fps * float(base)))
    # AVI knows only when packets are decoded
    if not n or (shown == NONE).any() or (kind == "avi" and (reordered or (decoded != shown).any())):
        return None
    known = decoded != NONE
    late = int(known.argmax()) if known.any() else 0
    decoded[:late] = decoded[late] - step * np.arange(late, 0, -1)  # Matroska leaves the first ones out
    if (decoded == NONE).any() or (np.diff(decoded) <= 0).any() or (shown < decoded).any():
        return None
    if kind in BROADCAST and np.diff(decoded).max(initial=0) * base > JUMP:  # its clock was set anew
        return None
    end = float(ends * base) - zero
    if end <= 0 or (duration is not None and duration < end - 1e-3):
        return None
    return _Timing(zero, end, decoded, shown, step)


def _packets(source, streams: list) -> Iterator:
    """Read packets; what cannot be read is stepped over."""
    return (packet for packet in decoding.packets(source, streams) if packet is not None and packet.size)


def _key_frame_on(packets: Iterator, index: int) -> Iterator:
    """Leave out the packets of stream ``index`` before its first key frame, which cannot be decoded."""
    begun = False
    for packet in packets:
        begun = begun or (packet.stream_index == index and packet.is_keyframe)
        if begun or packet.stream_index != index:
            yield packet


def _template(container, stream):
    """Add a stream for copied packets, or return None where an mp4 cannot hold their codec."""
    try:
        return container.add_stream_from_template(stream, opaque=True)
    except ValueError:
        return None


def _tags(metadata: dict[str, str]) -> dict[str, str]:
    """The metadata that say something about the film, not about the old file."""
    apple = {
        new: metadata[f"com.apple.quicktime.{old}"]
        for old, new in APPLE.items()
        if f"com.apple.quicktime.{old}" in metadata
    }
    return apple | {name: value for name, value in metadata.items() if name.lower() not in LOST}


def _chapters(source, zero: float, end: float) -> list[dict]:
    """The chapters between ``zero`` (s, on the file's clock) and ``end`` (s) behind it."""
    found = []
    for chapter in source.chapters():
        base = chapter["time_base"]
        begin, until = (float(chapter[name] * base) - zero for name in ("start", "end"))
        if until > 0 and begin < end:
            times = {"start": round(max(0.0, begin) / base), "end": round(min(until, end) / base)}
            found.append({**chapter, **times})
    return found


def _subtitles(container, source, path: str | Path, report: Callable[[str], None] | None) -> dict:
    """Add a stream for each subtitle track that an mp4 can hold; plain text becomes mp4's own kind of text.

    Returns:
        the new streams by the index of the old ones.
    """
    found = {}
    for old in source.streams.subtitles:
        name = old.codec_context.codec.canonical_name
        if name in PLAIN:
            old.codec_context.open(strict=False)
            new = container.add_stream("mov_text")
            new.codec_context.subtitle_header = old.codec_context.subtitle_header
            new.codec_context.time_base = TEXT_CLOCK
        else:
            new = _template(container, old)
        if new:
            new.metadata.update(_tags(old.metadata))
            new.disposition = int(old.disposition)
            found[old.index] = new
        elif report:
            report(f"{path}: its {name} subtitles cannot be held by an mp4 and are left out")
    return found


def _copy(source, streams: dict, clock: _Clock, timing: _Timing | None) -> mp4.Packets:
    """Read packets and put them on the new clock; subtitles of another kind are converted.

    Args:
        streams: the new streams by the index of the old ones.
        timing: of the video stream, if it is copied.
    """
    from av.error import FFmpegError

    if timing is None:
        try:
            source.seek(int((clock.zero - PRIMING) * 1e6))
        except FFmpegError:
            source.seek(0)
    k, time, lag = 0, -math.inf, 0.0 if timing else mp4.LAG
    video = next((i for i, new in streams.items() if new.type == "video"), -1)
    for packet in _key_frame_on(_packets(source, [source.streams[i] for i in streams]), video):
        base, old, new = packet.time_base, packet.stream, streams[packet.stream_index]
        shift = round(clock.zero / base)
        if timing and old.index == video:
            packet.dts, packet.pts = int(timing.dts[k]) - shift, int(timing.pts[k]) - shift
            packet.duration = packet.duration or timing.step
            k += 1
        elif packet.pts is None:
            continue
        else:
            packet.pts -= shift
            packet.dts = packet.pts
            time = max(time, float(packet.pts * base))
            yield time + lag, ()  # behind these pictures, it may be known where they end
            if not _inside(packet, new.type == "subtitle", clock.end):
                continue
        if new.type == "subtitle" and old.codec_context.name != new.codec_context.name:
            packet = _converted(packet, old, new)
        if packet is not None:
            time = max(time, float(packet.dts * base))
            packet.stream = new
            yield time + lag, (packet,)


def _inside(packet, text: bool, end: float | None) -> bool:
    """Whether a packet belongs between 0 and ``end`` (s); a subtitle that lasts longer is cut."""
    base = packet.time_base
    last = packet.pts + (packet.duration or 0)
    if last * base <= (0 if text else -PRIMING) or (end is not None and packet.pts * base >= end):
        return False
    if text:
        packet.pts = packet.dts = max(0, packet.pts)
        packet.duration = (last if end is None else min(last, int(end / base))) - packet.pts
    return True


def _converted(packet, old, new):
    """A packet of plain text as a subtitle of an mp4; None where it holds no text."""
    from av.error import FFmpegError

    try:
        text = old.codec_context.decode2(packet)
    except FFmpegError:
        return None
    if text is None:
        return None
    result = new.codec_context.encode_subtitle(text)
    result.time_base, result.pts, result.dts, result.duration = (
        packet.time_base,
        packet.pts,
        packet.pts,
        packet.duration,
    )
    return result
