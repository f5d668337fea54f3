"""The player: self-contained, small, honest about levels, safe with any name, and alive in a browser."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import shutil
import subprocess
import time
import wave
from html.parser import HTMLParser
from pathlib import Path

import av
import numpy as np
import pytest

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.widgets import player
from v2a_nb.widgets.player import Player, compare, mel_picture, play, sound_html

HOSTILE = "</script><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\n\u202eright to left\u202c\0 &amp;"
EVENTS = [
    {"time_s": 1.5, "kind": "strike", "material": "metal", "sounding": False},
    {"time_s": 0.5, "kind": "strike", "material": "wood", "sounding": True},
]


def clip_of(seconds: float = 2.0, size: int = 64, fps: float = 25.0, noise: bool = False) -> Clip:
    rng = np.random.default_rng(0)
    frames = np.zeros((round(seconds * fps), size, size, 3), np.uint8)
    if noise:
        frames[:] = rng.integers(0, 256, frames.shape, dtype=np.uint8)
    else:
        for k in range(len(frames)):
            frames[k, :, : 1 + k % size] = (200, 120, 40)
    return Clip(frames, fps=fps, name="a clip")


def tone(seconds: float = 2.0, level: float = 0.5, rate: int = 16000, channels: int = 1) -> Sound:
    t = np.arange(round(seconds * rate)) / rate
    return Sound(np.tile(level * np.sin(2 * np.pi * 440 * t), (channels, 1)), rate)


class Tags(HTMLParser):
    """Every element that the HTML opens, and the text outside of scripts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.inside: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("img", "br", "meta"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if "script" not in self.inside:
            self.words.append(data)

    def all(self, tag: str) -> list[dict]:
        return [attrs for name, attrs in self.tags if name == tag]


def wav_of(uri: str) -> tuple[np.ndarray, int]:
    data = base64.b64decode(uri.removeprefix("data:audio/wav;base64,"))
    with wave.open(io.BytesIO(data)) as file:
        samples = np.frombuffer(file.readframes(file.getnframes()), "<i2").reshape(-1, file.getnchannels())
        return samples.T, file.getframerate()


def test_ladder_from_picture_to_controls_to_script():
    page = play(clip_of(), tone(), events=EVENTS)._repr_html_()
    tags = Tags(page)
    assert not tags.inside, "every element is closed"
    assert tags.tags[0][0] == "figure"
    (video,), (audio,), (image,) = tags.all("video"), tags.all("audio"), tags.all("img")
    assert "controls" in video and "controls" in audio and "autoplay" not in video and "autoplay" not in audio
    # an untrusted notebook keeps src on the element itself only
    assert video["src"].startswith("data:video/mp4;base64,") and audio["src"].startswith("data:audio/wav;base64,")
    assert image["src"].startswith("data:image/jpeg;base64,") and "Picture from a clip" in image["alt"]
    assert page.index("<video") < page.index("<audio") < page.index("<script")
    assert "a clip" in "".join(tags.words)


def test_picture_is_silent_h264_of_at_most_320_pixels_and_the_clips_length():
    page = play(clip_of(1.0, 400), tone(1.0)).html
    data = base64.b64decode(Tags(page).all("video")[0]["src"].split(",", 1)[1])
    with av.open(io.BytesIO(data)) as container:
        assert not container.streams.audio
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and max(stream.width, stream.height) <= 320
        frames = list(container.decode(stream))
    assert len(frames) == 25
    assert float(frames[-1].pts * stream.time_base) == pytest.approx(0.96, abs=1e-3)


def test_nothing_is_fetched_from_anywhere():
    page = compare(clip_of(), {"a": tone(), "b": tone()}, events=EVENTS).html
    assert not re.search(r"https?:|//cdn|\bimport\s*\(|\bimport\s.*\bfrom\b|fetch\(|XMLHttpRequest|<link|@import", page)
    for _, attrs in Tags(page).tags:
        for name in ("src", "href", "poster"):
            assert attrs.get(name, "data:").startswith("data:")


def test_levels_are_kept_to_the_bit_and_tracks_share_one_scale():
    loud, quiet = tone(level=0.5), tone(level=0.005)
    made = compare(clip_of(), {"loud": loud, "quiet": quiet})
    for audio, sound in zip(Tags(made.html).all("audio"), (loud, quiet), strict=True):
        samples, rate = wav_of(audio["src"])
        assert rate == 16000
        assert np.array_equal(samples, np.round(sound.samples * 32767).astype(int))
    one, two = made.payload["tracks"]
    assert made.payload["full"] == 0.5
    peak = [np.abs(np.frombuffer(base64.b64decode(t["envelope"]), np.int8).astype(int)).max() for t in (one, two)]
    assert peak == [127, 1]
    mels = [np.frombuffer(base64.b64decode(t["mel"]), np.uint8).max() / 255 * 90 for t in (one, two)]
    assert mels[0] - mels[1] == pytest.approx(40, abs=1)
    assert one["level"] == "−9 dBFS" and two["level"] == "−49 dBFS"


def test_payload_round_trip():
    made = compare(clip_of(), {"a": tone(), "b": tone(1.0)}, events=EVENTS, title="t")
    text = re.search(r'<script type="application/json">(.*?)</script>', made.html, re.S).group(1)
    payload = json.loads(text)
    assert payload == json.loads(json.dumps(made.payload))
    assert payload["duration"] == 2.0 and payload["fps"] == 25 and payload["fmax"] == 8000
    assert [(e["time"], e["labels"], e["sounding"]) for e in payload["events"]] == [
        (0.5, ["strike wood", "strike"], True),
        (1.5, ["miss", "miss"], False),
    ]
    for track in payload["tracks"]:
        assert len(base64.b64decode(track["mel"])) == track["bands"] * track["columns"]
        assert len(base64.b64decode(track["envelope"])) == 2 * player.BLOCKS
        assert track["origin"] + track["columns"] * track["step"] == pytest.approx(2.0, abs=2 * track["step"])


def test_sounds_are_shown_as_what_they_are():
    flat = np.clip(tone(level=3).samples, -1, 1)
    made = compare(
        clip_of(),
        {
            "nothing": Sound(np.zeros(32000), 16000),
            "empty": Sound(np.zeros((1, 0)), 16000),
            "over": tone(level=1.5),
            "flattened": Sound(flat, 16000),
            "full but fine": tone(level=0.99),
            "short": tone(1.0),
            "long": tone(3.0),
            "absent": None,
        },
    )
    notes = {t["label"]: t["notes"] for t in made.payload["tracks"]}
    assert notes == {
        "nothing": ["silent"],
        "empty": ["silent", "ends at 0.00 s"],
        "over": ["clipped"],
        "flattened": ["clipped"],
        "full but fine": [],
        "short": ["ends at 1.00 s"],
        "long": ["cut at 2.00 of 3.00 s"],
    }
    assert made.payload["notes"] == ["no sound given for absent"]
    words = "".join(Tags(made.html).words)
    assert "nothing: silent" in words and "No sound given for absent" in words
    assert all(wav_of(a["src"])[0].shape == (1, 32000) for a in Tags(made.html).all("audio"))


def test_hostile_names_are_text():
    events = [{"time_s": 1, "kind": HOSTILE, "material": HOSTILE, "sounding": True}]
    made = compare(clip_of(), {HOSTILE: tone(), "\ud800 lone": tone()}, events=events, title=HOSTILE)
    tags = Tags(made.html)
    assert not tags.inside and len(tags.all("script")) == 2 and len(tags.all("img")) == 1
    assert not any(name.startswith("on") for _, attrs in tags.tags for name in attrs)
    assert HOSTILE.replace("\0", "\ufffd") in "".join(tags.words)
    payload = json.loads(re.search(r'<script type="application/json">(.*?)</script>', made.html, re.S).group(1))
    assert payload["title"] == HOSTILE.replace("\0", "\ufffd")
    made.html.encode("utf-8")
    assert ".innerHTML" not in player._script() and "insertAdjacentHTML" not in player._script()


def test_ten_seconds_with_three_tracks_stay_under_two_megabytes_whatever_they_hold():
    rng = np.random.default_rng(0)
    tracks = {f"track {k}": Sound(rng.normal(0, 0.1, (2, 441000)), 44100) for k in range(3)}
    made = compare(clip_of(10.0, 96, noise=True), tracks)
    assert len(made.html) <= 2_000_000
    assert made.payload["notes"] == ["played in 16 kHz mono to keep this output small"]
    small = compare(clip_of(2.0), {"stereo": tone(rate=44100, channels=2)})
    samples, rate = wav_of(Tags(small.html).all("audio")[0]["src"])
    assert rate == 44100 and len(samples) == 2 and small.payload["notes"] == []


def test_far_too_much_is_refused_with_advice():
    with pytest.raises(UsageError, match=r"clip\.slice"):
        play(clip_of(200, 16, fps=2), tone(200)).html  # noqa: B018 - made when asked for


def test_a_clip_without_sound_and_one_of_a_single_frame():
    made = play(clip_of(), events=[0.25, 1.0])
    assert made.payload["tracks"] == [] and [e["time"] for e in made.payload["events"]] == [0.25, 1.0]
    assert "No sound." in made.html and not Tags(made.html).all("audio")
    assert repr(made) == "Player(2.00 s, 64x64, no sound)"
    assert "data:video/mp4" in play(Clip(np.zeros((1, 33, 47, 3), np.uint8)), tone(0.04)).html
    with_own = clip_of().with_sound(tone())
    assert list(play(with_own).tracks) == ["sound"] and "figure" in with_own._repr_html_()


def test_wrong_things_are_refused_by_name():
    with pytest.raises(UsageError, match="'a' is a ndarray"):
        compare(clip_of(), {"a": np.zeros(100)})
    with pytest.raises(UsageError, match="needs a Clip, not a str"):
        Player("video.mp4", {})
    for bad in ({"kind": "strike"}, {"time_s": "soon"}, {"time_s": float("nan")}):
        with pytest.raises(UsageError, match="event"):
            play(clip_of(), tone(), events=[bad])


def test_same_content_same_output_and_text_for_terminals():
    a, b = (compare(clip_of(), {"V-AURA": tone(), "true": tone()}) for _ in range(2))
    # the picture's bytes are the encoder's business; nothing else may differ
    same = [re.sub(r'src="data:video/mp4;base64,[^"]*"', "", made.html) for made in (a, b)]
    assert same[0] == same[1] and a.payload == b.payload
    assert compare(clip_of(), {"V-AURA": tone(level=0.4), "true": tone()}).html[:30] != a.html[:30]
    assert repr(a) == "Player(2.00 s, 64x64, V-AURA, true)"


def test_save_is_a_page_whole_or_not_at_all(tmp_path, monkeypatch):
    made = play(clip_of(), tone(), title="<title>")
    path = made.save(tmp_path / "new" / "clip.html")
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and "<title>&lt;title&gt;</title>" in page and made.html in page

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(player.os, "replace", fail)
    with pytest.raises(MediaError, match=r"clip\.html: the page cannot be written: disk full"):
        made.save(path)
    assert path.read_text(encoding="utf-8") == page and [p.name for p in path.parent.iterdir()] == ["clip.html"]


def test_no_widget_state_in_a_notebook():
    from IPython.core.formatters import DisplayFormatter

    made = play(clip_of(), tone())
    data, _ = DisplayFormatter().format(made)
    assert set(data) == {"text/plain", "text/html"}


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_mel_picture_puts_a_tone_and_a_click_where_they_are(rate):
    t = np.arange(2 * rate) / rate
    picture, _, _ = mel_picture(np.sin(2 * np.pi * 1000 * t), rate, rate / 2)
    centres = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), 66)[1:-1]
    band = picture[:, picture.shape[1] // 2].argmax()
    assert abs(centres[band] - 1000) <= np.diff(centres)[0]  # 1000 Hz is 1000 mel
    assert picture[band].max() / 255 * 90 - 90 == pytest.approx(0, abs=3)  # full scale is 0 dB
    click = np.zeros(30 * rate)
    click[12 * rate] = 1.0
    picture, origin, step = mel_picture(click, rate, rate / 2)
    assert picture.shape[1] <= player.COLUMNS
    column = picture.sum(axis=0).argmax()
    assert origin + column * step - 0.04 <= 12.0 <= origin + (column + 1) * step + 0.04


def test_sound_alone_keeps_its_level():
    page = sound_html(tone(level=0.01))
    assert np.abs(wav_of(Tags(page).all("audio")[0]["src"])[0]).max() == round(0.01 * 32767)
    assert "silent" in sound_html(Sound(np.zeros(100), 16000))


def test_pure_functions_of_the_script():
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    if int(subprocess.run([node, "--version"], capture_output=True, text=True).stdout[1:].split(".")[0]) < 20:
        pytest.skip("node --test needs version 20")
    script = Path(__file__).parent / "js" / "player.test.mjs"
    done = subprocess.run([node, "--test", str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


# --- in a real browser --------------------------------------------------------------------------

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--autoplay-policy=no-user-gesture-required",
    "--window-size=1040,700",
    "about:blank",
]

SCRIPT = """(async () => {
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms)), out = {};
  const player = (k) => document.querySelectorAll("[data-lm-suppress-shortcuts]")[k].shadowRoot;
  const root = player(0), find = (s) => root.querySelector(s);
  const audio = [...root.querySelectorAll("audio")], video = find("video"), slider = find("[role=slider]");
  const key = (key, more) => slider.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, composed: true, cancelable: true, ...more }));
  const until = async (what) => { for (let k = 0; k < 100 && !what(); k++) await sleep(50); };
  out.players = document.querySelectorAll("[data-lm-suppress-shortcuts]").length;
  out.quiet = audio.every((a) => a.paused) && video.paused;
  await until(() => audio.every((a) => a.readyState === 4));
  const canvas = find("canvas"), box = canvas.getBoundingClientRect();
  try { canvas.dispatchEvent(new PointerEvent("pointerdown",
    { clientX: box.left + 50 + (box.width - 62) / 2, clientY: box.top + 60, pointerId: 1 })); } catch { }
  out.half = Number(slider.getAttribute("aria-valuenow"));
  out.said = slider.getAttribute("aria-valuetext");
  const pixels = canvas.getContext("2d").getImageData(0, 0, canvas.width, 40).data;
  out.drawn = new Set(pixels).size;
  key("Home"); out.home = audio[0].currentTime;
  key("ArrowRight"); key("ArrowRight", { shiftKey: true }); out.arrows = audio[0].currentTime;
  key("2"); out.other = [audio[0].currentTime, audio[1].currentTime];
  out.pressed = [...root.querySelectorAll(".track")].map((b) => b.getAttribute("aria-pressed"));
  key("M"); out.muted = audio.every((a) => a.muted);
  key("m"); out.heard = audio.every((a) => !a.muted);
  key("Home"); key(" "); await until(() => audio[1].currentTime > 0.3);
  const before = audio[1].currentTime; key("1");
  out.step = audio[0].currentTime - before;
  out.running = [audio[0].paused, audio[1].paused];
  await until(() => audio[0].currentTime > 0.6);
  player(1).querySelector(".play").click(); await sleep(100);
  out.one = audio[0].paused;
  player(1).querySelector(".play").click();
  await until(() => !video.seeking && Math.abs(audio[0].currentTime - video.currentTime) < 0.02);
  out.apart = audio[0].currentTime - video.currentTime;
  key("End"); out.end = audio[0].currentTime;
  out.plain = [...document.querySelectorAll(".v2a-plain")].every((e) => e.hidden);
  return out;
})()"""


async def _browse(chromium: str, page: Path, profile: Path) -> tuple[dict, list]:
    """Open a page, run the script in it; its answer, and whatever went wrong on the page."""
    from tornado.websocket import websocket_connect

    browser = subprocess.Popen(
        [chromium, f"--user-data-dir={profile}", *FLAGS], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        port_file, deadline = profile / "DevToolsActivePort", time.monotonic() + 40
        while not (port_file.exists() and len(port_file.read_text().split()) == 2):
            if time.monotonic() > deadline or browser.poll() is not None:
                pytest.skip("chromium does not start here")
            await asyncio.sleep(0.1)
        port, path = port_file.read_text().split()
        socket = await websocket_connect(f"ws://127.0.0.1:{port}{path}", max_message_size=2**26)
        problems, number = [], 0

        async def call(method: str, session: str | None = None, **params) -> dict:
            nonlocal number
            number += 1
            message = {"id": number, "method": method, "params": params}
            await socket.write_message(json.dumps(message | ({"sessionId": session} if session else {})))
            while True:
                answer = json.loads(await asyncio.wait_for(socket.read_message(), 60))
                if answer.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                    problems.append(answer["params"])
                if answer.get("id") == number:
                    assert "error" not in answer, answer
                    return answer["result"]

        target = (await call("Target.createTarget", url="about:blank"))["targetId"]
        session = (await call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        for domain in ("Runtime", "Log", "Page"):
            await call(f"{domain}.enable", session)
        await call("Page.navigate", session, url=page.as_uri())
        for _ in range(100):
            state = await call("Runtime.evaluate", session, expression="document.readyState + location.protocol")
            if state["result"]["value"] == "completefile:":
                break
            await asyncio.sleep(0.1)
        made = await call("Runtime.evaluate", session, expression=SCRIPT, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in made, made
        return made["result"]["value"], problems
    finally:
        browser.kill()
        browser.wait()


def test_in_chromium_shown_twice_played_sought_and_switched_by_keys(tmp_path):
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("chromium is not installed")
    pytest.importorskip("tornado", reason="speaks to the browser")
    made = compare(clip_of(2.0), {"a": tone(), HOSTILE: tone(level=0.1)}, events=EVENTS, title=HOSTILE)
    page = tmp_path / "page.html"
    page.write_text(f'<!doctype html><meta charset="utf-8">{made.html}{made.html}', encoding="utf-8")
    out, problems = asyncio.run(_browse(chromium, page, tmp_path / "profile"))
    assert problems == []
    assert out["players"] == 2 and out["quiet"], "two players, neither starts by itself"
    assert out["half"] == pytest.approx(1.0, abs=0.01) and out["said"] == "1.00 of 2.00 seconds"
    assert out["drawn"] > 3
    assert out["home"] == 0 and out["arrows"] == pytest.approx(1.1, abs=1e-3)
    assert out["other"] == pytest.approx([1.1, 1.1], abs=1e-3) and out["pressed"] == ["false", "true"]
    assert out["muted"] and out["heard"]
    assert abs(out["step"]) < 0.03 and out["running"] == [False, True], "a switch keeps the position, one sounds"
    assert out["one"], "one player sounds at a time"
    assert abs(out["apart"]) < 0.03 and out["end"] == 2 and out["plain"]
