"""Writing sounds and videos; files get their names when they are complete."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, check_types
from v2a_nb.files import atomic
from v2a_nb.media import mp4
from v2a_nb.media.soundtracks import Soundtrack

BITS = {".wav": (16, 24, 32), ".flac": (16, 24), ".m4a": (16,)}
"""The kinds of sound files, and the bits per sample that each has; those of AAC are no choice."""
WAV_BYTES = 2**32 - 64
"""Samples that a WAV file holds at most; its header has 32 bits for them."""


@check_types
def save_wav(sound: Sound | Iterable[Sound], path: str | Path) -> Path:
    """Write a sound as 16-bit PCM; samples beyond full scale are clipped.

    The file gets its name when it is complete, so that no half-written file is left behind.

    Args:
        sound: a sound, or an iterable of consecutive ones, which are written as they come.
        path: the file to write.

    Returns:
        ``path``.

    Raises:
        MediaError: the file cannot be written.
        UsageError: an argument is of the wrong type, or pieces of a sound differ in rate or channels.
    """
    return _write_wav(Soundtrack.of(sound, "save_wav"), Path(path), 16)


@check_types
def save_sound(
    sound: Sound | Iterable[Sound],
    path: str | Path,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    bits: int = 16,
) -> Path:
    """Write a sound as the file's name says: ``.wav`` (PCM), ``.flac`` or ``.m4a`` (AAC).

    Samples beyond full scale are clipped, but for 32-bit WAV, which holds them. The file gets its name when it is
    complete.

    Args:
        sound: a sound, or an iterable of consecutive ones, which are written as they come.
        path: the file to write.
        sample_rate: Hz to which the sound is resampled; left out, its own. AAC takes the next higher rate that it has.
        channels: 1 or 2, to which the sound is mixed; left out, its own. AAC has two at most.
        bits: per sample: 16 or 24, or 32 for floating point numbers in a ``.wav``; AAC has no such choice.

    Returns:
        ``path``.

    Raises:
        MediaError: the file cannot be written.
        UsageError: another kind of file, or one that does not have so many bits or channels; a rate that is
            impossible; an argument of the wrong type; pieces of a sound that differ in rate or channels.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in BITS:
        raise UsageError(f"{path}: sounds are written as {', '.join(BITS)}; choose one of these endings")
    if bits not in BITS[kind]:
        raise UsageError(f"{path}: bits must be {' or '.join(map(str, BITS[kind]))} for {kind}, not {bits}")
    if channels not in (None, 1, 2):
        raise UsageError(f"{path}: channels must be 1 or 2, not {channels}")
    if sample_rate is not None and not 1000 <= sample_rate <= 384000:
        raise UsageError(f"{path}: a sample rate of {sample_rate} Hz is impossible; choose 1000 to 384000")
    track = Soundtrack.of(sound, "save_sound").with_channels(channels)
    track = track.resampled(int(sample_rate)) if sample_rate else track
    if kind == ".wav":
        return _write_wav(track, path, bits)
    return _write_flac(track, path, bits) if kind == ".flac" else _write_m4a(track, path)


@check_types
def save_mp4(
    clip: Clip,
    sound: Sound | Iterable[Sound] | None,
    path: str | Path,
    *,
    crf: int = 20,
    preset: str = "veryfast",
) -> Path:
    """Write a clip as H.264 with its own sound, or another one, as AAC.

    The sound becomes exactly as long as the pictures and starts at zero. The encoder's delay is written as an edit
    list, so that players and :func:`open` put a click back where it was to within 5 ms. Colours are converted with
    BT.709 for more than 1279 columns or 576 rows, with BT.601 for less, and the file says so. Pictures of odd width or
    height lose their last column or row, which H.264 in 4:2:0 cannot hold. The file gets its name when it is complete.

    Args:
        clip: gives the pictures and their times.
        sound: a soundtrack, cut or filled to the clip's length, or an iterable of consecutive pieces of it; None
            writes the clip's own sound, if it has one.
        path: the file to write.
        crf: the encoder's constant rate factor, 0 (best) to 51.
        preset: the encoder's preset, from ``"ultrafast"`` to ``"veryslow"``.

    Returns:
        ``path``.

    Raises:
        MediaError: the file cannot be written, or the pictures are too small for H.264.
        UsageError: an argument is of the wrong type, or pieces of a sound differ in rate or channels.
    """
    sound = clip.sound if sound is None else sound
    track = None if sound is None else Soundtrack.of(sound, "save_mp4")
    ends = np.append(clip.times[1:], max(clip.duration, clip.times[-1] + 1e-3))
    pictures = zip(clip.frames, clip.times.tolist(), ends.tolist(), strict=True)
    return mp4.write(pictures, track, path, fps=clip.fps, duration=clip.duration, crf=crf, preset=preset)


def _write_wav(track: Soundtrack, path: Path, bits: int) -> Path:
    """Write PCM of 16 or 24 bits, or floating point numbers of 32 bits."""
    try:
        with atomic(path) as partial, partial.open("wb") as file:
            wav_header(file, track, bits, 0, path)
            size = sum(file.write(pcm(block, bits)) for block in track.blocks)
            file.write(bytes(size % 2))  # chunks have even sizes
            file.seek(0)
            wav_header(file, track, bits, size, path)
    except OSError as error:
        raise MediaError(f"{path}: cannot be written: {error.strerror or error}") from error
    return path


def wav_header(file: BinaryIO, track: Soundtrack | Sound, bits: int, size: int, path: Path) -> None:
    """Write the header of a WAV file that holds ``size`` bytes of samples."""
    if size > WAV_BYTES:
        raise MediaError(f"{path}: {size / 2**30:.1f} GiB of samples are more than WAV can hold; write .flac instead")
    frame = track.channels * bits // 8  # bytes
    form = struct.pack(
        "<HHIIHH", 3 if bits == 32 else 1, track.channels, track.sample_rate, track.sample_rate * frame, frame, bits
    )
    chunks = b"fmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    file.write(b"RIFF" + struct.pack("<I", 4 + len(chunks) + size + size % 2) + b"WAVE" + chunks)


def pcm(block: np.ndarray, bits: int) -> bytes:
    """Samples float32 [channels, n] as interleaved little-endian PCM."""
    if bits == 32:
        return block.T.astype("<f4").tobytes()
    return _integers(block, bits).astype("<i4").view(np.uint8).reshape(-1, 4)[:, : bits // 8].tobytes()


def _integers(block: np.ndarray, bits: int) -> np.ndarray:
    """Samples float32 [channels, n] as whole numbers [n, channels], clipped to full scale."""
    full = 2 ** (bits - 1)
    samples = block.T if bits == 16 else block.T.astype(np.float64)
    return np.clip(np.round(samples * (full - 1.0)), -full, full - 1).astype(np.int32, order="C")


def _write_flac(track: Soundtrack, path: Path, bits: int) -> Path:
    import av

    with mp4.create(path, "flac") as container:
        stream = container.add_stream("flac", rate=track.sample_rate)
        stream.layout = track.places
        form = "s16" if bits == 16 else "s32"
        stream.format = form
        n = 0
        for block in track.cut(4096):
            samples = _integers(block, bits).reshape(1, -1)
            samples = samples.astype(np.int16) if bits == 16 else samples << 8
            frame = av.AudioFrame.from_ndarray(samples, format=form, layout=track.places)
            frame.sample_rate, frame.pts, frame.time_base = track.sample_rate, n, Fraction(1, track.sample_rate)
            n += block.shape[1]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def _write_m4a(track: Soundtrack, path: Path) -> Path:
    with mp4.create(path, "ipod") as container:
        mp4.mux(container, mp4.add_sound(container, track, None)[1])
    return path
