"""Small videos for the campaign, written with PyAV: flashes, clicks at the same times, and anything odd on request."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

EVENTS = (0.4, 1.2)
"""Seconds at which the picture is white for one frame and the sound clicks."""
SIZE, PICTURES, FPS = (64, 48), 50, 25
QUIET = {"threads": "1", "x265-params": "log-level=none:pools=1:frame-threads=1"}


def picture(number: int, size: tuple[int, int], flash: bool) -> np.ndarray:
    """A dark picture with a red block at the top left and a bar that moves; white where there is a flash."""
    width, height = size
    if flash:
        return np.full((height, width, 3), 255, np.uint8)
    pixels = np.full((height, width, 3), 30, np.uint8)
    pixels[: max(1, height // 4), : max(1, width // 4)] = (200, 20, 20)
    x = number * 2 % max(1, width - 4)
    pixels[height // 2 :, x : x + 4] = (20, 20, 120)
    return pixels


def clicks(
    seconds: float, rate: int, channels: int = 1, events: Sequence[float] = EVENTS, noise: float = 0.01
) -> np.ndarray:
    """Faint noise with a click of 2 ms at each event, float32 [channels, n]."""
    n = round(seconds * rate)
    wave = np.random.default_rng(0).normal(0, noise, (channels, n)).astype(np.float32)
    length = max(1, round(0.002 * rate))
    for time in events:
        at = round(time * rate)
        wave[:, at : at + length] = 0.8 * (-1.0) ** np.arange(len(wave[0, at : at + length]))
    return wave


def film(
    path: Path,
    *,
    format: str | None = None,
    codec: str | None = "libx264",
    pix_fmt: str | None = "yuv420p",
    size: tuple[int, int] = SIZE,
    fps: Fraction | float = FPS,
    pictures: int = PICTURES,
    times: Sequence[float] | None = None,
    ticks: int | None = None,
    events: Sequence[float] = EVENTS,
    codec_options: dict[str, str] | None = None,
    sound: str | None = "aac",
    rate: int = 48000,
    layout: str = "mono",
    wave: np.ndarray | None = None,
    seconds: float | None = None,
    sound_from: float = 0.0,
    pictures_from: float = 0.0,
    options: dict[str, str] | None = None,
    before: Callable[[av.container.OutputContainer], object] | None = None,
    set_video: Callable[[av.VideoStream], object] | None = None,
    set_frame: Callable[[av.VideoFrame], object] | None = None,
    change: Callable[[av.Packet], av.Packet | None] | None = None,
) -> Path:
    """Write a video.

    Args:
        path: the file; ``format`` names the container where its suffix does not.
        codec, pix_fmt, size, fps, codec_options: of the pictures; a codec of None leaves them out.
        pictures, times, ticks: how many, when each appears (seconds; left out, ``fps``), and the clock of their stream.
        events: when there is a flash and a click, seconds from the first picture.
        sound, rate, layout, wave, seconds: codec of the sound, its rate, its channels, its samples or its length.
        sound_from, pictures_from: when each begins, seconds.
        options: of the container.
        before: is called with the container before any stream is added, for streams that come first.
        set_video: is called with the video stream before it is used.
        set_frame: is called with every frame before it is encoded.
        change: returns another packet for each packet, or None for none.
    """
    with av.open(str(path), "w", format=format, container_options=options or {}) as container:
        extra = before(container) if before else None
        video = audio = None
        if codec:
            frame_rate = Fraction(fps).limit_denominator(100000)
            video = container.add_stream(codec, rate=frame_rate, options={**QUIET, **(codec_options or {})})
            video.width, video.height = size
            if pix_fmt:
                video.pix_fmt = pix_fmt
            if ticks:
                video.codec_context.time_base = Fraction(1, ticks)
            if set_video:
                set_video(video)
        if sound:
            audio = container.add_stream(sound, rate=rate)
            audio.layout = layout
        sounds: list[av.Packet] = []
        if audio is not None:
            channels = audio.layout.nb_channels
            length = pictures / float(fps) if seconds is None else seconds
            samples = clicks(length, rate, channels, events) if wave is None else wave
            sounds = list(_sound_packets(audio, samples, rate, layout, sound_from))
        queue = list(_picture_packets(video, pictures, fps, times, events, size, pictures_from, set_frame))
        if callable(extra):
            extra()
        packets = sorted(queue + sounds, key=_when)
        for packet in packets:
            packet = change(packet) if change else packet
            if packet is not None:
                container.mux(packet)
    return path


def _when(packet: av.Packet) -> float:
    return float((packet.dts or 0) * packet.time_base)


def _picture_packets(video, pictures, fps, times, events, size, start, set_frame) -> Iterator[av.Packet]:
    if video is None:
        return
    exact = Fraction(fps).limit_denominator(100000)
    appear = [float(k / exact) for k in range(pictures)] if times is None else list(times)
    base = video.codec_context.time_base or 1 / exact
    base = base if times is not None or start else 1 / exact
    for k, time in enumerate(appear):
        flash = any(abs(time - event) < 0.5 / float(fps) for event in events)
        frame = av.VideoFrame.from_ndarray(picture(k, size, flash), format="rgb24")
        frame = frame.reformat(format=video.pix_fmt) if video.pix_fmt else frame
        frame.pts, frame.time_base = round((time + start) / base), base
        if set_frame:
            set_frame(frame)
        yield from video.encode(frame)
    yield from video.encode(None)


def _sound_packets(audio, samples: np.ndarray, rate: int, layout: str, start: float) -> Iterator[av.Packet]:
    context = audio.codec_context
    context.open(strict=False)
    resampler = av.AudioResampler(context.format.name, layout, rate, frame_size=context.frame_size or 1024)
    block, at = 65536, round(start * rate)
    for first in range(0, samples.shape[1], block):
        part = np.ascontiguousarray(samples[:, first : first + block].T, np.float32).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), at + first
        for piece in resampler.resample(frame):
            yield from audio.encode(piece)
    for piece in resampler.resample(None):
        yield from audio.encode(piece)
    yield from audio.encode(None)


# --- bytes that no encoder writes ---------------------------------------------------------------


def boxes(data: bytes) -> list[tuple[str, int, int]]:
    """All boxes of an mp4: (path such as ``moov/trak.0/tkhd``, start, end), in file order."""
    inside = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"moof", b"traf", b"mvex", b"udta"}
    found: list[tuple[str, int, int]] = []

    def walk(start: int, end: int, above: str) -> None:
        count: dict[str, int] = {}
        while start + 8 <= end:
            length, kind = struct.unpack(">I4s", data[start : start + 8])
            stop = end if length == 0 else min(end, start + length)
            name = kind.decode("latin1").strip()
            number = count[name] = count.get(name, -1) + 1
            path = f"{above}{name}{f'.{number}' if name in ('trak', 'moof', 'mdat', 'traf') else ''}"
            found.append((path, start, stop))
            if kind in inside:
                walk(start + 8, stop, f"{path}/")
            start = stop if length >= 8 or length == 0 else end

    walk(0, len(data), "")
    return found


def box(data: bytes, path: str) -> tuple[int, int]:
    """Where the contents of a box start and end."""
    start, end = next((a, b) for name, a, b in boxes(data) if name == path)
    return start + 8, end


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """The data with other bytes at one place."""
    return data[:at] + new + data[at + len(new) :]


def with_matrix(data: bytes, a: float, b: float, c: float, d: float, x: float = 0, y: float = 0) -> bytes:
    """An mp4 whose first track has this display matrix (version 0 headers)."""
    start, _ = box(data, "moov/trak.0/tkhd")
    rows = (a, b, 0, c, d, 0, x, y, 0)
    values = [round(v * 65536) for v in rows]
    values[8] = 1 << 30
    return patched(data, start + 40, struct.pack(">9i", *values))


def packets_of(path: Path, kind: str) -> list[tuple[int, int]]:
    """Where the packets of the first stream of a kind (``"video"``, ``"audio"``) lie in the file: (start, length).

    A packet that lies in pieces, as in transport streams, is given by its first piece.
    """
    data, found = path.read_bytes(), []
    with av.open(str(path)) as container:
        for packet in container.demux(getattr(container.streams, kind)[0]):
            body = bytes(packet)
            at = max(0, packet.pos or 0)
            sizes = [n for n in (len(body), 128, 64, 16) if 0 < n <= len(body) and data.find(body[:n], at) >= 0]
            if sizes:
                found.append((data.find(body[: sizes[0]], at), sizes[0]))
    return found


def overwrite(path: Path, kind: str, share: float, seed: int) -> Path:
    """Fill one packet, ``share`` of the way through a file, with noise."""
    places = packets_of(path, kind)
    pos, size = places[int(share * len(places))]
    noise = np.random.default_rng(seed).integers(0, 256, size, dtype=np.uint8).tobytes()
    path.write_bytes(patched(path.read_bytes(), pos, noise))
    return path


def flip(path: Path, kind: str, bits: int, seed: int) -> Path:
    """Flip bits at seeded places inside the packets of a file, its first packet left out."""
    rng = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    places = packets_of(path, kind)[1:]
    for _ in range(bits):
        pos, size = places[rng.integers(len(places))]
        data[pos + int(rng.integers(size))] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return path


def wav(
    path: Path, samples: np.ndarray, rate: int, *, kind: int = 1, bits: int = 16, claims: int | None = None
) -> Path:
    """A WAV file of samples [channels, n], integers (kind 1) or floats (kind 3); its header may claim other sizes."""
    dtype = {(1, 16): "<i2", (1, 8): "<u1", (3, 32): "<f4", (3, 64): "<f8"}[kind, bits]
    body = np.ascontiguousarray(samples.T).astype(dtype).tobytes()
    width = samples.shape[0] * bits // 8
    head = b"WAVE" + b"fmt " + struct.pack("<IHHIIHH", 16, kind, samples.shape[0], rate, rate * width, width, bits)
    size = len(body) if claims is None else claims
    data = head + b"data" + struct.pack("<I", size)
    path.write_bytes(b"RIFF" + struct.pack("<I", min(len(data) + size, 2**32 - 1)) + data + body)
    return path


def id3_cover(path: Path, picture_bytes: bytes) -> Path:
    """Put a cover picture before an mp3."""
    body = b"\x00image/png\x00\x03\x00" + picture_bytes
    frame = b"APIC" + struct.pack(">I", len(body)) + b"\x00\x00" + body
    size = len(frame)
    sync = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\x00\x00" + sync + frame + path.read_bytes())
    return path


def flip_anywhere(path: Path, bits: int, seed: int) -> Path:
    """Flip bits at seeded places of a file, its headers among them."""
    rng = np.random.default_rng(seed)
    data = bytearray(path.read_bytes())
    for at in rng.integers(0, len(data), bits):
        data[at] ^= 1 << int(rng.integers(8))
    path.write_bytes(data)
    return path
