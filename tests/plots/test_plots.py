"""Plots: seconds and hertz where they belong, alt text, and sounds as they are."""

from __future__ import annotations

import html
import inspect
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
ROWS = [
    {"id": "a", "onset_f1_50ms": 0.5, "onset_offset_abs_ms": 12.0},
    {"id": "<b>", "onset_f1_50ms": 1.0, "onset_offset_abs_ms": 3.0},
    {"id": "c", "onset_f1_50ms": float("nan"), "onset_offset_abs_ms": 3.0},
    {"id": "d", "onset_f1_50ms": 1.0, "onset_offset_abs_ms": None},
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
        "mark_events": lambda ax: plots.mark_events(EVENTS, ax),
        "scores": lambda ax: plots.scores(ROWS, ax),
        "intervals": lambda ax: plots.intervals({"a": 0.5, "b": 0.7}, ax, xlabel="F1"),
        "picture": lambda ax: plots.picture(np.eye(8), 1.0, ax),
        "attention": lambda ax: plots.attention(np.eye(4), 0.1, 0.1, ax, events=EVENTS),
        "against_truth": lambda ax: plots.against_truth(tone, [0.2], [0.25], ax=ax),
        "curves": lambda ax: plots.curves({"a": ([1, 2], [3, 4])}, ax, xlabel="step", ylabel="loss"),
        "classes": lambda ax: plots.classes(np.eye(4, dtype=int), 1.0, {"a": "red", "b": "blue"}, ax),
        "levels": lambda ax: plots.levels([-60.0, -50.0, -40.0], [-58.0, -50.0, -41.0], ax),
    }
    # what returns a figure and is not a plot, or has many axes of its own
    public = {n for n in plots.__all__ if n.islower()}
    others = {"show", "spectrogram_zoom", "scores_zoom", "metric_rows", "overlay", "saliency"}
    assert set(makers) == public - others - {"pictures", "attentions", "interval_columns"}
    for name, make in makers.items():
        ax = axes()
        assert make(ax) is ax.figure, name
        fig = make(None)
        assert fig is not ax.figure and fig.axes[0].get_xlabel(), name
        assert picture_of(fig).std() > 1, f"{name} is an empty picture"
        assert fig.alt.endswith(".") and f'alt="{html.escape(fig.alt)}"' in fig._repr_html_(), name
        assert inspect.signature(getattr(plots, name)).parameters["ax"].default is None
        if name not in ("curve", "curves", "training", "scores", "intervals", "attention", "levels"):
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
    assert plots.mark_events(EVENTS, fig.axes[0]) is fig
    hit, miss = fig.axes[0].lines
    assert (hit.get_xdata()[0], miss.get_xdata()[0]) == (0.2, 0.5)
    assert hit.get_linestyle() == "-" and miss.get_linestyle() == ":"
    assert hit.get_color() == plots.COLOURS["wood"]
    assert [t.get_text() for t in fig.axes[0].texts] == ["strike wood", "miss"]


def test_timeline_names_its_bars():
    fig = plots.timeline({"made": []}, 1.0, events=EVENTS, bars="your hits")
    assert f"bars at {len(EVENTS)} your hits" in fig.alt
    assert fig.axes[0].get_legend().get_title().get_text() == "bars: your hits ± 50 ms"


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


def test_there_is_no_codebook_and_a_half():
    ticks = plots.curve([1, 2, 3, 4], [4, 3, 2, 1], xlabel="codebooks", ylabel="distance").axes[0].get_xticks()
    assert all(tick == round(tick) for tick in ticks)


def test_a_dark_page_gets_a_dark_figure_whose_pictures_are_as_they_were():
    picture = plots.picture(np.linspace(0, 1, 4096).reshape(64, 64), 1.0)
    figure = plots.show(picture, "a picture")
    light, dark = (np.asarray(Image.open(io.BytesIO(p)).convert("RGB")).astype(int) for p in (figure.png, figure.dark))
    assert light.shape == dark.shape and (light[0, 0] == 255).all() and (dark[0, 0] == 18).all()
    coloured = np.ptp(light, axis=-1) > 60  # of the colour map: everything else here is grey
    assert coloured.mean() > 0.1 and (light[coloured] == dark[coloured]).all()

    curve = plots.show(plots.curve([1, 2], [3, 4], xlabel="x", ylabel="y"))
    light, dark = (np.asarray(Image.open(io.BytesIO(p)).convert("RGB")).astype(int) for p in (curve.png, curve.dark))
    y, x = np.unravel_index(np.ptp(light, axis=-1).argmax(), light.shape[:2])
    assert dark[y, x].sum() > light[y, x].sum() and dark[y, x].argmax() == light[y, x].argmax()  # brighter, of its hue
    page = curve._repr_html_()
    assert page.index('media="(prefers-color-scheme: dark)"') < page.index("<img") and page.count("data:image/png") == 2
    assert f"max-width:max(100%,{round(light.shape[1] * 2 / 3)}px)" in page


def test_alt_text_is_said_of_what_was_drawn_and_panel_by_panel(tone):
    fig = plots.spectrogram(tone, title="a tone")
    assert "a tone, over 1.00 s and 0 to 8000 Hz, strongest near 1000 Hz" in fig.alt
    plots.mark_events(EVENTS, fig.axes[0])
    assert fig.alt.endswith("Marked: strike wood at 0.20 s, miss at 0.50 s.") and "a tone" in fig.alt
    assert plots.show(fig).alt == fig.alt and plots.show(fig, "mine").alt == "mine"
    assert "silent" in plots.spectrogram(Sound(np.zeros(1600), 16000)).alt
    assert "silent" in plots.waveform(Sound(np.zeros(1600), 16000)).alt
    ax = axes()  # of a figure that is not ours
    plots.curve(["a", "b"], [1, 2], ax, xlabel="name", ylabel="score")
    assert plots.show(ax.figure).alt == "score over name: 1 at a, 2 at b."
    with pytest.raises(UsageError, match="alt text"):
        plots.show(axes().figure)


def cells_of(figure) -> np.ndarray:
    z = figure.data[0].z
    return np.asarray(z if not isinstance(z, tuple) else np.array(z))


@pytest.mark.parametrize("seconds", [1.0, 30.0])
def test_zoom_says_time_hertz_and_level_and_stays_small(seconds):
    rate, hop = 16000, 128
    samples = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(round(rate * seconds)) / rate)
    samples[round(0.7 * rate * seconds)] += 1
    fig = plots.spectrogram_zoom(Sound(samples, rate), hop=hop)
    assert type(fig).__name__ == "Figure" and type(fig).__module__.startswith("plotly.graph_objs")
    heat, db = fig.data[0], cells_of(fig)
    assert db.dtype == np.int8 and db.shape[0] <= 257 and db.shape[1] <= 640
    column = db[200].argmax()  # far above the tone stands the click
    assert abs(heat.x0 + column * heat.dx - 0.7 * seconds) <= heat.dx / 2 + hop / rate
    row = db[:, db.shape[1] // 3].argmax()
    assert abs(heat.y0 + row * heat.dy - 1000) <= heat.dy and db[row, db.shape[1] // 3] == -20
    assert (fig.layout.xaxis.title.text, fig.layout.yaxis.title.text) == ("time (s)", "frequency (Hz)")
    assert (heat.zmin, heat.zmax) == (-80, 0)
    text = fig.to_json()
    assert len(text) < 900_000 and "http" not in text


def test_zoom_merges_bins_without_losing_the_loudest(tone):
    fig = plots.spectrogram_zoom(tone, n_fft=4096, hop=1024)
    db, heat = cells_of(fig), fig.data[0]
    row = db[:, db.shape[1] // 2].argmax()
    assert db.shape[0] <= 257 and db[row, db.shape[1] // 2] == -20
    assert abs(heat.y0 + row * heat.dy - 1000) <= heat.dy / 2
    with pytest.raises(UsageError, match="hop 0"):
        plots.spectrogram_zoom(tone, hop=0)


def test_shown_plotly_carries_its_numbers_a_still_and_no_script(tone):
    from IPython.core.formatters import DisplayFormatter

    fig = plots.spectrogram_zoom(tone, title="a <tone>")
    data, _ = DisplayFormatter().format(plots.show(fig, still=plots.spectrogram(tone)))
    assert set(data) == {"application/vnd.plotly.v1+json", "text/html", "text/plain"}
    assert data["application/vnd.plotly.v1+json"]["data"][0]["type"] == "heatmap"
    assert "a &lt;tone&gt;" in data["text/html"] and 'src="data:image/png;base64,' in data["text/html"]
    assert "<script" not in data["text/html"] and "http" not in data["text/html"]
    bare, _ = DisplayFormatter().format(plots.show(fig))
    assert "<img" not in bare["text/html"] and "a &lt;tone&gt;" in bare["text/html"]
    assert fig.layout.meta["alt"] == plots.show(fig).alt


def test_scores_are_points_with_names_and_what_cannot_be_drawn_is_counted():
    fig = plots.scores_zoom(ROWS)
    assert list(fig.data[0].text) == ["a", "<b>"] and list(fig.data[0].y) == [0.5, 1.0]
    assert "of 2 clips" in fig.layout.meta["alt"] and "2 clips have no such score" in fig.layout.meta["alt"]
    assert plots.scores(ROWS).axes[0].collections[0].get_offsets().tolist() == [[12.0, 0.5], [3.0, 1.0]]
    with pytest.raises(UsageError, match="'f1'; there is onset_f1_50ms, onset_offset_abs_ms"):
        plots.scores_zoom(ROWS, y="f1")
