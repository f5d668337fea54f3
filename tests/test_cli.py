"""The commands: help with an example, exit statuses, one clear line for bad input, nothing half-written."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import wave
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from v2a_nb import media, pipeline
from v2a_nb.cli import main
from v2a_nb.clip import Clip, Sound
from v2a_nb.hits import Hits
from v2a_nb.hub import SHIPPED

COMMANDS = [
    "demo",
    "world",
    "generate",
    "saliency",
    "train",
    "evaluate",
    "study",
    "convert",
    "curate",
    "monitor",
    "check",
]


class Hum:
    """A stand-in system: a quiet hum as long as the clip."""

    name, title, sample_rate, options = "hum", "Hum", 16000, ("hits",)
    expected = Hits()

    def hits(self, clip, *, sensitivity=0.5):
        assert clip.sound is None
        return self.expected.at(sensitivity)

    def generate(self, clip, *, seed=0, progress=None, **options):
        n = int(round(clip.duration * 16000))
        return Sound(0.1 * np.sin(np.arange(n) * 0.05 * (1 + seed)), 16000)

    def stream(self, clip, **how):
        yield self.generate(clip, **how)

    def steps_of(self, clip, **options):
        return 1

    def options_of_next_block(self, clip, options):
        return options


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setattr("v2a_nb.systems.registry.load", lambda *a, **k: Hum())


def video(path: Path, seconds: float = 1.0, fps: float = 20.0) -> Path:
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (int(seconds * fps), 48, 64, 3), dtype=np.uint8)
    return media.save_mp4(Clip(frames, fps=fps), None, path)


def test_help_has_an_example(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as stop:
            main([name, "--help"])
        assert stop.value.code == 0
        assert f"example: v2a-nb {name}" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["nothing"], ["generate", "a.mp4"], ["world", "w", "--clips", "x"]])
def test_wrong_usage_is_two(words):
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2


def test_generate_writes_wav_and_mp4_of_the_videos_length(tmp_path, fake, capsys):
    path = video(tmp_path / "a.mp4", 1.3)
    assert main(["generate", str(path), "--out", str(tmp_path / "made")]) == 0
    with wave.open(str(tmp_path / "made" / "a.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16000)
        assert file.getnframes() == 1.3 * 16000
    clip = media.open(tmp_path / "made" / "a.mp4")
    assert clip.sound is not None and clip.duration == pytest.approx(1.3, abs=0.01)
    assert str(tmp_path / "made" / "a.mp4") in capsys.readouterr().out


def test_one_bad_video_among_many(tmp_path, fake, capsys):
    good, bad = video(tmp_path / "good.mp4"), tmp_path / "bad.mp4"
    bad.write_bytes(b"this is no video")
    status = main(["generate", str(bad), str(good), str(tmp_path / "none.mp4"), "--out", str(tmp_path / "made")])
    assert status == 1
    captured = capsys.readouterr()
    assert (tmp_path / "made" / "good.mp4").exists() and not (tmp_path / "made" / "bad.mp4").exists()
    assert "bad.mp4" in captured.err and "none.mp4" in captured.err and "Traceback" not in captured.err
    assert not [p for p in (tmp_path / "made").iterdir() if p.name.endswith(".part")]


def test_two_videos_of_one_name_keep_both(tmp_path, fake):
    (tmp_path / "x").mkdir()
    a, b = video(tmp_path / "a.mp4"), video(tmp_path / "x" / "a.mp4", 0.5)
    made, failed = pipeline.generate_files([a, b], tmp_path / "made")
    assert [p.name for p in made] == ["a.mp4", "a.2.mp4"] and not failed


def test_part_of_a_video(tmp_path, fake):
    path = video(tmp_path / "a.mp4", 2.0)
    assert main(["generate", str(path), "--out", str(tmp_path / "m"), "--start", "0.5", "--duration", "0.7"]) == 0
    assert media.open_sound(tmp_path / "m" / "a.wav").duration == pytest.approx(0.7)


def test_unknown_system_and_weights_are_one_line(tmp_path, capsys):
    path = video(tmp_path / "a.mp4")
    assert main(["generate", str(path), "--system", "nothing", "--out", str(tmp_path)]) == 2
    assert main(["generate", str(path), "--weights", str(tmp_path / "no"), "--out", str(tmp_path)]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2 and all(line.startswith("v2a-nb: ") for line in lines)


@pytest.mark.parametrize(
    ("system", "words", "said"),
    [
        ("vaura", ["--steps", "5"], "--steps: no option of vaura, which has --guidance, --temperature, --top-k"),
        ("egosonics", ["--temperature", "0.5"], "--temperature: no option of egosonics, which has --guidance, --steps"),
        ("vaura", ["--ambient", "low"], "--ambient: no option of vaura"),
        ("egosonics", ["--top-k", "3", "--temperature", "0.5"], "--temperature, --top-k: no option of egosonics"),
    ],
)
@pytest.mark.parametrize("by_folder", [False, True])
def test_options_that_a_system_does_not_have(tmp_path, monkeypatch, capsys, system, words, said, by_folder):
    monkeypatch.setattr("v2a_nb.systems.registry.load", lambda *a, **k: pytest.fail("a model was loaded"))
    if by_folder:  # which system it is says its configuration
        folder = tmp_path / "weights"
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps({"kind": system}))
        (folder / "model.safetensors").write_bytes(b"")
        system, said = str(folder), said.replace(f"option of {system}", f"option of {folder}")
    out = tmp_path / "made"
    assert main(["generate", "a.mp4", "--system", system, "--out", str(out), *words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"v2a-nb: {said}") and not out.exists()


def test_help_says_which_system_has_which_option(capsys):
    from v2a_nb.systems.registry import SYSTEMS, options_by_system

    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    text = " ".join(capsys.readouterr().out.split("options of a system:")[1].split())
    options = options_by_system()
    assert {"guidance", "steps", "temperature", "top_k", "ambient"} <= options.keys()
    for option, systems in options.items():
        names = text.split(f"--{option.replace('_', '-')} ")[1].split(":")[0]  # METAVAR, then names of systems
        assert {name for name in SYSTEMS if name in names} == systems.keys()
        assert len({(each.type, each.metavar) for each in systems.values()}) == 1  # one flag has one type


def test_a_new_system_brings_its_own_options(tmp_path, monkeypatch, capsys):
    """One class and one line of the registry: nothing else names an option."""
    from v2a_nb.systems import registry
    from v2a_nb.systems.base import Option

    class Tone:
        options: ClassVar[dict[str, Option]] = {"pitch_hz": Option("of the tone", float, "P"), "seconds": Option("x")}

    known = registry.class_of
    monkeypatch.setitem(registry.SYSTEMS, "tone", "Tone")
    monkeypatch.setattr(registry, "class_of", lambda name: Tone if name == "tone" else known(name))
    given = {}
    monkeypatch.setattr(pipeline, "generate_files", lambda videos, out, **how: given.update(how) or ([], []))
    assert main(["generate", "a.mp4", "--system", "tone", "--out", "made", "--pitch-hz", "-4.5"]) == 0
    assert given["pitch_hz"] == -4.5 and "seconds" not in given
    with pytest.raises(SystemExit):
        main(["generate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "--pitch-hz P tone: of the tone" in text and "vta_ldm, retrieval, tone, or a folder" in text


def test_other_commands_import_no_system():
    code = (
        "import sys; from v2a_nb.cli import main\n"
        "try: main(['world', '--help'])\n"
        "except SystemExit: pass\n"
        "print('v2a_nb.systems.base' in sys.modules, file=sys.stderr)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stderr.strip() == "False"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--ambient", "low"], "low"), (["--ambient=retrieved"], "retrieved"),
        (["--ambient", "-40dB"], -40.0), (["--ambient", "-52.5 dBFS"], -52.5), (["--ambient=-30DB"], -30.0),
        (["--ambient", "room.wav"], "room.wav"), ([], None),
    ],
)  # fmt: skip
def test_an_ambience_is_a_word_a_level_or_a_file(tmp_path, monkeypatch, words, meant):
    told = {}

    def generate_files(videos, out, **options):
        told.update(options)
        return [], []

    monkeypatch.chdir(tmp_path)
    media.save_wav(Sound(np.zeros(160), 16000), "room.wav")
    monkeypatch.setattr(pipeline, "generate_files", generate_files)
    assert main(["generate", "a.mp4", "--system", "action2sound", "--out", "made", *words]) == 0
    assert told.get("ambient") == meant


@pytest.mark.parametrize("wrong", ["nothing", "no.wav", "40", "-40", "."])
def test_an_ambience_that_means_nothing_is_wrong_usage(tmp_path, monkeypatch, capsys, wrong):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main(["generate", "a.mp4", "--system", "action2sound", "--out", "made", f"--ambient={wrong}"])
    assert stop.value.code == 2 and "a level like -40dB" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_less_than_one_step_is_wrong_usage(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["generate", "a.mp4", "--system", "egosonics", "--steps", "0", "--out", str(tmp_path)])
    assert stop.value.code == 2 and "--steps" in capsys.readouterr().err


def test_of_weights_of_ones_own_nothing_is_said_of_the_shipped_ones(tmp_path, fake, capsys):
    path, mine = str(video(tmp_path / "a.mp4")), tmp_path / "mine"
    shutil.copytree(SHIPPED / "retrieval", mine)
    cases = {"vaura": True, f"vaura --weights {mine}": False, str(mine): False}
    for number, (words, warned) in enumerate(cases.items()):
        assert main(["generate", path, "--out", str(tmp_path / str(number)), "--system", *words.split()]) == 0
        assert ("only ever seen Strike World" in capsys.readouterr().err) == warned


def test_demo_on_a_video(tmp_path, fake, capsys):
    path = video(tmp_path / "mine.mp4")
    assert main(["demo", str(path), "--out", str(tmp_path / "demo")]) == 0
    out = capsys.readouterr().out
    assert "mine.mp4" in out and "mine.html" in out and "only ever seen Strike World" in out
    page = (tmp_path / "demo" / "mine.html").read_text()
    assert "Hum (tiny)" in page and "https://" not in page and "expected hit" not in page


def test_demo_says_how_sure_it_is_marks_it_and_offers_the_edit(tmp_path, fake, capsys, monkeypatch):
    known = [(0.1, 0.02), (0.5, 0.4), (0.9, 0.9)]
    hits = Hits({"time_s": t, "probability": p, "origin": "model"} for t, p in known)
    monkeypatch.setattr(Hum, "expected", hits)
    path = video(tmp_path / "mine.mp4")
    assert main(["demo", str(path), "--out", str(tmp_path / "demo"), "--system", "vaura"]) == 0
    out = capsys.readouterr().out
    assert "Hum: 2 hits expected: 1 sure, 1 doubtful (hollow in the page)\n" in out
    (line,) = (line for line in out.splitlines() if "mine.edit.html" in line and "then v2a-nb" in line)
    words = shlex.split(line.partition("then v2a-nb ")[2])
    saved = str(hits.save(tmp_path / "edited.json"))
    with monkeypatch.context() as there:
        there.chdir(tmp_path)
        assert main([saved if word == "FILE" else word for word in words]) == 0  # the words that were said
    assert (tmp_path / "made" / "mine.wav").exists()
    page = (tmp_path / "demo" / "mine.html").read_text()
    text = re.search(r'<script type="application/json">(.*?)</script>', page, re.S).group(1)
    events = json.loads(text)["events"]
    assert [(e["time"], e["labels"][1], e.get("doubtful", False)) for e in events] == [
        (0.5, "40 %", True),
        (0.9, "90 %", False),
    ]
    edit = (tmp_path / "demo" / "mine.edit.html").read_text()
    text = re.search(r'<script type="application/json" data-hits>(.*?)</script>', edit, re.S).group(1)
    assert Hits(json.loads(text)["hits"]) == hits


def test_the_demos_editor_begins_with_the_hits_of_its_sound(tmp_path, fake, capsys, monkeypatch):
    known = [(t, 0.3) for t in np.arange(0.1, 11.9, 0.4)]
    hits = Hits({"time_s": t, "probability": p, "origin": "model"} for t, p in [*known, (11.8, 0.05)])
    told, stream = [], Hum.stream
    monkeypatch.setattr(Hum, "expected", hits)
    monkeypatch.setattr(Hum, "options", ("hits", "sensitivity"))

    def spied(self, clip, hits, **how):
        told.append({round(12.0 * len(told) - clip.duration * len(told) + t, 3) for t in hits.times})
        return stream(self, clip, **how)

    monkeypatch.setattr(Hum, "stream", spied)
    path = video(tmp_path / "mine.mp4", seconds=12.0)  # two blocks, each with a doubt of its own
    assert main(["demo", str(path), "--out", str(tmp_path / "demo"), "--system", "vaura", "--seed", "3"]) == 0
    assert "--seed 3 --hits FILE" in capsys.readouterr().out
    page = (tmp_path / "demo" / "mine.edit.html").read_text()
    data = json.loads(re.search(r'<script type="application/json" data-hits>(.*?)</script>', page, re.S).group(1))
    followed = Hits(data["hits"]).at(data["sensitivity"])
    assert len(told) == 2 and 11.825 not in followed.times and followed.times[0] == 0.125
    assert told[0] | told[1] == {round(t, 3) for t in followed.times}


def test_demo_of_a_part_or_by_a_system_that_follows_no_hits_has_no_editor(tmp_path, fake, monkeypatch):
    path = str(video(tmp_path / "mine.mp4"))
    assert main(["demo", path, "--out", str(tmp_path / "a"), "--start", "0.2"]) == 0
    monkeypatch.setattr(Hum, "options", ())
    assert main(["demo", path, "--out", str(tmp_path / "b")]) == 0
    assert not list(tmp_path.rglob("*.edit.html"))


def test_demo_takes_what_scores_best_on_real_video(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("v2a_nb.systems.registry.load", lambda *a, **k: asked.append(a[0]) or Hum())
    monkeypatch.setattr("v2a_nb.scores.real_results.best_system", lambda names: "action2sound")
    path = str(video(tmp_path / "mine.mp4"))
    assert main(["demo", path, "--out", str(tmp_path / "a")]) == 0
    assert main(["demo", path, "--out", str(tmp_path / "b"), "--system", "retrieval"]) == 0
    assert main(["demo", "--out", str(tmp_path / "c")]) == 0
    assert asked == ["action2sound", "retrieval", "vaura"]


def test_world_then_evaluate(tmp_path, capsys):
    assert main(["world", str(tmp_path / "w"), "--clips", "3", "--size", "64", "--seed", "4"]) == 0
    truth = tmp_path / "w" / "truth.json"
    words = ["evaluate", "--generated", str(tmp_path / "w" / "stems"), "--truth", str(truth)]
    assert main([*words, "--json", str(tmp_path / "s.json")]) == 0
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["clips"] == 3
    values = {m["name"]: m["value"] for m in scores["metrics"]}
    assert values["onset_f1_50ms"] > 0.9
    assert main(["world", str(tmp_path / "w"), "--clips", "1"]) == 1  # never over another world
    assert main(["evaluate", "--generated", str(tmp_path), "--truth", str(tmp_path / "none.json")]) == 1
    assert main(["world", str(tmp_path / "v"), "--pairs", "mood"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_curate_keeps_and_says_why(tmp_path, capsys):
    world, kept = str(tmp_path / "w"), tmp_path / "kept.json"
    assert main(["world", world, "--clips", "3", "--seconds", "0.5", "--size", "64", "--seed", "3"]) == 0
    capsys.readouterr()
    assert main(["curate", world, "--filters", "sound,energy=-300", "--out", str(kept)]) == 0
    assert "kept 3 of 3 clips" in capsys.readouterr().out
    told = json.loads(kept.read_text())
    assert len(told["clips"]) == 3 and [s["name"] for s in told["curation"]["stages"]] == ["sound", "energy"]
    assert main(["curate", str(kept), "--filters", "sound", "--out", str(tmp_path / "again.json")]) == 0
    capsys.readouterr()
    assert main(["curate", world, "--filters", "loud", "--out", str(tmp_path / "x.json")]) == 2
    assert main(["curate", str(tmp_path / "nowhere"), "--out", str(tmp_path / "x.json")]) == 1
    assert not (tmp_path / "x.json").exists() and len(capsys.readouterr().err.strip().splitlines()) == 2


def test_train_refuses_a_folder_that_holds_a_run(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{}")
    assert main(["train", "vaura", "--steps", "4", "--out", str(tmp_path)]) == 1
    assert "--resume" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["train", "vaas"], ["study", "table3"]])
def test_an_option_is_no_setting_of_a_recipe(words, tmp_path, capsys):
    assert main([*words, "--out", str(tmp_path / "run"), "--set", "steps=8"]) == 2
    assert capsys.readouterr().err.splitlines() == ["v2a-nb: --set steps: that is an option of this command: --steps"]
    assert not (tmp_path / "run").exists()


def test_monitor_prints_one_screen_of_a_run(tmp_path, capsys):
    (tmp_path / "log.jsonl").write_text('{"step": 5, "loss": 2.5, "rate": 0.001, "seconds": 10.0}\n{"step": 10, "lo')
    assert main(["monitor", str(tmp_path), "--once", "--steps", "20"]) == 0
    said = capsys.readouterr().out
    assert "2.5" in said and "20" in said
    assert main(["monitor", str(tmp_path / "none"), "--once"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_check_names_a_remedy_for_what_is_missing(monkeypatch, capsys):
    import importlib.metadata

    from v2a_nb import doctor

    real = importlib.metadata.version

    def version(name):
        if name == "captum":
            raise importlib.metadata.PackageNotFoundError(name)
        return "0.1" if name == "librosa" else real(name)

    wanted = [("captum", "0.9"), ("librosa", "0.10"), ("numpy", "1.26")]
    monkeypatch.setattr(doctor, "requirements", lambda: wanted)
    monkeypatch.setattr(doctor.importlib.metadata, "version", version)
    assert main(["check"]) == 1
    out = capsys.readouterr().out
    assert "captum is missing" in out and 'pip install "captum>=0.9"' in out
    assert "librosa 0.1 is older than 0.10" in out and "pip install --upgrade" in out
