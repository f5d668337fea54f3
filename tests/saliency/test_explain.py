"""``v2a.saliency``, and the command: clips of any length and shape, what is said of the sound, files, and views."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from saliency_parts import WINDOW, small_system, the_clip

import v2a_nb as v2a
from v2a_nb import cli, media, plots
from v2a_nb.errors import UsageError
from v2a_nb.saliency.explain import part_around
from v2a_nb.saliency.methods import DEFAULT, METHODS
from v2a_nb.saliency.result import Saliency
from v2a_nb.saliency.targets import TARGETS
from v2a_nb.widgets.player import Player
from v2a_nb.world import strike_world


@pytest.fixture(scope="module")
def system():
    return small_system("vaura")


@pytest.fixture(scope="module")
def long_clip():
    """2 s, of which a pass of the small system spans 0.96 s."""
    return strike_world(seed=3, clips=1, seconds=2.0, size=64, variety="plain")[0].clip


def test_the_folder_is_the_function(system):
    clip, _ = the_clip()
    made = v2a.saliency(system, clip, window=WINDOW, method="gradient", check=False)
    assert isinstance(made, v2a.Saliency) and made.map.shape == (20, 16, 16) and made.window == WINDOW
    assert made.system == "V-AURA" and any("clip's own" in note for note in made.notes)
    import v2a_nb.saliency.judges as judges  # still a folder

    assert v2a.saliency.judges is judges


def test_a_long_clip_is_explained_in_the_part_around_the_window(system, long_clip):
    made = v2a.saliency(system, long_clip, window=(1.3, 1.5), method="gradient", check=False)
    assert len(made.map) == 50 and made.window == pytest.approx((1.3, 1.5))
    seen = np.flatnonzero(made.map.any((1, 2)))
    assert seen.min() >= 20 and len(seen) <= 24 and 36 in seen
    window, start, seconds = part_around(long_clip, (1.3, 1.5), 0.96)
    part = v2a.saliency(
        system, long_clip.slice(start, start + seconds), window=tuple(t - start for t in window), method="gradient",
        check=False,
    )  # fmt: skip
    first = round(start * 25)
    assert np.allclose(made.map[first : first + 24], part.map)
    with pytest.raises(UsageError, match="too long"):
        v2a.saliency(system, long_clip, window=(0.0, 1.9))
    with pytest.raises(UsageError, match="no window"):
        v2a.saliency(system, long_clip, window=(1.9, 2.5))


def test_the_sound_is_the_given_one_the_clips_own_or_a_generated_one(system):
    clip, sound = the_clip()
    how = {"window": WINDOW, "method": "gradient", "check": False}
    own, given = v2a.saliency(system, clip, **how), v2a.saliency(system, clip.silent(), sound=sound, **how)
    assert own.map.tobytes() == given.map.tobytes()
    made = v2a.saliency(system, clip.silent(), **how)
    assert any("was generated, with seed 0" in note for note in made.notes)


def test_a_picture_that_is_not_square_gets_a_map_of_all_of_it(system):
    clip, _ = the_clip()
    wide = replace(clip, frames=np.pad(clip.frames, ((0, 0), (0, 0), (16, 16), (0, 0))))
    made = v2a.saliency(system, wide, window=WINDOW, method="gradient", check=False)
    assert made.map.shape == (20, 16, 24) and not made.map[:, :, [0, 3, 20, 23]].any()


def test_an_encoder_that_squashes_has_seen_all_of_the_picture():
    other = small_system("vaura")
    other.encoder.config = replace(other.encoder.config, fit="squash")
    clip, _ = the_clip()
    wide = replace(clip, frames=np.pad(clip.frames, ((0, 0), (0, 0), (16, 16), (0, 0)), mode="wrap"))
    made = v2a.saliency(other, wide, window=WINDOW, method="gradient", check=False)
    assert made.map.shape == (20, 16, 16) and made.map[:, :, 0].any()


def test_views_say_what_to_believe(system, tmp_path):
    clip, sound = the_clip()
    made = v2a.saliency(system, clip, window=WINDOW, method="gradient", check=False)
    doubted = made.with_scores({"randomization": 0.9}, ("it survives randomized weights",))
    figure = doubted.plot(clip, events=[{"time_s": 0.3}])
    assert "do not believe" in figure.alt and any("not to be" in t.get_text() for ax in figure.axes for t in ax.texts)
    plain = made.plot()
    assert "not checked" in plain.alt and not any(t.get_text() for ax in plain.axes for t in ax.texts)
    assert plots.show(figure, alt=None).png[:4] == b"\x89PNG" and "<img" in made._repr_html_()
    player = doubted.play(clip, sound)
    assert isinstance(player, Player) and "do not believe" in player.title and player.saliency["window"] == [*WINDOW]
    heated = plots.overlay(doubted, clip)
    assert (heated.frames[:, 0] == (179, 38, 30)).all() and heated.sound is clip.sound
    bare = plots.overlay(replace(made, map=np.zeros_like(made.map)), clip)
    assert np.array_equal(bare.frames, clip.frames)


def test_the_overlay_is_where_the_map_is():
    clip = v2a.Clip(np.full((10, 32, 32, 3), 100, np.uint8), fps=25.0)
    map_ = np.zeros((10, 4, 4))
    map_[5, 1, 2] = 1
    changed = plots.overlay(Saliency(map_, 25.0, (0, 0.4)), clip).frames.astype(int) - 100
    assert not changed[[0, 4, 6]].any() and np.abs(changed[5]).sum(-1).argmax() in (
        11 * 32 + 19,
        11 * 32 + 20,
        12 * 32 + 19,
        12 * 32 + 20,
    )


@pytest.fixture
def command(system, monkeypatch, tmp_path):
    monkeypatch.setattr("v2a_nb.systems.registry.load", lambda *a, **k: system)
    clip, _ = the_clip()
    return [str(media.save_mp4(clip, clip.sound, tmp_path / "a.mp4")), "--out", str(tmp_path / "looked")]


def test_the_command_writes_four_files_and_again(command, tmp_path, capsys):
    words = ["saliency", *command, "--method", "attention", "--window", "0.2", "0.5"]
    assert cli.main(words) == 0
    out, looked = capsys.readouterr(), tmp_path / "looked"
    assert {p.name for p in looked.iterdir()} >= {"overlay.mp4", "saliency.npz", "scores.json", "index.html"}
    assert str(looked / "index.html") in out.out and "peak at" in out.out
    made = Saliency.load(looked / "saliency.npz")
    scores = json.loads((looked / "scores.json").read_text())
    assert scores["window"] == [0.2, 0.5] and scores["verdict"] == made.verdict and made.checked
    assert scores["scores"]["randomization"] == pytest.approx(made.scores["randomization"])
    page = (looked / "index.html").read_text()
    assert "nobody knows which place" in page and "randomization" in page
    clip = media.open(looked / "overlay.mp4")
    assert clip.duration == pytest.approx(0.8, abs=0.05) and clip.sound is not None
    assert cli.main(words) == 0  # its own results are replaced
    (looked / "scores.json").write_text("mine")
    assert cli.main(words) == 1 and (looked / "scores.json").read_text() == "mine"


def test_what_the_command_refuses(command, capsys):
    for words, said in (
        (["--method", "guess"], "unknown method 'guess'"), (["--window", "0.5", "0.2"], "no window"),
        (["--baseline", "white"], "unknown baseline"), (["--prompt", "a stick"], "no prompt"),
        (["--target", "control_energy"], "has not the target control_energy"),
    ):  # fmt: skip
        assert cli.main(["saliency", *command, *words]) == 2
        error = capsys.readouterr().err
        assert said in error and "Traceback" not in error


def test_help_names_the_methods():
    assert set(cli.MAPS) == set(METHODS) and cli.MAPS[0] == DEFAULT and set(cli.TARGETS) == set(TARGETS)
