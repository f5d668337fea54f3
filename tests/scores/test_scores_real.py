"""Scores on real clips: the table of onsets, whole folders with known onsets, drones, encoders alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.cli import main
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.hits import Hits
from v2a_nb.scores import real, real_results, registry
from v2a_nb.scores.base import Job
from v2a_nb.training.results import REAL, Results, Row, Table

RATE, SECONDS = 16000, 4.0
NAMES = ["gh_a", "gh_b", "gh_stone", "own_c1", "own_c2"]
RNG = np.random.default_rng(3)
TRUE = {name: np.round(np.cumsum(RNG.uniform(0.4, 0.9, 5)), 2) for name in NAMES}


def clicks(times, late: float = 0.0) -> Sound:
    """Decaying bursts over a soft hiss."""
    wave = np.random.default_rng(0).normal(0, 1e-3, int(SECONDS * RATE))
    burst = np.random.default_rng(1).normal(0, 0.3, 3200) * np.exp(-np.arange(3200) / 500)
    for time in times:
        at = round((time + late) * RATE)
        wave[at : at + len(burst)] += burst[: len(wave) - at]
    return Sound(wave.clip(-1, 1), RATE)


def pictures(times) -> np.ndarray:
    """A bright square that jumps at each time, at 25 frames a second."""
    frames = np.full((100, 32, 48, 3), 90, np.uint8)
    for k, frame in enumerate(frames):
        x = 8 * (int(np.sum(np.asarray(times) <= k / 25 + 1e-6)) % 5)
        frame[8:24, x : x + 8] = 230
    return frames


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("real")
    lines = ["# clips", "file\tclass\twhat\tsource\tonsets_s"]
    for name, times in TRUE.items():
        media.save_mp4(Clip(pictures(times), fps=25.0), clicks(times), path / f"{name}.mp4")
        source = "Greatest Hits (Owens 2016)" if name.startswith("gh") else "ours"
        lines.append(f"{name}.mp4\timpact\tx\t{source}\t{' '.join(f'{t:.2f}' for t in times)}")
    (path / "onsets.tsv").write_text("\n".join(lines))
    return path


class Oracle:
    """A system that knows the onsets of clips by their name, and perhaps rings on."""

    encoder = None

    def __init__(self, late: float = 0.0, hum: float = 0.0) -> None:
        self.late, self.hum = late, hum

    def generate_batch(self, clips, *, seeds):
        assert all(clip.sound is None for clip in clips), "a system must never hear the clip"
        hum = self.hum * np.sin(np.arange(int(SECONDS * RATE)) * 0.05)
        return [Sound(clicks(TRUE[clip.name.removesuffix(".mp4")], self.late).samples + hum, RATE) for clip in clips]


def scored(monkeypatch, folder, system) -> Table:
    monkeypatch.setattr(real, "load", lambda name, weights=None: system)
    ((name, (table,)),) = real.real(Job("real", "", say=lambda _: None), folder, ["egosonics"])
    assert name == "egosonics" and table.name == "real"
    return table


def test_sounds_that_follow_doubts_are_scored_apart(monkeypatch, folder):
    class Doubtful(Oracle):
        options = ("sensitivity",)

        def generate_batch(self, clips, *, seeds, sensitivity=0.0):
            made = super().generate_batch(clips, seeds=seeds)
            return made if sensitivity == real_results.SENSITIVITY else [Sound(0 * s.samples, RATE) for s in made]

    monkeypatch.setattr(real, "load", lambda name, weights=None: Doubtful())
    ((_, tables),) = real.real(Job("real", "", say=lambda _: None), folder, ["egosonics"])
    assert [table.name for table in tables] == ["real", "real_sensitive"]
    assert [table.row("onset_f1_50ms").value for table in tables] == [0, 1]


def test_a_perfect_generator(monkeypatch, folder):
    table = scored(monkeypatch, folder, Oracle())
    assert table.source == REAL and table.about == {"clips": 5, "onsets": 25, "seeds": 3}
    assert table.subjects == ["all clips", "Greatest Hits", "the rest"]
    for group, clips in (("all clips", 5), ("Greatest Hits", 3), ("the rest", 2)):
        assert table.row("onset_f1_50ms", group).value == 1 and table.row("onset_f1_50ms", group).n == 5 * clips
        assert table.row("onset_f1_50ms_shifted", group).value < 0.35
        assert table.row("onset_auc", group).value == 1 and table.row("onset_auc", group).n == clips
        assert table.row("stuck_share", group).value == table.row("drone_share", group).value == 0
    assert abs(table.row("onset_offset_signed_ms").value) < 6  # the table of onsets is rounded to 10 ms


def test_late_sounds_that_drone(monkeypatch, folder):
    before = scored(monkeypatch, folder, Oracle()).row("onset_offset_signed_ms").value
    table = scored(monkeypatch, folder, Oracle(0.03, 0.1))
    assert table.row("onset_offset_signed_ms").value - before == pytest.approx(30, abs=1)
    assert table.row("stuck_share").value == table.row("drone_share").value == 1


def test_an_encoder_alone(folder):
    def knows(clip):
        grid = np.arange(0, SECONDS, 0.01)
        return grid, sum(np.exp(-(((grid - t) / 0.01) ** 2)) for t in TRUE[clip.name.removesuffix(".mp4")])

    clips = real.RealSet(folder)
    table = real.score_encoder(knows, clips)
    assert table.row("onset_f1_50ms").value == 1 and table.row("onset_auc", "the rest").value == 1
    assert table == real.score_encoder(knows, folder)
    nothing = real.score_encoder(lambda clip: (np.array([0.0, 1.0]), np.zeros(2)), clips)
    assert nothing.row("onset_f1_100ms").value == 0 and nothing.row("onset_auc").value == 0.5


def test_baselines(folder):
    tables = {name: Table(name, "x", tuple(rows)) for name, rows in real.baselines(real.RealSet(folder)).items()}
    assert tables["truth"].row("onset_f1_50ms").value == 1 and tables["truth"].row("onset_auc").value == 1
    assert tables["motion_energy"].row("onset_f1_100ms").value > 0.9  # here everything that moves sounds
    assert abs(tables["ticker"].row("onset_f1_100ms_over_shifted").value) < 0.1
    assert set(tables) == {"truth", "ticker", "motion_energy", "deceleration"}


def test_hits_become_a_curve():
    times, values = real.hits_curve(
        Hits([{"time_s": 0.5, "probability": 0.3}, {"time_s": 9.0, "probability": 0.9}]), 1.0
    )
    assert times[values > 0] == pytest.approx([0.5, 0.995]) and values.max() == 0.9


def test_scenes_and_groups(folder):
    clips = real.read_onsets(folder)
    assert [clip.scene for clip in clips] == ["gh", "gh", "gh_stone", "own_c1", "own_c2"]
    assert [clip.group for clip in clips][2:4] == ["Greatest Hits", "the rest"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "names 0 clips"),
        ("a.mp4\timpact\tx\ty\t0.5 1.0\n", "names 1 clips"),
        ("a.mp4\timpact\tx\n", "line 1: five columns"),
        ("a.mp4\timpact\tx\ty\t0.5 soon\n", "line 1: five columns"),
        ("a.mp4\timpact\tx\ty\t0.5 nan\n", "line 1: five columns"),
        ("a.mp4\timpact\tx\ty\t0.5 -1\n", "line 1: five columns"),
        ("# words\nfile\tclass\twhat\tsource\tonsets_s\nb.mp4\timpact\tx\ty\t0.5\n", "line 3: there is no b.mp4"),
    ],
)
def test_a_table_that_cannot_be_read(tmp_path, text, reason):
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / "onsets.tsv").write_text(text)
    with pytest.raises(UsageError, match=reason):
        real.read_onsets(tmp_path)


def test_a_table_that_is_no_text(tmp_path):
    (tmp_path / "onsets.tsv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="no text"):
        real.read_onsets(tmp_path)


def test_an_onset_after_the_end(tmp_path, folder):
    for name in ("gh_a.mp4", "gh_b.mp4"):
        (tmp_path / name).symlink_to(folder / name)
    (tmp_path / "onsets.tsv").write_text("gh_a.mp4\tx\tx\tx\t0.5\ngh_b.mp4\tx\tx\tx\t0.5 7\n")
    with pytest.raises(UsageError, match=r"gh_b.mp4 lasts 4.00 s, .* an onset at 7 s"):
        real.RealSet(tmp_path)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--systems", "piano"], "no system 'piano'"),
        (["--weights", "vaura"], "NAME=DIR is needed"),
        (["--systems", "retrieval", "--weights", "vaura=x"], "NAME=DIR is needed"),
        (["--clips", "3"], "real takes neither"),
    ],
)
def test_options_that_do_not_go_together(folder, capsys, words, reason):
    assert main(["score", "real", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert reason in error and error.count("\n") == 1
    assert main(["score", "vaura", "--systems", "vaura"]) == 2 and "belongs to real" in capsys.readouterr().err


def test_results_are_kept_beside_the_weights(tmp_path, monkeypatch, folder, capsys):
    monkeypatch.setattr(real, "load", lambda name, weights=None: Oracle())
    monkeypatch.setattr(registry, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(registry, "render", lambda: [])
    place = tmp_path / "shipped" / "retrieval"
    row = Row("onset_f1_50ms", "it", 0.5)
    old = (
        Table("scores", "x", (row,)),
        Table("real", "x", (row,), source=REAL),
        Table("real_old", "x", (row,), source=REAL),
    )
    Results("retrieval", "abc", old).write(place)
    words = ["score", "real", str(folder), "--systems", "retrieval", "--json", str(tmp_path / "look.json")]
    assert main(words) == 0 and Results.read(place).tables == old
    assert [table["name"] for table in json.loads((tmp_path / "look.json").read_text())["tables"]] == ["retrieval_real"]
    assert main([*words, "--keep"]) == 0
    kept = Results.read(place)
    assert [table.name for table in kept.tables] == ["scores", "real"] and kept["real"].row("onset_f1_50ms").value == 1
    assert "Greatest Hits" in capsys.readouterr().out


def test_the_best_system_is_read_from_the_results(tmp_path, monkeypatch):
    monkeypatch.setattr(real_results, "SHIPPED", tmp_path)
    names = ("vaura", "egosonics", "retrieval")
    assert real_results.best_system(names) == "vaura"  # nothing was scored
    for name, value in {"vaura": 0.1, "egosonics": 0.3, "retrieval": None}.items():
        table = Table("real", "x", (Row(real_results.BEST_BY, "all clips", value),), source=REAL)
        Results(name, "", (table,)).write(tmp_path / name)
    assert real_results.best_system(names) == "egosonics"
    assert real_results.best_sensitivity("egosonics") is None
    rows = {
        what: (Row(real_results.BEST_BY, "all clips", value),)
        for what, value in [("real", 0.1), ("real_sensitive", 0.4)]
    }
    Results("vaura", "", tuple(Table(k, "x", v, source=REAL) for k, v in rows.items())).write(tmp_path / "vaura")
    assert real_results.best_system(names) == "vaura"  # where it is told to follow doubts too
    assert real_results.best_sensitivity("vaura") == real_results.SENSITIVITY
