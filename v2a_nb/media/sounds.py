"""Reading the sound of a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import MediaError, check_types
from v2a_nb.media import decoding


@check_types
def open_sound(path: str | Path) -> Sound:
    """Read the sound of any media file, from the sound's own beginning.

    Raises:
        MediaError: the file cannot be read or has no sound.
        UsageError: ``path`` is not a path.
    """
    with decoding.container(path) as container:
        if not container.streams.audio:
            raise MediaError(f"{path}: no sound in this file")
        samples, rate, _ = _decode_audio(container, path, None, None)
    if samples.shape[1] == 0:
        raise MediaError(f"{path}: its sound stream holds no samples")
    return Sound(samples, rate)


def read_sound(path: str | Path, start: float, duration: float) -> Sound:
    """``duration`` seconds of sound from ``start`` (s, on the file's clock) on; silence where the file has none."""
    with decoding.container(path) as container:
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
