"""Films made with PyAV, and what is measured of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from v2a_nb.clip import Sound


def pictures(n: int, height: int = 96, width: int = 128) -> np.ndarray:
    """Moving colours without noise, uint8 [n, H, W, 3]; every picture differs."""
    y, x = np.mgrid[:height, :width]
    t = np.arange(n)[:, None, None]
    waves = [128 + 100 * np.sin(x / 19 + t / 5 + 0 * y), 128 + 100 * np.sin(y / 23 - t / 7 + 0 * x), x + y + 4 * t]
    return np.stack(np.broadcast_arrays(*waves), axis=-1).clip(0, 255).astype(np.uint8)


def clicks(times, seconds: float, rate: int = 16000, channels: int = 1) -> Sound:
    samples = np.zeros((channels, round(seconds * rate)), np.float32)
    for t in times:
        samples[:, round(t * rate)] = 0.9
    return Sound(samples, rate)


def heard_at(sound: Sound, time: float) -> float:
    """When the loudest sample within 0.1 s of ``time`` sounds, seconds."""
    a = max(0, round((time - 0.1) * sound.sample_rate))
    part = np.abs(sound.samples).max(axis=0)[a : round((time + 0.1) * sound.sample_rate)]
    return (a + int(part.argmax())) / sound.sample_rate


def film(
    path: Path,
    codec: str = "libx264",
    *,
    n: int = 30,
    fps: int = 15,
    size: tuple[int, int] = (96, 128),
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    sound: Sound | None = None,
    audio: str = "aac",
    begin: float = 0.0,
    dress=lambda container, video, audio: None,
) -> Path:
    """Write a film.

    Args:
        begin: time of the first picture on the file's clock, seconds.
        dress: gets the container, its video and its audio stream (or None) before anything is written.
    """
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps)
        video.height, video.width = size
        video.pix_fmt, video.options = pixels, options or {}
        video.codec_context.time_base = Fraction(1, fps)
        stream = None
        if sound is not None:
            stream = container.add_stream(audio, rate=sound.sample_rate)
            stream.layout = "mono" if sound.channels == 1 else "stereo"
        dress(container, video, stream)
        for k, picture in enumerate(pictures(n, *size)):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = k + round(begin * fps), Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is not None:
            kind = stream.codec_context.format.name
            frame = av.AudioFrame.from_ndarray(sound.samples, format="fltp", layout=stream.layout.name)
            frame.sample_rate, frame.time_base = sound.sample_rate, Fraction(1, sound.sample_rate)
            frame.pts = round(begin * sound.sample_rate)
            size_ = stream.codec_context.frame_size or 1024
            fifo = av.AudioResampler(format=kind, layout=stream.layout.name, rate=sound.sample_rate, frame_size=size_)
            for piece in [*fifo.resample(frame), *fifo.resample(None)]:
                container.mux(stream.encode(piece))
            container.mux(stream.encode(None))
    return path


def packets(path: Path) -> list[bytes]:
    """The compressed pictures, in the order of the file."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(container.streams.video[0]) if packet.size]


def frames(path: Path) -> list:
    """The decoded pictures, as they are stored."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio of 8-bit values, dB; infinite where they are the same."""
    error = np.mean((a.astype(np.float64) - b) ** 2)
    return float("inf") if error == 0 else 10 * float(np.log10(255**2 / error))
