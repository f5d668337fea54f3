"""What the player reads: true levels, small enough, sounds and saliency as what they are."""

from __future__ import annotations

import base64
import json
import re
from types import SimpleNamespace

import numpy as np
import pytest
from page_parts import Tags, wav_of
from player_parts import EVENTS, clip_of, tone

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.hits import Hit
from v2a_nb.widgets import payload
from v2a_nb.widgets.payload import mel_picture
from v2a_nb.widgets.player import compare, play


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


def test_ten_seconds_with_three_tracks_stay_under_two_megabytes_whatever_they_hold():
    rng = np.random.default_rng(0)
    tracks = {f"track {k}": Sound(rng.normal(0, 0.1, (2, 441000)), 44100) for k in range(3)}
    made = compare(clip_of(10.0, 96, noise=True), tracks)
    assert len(made.html) <= 2_000_000
    assert made.payload["notes"] == ["played in 16 kHz mono to keep this output small"]
    small = compare(clip_of(2.0), {"stereo": tone(rate=44100, channels=2)})
    samples, rate = wav_of(Tags(small.html).all("audio")[0]["src"])
    assert rate == 44100 and len(samples) == 2 and small.payload["notes"] == []


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
    read = json.loads(text)
    assert read == json.loads(json.dumps(made.payload))
    assert read["duration"] == 2.0 and read["fps"] == 25 and read["fmax"] == 8000
    assert [(e["time"], e["labels"], e["sounding"]) for e in read["events"]] == [
        (0.5, ["strike wood", "strike"], True),
        (1.5, ["miss", "miss"], False),
    ]
    for track in read["tracks"]:
        assert len(base64.b64decode(track["mel"])) == track["bands"] * track["columns"]
        assert len(base64.b64decode(track["envelope"])) == 2 * payload.BLOCKS
        assert track["origin"] + track["columns"] * track["step"] == pytest.approx(2.0, abs=2 * track["step"])


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
    assert picture.shape[1] <= payload.COLUMNS
    column = picture.sum(axis=0).argmax()
    assert origin + column * step - 0.04 <= 12.0 <= origin + (column + 1) * step + 0.04


def test_what_is_no_number_is_said_marked_and_played_as_silence():
    samples = np.array(tone(level=0.5).samples[0])
    samples[1000:1100] = np.nan
    samples[20000] = np.inf
    made = compare(clip_of(), {"broken": (samples, 16000), "fine": tone()})
    broken, fine = made.payload["tracks"]
    assert broken["notes"] == ["101 NaN samples"] and fine["notes"] == []
    assert made.payload["notes"] == ["samples that are NaN or infinite are played as silence"]
    blocks = np.frombuffer(base64.b64decode(broken["envelope"]), np.int8).reshape(-1, 2)
    marked = np.flatnonzero((blocks == payload.NOT_A_NUMBER).all(axis=1))
    assert list(marked) == [25, 26, 27, 500]  # of 800 blocks of 40 samples
    heard, _ = wav_of(Tags(made.html).all("audio")[0]["src"])
    assert not heard[0, 1000:1100].any() and heard[0, 1100:1200].any()
    assert "broken: −9 dBFS, 101 NaN samples" in "".join(Tags(made.html).words)
    nothing = play(clip_of(), (np.full(100, np.nan), 16000)).payload["tracks"][0]
    assert nothing["notes"] == ["100 NaN samples", "silent", "ends at 0.01 s"] and nothing["rms"] is None
    with pytest.raises(UsageError, match="array of numbers"):
        play(clip_of(), ("no sound", 16000))


def numbers(found: dict) -> tuple[np.ndarray, np.ndarray]:
    shape = found["frames"], found["height"], found["width"]
    return (
        np.frombuffer(base64.b64decode(found["map"]), np.uint8).reshape(shape),
        np.frombuffer(base64.b64decode(found["curve"]), np.uint8),
    )


def test_saliency_survives_with_one_scale_for_the_whole_clip():
    map_ = np.zeros((50, 4, 6), np.float32)
    map_[10, 1, 2], map_[30, 3, 5] = 2.0, 1.0
    made = play(clip_of(), tone(), saliency={"map": map_, "fps": 25.0, "window": (0.4, 0.7)})
    found = made.payload["saliency"]
    places, curve = numbers(found)
    assert places[10, 1, 2] == 255 and places[30, 3, 5] == 128 and np.count_nonzero(places) == 2
    assert curve[10] == 255 and curve[30] == 128 and np.count_nonzero(curve) == 2
    assert found["fps"] == 25 and found["window"] == [0.4, 0.7] and found["peak"] == pytest.approx(0.42)
    assert repr(made).endswith("sound, peak saliency at 0.42 s)")
    assert "Peak saliency at 0.42 s" in Tags(made.html).all("img")[0]["alt"]
    same = [
        SimpleNamespace(map=map_, fps=25, window=(0.4, 0.7)),
        SimpleNamespace(map=map_.tolist(), fps=25.0, window=np.array([0.4, 0.7])),
    ]
    assert all(play(clip_of(), tone(), saliency=other).payload["saliency"] == found for other in same)
    for bare in ((map_, 25), map_):  # alone, it spans the clip
        assert play(clip_of(), tone(), saliency=bare).payload["saliency"] == {**found, "window": None}


def test_saliency_as_saved_and_as_a_tensor(tmp_path):
    torch = pytest.importorskip("torch")
    map_ = np.random.default_rng(0).random((50, 4, 6), np.float32)
    np.savez(tmp_path / "saliency.npz", map=map_, fps=25.0, window=np.array([0.4, 0.7]))
    with np.load(tmp_path / "saliency.npz") as saved:
        from_file = play(clip_of(), saliency=saved).payload["saliency"]
    tensor = torch.tensor(map_, requires_grad=True)
    assert from_file == play(clip_of(), saliency=SimpleNamespace(map=tensor, fps=25, window=(0.4, 0.7))).saliency


def test_large_saliency_is_made_small_and_keeps_its_peak():
    map_ = np.zeros((3000, 64, 64), np.float32)
    map_[1717] = 1.0
    found = play(clip_of(10.0), tone(10.0), saliency=(map_, 300)).payload["saliency"]
    places, curve = numbers(found)
    assert places.size <= payload.MAP_BYTES and found["frames"] == 600 and found["fps"] == 60
    assert places[343].min() == 255 and curve[343] == 255 and not curve[342]
    assert found["peak"] == pytest.approx(1717.5 / 300)


def test_saliency_that_is_strange_says_so():
    zero = play(clip_of(), saliency=(np.zeros((50, 2, 2)), 25)).payload
    assert zero["notes"] == ["the saliency is zero everywhere"]
    mixed = play(clip_of(), saliency=(np.linspace(-1, 1, 200).reshape(50, 2, 2), 25)).payload
    assert mixed["notes"] == ["negative saliency is not drawn"] and not numbers(mixed["saliency"])[0][:25].any()
    for bad, words in [
        (np.zeros((50, 2)), r"\[T, h, w\], not \[50, 2\]"),
        ((np.full((2, 2, 2), np.nan), 25), "8 numbers of the saliency map are NaN"),
        ((np.zeros((2, 2, 2)), 0), "0 frames per second"),
        ({"map": np.zeros((2, 2, 2)), "fps": "fast"}, "its fps as a number"),
        ({"map": np.zeros((2, 2, 2)), "fps": 25, "window": (1, 2, 3)}, r"window as \(start, end\)"),
        ({"fps": 25}, "array of numbers"),
        ("map.npz", "array of numbers"),
    ]:
        with pytest.raises(UsageError, match=words):
            play(clip_of(), saliency=bad)


def test_a_hit_with_its_probability():
    hit = payload.event_of({"time_s": 1, "probability": 0.834, "material": "expected hit"})
    assert hit["labels"] == ["expected hit 83 %", "83 %"] and "doubtful" not in hit
    assert payload.event_of({"time_s": 1, "probability": 0.2, "doubtful": True})["labels"] == ["20 %"]
    assert payload.event_of({"time_s": 1, "doubtful": True})["doubtful"] is True
    with pytest.raises(UsageError, match="probability"):
        payload.event_of({"time_s": 1, "probability": "high"})
    assert payload.event_of(Hit(1.0, 0.834, origin="model")) == hit
    assert payload.event_of(Hit(1.0, 0.2, origin="model"))["doubtful"] is True
    mine = payload.event_of(Hit(2.0))
    assert mine["labels"][0] == "your hit" and mine["time"] == 2 and "doubtful" not in mine
