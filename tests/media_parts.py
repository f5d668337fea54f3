"""Video files of any container and codec, made with PyAV: pictures and sounds whose every moment can be told apart."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from v2a_nb.clip import Clip, Sound


def clicks(seconds: float, rate: int, times) -> Sound:
    wave = np.zeros(int(seconds * rate), np.float32)
    for t in times:
        wave[int(t * rate)] = 0.9
    return Sound(wave, rate)


def clip_of(n: int = 50, fps: float = 25.0, height: int = 48, width: int = 64, **more) -> Clip:
    frames = np.zeros((n, height, width, 3), np.uint8)
    frames[:] = (np.arange(n) * 255 // max(1, n - 1)).astype(np.uint8)[:, None, None, None]
    return Clip(frames, fps=fps, **more)


def moving(n: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Pictures [n, H, W, 3] with a block that moves over changing grey."""
    frames = np.zeros((n, height, width, 3), np.uint8)
    for k in range(n):
        frames[k] = 40 + (k * 7) % 150
        y, x = (k * 3) % (height - 16), (k * 2) % (width - 16)
        frames[k, y : y + 16, x : x + 16] = np.random.default_rng(k).integers(0, 255, (16, 16, 3))
    return frames


def sweep(seconds: float, rate: int, channels: int = 2) -> np.ndarray:
    """A tone that rises, with some noise, float32 [channels, n]."""
    t = np.arange(int(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(t))
    wave = 0.3 * np.sin(2 * np.pi * (200 + 40 * t) * t) + 0.05 * noise
    return np.repeat(wave[None].astype(np.float32), channels, axis=0)


def write(
    path: Path,
    frames: np.ndarray,
    sounds: list[np.ndarray] | np.ndarray | None = None,
    *,
    fps: int = 25,
    video: str = "libx264",
    audio: str = "aac",
    container: str | None = None,
    rate: int = 48000,
    layout: str = "stereo",
    delay: float = 0.0,
    gop: int = 12,
    bframes: int | None = None,
    pixels: str = "yuv420p",
    options: dict | None = None,
    muxer: dict | None = None,
    default: int | None = None,
    change=None,
) -> Path:
    """Write a file, pictures and sounds interleaved; the sounds begin ``delay`` seconds after the pictures.

    Args:
        default: the sound that is flagged as default, and no other.
        change: called with the video stream before the first picture is encoded.
    """
    sounds = [] if sounds is None else sounds if isinstance(sounds, list) else [sounds]
    with av.open(str(path), "w", format=container, options=muxer or {}) as file:
        stream = file.add_stream(video, rate=fps)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.codec_context.gop_size = gop
        stream.options = {"x265-params": "log-level=none"} if video == "libx265" else {}
        stream.options |= options or {}
        if bframes is not None:
            stream.codec_context.max_b_frames = bframes
        if change is not None:
            change(stream)
        tracks = []
        for number in range(len(sounds)):
            track = file.add_stream(audio, rate=rate)
            track.layout = layout
            if audio == "aac":
                track.options = {"aac_pns": "0"}  # noise that the decoder invents is another one after a seek
            if default is not None:
                flag = track.disposition.__class__.default
                track.disposition = flag if number == default else track.disposition.__class__(0)
            tracks.append(track)
        done = [0] * len(tracks)
        for k, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, fps)
            file.mux(stream.encode(frame))
            for number, track in enumerate(tracks):
                done[number] = _encode(file, track, sounds[number], done[number], (k + 1) / fps, rate, layout, delay)
        file.mux(stream.encode(None))
        for track in tracks:
            file.mux(track.encode(None))
    return path


def _encode(file, track, samples, done: int, until: float, rate: int, layout: str, delay: float) -> int:
    """Encode blocks of a sound up to a time; returns the first sample that is left."""
    context = track.codec_context
    size = context.frame_size or 1024
    while done < min(samples.shape[1], until * rate):
        block = np.ascontiguousarray(samples[:, done : done + size], np.float32)
        frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frames = [frame]
        if context.format.name != "fltp":
            frames = av.AudioResampler(format=context.format.name, layout=layout, rate=rate).resample(frame)
        for frame in frames:
            frame.pts, frame.time_base = done + int(delay * rate), Fraction(1, rate)
            file.mux(track.encode(frame))
        done += size
    return done


def damage(path: Path, number: int, *, kind: str = "video", share: float = 1.0) -> Path:
    """A copy in which a packet's bytes, or the last ``share`` of them, are noise."""
    with av.open(str(path)) as file:
        packets = [p for p in file.demux(getattr(file.streams, kind)[0]) if p.size]
        packet = packets[number]
        content = bytes(packet)
    data = bytearray(path.read_bytes())
    at = data.index(content, max(0, packet.pos or 0))
    for i in range(at + int(len(content) * (1 - share)), at + len(content)):
        data[i] = random.Random(i).randrange(256)
    copy = path.with_name(f"damaged-{path.name}")
    copy.write_bytes(data)
    return copy


def differences(a: Clip, b: Clip) -> list[str]:
    """In what two clips of one file differ: pictures bit for bit, times to a microsecond, sounds to rounding."""
    found = []
    if a.n != b.n:
        found.append(f"{a.n} and {b.n} pictures")
    elif not np.array_equal(a.frames, b.frames):
        found.append("pictures")
    elif np.abs(a.times - b.times).max() > 2e-6:
        found.append("times")
    if (a.sound is None) != (b.sound is None) or (a.sound and a.sound.samples.shape != b.sound.samples.shape):
        found.append("length of the sound")
    elif a.sound and np.abs(a.sound.samples - b.sound.samples).max() > 1e-4:
        found.append("sound")
    return found
