"""Several folders: what differs is found, what does not is not, on common clips only, and it is shown everywhere."""

from __future__ import annotations

import json
import math
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest

import v2a_nb as v2a
from v2a_nb import media
from v2a_nb.cli import main
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics.base import Metric
from v2a_nb.metrics.evaluate import compare_folders, evaluate_folder
from v2a_nb.metrics.report import Comparison, Report
from v2a_nb.world import strike_world

ROW = [
    "name", "extractor", "first", "second", "first_value", "second_value", "difference", "low", "high", "p", "why",
    "clips", "recordings", "p_holm", "better",
]  # fmt: skip
ONSETS = ["onset_f1_50ms", "onset_recall_50ms", "onset_offset_abs_ms", "ambience_error_db"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Clips of ten recordings; "exact" has the true sounds, "late" the same 80 ms later, "same" a copy of exact."""
    path = tmp_path_factory.mktemp("compare")
    world = strike_world(509, 40, size=16)
    clips = [item.truth for item in world]
    assert len({clip["recording"] for clip in clips}) >= 8
    (path / "truth.json").write_text(json.dumps({"clips": clips}))
    for item in world:
        mix = item.stems["mix"]
        for name, sound in (("exact", mix), ("same", mix), ("late", Sound(np.roll(mix.samples, 1280), 16000))):
            media.save_wav(sound, path / name / f"{item.id}.wav")
    return path


@pytest.fixture(scope="module")
def scores(folder):
    folders = {name: folder / name for name in ("exact", "late", "same")}
    return compare_folders(folders, truth=folder / "truth.json", metrics=ONSETS, controls=False)


def row_of(scores, name, second):
    (row,) = [r for r in scores.comparisons if (r["name"], r["first"], r["second"]) == (name, "exact", second)]
    return row


def test_what_differs_is_found_and_what_is_the_same_is_not(scores, folder):
    assert len(scores.comparisons) == 3 * len(ONSETS)  # each two of three
    assert all(sorted(row) == sorted(ROW) for row in scores.comparisons)
    f1, offset = row_of(scores, "onset_f1_50ms", "late"), row_of(scores, "onset_offset_abs_ms", "late")
    assert f1["difference"] < -0.8 and f1["low"] <= f1["difference"] <= f1["high"] < 0
    assert f1["p"] < 0.01 and f1["p"] <= f1["p_holm"] <= 0.05 and f1["better"] == "exact"
    assert offset["difference"] == pytest.approx(80, abs=3) and offset["better"] == "exact"  # lower is better
    assert f1["clips"] == 40 and f1["recordings"] >= 8 and f1["why"] == ""
    same = row_of(scores, "onset_f1_50ms", "same")
    assert (same["difference"], same["p"], same["p_holm"], same["better"]) == (0, 1, 1, None)
    alone = evaluate_folder(folder / "late", truth=folder / "truth.json", metrics=ONSETS, controls=False)
    assert scores["late"].to_dict() == alone.to_dict()  # each system is scored as if it were alone


def test_only_common_clips_are_compared(folder, tmp_path):
    names = sorted(path.name for path in (folder / "exact").iterdir())
    for name in names[:-6]:
        (tmp_path / "part").mkdir(exist_ok=True)
        (tmp_path / "part" / name).write_bytes((folder / "late" / name).read_bytes())
    both = compare_folders(
        {"exact": folder / "exact", "part": tmp_path / "part"}, truth=folder / "truth.json", metrics=ONSETS[:1]
    )
    (row,) = both.comparisons
    assert row["clips"] == len(names) - 6 and both["exact"].clips == len(names)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / names[-1]).write_bytes((folder / "exact" / names[-1]).read_bytes())
    with pytest.raises(UsageError, match="part and other have no clip in common"):
        compare_folders({"part": tmp_path / "part", "other": tmp_path / "other"}, metrics=["ambience_db"])


def test_too_few_recordings_are_one_clear_note(folder, tmp_path):
    entry = json.loads((folder / "truth.json").read_text())["clips"][0]
    (tmp_path / "truth.json").write_text(json.dumps({"clips": [entry]}))
    folders = {name: folder / name for name in ("exact", "late")}
    both = compare_folders(folders, truth=tmp_path / "truth.json", metrics=ONSETS[:2], controls=False)
    assert all(math.isnan(row["p"]) and row["better"] is None for row in both.comparisons)
    note = "exact and late: no test of onset_f1_50ms, onset_recall_50ms: 1 recordings in common; a test needs 6"
    assert both.notes == [note] and note in repr(both) and note in both._repr_html_()
    assert both.to_dict()["comparisons"][0]["p"] is None


class Level(Metric):
    names, needs, extractor = ("level",), (), "rms"

    def score(self, clip):
        return float("nan") if clip.sound.peak < 0.9 else clip.sound.rms_dbfs


def test_a_clip_that_one_system_has_no_value_for_is_not_common(tmp_path):
    rng = np.random.default_rng(0)
    for k in range(12):
        for name in ("a", "b"):
            wave = np.sign(rng.standard_normal(1600)) * (0.1 if name == "b" and k < 4 else 0.95)
            media.save_wav(Sound(wave, 16000), tmp_path / name / f"c{k}.wav")
    (row,) = compare_folders({name: tmp_path / name for name in ("a", "b")}, metrics=[Level()]).comparisons
    assert row["clips"] == 8 and row["difference"] == pytest.approx(0, abs=0.01)
    assert row["better"] is None  # no order is declared of a metric that is in no registry


class Refusing(Level):
    def score(self, clip):
        return clip.sound.rms_dbfs

    def difference(self, first, second, recordings, name):
        raise UsageError("level needs a thousand clips")


def test_a_metric_that_refuses_is_a_note_and_no_end(folder):
    folders = {name: folder / name for name in ("exact", "late")}
    both = compare_folders(folders, metrics=[Refusing(), "ambience_db"], controls=False)
    assert both.notes == ["exact and late: no test of level: level needs a thousand clips"]
    assert math.isnan(both.comparisons[0]["p_holm"]) and math.isfinite(both.comparisons[1]["p_holm"])


def test_distances_between_sets_are_compared_too(folder, tmp_path):
    for path in sorted((folder / "exact").iterdir()):
        noise = 0.1 * np.random.default_rng(len(path.name)).standard_normal(40960)
        media.save_wav(Sound(noise, 16000), tmp_path / "noise" / path.name)
    both = compare_folders(
        {"late": folder / "late", "noise": tmp_path / "noise"}, folder / "exact", metrics=["fad"], controls=False
    )
    (row,) = both.comparisons
    assert row["difference"] == pytest.approx(both["noise"]["fad"] - both["late"]["fad"])
    assert 0 < row["low"] < row["difference"] < row["high"] and row["p_holm"] < 0.01 and row["better"] == "late"


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "img", "input", "source", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_command_prints_and_writes_comparisons(folder, tmp_path, capsys, one_picture):
    words = ["evaluate", "--truth", str(folder / "truth.json"), "--metrics", "onset_f1_50ms,ambience_error_db"]
    files = ["--json", str(tmp_path / "s.json"), "--html", str(tmp_path / "s.html")]
    for name in ("exact", "late"):
        (tmp_path / name).mkdir()
        for path in sorted((folder / name).iterdir())[:8]:
            shutil.copy(path, tmp_path / name)
    both = ["--generated", str(tmp_path / "exact"), "--generated", str(tmp_path / "late")]
    assert main([*words, *both, *files]) == 0
    shown = capsys.readouterr().out
    assert "p (Holm)" in shown and "exact: 8 clips" in shown and "late: 8 clips" in shown
    saved = json.loads((tmp_path / "s.json").read_text())
    assert list(saved) == ["systems", "comparisons"] and list(saved["systems"]) == ["exact", "late"]
    assert [row["name"] for row in saved["comparisons"]] == ["onset_f1_50ms", "ambience_error_db"]
    assert list(saved["systems"]["late"]) == ["clips", "metrics", "per_clip", "problems"]
    page = (tmp_path / "s.html").read_text()
    parser = Text()
    parser.feed(page)
    assert parser.open == [] and "<h2>Comparisons</h2>" in page and "<h2>late</h2>" in page
    assert main([*words, *both[:2], *files]) == 0  # one replaces the other, and one folder is as it was
    assert list(json.loads((tmp_path / "s.json").read_text())) == ["clips", "metrics", "per_clip", "problems"]
    assert "Comparisons" not in (tmp_path / "s.html").read_text()
    capsys.readouterr()
    assert main([*words, *both[:2], *both[:2]]) == 2
    assert "each folder once" in capsys.readouterr().err


def test_in_python_a_folder_or_a_dictionary_of_folders(folder):
    alone = v2a.evaluate(str(folder / "exact"), truth=folder / "truth.json", metrics=["onset_f1_50ms"])
    assert isinstance(alone, Report) and alone["onset_f1_50ms"] > 0.9
    folders = {"mine": folder / "exact", "theirs": str(folder / "late")}
    both = v2a.evaluate(folders, truth=folder / "truth.json", metrics=["onset_f1_50ms"], controls=False)
    assert isinstance(both, Comparison) and both["mine"]["onset_f1_50ms"] == alone["onset_f1_50ms"]
    assert both.comparisons[0]["better"] == "mine"
    for wrong, match in (
        ({"mine": folder / "exact"}, "at least two folders"), ({}, "at least two folders"),
        ([folder / "exact"], "clips must be clips of a Strike World"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=match):
            v2a.evaluate(wrong)
    with pytest.raises(UsageError, match="guidance"):
        v2a.evaluate(folders, guidance=3)
