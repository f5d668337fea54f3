"""The data that the player's script reads: numbers, sound, picture and saliency, small enough for a notebook."""

from __future__ import annotations

import base64
import io
import math
import tempfile
import wave
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.hits import Hit

TARGET_BYTES = 2_000_000
"""Target size of the HTML: sample rate, channels and picture quality are reduced to it, in this order."""
LIMIT_BYTES = 8_000_000
"""Largest HTML: where the lowest of the usual qualities exceeds it, lower ones are taken, and then a part of the clip.
A larger one would make a notebook slow to open."""
SIDE = 320  # pixels of the picture's longer side, at most
BANDS, COLUMNS, BLOCKS = 64, 512, 800  # mel bands, most spectrogram columns, envelope blocks
RANGE_DB = (-90, 0)  # of the spectrogram's colours; 0 is a full-scale sine
SCALES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # possible ends of the amplitude axis; one for all tracks
RATES = (48000, 32000, 24000, 16000)  # Hz, tried in this order for TARGET_BYTES
LOW_RATES = (12000, 8000)  # likewise for LIMIT_BYTES
QUALITIES = ((30, 26), (30, 31), (15, 31), (15, 36), (10, 41))  # (frames per second, H.264 crf), for TARGET_BYTES
LOW_QUALITIES = ((240, 8, 41), (160, 5, 45), (96, 4, 51))  # (longer side, frames per second, crf), for LIMIT_BYTES
FILM_RATE = 6000  # bytes kept free for a second of pictures; even noise needs no more in LOW_QUALITIES
MAP_BYTES, MAP_FRAMES = 90_000, 600  # of a saliency map: at most so many numbers in so many frames
NOT_A_NUMBER = -128  # in an envelope, where 127 is the most that a sound reaches


def as_text(value: object) -> str:
    """Convert any value to text that UTF-8 can encode."""
    return str(value).encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def encode(data: bytes | np.ndarray) -> str:
    """Encode bytes or an array as base64 text."""
    return base64.b64encode(data if isinstance(data, bytes) else np.ascontiguousarray(data).tobytes()).decode()


def take_of(label: str, given: object) -> tuple[Sound, np.ndarray]:
    """Convert a track to a sound, and find its samples that are NaN or infinite.

    Args:
        label: of the track, for the message.
        given: a :class:`Sound`, or ``(samples, sample_rate)`` as a model returned it.

    Returns:
        the sound, in which such samples are 0, and where they are, bool [n].

    Raises:
        UsageError: anything else.
    """
    if isinstance(given, Sound):
        return given, np.zeros(given.n, bool)
    if not (isinstance(given, tuple) and len(given) == 2):
        raise UsageError(f"track {label!r} is a {type(given).__name__}, not a Sound or (samples, sample_rate)")
    samples = np.atleast_2d(as_array(given[0], f"track {label!r}"))
    finite = np.isfinite(samples)
    return Sound(np.where(finite, samples, 0), given[1]), ~finite.all(axis=0)


def as_array(given: object, what: str) -> np.ndarray:
    """Convert a list, array or tensor to float32.

    Raises:
        UsageError: another type.
    """
    try:
        given = given.detach().cpu() if hasattr(given, "detach") else given
        return np.asarray(given, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(f"{what} must be an array of numbers, not a {type(given).__name__}") from error


def event_of(event: Mapping | Hit | float) -> dict:
    """Convert an event of ``truth.json``, a hit, or a time, to what the script reads.

    A ``probability`` in [0, 1] is shown with its mark; what is ``doubtful`` has a hollow one. Of a hit that a system
    expects both are shown.

    Raises:
        UsageError: no time, or one that is not finite.
    """
    if isinstance(event, Hit):
        own = {"probability": event.probability, "doubtful": not event.sure} if event.origin == "model" else {}
        event = {"time_s": event.time_s, "material": "expected hit" if own else "your hit", **own}
    given = event if isinstance(event, Mapping) else {"time_s": event}
    try:
        time = float(given["time_s"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"an event needs its time_s in seconds, not {event!r}") from error
    if not math.isfinite(time):
        raise UsageError(f"an event at {time} s cannot be drawn")
    sounding, material = bool(given.get("sounding", True)), as_text(given.get("material", ""))
    words = [as_text(given.get("kind", "")), material] if sounding else ["miss"]
    labels = [text[:24] for text in (" ".join(words).strip(), words[0]) if text]  # the second where room is short
    read = {"time": time, "labels": labels, "material": material, "sounding": sounding}
    if "probability" in given:
        try:
            share = f"{100 * float(given['probability']):.0f} %"
        except (TypeError, ValueError) as error:
            raise UsageError(f"the probability of an event must be a number, not {given['probability']!r}") from error
        read["labels"] = [*(f"{text} {share}" for text in labels[:1]), share]
    return {**read, "doubtful": True} if given.get("doubtful") else read


def saliency_of(given: object, duration: float, shown: float = math.inf) -> dict:
    """Convert a saliency map to what the script reads.

    Args:
        given: an object with ``map`` (float [T, h, w], not negative) and ``fps``, as attributes or keys, and
            perhaps ``window`` (start and end in seconds of the sound that it explains); or ``(map, fps)``; or a
            map alone, which then spans the clip.
        duration: of the clip, seconds.
        shown: seconds of it that are shown.

    Returns:
        ``map`` uint8 [frames, height, width] and ``curve`` uint8 [frames] (the mean over the picture), base64,
        255 being the clip's maximum, so that frames compare; ``fps``, ``window``, ``peak`` (seconds) and ``notes``.

    Raises:
        UsageError: no map, one of another shape, NaN in it, a frame rate that is impossible.
    """
    parts = {k: given[k] if isinstance(given, Mapping) or hasattr(given, "files") else getattr(given, k)
             for k in ("map", "fps", "window") if _has(given, k)}  # fmt: skip
    if isinstance(given, tuple) and len(given) == 2:
        parts = {"map": given[0], "fps": given[1]}
    found = as_array(parts.get("map", given), "saliency")
    if found.ndim != 3 or not found.size:
        raise UsageError(f"a saliency map must be [T, h, w], not {list(found.shape)}")
    if not np.isfinite(found).all():
        raise UsageError(f"{int((~np.isfinite(found)).sum())} numbers of the saliency map are NaN or infinite")
    try:
        fps = float(parts.get("fps", len(found) / duration))
        window = parts.get("window")
        window = None if window is None else [float(t) for t in np.asarray(window, float).reshape(2)]
    except (TypeError, ValueError) as error:
        raise UsageError("a saliency map needs its fps as a number, its window as (start, end) in seconds") from error
    if not (0 < fps < 10000 and (window is None or np.isfinite(window).all())):
        raise UsageError(f"a saliency map at {fps:g} frames per second, window {window}, cannot be drawn")
    found = found[: max(1, math.ceil(min(shown, duration) * fps - 1e-6))] if shown < duration else found
    notes = ["negative saliency is not drawn"] if (found < 0).any() else []
    found = np.maximum(found, 0)
    curve = found.mean(axis=(1, 2))
    peak = (float(curve.argmax()) + 0.5) / fps
    notes += [] if curve.any() else ["the saliency is zero everywhere"]
    found, curve, fps = _shrink(found, curve, fps)
    found, curve = (np.round(a / (a.max() or 1) * 255).astype(np.uint8) for a in (found, curve))
    frames, height, width = found.shape
    return {
        "map": encode(found), "curve": encode(curve), "fps": fps, "window": window, "peak": min(peak, duration, shown),
        "frames": frames, "height": height, "width": width, "notes": notes,
    }  # fmt: skip


def _has(given: object, key: str) -> bool:
    return key in given if isinstance(given, Mapping) or hasattr(given, "files") else hasattr(given, key)


def _shrink(found: np.ndarray, curve: np.ndarray, fps: float) -> tuple[np.ndarray, np.ndarray, float]:
    """Reduce a map to at most MAP_BYTES: frames are merged by their maximum, pixels by their mean."""
    merge = -(-len(found) // MAP_FRAMES)
    if merge > 1:
        starts = np.arange(0, len(found), merge)
        found, curve = np.maximum.reduceat(found, starts), np.maximum.reduceat(curve, starts)
    _, height, width = found.shape
    scale = math.sqrt(MAP_BYTES / found.size)
    if scale < 1:
        from PIL import Image

        size = max(1, int(width * scale)), max(1, int(height * scale))
        found = np.stack([np.asarray(Image.fromarray(f).resize(size, Image.Resampling.BOX)) for f in found])
    return found, curve, fps / merge


# --- sound --------------------------------------------------------------------------------------


def clipped(sound: Sound) -> bool:
    """Whether a sound is clipped: beyond full scale, or at full scale for three samples in a row."""
    loud = np.abs(sound.samples) >= 0.999
    return sound.peak > 1.0001 or bool((loud[:, 2:] & loud[:, 1:-1] & loud[:, :-2]).any())


def notes_of(sound: Sound, duration: float, bad: int = 0) -> list[str]:
    """Remarks on a track for the listener; ``bad`` is the number of samples that are NaN or infinite."""
    notes = [f"{bad} NaN samples"] if bad else []
    if sound.peak < 0.5 / 32767:  # all zeros in 16 bits
        notes.append("silent")
    elif clipped(sound):
        notes.append("clipped")
    if sound.duration < duration - 0.01:
        notes.append(f"ends at {sound.duration:.2f} s")
    elif sound.duration > duration + 0.01:
        notes.append(f"cut at {duration:.2f} of {sound.duration:.2f} s")
    return notes


def longest(sounds: Sequence[Sound], most: float, film: float = FILM_RATE) -> float:
    """Seconds of sounds in the lowest quality, and of pictures of ``film`` bytes each, that fit ``most`` bytes."""
    return max(0.0, most) / (_sound_bytes(1.0, sounds, 1, LOW_RATES[-1]) + film)


def fit_sound(duration: float, sounds: Sequence[Sound], room: float, most: float) -> tuple[int, int, str]:
    """Number of channels and highest rate whose base64 fits, and a remark if they were reduced.

    Args:
        duration: of each sound, seconds.
        sounds: of all tracks.
        room: bytes that rates down to 16000 Hz should fit.
        most: bytes that the lowest of them must fit, or a lower rate is taken.
    """
    wanted = (max((min(s.channels, 2) for s in sounds), default=1), RATES[0])
    choices = [(c, rate, room) for rate in RATES for c in {wanted[0]: 0, 1: 0}]
    choices += [(1, rate, most) for rate in (RATES[-1], *LOW_RATES)]
    fits = (choice for *choice, size in choices if _sound_bytes(duration, sounds, *choice) <= size)
    choice = tuple(next(fits, (1, LOW_RATES[-1])))
    lost = [f"{choice[1] / 1000:g} kHz"] if any(s.sample_rate > choice[1] for s in sounds) else []
    lost += ["mono"] if any(s.channels > choice[0] for s in sounds) else []
    return *choice, f"played in {' '.join(lost)} to keep this output small" if lost else ""


def _sound_bytes(duration: float, sounds: Sequence[Sound], channels: int, rate: int) -> float:
    one = [min(s.channels, channels) * min(s.sample_rate, rate) for s in sounds]
    return sum(one) * duration * 2 * 4 / 3  # 16 bits, base64


def wav_of(sound: Sound, channels: int, rate: int) -> bytes:
    """Encode a sound as 16-bit PCM at its own level, clipped at full scale."""
    if sound.channels > channels:
        sound = sound.mono() if channels == 1 else sound.stereo()
    return pcm_of(sound.resample(min(rate, sound.sample_rate)))


def pcm_of(sound: Sound) -> bytes:
    """The bytes of a 16-bit WAV file, clipped at full scale."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(sound.channels)
        file.setsampwidth(2)
        file.setframerate(sound.sample_rate)
        file.writeframes(np.clip(np.round(sound.samples.T * 32767), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def track_of(label: str, sound: Sound, bad: np.ndarray, duration: float, full: float, top: float) -> dict:
    """Compute the data of one track.

    Args:
        label, sound: of the track.
        bad: bool [n], the samples that were NaN or infinite.
        duration: of the clip, seconds.
        full: amplitude that 127 stands for in the envelope.
        top: upper edge of the spectrogram, Hz.

    Returns:
        ``envelope`` int8 [blocks, 2] (lowest and highest sample; -128 where one was NaN) and ``mel``
        uint8 [bands, columns], base64; ``rms`` in dBFS, None where there is no sound.
    """
    mono = sound.mono().fit(duration)
    wave_form = mono.samples[0] if mono.n else np.zeros(1, np.float32)
    starts = np.linspace(0, len(wave_form), min(BLOCKS, len(wave_form)), endpoint=False).astype(int)
    pair = np.stack([np.minimum.reduceat(wave_form, starts), np.maximum.reduceat(wave_form, starts)], axis=1)
    shape = np.clip(np.round(pair / full * 127), -127, 127).astype(np.int8)
    holes = np.zeros(len(wave_form), bool)
    holes[: min(len(bad), len(holes))] = bad[: len(holes)]
    shape[np.logical_or.reduceat(holes, starts)] = NOT_A_NUMBER
    mel, origin, step = mel_picture(wave_form, mono.sample_rate, top)
    notes = notes_of(sound, duration, int(bad.sum()))
    silent = "silent" in notes
    return {
        "label": label,
        "level": "" if silent else f"{sound.rms_dbfs:.0f} dBFS".replace("-", "\u2212"),
        "rms": None if silent else round(sound.rms_dbfs, 2),
        "notes": notes,
        "clipped": "clipped" in notes,
        "envelope": encode(shape),
        "mel": encode(mel),
        "bands": mel.shape[0],
        "columns": mel.shape[1],
        "origin": origin,
        "step": step,
    }


def mel_picture(wave_form: np.ndarray, sample_rate: int, top: float) -> tuple[np.ndarray, float, float]:
    """Compute a mel spectrogram that is small enough to draw, on an absolute scale.

    Args:
        wave_form: float [n], full scale -1 to 1.
        top: Hz of the upper edge of the highest band (mel = 2595 log10(1 + f / 700)).

    Returns:
        uint8 [64, columns], 0 at -90 dB and 255 at 0 dB, where 0 dB is a full-scale sine; the left edge of
        the first column and the width of a column, seconds. Merged columns keep the
        loudest value, so that no click is lost.
    """
    size = 2 ** max(6, round(math.log2(0.032 * sample_rate)))
    hop, fft = size // 4, 2 * size
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)
    padded = np.pad(np.asarray(wave_form, np.float32), size // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]
    basis = _mel_basis(sample_rate, fft, float(top))
    power = np.empty((BANDS, len(frames)), np.float32)
    for a in range(0, len(frames), 512):
        spectrum = np.fft.rfft(frames[a : a + 512] * window, n=fft, axis=1)
        power[:, a : a + 512] = basis @ (spectrum.real**2 + spectrum.imag**2).astype(np.float32).T
    # a sine's power is spread over 1.5 bins by the window, twice that by zero-padding to 2 * size
    level = 10 * np.log10(np.maximum(power / (size / 4) ** 2 / 3, 1e-12))
    merge = -(-level.shape[1] // COLUMNS)
    level = np.pad(level, ((0, 0), (0, -level.shape[1] % merge)), constant_values=-120)
    level = level.reshape(BANDS, -1, merge).max(axis=2)
    low, high = RANGE_DB
    picture = np.clip((level - low) / (high - low) * 255, 0, 255).round().astype(np.uint8)
    return picture, -hop / 2 / sample_rate, merge * hop / sample_rate


@lru_cache(maxsize=8)
def _mel_basis(sample_rate: int, fft: int, top: float) -> np.ndarray:
    """Triangles of height one [BANDS, fft // 2 + 1]; bands above the sound's own range stay empty."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + top / 700), BANDS + 2) / 2595) - 1)
    hertz = np.arange(fft // 2 + 1) * sample_rate / fft
    rise = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


# --- picture ------------------------------------------------------------------------------------


def small(clip: Clip, side: int = SIDE) -> Clip:
    """Shrink a clip to at most ``side`` pixels of width and height, both even."""
    scale = min(1.0, side / max(clip.height, clip.width))
    height, width = (max(2, round(v * scale) // 2 * 2) for v in (clip.height, clip.width))
    return clip.resize(height, width)


def film_of(clip: Clip, room: float, most: float = math.inf) -> bytes:
    """Encode the pictures as H.264 in the best quality whose base64 fits.

    Args:
        clip: gives the pictures.
        room: bytes that the usual qualities should fit.
        most: bytes that the lowest of them must fit, or a lower one is taken; the last is taken in any case.
    """
    shown, film = small(clip.silent()), b""
    usual = [(SIDE, fps, crf) for fps, crf in QUALITIES]
    with tempfile.TemporaryDirectory() as folder:
        for number, (side, fps, crf) in enumerate((*usual, *LOW_QUALITIES), 1):
            timed = shown if shown.fps <= fps * 1.02 else shown.at_fps(fps)
            film = media.save_mp4(small(timed, side), None, Path(folder) / "picture.mp4", crf=crf).read_bytes()
            if len(film) * 4 / 3 <= (room if number < len(usual) else max(room, most)):
                break
    return film


def poster_of(clip: Clip) -> bytes:
    """The middle picture as JPEG, for where nothing can be played."""
    from PIL import Image

    middle = int(np.clip(np.searchsorted(clip.times, clip.duration / 2, side="right") - 1, 0, clip.n - 1))
    frame = small(Clip(clip.frames[middle : middle + 1])).frames[0]
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=75)
    return buffer.getvalue()
