"""The player: a clip, its soundtracks and its events under one playhead, as self-contained HTML.

Where scripts run (JupyterLab, Colab, a saved page) the full player is shown; where they do not (an untrusted
notebook), the same HTML is the browser's own video and audio controls; where those are taken out as well, a
picture. It needs no kernel, no network and no widget state. Levels are never touched: amplitude and colour
have one fixed scale for all tracks, so a quiet track sounds and looks quiet.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import math
import os
import tempfile
import wave
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError

TARGET_BYTES = 2_000_000
"""What the HTML is fitted to: sample rate, channels and picture quality give way, in this order."""
LIMIT_BYTES = 8_000_000
"""Above this a player is refused: it would make a notebook too slow to open."""
SIDE = 320  # pixels of the picture's longer side, at most
BANDS, COLUMNS, BLOCKS = 64, 512, 800  # mel bands, most spectrogram columns, envelope blocks
RANGE_DB = (-90, 0)  # of the spectrogram's colours; 0 is a full-scale sine
SCALES = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # what the amplitude axis may reach; one for all tracks
RATES = (48000, 32000, 24000, 16000)  # Hz, tried in this order
QUALITIES = ((30, 26), (30, 31), (15, 31), (15, 36), (10, 41))  # (frames per second, H.264 crf), likewise


class Player:
    """What :func:`play` and :func:`compare` return: shows itself in a notebook, saves itself as a page.

    Attributes:
        clip, tracks, events, title: as given; tracks by label, in the order of the keys 1 to 9.

    Raises:
        UsageError: a track that is no :class:`Sound`, an event without a time.
    """

    def __init__(
        self,
        clip: Clip,
        tracks: Mapping[str, Sound | None],
        events: Sequence[dict | float] | None = None,
        title: str = "",
    ) -> None:
        if not isinstance(clip, Clip):
            raise UsageError(f"the player needs a Clip, not a {type(clip).__name__}; read a file with v2a.open(path)")
        for label, sound in tracks.items():
            if sound is not None and not isinstance(sound, Sound):
                raise UsageError(f"track {label!r} is a {type(sound).__name__}, not a Sound")
        self.clip = clip
        self.tracks = {_text(k): v for k, v in tracks.items() if v is not None}
        self.absent = [_text(k) for k, v in tracks.items() if v is None]
        self.events = [_event(e) for e in (() if events is None else events)]
        self.title = _text(title or clip.name)

    def __repr__(self) -> str:
        names = ", ".join(self.tracks) or "no sound"
        return f"Player({self.clip.duration:.2f} s, {self.clip.width}x{self.clip.height}, {names})"

    @cached_property
    def payload(self) -> dict:
        """What the script reads, JSON: seconds and hertz; per track int8 envelope and uint8 mel, base64."""
        peak = max((s.peak for s in self.tracks.values()), default=1.0)
        full = next((scale for scale in SCALES if scale >= peak), 1.0)
        top = min(max((s.sample_rate for s in self.tracks.values()), default=16000) / 2, 16000)
        _, _, reduced = _fit_sound(self.clip, self.tracks)
        notes = [f"no sound given for {name}" for name in self.absent] + ([reduced] if reduced else [])
        return {
            "version": 1,
            "title": self.title,
            "duration": self.clip.duration,
            "fps": min(self.clip.fps, 240.0),
            "width": self.clip.width,
            "height": self.clip.height,
            "full": full,
            "fmax": top,
            "range": list(RANGE_DB),
            "events": [e for e in sorted(self.events, key=lambda e: e["time"]) if 0 <= e["time"] <= self.clip.duration],
            "notes": notes,
            "tracks": [_track(label, sound, self.clip.duration, full, top) for label, sound in self.tracks.items()],
        }

    @cached_property
    def html(self) -> str:
        """The whole output: plain controls first, then the script that replaces them."""
        # "<" would end the script element early, whatever a name says
        payload = json.dumps(self.payload, allow_nan=False).replace("<", "\\u003c")
        channels, rate, _ = _fit_sound(self.clip, self.tracks)
        sounds = []
        for track, sound in zip(self.payload["tracks"], self.tracks.values(), strict=True):
            name, state = _escape(track["label"]), ", ".join(filter(None, [track["level"], *track["notes"]]))
            data = _uri("audio/wav", _wav(sound.fit(self.clip.duration), channels, rate))
            sounds.append(
                f'<p class="v2a-plain" style="margin:6px 0"><bdi>{name}</bdi>: {state}<br>'
                f'<audio controls preload="auto" aria-label="{name}: {state}" src="{data}"></audio></p>'
            )
        poster = _poster(self.clip)
        names = ", ".join(self.tracks) or "none"
        alt = _escape(f"Picture from {self.title}, {self.clip.duration:.2f} seconds long. Soundtracks: {names}.")
        rest = len(payload) + sum(map(len, sounds)) + 2 * len(poster) + len(_script()) + 4000
        film = _uri("video/mp4", _video(self.clip, TARGET_BYTES - rest))
        # from the content, not from chance; shown twice, each output still mounts what is not mounted yet
        token = "v2a-" + hashlib.sha256((payload + poster).encode()).hexdigest()[:12]
        absent = "".join(f"<br>No sound given for <bdi>{_escape(name)}</bdi>." for name in self.absent)
        plain = "Scripts are off here: picture and sound start separately." if sounds else "No sound."
        made = (
            f'<figure class="{token}" style="margin:8px 0;max-width:1000px;font-family:system-ui,sans-serif">'
            f'<figcaption dir="auto" style="font-weight:600;margin:0 0 8px;text-align:start">'
            f"{_escape(self.title)}</figcaption>"
            f'<video controls muted playsinline preload="auto" width="{SIDE}" style="max-width:100%;max-height:320px" '
            f'aria-label="{alt}" title="{alt}" poster="{poster}" src="{film}">'
            f'<img alt="{alt}" src="{poster}" style="max-width:100%"></video>'
            f'{"".join(sounds)}<p class="v2a-plain" style="margin:6px 0"><small>{plain}{absent}</small></p>'
            f'<script type="application/json">{payload}</script>'
            f"<script>(() => {{\n{_script()}\n"
            f'for (const root of document.querySelectorAll("figure.{token}:not([data-mounted])"))'
            " mount(root, JSON.parse(root.querySelector(\"script[type='application/json']\").textContent));\n"
            "})();</script></figure>"
        )
        if len(made) > LIMIT_BYTES:
            raise UsageError(
                f"{self.title}: this player would have {len(made) / 1e6:.1f} MB, over {LIMIT_BYTES / 1e6:.0f}; "
                "show a part with clip.slice(start, end) or fewer tracks"
            )
        return made

    def _repr_html_(self) -> str:
        return self.html

    def save(self, path: str | Path) -> Path:
        """Write a page that opens in any browser, whole or not at all.

        Raises:
            MediaError: the page cannot be written there.
        """
        path = Path(path)
        page = (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark">'
            f"<title>{_escape(self.title)}</title></head>"
            f'<body style="max-width:1000px;margin:24px auto;padding:0 16px">{self.html}</body></html>\n'
        )
        partial = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.write_text(page, encoding="utf-8")
            os.replace(partial, path)
        except OSError as error:
            raise MediaError(f"{path}: the page cannot be written: {error}") from error
        finally:
            partial.unlink(missing_ok=True)
        return path


def play(
    clip: Clip, sound: Sound | None = None, *, events: Sequence[dict | float] | None = None, title: str = ""
) -> Player:
    """A player of one clip with one soundtrack (left out, the clip's own).

    Args:
        events: as in ``truth.json`` (``time_s``, ``kind``, ``material``, ``sounding``), or times in seconds.
        title: shown above; any text, never read as HTML. Left out, the clip's name.
    """
    sound = clip.sound if sound is None and isinstance(clip, Clip) else sound
    return Player(clip, {} if sound is None else {"sound": sound}, events, title)


def compare(
    clip: Clip,
    tracks: Mapping[str, Sound | None],
    *,
    events: Sequence[dict | float] | None = None,
    title: str = "",
) -> Player:
    """A player of one clip with several soundtracks that switch in place.

    Args:
        tracks: label to sound. No level is touched. A ``None`` (the sound of a silent clip) is named as absent.
        events, title: as in :func:`play`.
    """
    return Player(clip, tracks, events, title)


def sound_html(sound: Sound) -> str:
    """A sound alone, with the browser's controls; unlike IPython's, not scaled to full level."""
    words = _escape(", ".join([repr(sound), *_notes(sound, sound.duration)]))
    data = _uri("audio/wav", _wav(sound, min(2, sound.channels), sound.sample_rate))
    return (
        f'<figure style="margin:0"><audio controls aria-label="{words}" src="{data}"></audio>'
        f"<figcaption>{words}</figcaption></figure>"
    )


# --- text ---------------------------------------------------------------------------------------


def _text(value: object) -> str:
    """Any value as text that UTF-8 can hold."""
    return str(value).encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


@lru_cache(maxsize=1)
def _script() -> str:
    """The module as a plain script: outputs of notebooks cannot import from each other."""
    source = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
    return source.replace("\nexport ", "\n").strip()


def _event(event: dict | float) -> dict:
    """An event of ``truth.json``, or a time, as the script reads it."""
    given = event if isinstance(event, Mapping) else {"time_s": event}
    try:
        time = float(given["time_s"])
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"an event needs its time_s in seconds, not {event!r}") from error
    if not math.isfinite(time):
        raise UsageError(f"an event at {time} s cannot be drawn")
    sounding, material = bool(given.get("sounding", True)), _text(given.get("material", ""))
    words = [_text(given.get("kind", "")), material] if sounding else ["miss"]
    labels = [text[:24] for text in (" ".join(words).strip(), words[0]) if text]  # the second where room is short
    return {"time": time, "labels": labels, "material": material, "sounding": sounding}


def _clipped(sound: Sound) -> bool:
    """Beyond full scale anywhere, or flat at full scale for three samples: the ceiling was hit."""
    loud = np.abs(sound.samples) >= 0.999
    return sound.peak > 1.0001 or bool((loud[:, 2:] & loud[:, 1:-1] & loud[:, :-2]).any())


def _notes(sound: Sound, duration: float) -> list[str]:
    """What a listener must know about a track, in words."""
    notes = []
    if sound.peak < 0.5 / 32767:  # all zeros in 16 bits
        notes.append("silent")
    elif _clipped(sound):
        notes.append("clipped")
    if sound.duration < duration - 0.01:
        notes.append(f"ends at {sound.duration:.2f} s")
    elif sound.duration > duration + 0.01:
        notes.append(f"cut at {duration:.2f} of {sound.duration:.2f} s")
    return notes


# --- sound and picture, small enough to live in a notebook ---------------------------------------


def _fit_sound(clip: Clip, tracks: Mapping[str, Sound]) -> tuple[int, int, str]:
    """Channels and highest rate that leave room for the picture, and a remark where something gave way."""
    room = TARGET_BYTES - 350_000 - 70_000 * len(tracks)
    wanted = (max((min(s.channels, 2) for s in tracks.values()), default=1), RATES[0])
    choice = (1, RATES[-1])
    for rate in RATES:
        fits = [c for c in {wanted[0]: 0, 1: 0} if _sound_bytes(clip, tracks, c, rate) <= room]
        if fits:
            choice = (fits[0], rate)
            break
    lost = [f"{choice[1] / 1000:g} kHz"] if any(s.sample_rate > choice[1] for s in tracks.values()) else []
    lost += ["mono"] if any(s.channels > choice[0] for s in tracks.values()) else []
    return *choice, f"played in {' '.join(lost)} to keep this output small" if lost else ""


def _sound_bytes(clip: Clip, tracks: Mapping[str, Sound], channels: int, rate: int) -> float:
    one = [min(s.channels, channels) * min(s.sample_rate, rate) for s in tracks.values()]
    return sum(one) * clip.duration * 2 * 4 / 3  # 16 bits, base64


def _wav(sound: Sound, channels: int, rate: int) -> bytes:
    """16-bit PCM at the sound's own level: a fixed gain of one, cut at full scale."""
    if sound.channels > channels:
        sound = sound.mono() if channels == 1 else sound.stereo()
    sound = sound.resample(min(rate, sound.sample_rate))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(sound.channels)
        file.setsampwidth(2)
        file.setframerate(sound.sample_rate)
        file.writeframes(np.clip(np.round(sound.samples.T * 32767), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _small(clip: Clip) -> Clip:
    scale = min(1.0, SIDE / max(clip.height, clip.width))
    height, width = (max(2, round(v * scale) // 2 * 2) for v in (clip.height, clip.width))
    return clip.resize(height, width)


def _video(clip: Clip, room: float) -> bytes:
    """Silent H.264 in the best quality whose base64 fits ``room`` bytes, else in the smallest."""
    small, made = _small(clip.silent()), b""
    with tempfile.TemporaryDirectory() as folder:
        for fps, crf in QUALITIES:
            timed = small if small.fps <= fps * 1.02 else small.at_fps(fps)
            made = media.save_mp4(Path(folder) / "picture.mp4", timed, crf=crf).read_bytes()
            if len(made) * 4 / 3 <= room:
                break
    return made


def _poster(clip: Clip) -> str:
    """The picture in the middle: what is left where nothing can be played."""
    from PIL import Image

    middle = int(np.clip(np.searchsorted(clip.times, clip.duration / 2, side="right") - 1, 0, clip.n - 1))
    frame = _small(Clip(clip.frames[middle : middle + 1])).frames[0]
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "JPEG", quality=75)
    return _uri("image/jpeg", buffer.getvalue())


def _track(label: str, sound: Sound, duration: float, full: float, top: float) -> dict:
    """One track's numbers: envelope int8 [blocks, 2] (127 is ``full``), mel uint8 [bands, columns]."""
    mono = sound.mono().fit(duration)
    wave_form = mono.samples[0] if mono.n else np.zeros(1, np.float32)
    starts = np.linspace(0, len(wave_form), min(BLOCKS, len(wave_form)), endpoint=False).astype(int)
    pair = np.stack([np.minimum.reduceat(wave_form, starts), np.maximum.reduceat(wave_form, starts)], axis=1)
    mel, origin, step = mel_picture(wave_form, mono.sample_rate, top)
    shape = np.clip(np.round(pair / full * 127), -127, 127).astype(np.int8)
    notes = _notes(sound, duration)
    return {
        "label": label,
        "level": "" if "silent" in notes else f"{sound.rms_dbfs:.0f} dBFS".replace("-", "\u2212"),
        "notes": notes,
        "clipped": "clipped" in notes,
        "envelope": base64.b64encode(shape.tobytes()).decode(),
        "mel": base64.b64encode(mel.tobytes()).decode(),
        "bands": mel.shape[0],
        "columns": mel.shape[1],
        "origin": origin,
        "step": step,
    }


def mel_picture(wave_form: np.ndarray, sample_rate: int, top: float) -> tuple[np.ndarray, float, float]:
    """A mel spectrogram small enough to draw, on an absolute scale.

    Args:
        wave_form: float [n], full scale -1 to 1.
        top: Hz of the upper edge of the highest band (mel = 2595 log10(1 + f / 700)).

    Returns:
        uint8 [64, columns], 0 at -90 dB and 255 at 0 dB, where 0 dB is a full-scale sine; the left edge of
        the first column and the width of a column, seconds. Where columns had to be merged, the loudest wins,
        so that a click is never lost.
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
