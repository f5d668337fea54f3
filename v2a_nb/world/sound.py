"""Synthesis of a recording's sound: contacts and scrapes, ambience, off-screen sounds.

A struck object is a sum of damped sinusoids whose frequencies and decays depend on its material and
size (modal synthesis, as in van den Doel et al., FoleyAutomatic, 2001). Stems are ``action``,
``ambient`` and ``offscreen``; the mix is their exact sum and never clips, because one gain per
recording is applied to all three.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from typing import Any

import numpy as np

from v2a_nb.world.description import HARDNESS, Event, Recording, Thing

STEMS = ("action", "ambient", "offscreen")

_CEILING = 0.95
_RESTING = 12.0  # 1/s: how much faster an object's ring decays under a tool that stays on it
_PEAK_AT_3_MS = 0.42  # sample peak of a contact at 3 m/s, distance 1


@dataclass(frozen=True)
class _Material:
    fundamental: tuple[float, float]  # Hz, drawn log-uniformly
    ratios: tuple[float, ...]
    t60: tuple[float, float]  # s, of the first mode
    damping: float  # how much faster high modes decay: t60 ~ ratio ** -damping
    tilt: float  # amplitude ~ ratio ** -tilt
    click: float  # level of the contact noise against the modes


_BOOK = {
    "wood": _Material((260, 560), (1, 2.57, 4.2, 6.1, 8.4), (0.09, 0.16), 0.55, 0.7, 0.35),
    "metal": _Material((520, 1100), (1, 1.51, 2.1, 2.74, 3.42, 4.3, 5.5, 6.7), (0.9, 1.8), 0.5, 0.35, 0.2),
    "glass": _Material((1000, 1650), (1, 1.9, 2.32, 3.1), (0.28, 0.5), 0.3, 0.4, 0.2),
    "ceramic": _Material((800, 1300), (1, 1.42, 2.13, 2.9, 3.9, 5.1, 6.4), (0.08, 0.15), 0.3, 0.3, 0.4),
    "drum": _Material((75, 150), (1, 1.59, 2.14, 2.3, 2.65, 2.92, 3.6), (0.25, 0.5), 0.6, 0.6, 0.3),
}


def modes(recording: Recording, thing: Thing, sample_rate: int) -> tuple[np.ndarray, ...]:
    """Frequencies (Hz), t60s (s) and amplitudes of an object's modes under the Nyquist frequency.

    The random part (which fundamental, how inharmonic) does not depend on size or damping, so a
    counterfactual size moves every mode by the same ratio.
    """
    book = _BOOK[thing.material]
    rng = recording.rng("modes-" + thing.material, thing.index)
    ratios = np.asarray(book.ratios) * 2.0 ** rng.normal(0, 0.02, len(book.ratios))
    low, high = np.log(book.fundamental)
    first = np.exp(rng.uniform(low, high))
    t60 = rng.uniform(*book.t60)
    amplitude = ratios**-book.tilt * np.exp(rng.normal(0, 0.25, len(ratios)))
    frequency = first * ratios * thing.pitch
    decay = t60 * ratios**-book.damping * thing.decay * thing.pitch**-0.3
    keep = frequency < 0.46 * sample_rate
    return frequency[keep], decay[keep], amplitude[keep] / np.abs(amplitude).sum()


def ring(recording: Recording, thing: Thing, sample_rate: int) -> np.ndarray:
    """The object's impulse response in three bands of modes, float32 [3, n], down to -60 dB."""
    frequency, decay, amplitude = modes(recording, thing, sample_rate)
    n = int(min(1.6, max(0.12, decay.max() * 1.05)) * sample_rate)
    t = np.arange(n, dtype=np.float32) / sample_rate
    # sine phase: the response starts at zero and rises within a quarter of a period
    waves = np.sin(np.outer(2 * np.pi * frequency, t).astype(np.float32))
    waves *= np.exp(np.outer(-6.91 / decay, t).astype(np.float32))
    waves *= amplitude[:, None].astype(np.float32)
    fade = min(n, int(0.02 * sample_rate))
    waves[:, n - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    bands = np.zeros((3, n), np.float32)
    for wave, f in zip(waves, frequency, strict=True):
        bands[0 if f < 700 else 1 if f < 2200 else 2] += wave
    return bands


def _strike(recording: Recording, event: Event, thing: Thing, bands: np.ndarray, sample_rate: int) -> np.ndarray:
    rng = recording.rng("strike", event.serial)
    hardness = HARDNESS[recording.actor]
    # a faster and harder contact is shorter, so it reaches higher modes (Hertzian contact)
    edge = 1500.0 * (0.4 + 1.6 * hardness) * (event.speed / 1.2) ** 0.25
    centres = np.array([350.0, 1300.0, 3800.0])
    weights = 1.0 / (1.0 + (centres / (2.2 * edge)) ** 2) * 10 ** (rng.normal(0, 1.5, 3) / 20)
    wave = (weights.astype(np.float32)[:, None] * bands).sum(axis=0)
    peak = np.abs(wave[: int(0.05 * sample_rate)]).max()
    click = rng.standard_normal(int((0.003 + 0.006 * (1 - hardness)) * sample_rate)).astype(np.float32)
    click *= np.hanning(2 * len(click))[len(click) :].astype(np.float32)
    if thing.material == "drum" or hardness < 0.35:
        click = np.convolve(click, np.ones(5, np.float32) / 5, mode="same")
    wave = wave / (peak + 1e-9)
    wave[: len(click)] += _BOOK[thing.material].click * click * (0.4 + hardness)
    if event.rest_s or event.slide:  # what stays on the object damps it
        t = np.arange(len(wave), dtype=np.float32) / sample_rate
        wave *= np.exp(-_RESTING * np.clip(t - 0.01, 0, event.duration_s + event.rest_s))
    wave = wave * np.float32(level_of(event.speed, recording.distance, thing.damped_by_hand))
    return _with_slide(recording, event, wave, bands, sample_rate) if event.slide else wave


def _with_slide(
    recording: Recording, event: Event, wave: np.ndarray, bands: np.ndarray, sample_rate: int
) -> np.ndarray:
    """Add the soft scrape of a tool that slides on after a strike and slows evenly."""
    rng = recording.rng("slide", event.serial)
    t = np.arange(int(event.duration_s * sample_rate), dtype=np.float32) / sample_rate
    pace = np.minimum(1 - t / np.float32(event.duration_s), t / 0.02)
    rough = np.diff(rng.standard_normal(len(t), dtype=np.float32) * pace, prepend=np.float32(0))
    scrape = _convolved(rough, bands.sum(axis=0)[: int(0.05 * sample_rate)])
    level = 0.12 * level_of(event.speed, recording.distance)
    scrape *= np.float32(level / (np.abs(scrape).max() + 1e-9))
    out = np.zeros(max(len(wave), len(scrape)), np.float32)
    out[: len(wave)] = wave
    out[: len(scrape)] += scrape
    return out


def level_of(speed: float, distance: float, damped: bool = False) -> float:
    """Sample peak of a contact: proportional to speed / distance; a resting hand takes 3 dB."""
    return _PEAK_AT_3_MS * speed / 3.0 / distance * (0.71 if damped else 1.0)


def _scrape(recording: Recording, event: Event, thing: Thing, bands: np.ndarray, sample_rate: int) -> np.ndarray:
    rng = recording.rng("scrape", event.serial)
    n = int(event.duration_s * sample_rate)
    t = np.arange(n) / sample_rate
    # roughness times speed: the tool goes to and fro, as the picture shows
    pace = np.abs(np.cos(np.pi * t / event.duration_s)) * 0.6 + 0.4
    attack = np.minimum(1.0, np.minimum(t / 0.002, (event.duration_s - t) / 0.03))
    noise = (rng.standard_normal(n) * pace * attack).astype(np.float32)
    rough = np.diff(noise, prepend=np.float32(0))
    resonance = bands.sum(axis=0)[: int(0.15 * sample_rate)]
    wave = _convolved(rough, resonance)[: n + len(resonance)]
    wave = wave / (np.abs(wave).max() + 1e-9)
    wave[:n] += 0.35 * rough / (np.abs(rough).max() + 1e-9)
    level = level_of(max(event.speed, 1.2), recording.distance, thing.damped_by_hand)
    return (0.8 * level * wave).astype(np.float32)


def ambience(recording: Recording, n: int, sample_rate: int) -> np.ndarray:
    """The steady ambience of the room, float32 [n], at the recording's level (RMS, dBFS)."""
    lfilter, rng = _linear_filter(), recording.rng("ambient-sound")
    t = np.arange(n, dtype=np.float32) / sample_rate
    noise = rng.standard_normal(n, dtype=np.float32)
    if recording.ambience == "hum":
        wave = 0.12 * lfilter([0.15], [1, -0.85], noise).astype(np.float32)
        mains = float(rng.choice([50.0, 60.0])) * float(rng.uniform(0.99, 1.01))
        for k in (1, 2, 3, 4, 6, 8):
            wave += np.float32(rng.uniform(0.3, 1.0) / k) * np.sin(
                np.float32(2 * np.pi * mains * k) * t + np.float32(rng.uniform(0, 6.28))
            )
    elif recording.ambience == "hiss":
        tilt = float(rng.uniform(0.0, 0.7))
        wave = lfilter([1 - tilt], [1, -tilt], noise)
    elif recording.ambience == "rain":
        wave = 0.8 * lfilter([1, -0.7], [1, -0.2], noise)
        drops = (rng.random(n, dtype=np.float32) < 60.0 / sample_rate) * noise
        wave = wave + lfilter([1.0], [1, -1.2, 0.72], drops) * 0.7
    else:
        wave = lfilter([0.02], [1, -0.98], noise) * 6.0 + 0.05 * noise
        wave = wave * (1 + 0.25 * np.sin(2 * np.pi * 0.11 * t + rng.uniform(0, 6.28)))
    wave = np.asarray(wave, np.float32)
    rms = np.sqrt(np.mean(np.square(wave), dtype=np.float64))
    return wave * np.float32(10 ** (recording.ambience_dbfs / 20) / rms)


def _convolved(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """``scipy.signal.fftconvolve`` of two waves, to the byte, without ``scipy.signal``: see :func:`_linear_filter`."""
    from scipy.fft import irfft, next_fast_len, rfft

    n = len(first) + len(second) - 1
    size = next_fast_len(n, True)
    spectra: list[Any] = [rfft(wave, size) for wave in (first, second)]  # their types know backends, too
    made: Any = irfft(spectra[0] * spectra[1], size)
    return made[:n]


@lru_cache(maxsize=1)
def _linear_filter() -> Callable[..., Any]:
    """``scipy.signal.lfilter`` of one wave, to the byte.

    The import of ``scipy.signal`` takes a second, longer than the sound of a whole recording. Its compiled filter is
    loaded alone, where this scipy has it in its known place.
    """
    try:
        if (found := find_spec("scipy.signal")) is None:
            raise ImportError("there is no scipy.signal")
        spec = PathFinder.find_spec("_sigtools", found.submodule_search_locations)
        if spec is None or spec.loader is None:
            raise ImportError("there is no scipy.signal._sigtools")
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        compiled = module._linear_filter
    except (ImportError, AttributeError):
        from scipy.signal import lfilter

        return lfilter
    return lambda b, a, wave: compiled(np.array(b, float), np.array(a, float), wave, -1)


def _offscreen(recording: Recording, serial: int, sample_rate: int) -> np.ndarray:
    """A sound with no visible cause: a call, a whirr or a passing tone that swells and fades."""
    rng = recording.rng("offscreen", serial)
    seconds = float(rng.uniform(0.6, 1.6))
    t = np.arange(int(seconds * sample_rate)) / sample_rate
    envelope = np.sin(np.pi * t / seconds) ** 2
    pitch = rng.uniform(250, 1400) * 2 ** (rng.uniform(-0.4, 0.4) * t / seconds)
    phase = 2 * np.pi * np.cumsum(pitch) / sample_rate
    wave = np.sin(phase) + 0.4 * np.sin(2 * phase + 1) + 0.2 * np.sin(3 * phase)
    wave = wave + rng.uniform(0, 1) * rng.standard_normal(len(t)) * 0.2
    return (wave * envelope * rng.uniform(0.008, 0.04)).astype(np.float32)


def render(recording: Recording, sample_rate: int = 16000) -> dict[str, np.ndarray]:
    """Render the sound of a whole recording.

    Returns:
        the stems ``action``, ``ambient`` and ``offscreen`` and their sum ``mix``, float32 [n] in (-1, 1) each.
    """
    raw = synthesize(recording, sample_rate)
    return mixed(raw, gain_of(raw))


def mixed(raw: dict[str, np.ndarray], gain: float) -> dict[str, np.ndarray]:
    """Return the stems at ``gain`` and ``mix``, their exact float32 sum."""
    stems = {name: raw[name] * np.float32(gain) for name in STEMS}
    stems["mix"] = stems["action"] + stems["ambient"] + stems["offscreen"]
    return stems


def synthesize(recording: Recording, sample_rate: int) -> dict[str, np.ndarray]:
    """Synthesize the stems of a whole recording, before the common gain, float32 [n] each."""
    n = int(round(recording.duration_s * sample_rate))
    action, off = np.zeros(n, np.float32), np.zeros(n, np.float32)
    rings = {thing.index: ring(recording, thing, sample_rate) for thing in recording.things}
    for event in recording.events:
        if not event.sounding:
            continue
        thing = recording.things[event.thing]
        make = _scrape if event.kind == "scrape" else _strike
        wave = make(recording, event, thing, rings[event.thing], sample_rate)
        start = int(round(event.time_s * sample_rate))
        stop = min(n, start + len(wave))
        action[start:stop] += wave[: stop - start]
    for time, serial in recording.offscreen:
        wave = _offscreen(recording, serial, sample_rate)
        start = int(round(time * sample_rate))
        stop = min(n, start + len(wave))
        off[start:stop] += wave[: stop - start]
    return {"action": action, "ambient": ambience(recording, n, sample_rate), "offscreen": off}


def gain_of(stems: dict[str, np.ndarray]) -> float:
    """The gain, at most 1, that keeps the sum of the stems below full scale."""
    peak = float(np.abs(stems["action"] + stems["ambient"] + stems["offscreen"]).max())
    return 1.0 if peak <= _CEILING else _CEILING / peak
