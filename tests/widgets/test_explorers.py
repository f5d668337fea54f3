"""Explorers: static pages that need nothing, numbers that follow the settings, panels that answer."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from page_parts import Tags, wav_of
from PIL import Image

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, V2AError
from v2a_nb.widgets import explorer_frame
from v2a_nb.widgets.explore_codec import bitrate
from v2a_nb.widgets.explorers import explore_codec, explore_guidance, explore_spectrogram

HOSTILE = "</figure><script>alert(1)</script>\"'\0"
RATE = 16000
HITS = (0.2, 0.6)
DISTANCE, CONVERGENCE = "log-mel distance (dB)", "spectral convergence"


def hits(times=HITS, seconds: float = 1.0, level: float = 0.3, seed: int = 0, rate: int = RATE) -> Sound:
    """Decaying tones in soft noise."""
    t = np.arange(round(rate * seconds)) / rate
    samples = 0.0005 * np.random.default_rng(seed).normal(size=len(t))
    for k, time in enumerate(times):
        since = np.maximum(t - time, 0)
        samples += (t >= time) * level * np.exp(-20 * since) * np.sin(2 * np.pi * 700 * (k + 1) * since)
    return Sound(samples, rate)


class Steps:
    """A codec whose codebooks are decimal digits of the wave: more of them are exactly nearer."""

    hop, num_codebooks, codebook_size, frame_rate = 1, 3, 11, 50.0

    def __init__(self, sample_rate=RATE):
        self.sample_rate, self.encoded = sample_rate, 0

    def encode(self, wave):
        self.encoded += 1
        left, codes = wave.clone(), []
        for k in range(3):
            digit = (left * 10 ** (k + 1)).round().clamp(-5, 5)
            left = left - digit / 10 ** (k + 1)
            codes.append(digit.long() + 5)
        return torch.stack(codes, 1)

    def decode(self, codes, num_samples=None):
        made = sum((codes[:, k] - 5) / 10 ** (k + 1) for k in range(codes.shape[1]))
        return made[..., :num_samples]


class Beats:
    """A system that hits at the true times at guidance 2, and once too often above; seeds change the noise."""

    name = "beats"

    def __init__(self):
        self.asked = []

    def generate(self, clip, *, seed=0, guidance=2.0, temperature=0.5):
        assert clip.sound is None, "the truth is not an input"
        self.asked.append((guidance, seed, temperature))
        times = {1.0: HITS[:1], 2.0: HITS}.get(guidance, (*HITS, 0.4, 0.8))
        return hits(times, seed=seed + 1, level=0.1 + temperature)


@pytest.fixture
def clip():
    return Clip(np.zeros((25, 32, 48, 3), np.uint8), sound=hits(), name="a <clip>")


def explorers(clip, title=HOSTILE):
    return {
        "spectrogram": explore_spectrogram(hits(), [{}, {"mels": 16, "iterations": 2}], title=title),
        "codec": explore_codec(hits(), Steps(), title=title),
        "guidance": explore_guidance(Beats(), clip, (1.0, 2.0), (0, 1), truth=list(HITS), title=title),
    }


# --- the static page ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spectrogram", "codec", "guidance"])
def test_display_is_a_page_without_kernel_widget_or_network(clip, name):
    from IPython.core.formatters import DisplayFormatter

    made = explorers(clip)[name]
    data, _ = DisplayFormatter().format(made)
    assert set(data) == {"text/plain", "text/html"}
    page = data["text/html"]
    tags = Tags(page)
    assert "alert(1)</script>" not in page and "http" not in page.replace("http://www.w3.org", "")
    if name != "guidance":  # whose player upgrades itself by a script
        assert "<script" not in page
    pictures = tags.all("img")
    assert pictures and all(i["alt"] and i["src"].startswith("data:image/") for i in pictures)
    assert all("controls" in a and a["src"].startswith("data:audio/wav;base64,") for a in tags.all("audio"))
    original = 1
    assert len(tags.all("audio")) == original + len(made.static)
    assert len(tags.all("th")) > len(made.table), "a header for each row and column"
    assert len(page) < explorer_frame.TARGET_BYTES and "live()" in data["text/plain"]


def test_sounds_are_heard_at_their_own_level_and_silence_and_clipping_are_named():
    quiet = hits(level=0.01)
    made = explore_spectrogram(quiet, [{"iterations": 8}])
    original, again = (wav_of(a["src"])[0][0] for a in Tags(made.html).all("audio"))
    assert np.abs(original).max() == round(quiet.peak * 32767)
    assert np.abs(again).max() == pytest.approx(made.variants[0].sound.peak * 32767, abs=1)
    assert [row["notes"] for row in made.table] == ["", ""]
    loud = Sound(np.clip(5 * hits().samples, -1, 1), RATE)
    assert "clipped" in explore_spectrogram(loud, [{"iterations": 0}]).table[0]["notes"]
    silent = explore_spectrogram(Sound(np.zeros(RATE), RATE), [{}, {"mels": 32}], events=HITS)
    for row in silent.table[1:]:
        assert row["notes"] == "silent" and row[CONVERGENCE] == 0 and row[DISTANCE] == 0
    assert ", silent" in explorer_frame.variant_html(silent.variants[0])
    assert explore_codec(Sound(np.zeros(RATE), RATE), Steps()).table[0]["notes"] == "silent"


def test_long_sounds_give_way_in_rate_and_length_and_the_page_says_so(monkeypatch):
    assert explorer_frame.TARGET_BYTES == 2_000_000
    monkeypatch.setattr(explorer_frame, "TARGET_BYTES", 600_000)  # pictures, light and dark, take 400_000
    noise = 0.1 * np.random.default_rng(0).normal(size=(2, 3 * 44100))
    made = explore_codec(Sound(noise, 44100), Steps(44100), codebooks=(1, 2))
    page = made.html
    assert len(page) < 1.1 * 600_000
    assert "Played at 16 kHz, the first" in page and "of 3.00 s" in page and "mixed to mono" in page
    played = wav_of(Tags(page).all("audio")[0]["src"])[0][0]
    assert 0.5 < len(played) / 16000 < 3 and made.variants[0].sound.n == 3 * 44100
    sounds, said = explorer_frame.fit_sounds([hits()], 1e6)
    assert sounds[0].n == RATE and said == ""


def test_page_is_saved_whole_or_not_at_all(tmp_path, monkeypatch):
    made = explore_codec(hits(), Steps(), title=HOSTILE)
    path = made.save(tmp_path / "deep" / "page.html")
    page = path.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>") and made.html in page and "<title>&lt;/figure&gt;" in page

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(MediaError, match=r"page\.html: the page cannot be written: disk full"):
        made.save(path)
    assert [p.name for p in path.parent.iterdir()] == ["page.html"] and path.read_text(encoding="utf-8") == page


def test_import_needs_neither_torch_nor_widgets():
    code = "import sys, v2a_nb.widgets.explorers; print(sorted({'torch', 'ipywidgets', 'plotly'} & set(sys.modules)))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "[]"


# --- spectrogram --------------------------------------------------------------------------------


def test_more_iterations_come_nearer_and_fewer_bands_lose_more():
    made = explore_spectrogram(hits(), [{}], events=HITS)
    errors = [made.at(iterations=k).numbers[CONVERGENCE] for k in (0, 4, 32)]
    assert errors[0] > 2 * errors[1] > 2 * errors[2] and errors[2] < 0.15
    lost = [made.at(mels=m).numbers[DISTANCE] for m in (None, 64, 8)]
    assert lost[0] < lost[1] < lost[2] and lost[0] < 1.5
    assert made.at().numbers["onset F1 (50 ms)"] == 1
    assert made.at(mels=8).numbers["values per sample"] == pytest.approx(8 * 126 / RATE)
    assert (made.at(n_fft=1024).numbers["bin (Hz)"], made.at(n_fft=1024).numbers["window (ms)"]) == (15.625, 64)
    assert made.at().sound.n == RATE and made.at() is made.at(n_fft=512), "computed once"
    assert "bands hold no bin" in made.at(n_fft=128, hop=32, mels=60).notes[0] and not made.at(mels=40).notes


def test_same_seed_same_sound():
    a, b, c = (explore_spectrogram(hits(), [{}], seed=s).at(iterations=2).sound.samples for s in (0, 0, 1))
    assert np.array_equal(a, b) and not np.array_equal(a, c)


@pytest.mark.parametrize("mels", [None, 40])
def test_a_higher_tone_stands_higher_in_the_picture(mels):
    heights = []
    for hertz in (1000, 5000):
        tone = Sound(0.5 * np.sin(2 * np.pi * hertz * np.arange(RATE) / RATE), RATE)
        picture = explore_spectrogram(tone, [{}]).at(mels=mels, iterations=0).picture
        pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB"), int)
        panel = pixels[: len(pixels) // 2, pixels.shape[1] // 3]  # a column through what is kept
        warm = panel[:, 0] - panel[:, 2] - 3 * (panel.min(axis=1) > 200)  # magma's top: red without blue
        heights.append(int(warm.argmax()))
    assert heights[1] < heights[0] - 10


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"hop": 600}, "hop 600 with n_fft 512: from 1 to n_fft / 2 = 256"),
        ({"hop": 0}, "hop 0"),
        ({"n_fft": 511}, "n_fft 511: an even number"),
        ({"n_fft": 512.0}, "n_fft must be a whole number, not 512.0"),
        ({"mels": 0}, "mels 0 with n_fft 512: from 1 to 257"),
        ({"mels": 300}, "mels 300"),
        ({"iterations": -1}, "iterations -1"),
        ({"window": 3}, "no setting 'window'; there is n_fft, hop, mels, iterations"),
    ],
)
def test_settings_that_cannot_be_meant_are_one_clear_line(settings, words):
    with pytest.raises(UsageError) as error:
        explore_spectrogram(hits(), [settings])
    assert words in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UsageError):
        explore_spectrogram(hits(), [{}]).at(**settings)


@pytest.mark.parametrize("explore", [explore_spectrogram, lambda s: explore_codec(s, Steps())])
def test_what_is_no_sound_is_refused(explore):
    with pytest.raises(UsageError, match="sound must be a Sound"):
        explore(np.zeros(RATE))
    with pytest.raises(UsageError, match="empty"):
        explore(Sound(np.zeros((1, 0)), RATE))
    with pytest.raises(V2AError, match="NaN"):
        explore(Sound(np.full(100, np.nan), RATE))


def test_a_sound_shorter_than_a_hop_and_an_empty_choice_are_refused():
    with pytest.raises(UsageError, match="100 samples is shorter than a hop of 128"):
        explore_spectrogram(Sound(np.zeros(100), RATE))
    with pytest.raises(UsageError, match="at least one choice"):
        explore_spectrogram(hits(), [])
    with pytest.raises(UsageError, match="a list of dictionaries"):
        explore_spectrogram(hits(), {"mels": 16})


# --- codec --------------------------------------------------------------------------------------


def test_more_codebooks_come_nearer_and_cost_more():
    codec = Steps()
    made = explore_codec(hits(), codec, events={"events": [{"time_s": t} for t in HITS]})
    rows = made.table
    assert [r["label"] for r in rows[1:]] == ["1 of 3 codebooks", "2 of 3 codebooks", "3 of 3 codebooks"]
    lost = [r[DISTANCE] for r in rows[1:]]
    assert lost[0] > lost[1] > lost[2]
    assert [r["kbit/s"] for r in rows[1:]] == pytest.approx([k * np.log2(11) * 50 / 1000 for k in (1, 2, 3)])
    assert rows[0]["kbit/s"] == 256 and rows[0]["onset F1 (50 ms)"] == 1
    assert codec.encoded == 1, "encoded once"
    assert np.abs(made.at(codebooks=3).sound.samples - hits().samples).max() < 6e-4
    assert made.at().label == "3 of 3 codebooks" and bitrate(codec, 2) == pytest.approx(2 * np.log2(11) * 50)


def test_the_shipped_codec_does_so_too():
    made = explore_codec(hits((0.2, 0.7, 1.2), 1.5), codebooks=[1, 4])
    coarse, fine = made.table[1:]
    assert coarse[DISTANCE] > fine[DISTANCE] and (coarse["kbit/s"], fine["kbit/s"]) == (0.4, 1.6)


def test_codec_takes_any_rate_and_refuses_what_it_has_not():
    stereo = Sound(np.repeat(hits(rate=44100).samples, 2, axis=0), 44100)
    made = explore_codec(stereo, Steps())
    assert made.sound.sample_rate == RATE and made.table[0]["notes"] == "mixed to mono, resampled to 16000 Hz"
    for wrong in (0, 4, 1.5, True):
        with pytest.raises(UsageError, match="from 1 to 3 are needed"):
            explore_codec(hits(), Steps(), codebooks=[wrong])
    with pytest.raises(UsageError, match="needs a codec, not a dict"):
        explore_codec(hits(), {})


# --- guidance -----------------------------------------------------------------------------------


def test_grid_is_generated_once_and_scored(clip):
    system = Beats()
    made = explore_guidance(system, clip, (1.0, 2.0, 6.0), (0, 1), truth={"events": [{"time_s": t} for t in HITS]})
    assert system.asked == [], "nothing is generated before it is looked at"
    assert [e["time_s"] for e in explore_guidance(system, clip, truth=np.array(HITS)).events] == list(HITS)
    own, *rows = made.table
    assert own["label"] == "the clip's own sound" and own["onset F1 (50 ms)"] == 1
    assert [round(r["onset F1 (50 ms)"], 3) for r in rows] == [0.667, 0.667, 1, 1, 0.667, 0.667]
    assert [r["onsets"] for r in rows] == [1, 1, 2, 2, 4, 4]
    assert [round(r["mean"], 3) for r in made.summary] == [0.667, 1, 0.667]
    _ = made.html, made.summary, made.player()
    assert len(system.asked) == 6
    assert np.array_equal(made.at(guidance=2.0, seed=1).sound.samples, Beats().generate(clip.silent(), seed=1).samples)
    assert len(system.asked) == 6
    made.at(guidance=2.0, seed=1, temperature=0.9)
    assert system.asked[-1] == (2.0, 1, 0.9)


def test_player_has_the_chosen_sounds_and_the_clips_own(clip):
    system = Beats()
    made = explore_guidance(system, clip, (1.0, 2.0, 6.0), (0, 1, 2))
    assert made.chosen == [(1.0, 0), (2.0, 0), (6.0, 0)], "of many the first seed"
    assert made.summary == [] and "onset F1 (50 ms)" not in made.table[0]
    player = made.player([(6.0, 2)])
    assert list(player.tracks) == ["guidance 6, seed 2", "the clip's own"]
    silent = explore_guidance(Beats(), clip.silent(), (2.0,), (0,), chosen=[(2.0, 0)], truth=HITS)
    assert list(silent.player().tracks) == ["guidance 2, seed 0"] and len(silent.table) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"guidances": [-1.0]}, "guidance -1.0: a number from 0 to 100"),
        ({"guidances": [float("nan")]}, "guidance nan"),
        ({"seeds": [0.5]}, "seed 0.5: a whole number"),
        ({"temperature": -0.1}, "temperature -0.1"),
        ({"seeds": []}, "at least one choice"),
        ({"seeds": range(100)}, "300 sounds are too many"),
        ({"chosen": [(2.0, -1)]}, "seed -1"),
        ({"chosen": [2.0]}, "pairs (guidance, seed)"),
        ({"truth": [{"kind": "strike"}]}, "time_s"),
        ({"steps": 3}, "beats has no steps"),
        ({"system": object()}, "system must be what v2a.load returns"),
        ({"clip": "a.mp4"}, "clip must be a Clip"),
    ],
)
def test_guidance_refuses_what_cannot_be_meant(clip, change, words):
    with pytest.raises(UsageError) as error:
        explore_guidance(**{"system": Beats(), "clip": clip, **change})
    assert words in str(error.value) and "\n" not in str(error.value)


def test_what_the_system_refuses_is_shown_in_one_line(clip):
    class Fussy(Beats):
        def generate(self, clip, *, seed=0, guidance=2.0):
            raise UsageError("0.3 s is <the least>")

    made = explore_guidance(Fussy(), clip, 2.0, 0)
    assert made._repr_html_() == '<p role="alert"><b>Not possible:</b> 0.3 s is &lt;the least&gt;</p>'
    with pytest.raises(UsageError, match="the least"):
        _ = made.html


def test_a_system_without_guidance_is_refused(clip):
    class Retrieval:
        name = "retrieval"

        def generate(self, clip, *, seed=0):
            return hits()

    with pytest.raises(UsageError, match="retrieval has no guidance to explore"):
        explore_guidance(Retrieval(), clip)


# --- sliders ------------------------------------------------------------------------------------


def shown(panel) -> tuple[str, str]:
    """Source of the picture and of the sound in a panel."""
    tags = Tags(panel.output.value)
    assert tags.all("img")[0]["alt"]
    return tags.all("img")[0]["src"], tags.all("audio")[0]["src"]


@pytest.mark.parametrize(
    ("name", "control", "value"),
    [
        ("spectrogram", "n_fft", 1024),
        ("spectrogram", "mels", 16),
        ("spectrogram", "iterations", 4),
        ("codec", "codebooks", 1),
        ("guidance", "guidance", 6.0),
        ("guidance", "seed", 3),
    ],
)
def test_a_slider_changes_picture_and_sound(clip, name, control, value):
    made = explorers(clip)[name]
    panel = made.live()
    before = shown(panel)
    panel.controls[control].value = value
    after = shown(panel)
    assert before[0] != after[0] and before[1] != after[1]
    settings = {n: c.value for n, c in panel.controls.items() if c.value != 0 or n != "mels"}  # 0 is all bins
    heard, wanted = wav_of(after[1])[0][0], made.at(**settings).sound
    assert np.array_equal(heard, np.clip(np.round(wanted.samples[0] * 32767), -32768, 32767))
    assert made.at(**settings).label in panel.status.value and 'role="status"' in panel.status.value


def test_panels_are_described_answer_on_release_and_are_of_either_ipywidgets(clip):
    import ipywidgets

    for made in explorers(clip).values():
        panel = made.live()
        assert isinstance(panel, ipywidgets.VBox) and len(panel.children) == 4, "the original is below"
        for control in panel.controls.values():
            assert control.description and control.style.description_width == "initial"
            assert control.value is not None, "a Dropdown shows None as nothing chosen"
            assert getattr(control, "continuous_update", False) is False
        assert set(panel.controls) <= set(made.defaults)
    assert "temperature" not in panel.controls  # Beats has no preset that says where it starts
    panel = explore_guidance(Beats(), clip, temperature=0.4).live()
    before = shown(panel)
    panel.controls["temperature"].value = 0.9
    assert shown(panel)[1] != before[1] and "temperature 0.9" in panel.status.value


def test_a_panel_says_what_is_not_possible_and_keeps_the_last_answer():
    panel = explore_spectrogram(hits(), [{}]).live()
    before = panel.output.value
    panel.controls["hop"].value = 512
    assert 'role="alert"' in panel.status.value and "hop 512 with n_fft 512" in panel.status.value
    assert panel.output.value == before
    panel.controls["n_fft"].value = 1024
    assert 'role="status"' in panel.status.value and panel.output.value != before
