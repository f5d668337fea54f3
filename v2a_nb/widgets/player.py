"""The player: a clip, its soundtracks and its events under one playhead, as self-contained HTML.

Where scripts run (JupyterLab, Colab, a saved page) the full player is shown; where they do not, the same
HTML degrades to the browser's own video and audio controls, and where not even those are allowed, to a
picture. It needs no kernel and no network.
"""

from __future__ import annotations

import base64
import html
import io
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError

LIMIT_BYTES = 8_000_000
"""Over this a player is refused; under 2 MB is usual for 10 s with three tracks."""

STYLE = """
.v2a{font:14px system-ui,sans-serif;max-width:720px;color:CanvasText;background:Canvas;color-scheme:light dark;
 padding:10px;border:1px solid color-mix(in srgb,CanvasText 25%,transparent);border-radius:8px}
.v2a video,.v2a .poster{display:block;max-width:100%;max-height:320px;border-radius:4px;margin:0 auto;background:#000}
.v2a figcaption{margin:.2em 0 .6em;font-weight:600}
.v2a canvas{display:block;width:100%;height:200px;margin-top:8px;touch-action:none;cursor:pointer}
.v2a .bar{display:flex;flex-wrap:wrap;gap:6px;align-items:center;margin-top:8px}
.v2a button{font:inherit;padding:4px 12px;border-radius:6px;border:1px solid color-mix(in srgb,CanvasText 40%,transparent);
 background:Canvas;color:CanvasText;cursor:pointer}
.v2a button[aria-checked=true]{background:#2f5fd0;color:#fff;border-color:#2f5fd0}
.v2a button:focus-visible,.v2a [role=slider]:focus-visible{outline:3px solid #e0245e;outline-offset:2px}
.v2a .readout{font-variant-numeric:tabular-nums;min-width:9.5em}
.v2a .keys{font-size:.8em;opacity:.7;margin-top:4px}
"""


class Player:
    """What :func:`play` and :func:`compare` return: shows itself in a notebook, saves itself as a page."""

    def __init__(
        self, clip: Clip, tracks: Mapping[str, Sound], events: Sequence[dict] = (), title: str = ""
    ) -> None:
        self.clip, self.tracks = clip, dict(tracks)
        self.events, self.title = list(events), title or clip.name
        for label, sound in self.tracks.items():
            if not isinstance(sound, Sound):
                raise UsageError(f"track {label!r} is a {type(sound).__name__}, not a Sound")

    def __repr__(self) -> str:
        names = ", ".join(self.tracks) or "no sound"
        return f"Player({self.clip.duration:.2f} s, {self.clip.width}x{self.clip.height}, {names})"

    @property
    def payload(self) -> dict:
        """What the script reads: duration, events, and per track an envelope and a spectrogram."""
        return {
            "duration": self.clip.duration,
            "fps": self.clip.fps,
            "events": [
                {k: e[k] for k in ("time_s", "material", "sounding") if k in e} for e in self.events
            ],
            "tracks": [_track(label, sound) for label, sound in self.tracks.items()],
        }

    def _repr_html_(self) -> str:
        poster = _poster(self.clip)
        # "<" would end the script element early, whatever the caption says
        payload = json.dumps(self.payload).replace("<", "\\u003c")
        alt = html.escape(
            f"Frame of {self.title}, {self.clip.duration:.1f} seconds; tracks: {', '.join(self.tracks) or 'none'}",
            quote=True,
        )
        audios, buttons = [], []
        for k, (label, sound) in enumerate(self.tracks.items()):
            text = html.escape(label + _state(sound), quote=True)
            uri = _uri("audio/wav", _wav(sound.fit(self.clip.duration)))
            audios.append(
                f'<div class="fallback">{text}<br><audio controls preload="auto" src="{uri}"></audio></div>'
            )
            buttons.append(
                f'<button type="button" class="track" role="radio" aria-checked="{str(k == 0).lower()}">{text}</button>'
            )
        video = _uri("video/mp4", _video(self.clip))
        duration = f"{self.clip.duration:.2f}"
        body = f"""<figure class="v2a" tabindex="0" aria-label="player: {html.escape(self.title, quote=True)}" \
style="margin:0"><style>{STYLE}</style><figcaption dir="auto">{html.escape(self.title)}</figcaption>
<video controls muted playsinline preload="auto" poster="{poster}" src="{video}" aria-label="{alt}">\
<img class="poster" alt="{alt}" src="{poster}"></video>
{"".join(audios)}
<div class="panel" hidden><div role="slider" tabindex="0" aria-label="position" aria-valuemin="0" \
aria-valuemax="{duration}" aria-valuenow="0"><canvas></canvas></div>
<div class="bar"><button type="button" class="play" aria-pressed="false">Play</button>
<span class="readout">0:00.00</span><span role="radiogroup" aria-label="soundtrack" class="bar" style="margin:0">\
{"".join(buttons)}</span></div>
<div class="keys">space: play · arrows: 0.1 s · comma, full stop: one frame · 1–9: soundtrack · m: mute</div>
<div role="status" aria-live="polite" style="position:absolute;width:1px;height:1px;overflow:hidden"></div></div>
<script type="application/json">{payload}</script>
<script type="module">{_script()}
for (const root of document.querySelectorAll("figure.v2a:not([data-mounted])")) mount(root);
</script></figure>"""
        if len(body) > LIMIT_BYTES:
            raise UsageError(
                f"this player would have {len(body) / 1e6:.1f} MB; show a shorter part with clip.slice(start, end)"
            )
        return body

    def save(self, path: str | Path) -> Path:
        """Write a page that opens in any browser, whole or not at all."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        page = (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark">'
            f"<title>{html.escape(self.title)}</title></head><body>{self._repr_html_()}</body></html>"
        )
        partial = path.with_name(f".{path.name}.part")
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, path)
        return path


def play(clip: Clip, sound: Sound | None = None, *, events: Sequence[dict] | None = None, title: str = "") -> Player:
    """A player of one clip with one soundtrack (left out, the clip's own).

    Args:
        events: as in ``truth.json``; drawn as ticks.
        title: shown above; any text, it is never read as HTML.
    """
    sound = clip.sound if sound is None else sound
    return Player(clip, {} if sound is None else {"sound": sound}, events or (), title)


def compare(
    clip: Clip, tracks: Mapping[str, Sound], *, events: Sequence[dict] | None = None, title: str = ""
) -> Player:
    """A player of one clip with several soundtracks that switch in place.

    No track's level is touched: a quieter one sounds quieter.
    """
    return Player(clip, {k: v for k, v in tracks.items() if v is not None}, events or (), title)


def sound_html(sound: Sound) -> str:
    """A sound alone, with the browser's controls; unlike IPython's, not scaled to full level."""
    text = html.escape(repr(sound))
    return f'<figure style="margin:0"><audio controls src="{_uri("audio/wav", _wav(sound))}"></audio>\
<figcaption>{text}</figcaption></figure>'


@lru_cache(maxsize=1)
def _script() -> str:
    source = (Path(__file__).parent / "player.js").read_text(encoding="utf-8")
    return source.replace("export function", "function")


def _uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _state(sound: Sound) -> str:
    """What a listener must know about a track."""
    if sound.peak < 1e-5:
        return " (silent)"
    clipped = float(np.mean(np.abs(sound.samples) >= 0.999))
    return " (clipped)" if clipped > 1e-4 else ""


def _wav(sound: Sound) -> bytes:
    """16-bit mono at 24 kHz or less, at its own level."""
    import wave

    sound = sound.mono()
    if sound.sample_rate > 24000:
        sound = sound.resample(24000)
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sound.sample_rate)
        file.writeframes(np.clip(np.round(sound.samples[0] * 32767), -32768, 32767).astype("<i2").tobytes())
    return buffer.getvalue()


def _small(clip: Clip, short: int) -> Clip:
    scale = min(1.0, short / max(clip.height, clip.width))
    height, width = (max(2, int(v * scale) // 2 * 2) for v in (clip.height, clip.width))
    return clip.resize(height, width)


def _video(clip: Clip) -> bytes:
    """Silent H.264, at most 320 pixels and 30 frames a second."""
    small = _small(clip if clip.fps <= 30.5 else clip.at_fps(30), 320)
    with tempfile.TemporaryDirectory() as folder:
        path = media.save_mp4(Path(folder) / "player.mp4", small.silent(), crf=26)
        return path.read_bytes()


def _poster(clip: Clip) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    frame = _small(clip.slice(clip.duration / 2, None), 320).frames[0]
    Image.fromarray(frame).save(buffer, "JPEG", quality=80)
    return _uri("image/jpeg", buffer.getvalue())


def _track(label: str, sound: Sound) -> dict:
    """Envelope (minimum and maximum, -127 to 127) and mel spectrogram (0 to 255, -80 to 0 dB)."""
    import librosa

    wave = sound.mono().samples[0]
    blocks = min(400, max(1, len(wave)))
    edges = np.linspace(0, len(wave), blocks + 1).astype(int)
    pairs = [(wave[a:b].min(initial=0), wave[a:b].max(initial=0)) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    envelope = np.clip(np.round(np.array(pairs).ravel() * 127), -127, 127).astype(int).tolist()
    hop = max(64, len(wave) // 500)
    mel = librosa.feature.melspectrogram(
        y=np.pad(wave, (0, max(0, 512 - len(wave)))), sr=sound.sample_rate, n_fft=512, hop_length=hop, n_mels=64
    )
    level = 10 * np.log10(np.maximum(mel / 512**2 * 16, 1e-10))
    picture = np.clip((level + 90) / 90 * 255, 0, 255).astype(np.uint8)
    centres = librosa.mel_frequencies(n_mels=64, fmax=sound.sample_rate / 2)
    ticks = [
        [f"{hz} Hz" if hz < 1000 else f"{hz // 1000} kHz", float(np.interp(hz, centres, np.linspace(0, 1, 64)))]
        for hz in (250, 1000, 4000)
        if hz < sound.sample_rate / 2
    ]
    return {
        "label": label,
        "envelope": envelope,
        "spectrogram": base64.b64encode(picture.tobytes()).decode(),
        "shape": list(picture.shape),
        "ticks": ticks,
    }
