"""The player: self-contained, safe with any name, whole or not at all. Its numbers: test_player_payload.py."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import wave

import av
import numpy as np
import pytest
from node_parts import check_script
from page_parts import Tags, wav_of
from player_parts import EVENTS, HOSTILE, clip_of, tone

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.widgets import payload, player
from v2a_nb.widgets.player import compare, play, sound_html


def test_ladder_from_picture_to_controls_to_script():
    page = play(clip_of(), tone(), events=EVENTS)._repr_html_()
    tags = Tags(page)
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


def test_hostile_names_are_text():
    events = [{"time_s": 1, "kind": HOSTILE, "material": HOSTILE, "sounding": True}]
    made = compare(clip_of(), {HOSTILE: tone(), "\ud800 lone": tone()}, events=events, title=HOSTILE)
    tags = Tags(made.html)
    assert len(tags.all("script")) == 2 and len(tags.all("img")) == 1
    assert not any(name.startswith("on") for _, attrs in tags.tags for name in attrs)
    assert HOSTILE.replace("\0", "\ufffd") in "".join(tags.words)
    payload = json.loads(re.search(r'<script type="application/json">(.*?)</script>', made.html, re.S).group(1))
    assert payload["title"] == HOSTILE.replace("\0", "\ufffd")
    made.html.encode("utf-8")
    assert ".innerHTML" not in player.script() and "insertAdjacentHTML" not in player.script()


@pytest.mark.parametrize(
    ("seconds", "tracks", "rate", "shown"), [(100, 1, 16000, 100), (100, 2, 12000, 100), (160, 1, 12000, 160),
    (200, 1, 8000, 200), (400, 1, 8000, 270), (400, 4, 8000, 78)],
)  # fmt: skip
def test_a_long_clip_is_played_at_a_lower_rate_and_then_in_part(seconds, tracks, rate, shown):
    sounds = {f"t{k}": tone(seconds) for k in range(tracks)}
    made = compare(clip_of(seconds, 16, fps=2), sounds, events=[1.0, seconds - 0.5])
    assert len(made.html) <= payload.LIMIT_BYTES and made.clip.duration == seconds
    length = made.payload["duration"]
    assert length == made.shown.duration == pytest.approx(shown, rel=0.05)
    samples, got = wav_of(Tags(made.html).all("audio")[0]["src"])
    assert got == rate and samples.shape[-1] == round(length * rate)
    said = f"the first {length:.0f} of {seconds} s"
    assert (said in " ".join(made.payload["notes"])) == (said in made.html) == (length < seconds)
    assert not any(track["notes"] for track in made.payload["tracks"])
    assert len(made.payload["events"]) == (1 if length < seconds else 2)


def test_pictures_that_are_all_noise_are_made_small():
    rng = np.random.default_rng(0)
    clip = Clip(rng.integers(0, 255, (60, 120, 160, 3), dtype=np.uint8), fps=30.0)
    sizes = [len(payload.film_of(clip, room, most)) for room, most in ((9e9, 9e9), (0, 9e9), (0, 15_000), (0, 0))]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    assert sizes[2] * 4 / 3 <= 15_000 and sizes[3] * 4 / 3 <= payload.FILM_RATE * clip.duration


def test_saliency_of_a_part_is_that_of_the_beginning():
    map_ = np.zeros((400, 2, 2), np.float32)
    map_[10], map_[390] = 1.0, 2.0
    made = compare(clip_of(400, 16, fps=1), {f"t{k}": tone(400) for k in range(4)}, saliency=(map_, 1))
    assert made.payload["saliency"]["peak"] == 10.5 and made.payload["saliency"]["frames"] < 100


def test_far_too_many_tracks_are_refused(monkeypatch):
    monkeypatch.setattr(payload, "LIMIT_BYTES", 100_000)
    with pytest.raises(UsageError, match="fewer tracks"):
        compare(clip_of(), {"a": tone(), "b": tone()}).html  # noqa: B018 - made when asked for


def test_a_clip_without_sound_and_one_of_a_single_frame():
    made = play(clip_of(), events=[0.25, 1.0])
    assert made.payload["tracks"] == [] and [e["time"] for e in made.payload["events"]] == [0.25, 1.0]
    assert "No sound." in made.html and not Tags(made.html).all("audio")
    assert repr(made) == "Player(2.00 s, 64x64, no sound)"
    assert "data:video/mp4" in play(Clip(np.zeros((1, 33, 47, 3), np.uint8)), tone(0.04)).html
    with_own = clip_of().with_sound(tone())
    assert list(play(with_own).tracks) == ["sound"] and "figure" in with_own._repr_html_()


def test_wrong_things_are_refused_by_name():
    with pytest.raises(UsageError, match=r"'a' is a ndarray, not a Sound or \(samples, sample_rate\)"):
        compare(clip_of(), {"a": np.zeros(100)})
    with pytest.raises(UsageError, match="clip must be a Clip"):
        play("video.mp4")
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

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(MediaError, match=r"clip\.html: the page cannot be written: disk full"):
        made.save(path)
    assert path.read_text(encoding="utf-8") == page and [p.name for p in path.parent.iterdir()] == ["clip.html"]


def test_no_widget_state_in_a_notebook():
    from IPython.core.formatters import DisplayFormatter

    made = play(clip_of(), tone())
    data, _ = DisplayFormatter().format(made)
    assert set(data) == {"text/plain", "text/html"}


def test_sound_alone_keeps_its_level():
    page = sound_html(tone(level=0.01))
    assert np.abs(wav_of(Tags(page).all("audio")[0]["src"])[0]).max() == round(0.01 * 32767)
    assert "silent" in sound_html(Sound(np.zeros(100), 16000))


@pytest.mark.parametrize(
    ("seconds", "rate", "channels", "kept"),
    [(2.0, 48000, 2, (2, 48000, 2.0)), (40.0, 48000, 2, (1, 16000, 40.0)), (300.0, 8000, 1, (1, 8000, 300.0)),
     (500.0, 44100, 1, (1, 8000, 374.5))],
)  # fmt: skip
def test_a_long_sound_alone_is_small(seconds, rate, channels, kept):
    page = sound_html(Sound(np.full((channels, round(seconds * rate)), 0.01, np.float32), rate))
    assert len(page) <= payload.LIMIT_BYTES
    data = base64.b64decode(Tags(page).all("audio")[0]["src"].split(",", 1)[1])
    with wave.open(io.BytesIO(data)) as file:
        assert (file.getnchannels(), file.getframerate()) == kept[:2]
        assert file.getnframes() / file.getframerate() == pytest.approx(kept[2], abs=0.1)
    assert ("the first 375 of 500 s" in page) == (seconds == 500) and ("played in" in page) == (kept[1] < rate)


def test_pure_functions_of_the_script():
    check_script("player")
