"""Hits on the command line: a file of them for one video, a sensitivity, and the file that is written."""

from __future__ import annotations

import json

import pytest
from pipeline_parts import Tone, video

from v2a_nb.cli import main
from v2a_nb.hits import Hits

EXPECTED = Hits(
    [
        {"time_s": 0.1, "probability": 0.9, "origin": "model"}, {"time_s": 0.3, "probability": 0.6, "origin": "model"},
        {"time_s": 0.7, "probability": 0.2, "origin": "model"},
    ]
)  # fmt: skip


@pytest.fixture
def toner(tone, monkeypatch) -> Tone:
    """The stand-in system, which expects three hits."""
    hits = lambda self, clip, *, sensitivity=0.5: EXPECTED.at(sensitivity)  # noqa: E731
    monkeypatch.setattr(Tone, "hits", hits, raising=False)
    return tone


def generate(*words: object) -> int:
    return main(["generate", *map(str, words)])


def test_hits_of_a_file_and_a_sensitivity_reach_the_system(tmp_path, toner):
    path = video(tmp_path / "a.mp4", 1.0)
    told = Hits([0.2, 0.8]).save(tmp_path / "hits.json")
    assert generate(path, "--out", tmp_path / "m", "--hits", told) == 0
    assert toner.seen[-1]["hits"] == Hits([0.2, 0.8])
    assert generate(path, "--out", tmp_path / "n", "--sensitivity", "0.3") == 0
    assert toner.seen[-1]["hits"] == EXPECTED.at(0.3)
    assert not list(tmp_path.rglob("*.hits.json")), "written only when it is asked for"


def test_hits_are_in_the_time_of_the_whole_video(tmp_path, toner):
    path = video(tmp_path / "a.mp4", 2.0)
    told = Hits([0.2, 0.8, 1.25]).save(tmp_path / "hits.json")
    words = ("--out", tmp_path / "m", "--hits", told, "--start", "0.5", "--duration", "1", "--save-hits")
    assert generate(path, *words) == 0
    assert toner.seen[-1]["hits"].times == pytest.approx([0.3, 0.75])
    assert Hits.load(tmp_path / "m" / "a.hits.json").times == pytest.approx([0.8, 1.25])


def test_what_is_expected_is_written_to_be_edited(tmp_path, toner):
    path, out = video(tmp_path / "a.mp4", 1.0), tmp_path / "m"
    assert generate(path, "--out", out, "--save-hits") == 0
    assert Hits.load(out / "a.hits.json") == EXPECTED.at(0.5) and "hits" not in toner.seen[-1]
    assert {p.name for p in out.iterdir()} == {"a.wav", "a.mp4", "a.hits.json", ".v2a-nb.jsonl"}
    assert generate(path, "--out", out, "--save-hits", "--sensitivity", "1") == 0
    assert Hits.load(out / "a.hits.json") == EXPECTED


def test_the_ledger_knows_the_file_and_the_hits(tmp_path, toner, capsys):
    path, out = video(tmp_path / "a.mp4", 1.0), tmp_path / "m"
    told = Hits([0.2]).save(tmp_path / "hits.json")
    words = (path, "--out", out, "--hits", told, "--save-hits")
    assert generate(*words) == generate(*words) == 0
    assert len(toner.seen) == 1 and "already made" in capsys.readouterr().err
    Hits([0.4]).save(told)
    assert generate(*words) == 0 and len(toner.seen) == 2, "other hits are other settings"
    mine = json.loads((out / "a.hits.json").read_text())
    (out / "a.hits.json").write_text(json.dumps(mine))  # edited by hand
    assert generate(*words, "--seed", "1") == 1
    assert "a.hits.json is there already, not made by this command, or changed since" in capsys.readouterr().err
    assert generate(path, "--out", out, "--hits", out / "a.hits.json") == 0, "it is read, and stays"
    assert json.loads((out / "a.hits.json").read_text()) == mine


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["--hits", "{tmp}/none.json"], 2, "none.json: these hits cannot be read"),
        (["--hits", "{tmp}/a.mp4"], 2, "a.mp4 is no JSON"), (["--hits", "{tmp}/far.json"], 1, "lies outside of"),
        (["--hits", "{tmp}/ok.json", "--system", "retrieval"], 2, "--hits: no option of retrieval"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(tmp_path, toner, capsys, words, status, message):
    video(tmp_path / "a.mp4")
    Hits([0.2]).save(tmp_path / "ok.json")
    Hits([99.0]).save(tmp_path / "far.json")
    words = [word.format(tmp=tmp_path) for word in words]
    assert generate(tmp_path / "a.mp4", "--out", tmp_path / "m", *words) == status
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and error.count("\n") <= 2


def test_hits_are_of_one_video(tmp_path, toner, capsys):
    videos = [video(tmp_path / f"{name}.mp4") for name in "ab"]
    told = Hits([0.2]).save(tmp_path / "ok.json")
    for inputs in (videos, [tmp_path]):
        assert generate(*inputs, "--out", tmp_path / "m", "--hits", told) == 2
        assert "--hits: hits are of one video, and there are 2" in capsys.readouterr().err
    assert toner.seen == []


def test_a_sensitivity_may_suit_the_clip(tmp_path, toner):
    path = video(tmp_path / "a.mp4", 1.0)
    assert generate(path, "--out", tmp_path / "n", "--sensitivity", "auto") == 0
    assert toner.seen[-1]["hits"] == EXPECTED.at("auto") != EXPECTED.at(0.5)


@pytest.mark.parametrize("value", ["2", "-0.1", "nan", "high", ""])
def test_a_sensitivity_is_0_to_1(tmp_path, value, capsys):
    with pytest.raises(SystemExit) as error:
        generate(tmp_path / "a.mp4", "--out", tmp_path, f"--sensitivity={value}")
    assert error.value.code == 2 and "0 (only sure) to 1 (every doubt)" in capsys.readouterr().err
