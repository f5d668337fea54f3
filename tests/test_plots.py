"""Plots: seconds and hertz where they belong, alt text, and sounds as they are."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from v2a_nb import plots
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError

EVENTS = [
    {"time_s": 0.2, "kind": "strike", "material": "wood", "sounding": True},
    {"time_s": 0.5, "kind": "strike", "material": "metal", "sounding": False},
]


@pytest.fixture
def tone():
    return Sound(0.1 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000), 16000)


def axes():
    from matplotlib.figure import Figure

    return Figure().add_subplot()


def picture_of(fig) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(plots.show(fig, "a test").png)).convert("RGB"))


def test_every_plot_makes_a_figure_or_draws_on_the_axes_it_is_given(tone):
    clip = Clip(np.zeros((25, 12, 16, 3), np.uint8))
    makers = {
        "waveform": lambda ax: plots.waveform(tone, ax),
        "spectrogram": lambda ax: plots.spectrogram(tone, ax),
        "timeline": lambda ax: plots.timeline({"true": [0.2]}, 1.0, ax, events=EVENTS),
        "strip": lambda ax: plots.strip(clip, [0.1, 0.5], ax),
        "codes": lambda ax: plots.codes(np.zeros((4, 50), int), 50.0, ax),
        "curve": lambda ax: plots.curve([1, 2], [3, 4], ax, xlabel="codebooks", ylabel="distance"),
        "training": lambda ax: plots.training([{"step": 1, "loss": 2.0}], ax),
    }
    for name, make in makers.items():
        ax = axes()
        assert make(ax) is ax.figure, name
        fig = make(None)
        assert fig is not ax.figure and fig.axes[0].get_xlabel(), name
        assert picture_of(fig).std() > 1, f"{name} is an empty picture"
        if name not in ("curve", "training"):
            assert "(s)" in fig.axes[0].get_xlabel(), name


@pytest.mark.parametrize("scale", ["linear", "log", "mel"])
def test_a_tone_stands_at_its_hertz_and_its_level(tone, scale):
    fig = plots.spectrogram(tone, scale=scale)
    mesh = fig.axes[0].collections[0]
    db = np.asarray(mesh.get_array())
    edges = mesh.get_coordinates()[:, 0, 1]
    row = db[:, db.shape[1] // 2].argmax()
    assert edges[row] <= 1000 <= edges[row + 1]
    assert db[row, db.shape[1] // 2] == pytest.approx(-20, abs=0.5)
    assert mesh.get_clim() == (-80, 0)  # the colours do not depend on the sound
    assert fig.axes[0].get_ylabel() == "frequency (Hz)"
    assert fig.axes[0].get_yscale() == {"linear": "linear", "log": "log", "mel": "function"}[scale]


def test_a_click_stands_at_its_second():
    samples = np.zeros(16000)
    samples[6400] = 1
    mesh = plots.spectrogram(Sound(samples, 16000), n_fft=256, hop=64).axes[0].collections[0]
    column = np.asarray(mesh.get_array()).max(axis=0).argmax()
    edges = mesh.get_coordinates()[0, :, 0]
    assert edges[column] - 0.004 <= 0.4 <= edges[column + 1] + 0.004


def test_a_quiet_waveform_stays_small_and_a_short_or_empty_sound_is_drawn(tone):
    low, high = plots.waveform(tone).axes[0].get_ylim()
    assert (low, high) == (-1, 1)
    for n in (0, 1, 7):
        assert picture_of(plots.waveform(Sound(np.zeros((1, n)), 16000))).size
        assert picture_of(plots.spectrogram(Sound(np.zeros((1, n)), 16000))).size


def test_events_are_marked_by_material_and_near_misses_apart(tone):
    fig = plots.waveform(tone)
    assert plots.mark_events(fig.axes[0], EVENTS) is fig
    hit, miss = fig.axes[0].lines
    assert (hit.get_xdata()[0], miss.get_xdata()[0]) == (0.2, 0.5)
    assert hit.get_linestyle() == "-" and miss.get_linestyle() == ":"
    assert hit.get_color() == plots.COLOURS["wood"]
    assert [t.get_text() for t in fig.axes[0].texts] == ["strike wood", "miss"]


def test_timeline_bars_are_as_wide_as_the_tolerance():
    fig = plots.timeline({"true": [0.2], "made": []}, 1.0, events=EVENTS, tolerance=0.025)
    bars = fig.axes[0].patches
    assert [round(b.get_x(), 3) for b in bars] == [0.175, 0.475]
    assert all(b.get_width() == pytest.approx(0.05) for b in bars)
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == ["true", "made"]


def test_strip_shows_the_frame_of_the_time():
    frames = np.repeat(np.arange(25, dtype=np.uint8)[:, None, None, None] * 10, 8, axis=1)
    clip = Clip(np.broadcast_to(frames, (25, 8, 8, 3)).copy())
    shown = plots.strip(clip, [0.0, 0.41]).axes[0].images[0].get_array()
    assert shown[0, 0, 0] == 0 and shown[0, -1, 0] == 100
    with pytest.raises(UsageError, match="at least one time"):
        plots.strip(clip, [])


def test_codes_axis_is_seconds_and_a_batch_is_refused():
    fig = plots.codes(np.arange(200).reshape(4, 50), 25.0)
    assert fig.axes[0].get_xlim() == (0, 2)
    with pytest.raises(UsageError, match=r"codes\[0\]"):
        plots.codes(np.zeros((1, 4, 50)), 25.0)


def test_training_reads_a_log_and_says_what_is_missing(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"step": k, "loss": 5 - k}) + "\n" for k in range(3)))
    assert list(plots.training(log).axes[0].lines[0].get_ydata()) == [5, 4, 3]
    with pytest.raises(UsageError, match="no 'f1'; it has loss, step"):
        plots.training(log, keys=("f1",))
    with pytest.raises(UsageError, match="not a training log"):
        plots.training(tmp_path / "none.jsonl")


def test_show_needs_alt_text_escapes_it_and_saves_the_picture(tone, tmp_path):
    with pytest.raises(UsageError, match="alt text"):
        plots.show(plots.waveform(tone), alt="  ")
    figure = plots.show(plots.waveform(tone), alt='a "tone" <b>')
    page = figure._repr_html_()
    assert page.startswith("<figure") and 'alt="a &quot;tone&quot; &lt;b&gt;"' in page and "<b>" not in page
    assert "<figcaption" in page and 'src="data:image/png;base64,' in page
    assert 'a "tone" <b>' in repr(figure)
    assert figure.save(tmp_path / "f.png").read_bytes() == figure.png
    with pytest.raises(UsageError, match="linear, log or mel"):
        plots.spectrogram(tone, scale="bark")
