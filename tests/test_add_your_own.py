"""docs/add_your_own.md: its metric, system, encoder and recipe are what they say, a file and a line of a registry."""

from __future__ import annotations

import json
import re
import sys

import numpy as np
import pytest
from paths import ROOT

import v2a_nb.metrics
import v2a_nb.systems
from v2a_nb import media
from v2a_nb.cli import main
from v2a_nb.clip import Clip, Sound
from v2a_nb.metrics import registry as metrics
from v2a_nb.metrics.registry import Entry
from v2a_nb.models import video_encoders
from v2a_nb.models.video_encoders import registry as encoders
from v2a_nb.systems import registry as systems
from v2a_nb.training import registry as recipes

METRIC, METRIC_LINE, SYSTEM, SYSTEM_LINE, ENCODER, ENCODER_LINE, RECIPE, RECIPE_LINE = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs" / "add_your_own.md").read_text(), re.DOTALL
)


@pytest.fixture
def room(tmp_path, monkeypatch):
    """A folder whose files count as files of a room of the package, as long as the test lasts."""

    def add(package, path: str, text: str) -> None:
        root = tmp_path / package.__name__
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(root)])

    before = set(sys.modules)
    yield add
    for name in set(sys.modules) - before:
        if name.startswith(("v2a_nb.metrics.crest", "v2a_nb.systems.beep", "v2a_nb.models.video_encoders.motion")):
            del sys.modules[name]


def test_the_metric_is_one_file_and_one_line(room, tmp_path, monkeypatch, capsys):
    room(v2a_nb.metrics, "crest.py", METRIC)
    entry = eval(METRIC_LINE, {"Entry": Entry})
    monkeypatch.setitem(metrics.METRICS, entry.name, entry)
    square = Sound(0.1 * np.sign(np.sin(np.arange(16000))), 16000)
    sine = Sound(0.1 * np.sin(np.arange(16000) * 0.1), 16000)
    for name, sound in {"a": square, "b": sine}.items():
        media.save_wav(sound, tmp_path / "made" / f"{name}.wav")
    scores = tmp_path / "scores.json"
    assert (
        main(["evaluate", "--generated", str(tmp_path / "made"), "--metrics", "crest_db", "--json", str(scores)]) == 0
    )
    (row,) = json.loads(scores.read_text())["metrics"]
    assert row["value"] == pytest.approx(1.505, abs=0.02) and row["n"] == 2  # 0 and 3.01 dB
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "mean crest factor, dB" in capsys.readouterr().out


def test_the_system_is_one_file_and_one_line(room, tmp_path, monkeypatch):
    room(v2a_nb.systems, "beep/system.py", SYSTEM)
    monkeypatch.setattr(systems, "SYSTEMS", dict(systems.SYSTEMS))
    exec(SYSTEM_LINE, {"SYSTEMS": systems.SYSTEMS})
    folder = systems.class_of("beep")().save_pretrained(tmp_path / "weights")
    frames = np.zeros((50, 32, 32, 3), np.uint8)
    frames[20:] = 200
    video = media.save_mp4(Clip(frames, fps=25.0), None, tmp_path / "clip.mp4")
    command = ["generate", str(video), "--system", "beep", "--weights", str(folder), "--out", str(tmp_path / "made")]
    assert main([*command, "--pitch", "880"]) == 0
    wave = media.open_sound(tmp_path / "made" / "clip.wav").samples[0]
    loud = np.flatnonzero(np.abs(wave) > 0.1)
    assert loud[0] == pytest.approx(20 * 640, abs=80) and loud[-1] < 21 * 640 + 80
    crossings = np.diff(np.signbit(wave[loud[0] : loud[-1]])).sum()
    assert crossings == pytest.approx(2 * 880 * 0.04, abs=4)
    assert systems.load(str(folder)).generate(Clip(frames, fps=25.0)).duration == 2.0


def test_the_encoder_is_one_file_and_one_line(room, tmp_path, monkeypatch):
    room(video_encoders, "motion.py", ENCODER)
    monkeypatch.setattr(encoders, "ENCODERS", dict(encoders.ENCODERS))
    exec(ENCODER_LINE, {"ENCODERS": encoders.ENCODERS, "EncoderInfo": encoders.EncoderInfo})
    folder = encoders.ENCODERS["motion"].encoder_class().save_pretrained(tmp_path / "weights")
    encoder = encoders.load_video_encoder(folder)
    frames = np.zeros((60, 40, 60, 3), np.uint8)
    frames[30:, :10, 45:] = 255  # the top right corner lights up after 1 s of 30 fps
    tokens = encoder.encode(frames, fps=30.0)
    assert tokens.shape == (25, 16) and (encoder.dim, encoder.rate) == (16, 12.5)
    moved = tokens.nonzero().tolist()
    assert {cell for _, cell in moved} == {3} and all(abs((step + 0.5) / 12.5 - 1.0) < 0.09 for step, _ in moved)


def test_the_recipe_is_one_file_and_one_line(room, tmp_path, monkeypatch):
    room(v2a_nb.systems, "beep/system.py", SYSTEM)
    room(v2a_nb.systems, "beep/train.py", RECIPE)
    monkeypatch.setattr(systems, "SYSTEMS", dict(systems.SYSTEMS))
    monkeypatch.setattr(recipes, "RECIPES", dict(recipes.RECIPES))
    exec(SYSTEM_LINE, {"SYSTEMS": systems.SYSTEMS})
    exec(RECIPE_LINE, {"RECIPES": recipes.RECIPES})
    time = np.arange(32000) / 16000
    for k, hz in enumerate((700, 900, 1100, 1300)):
        clip = Clip(np.zeros((50, 32, 32, 3), np.uint8), fps=25.0)
        media.save_mp4(clip, Sound(0.3 * np.sin(6.2832 * hz * time), 16000), tmp_path / "videos" / f"{k}.mp4")
    weights = recipes.train("beep", data=f"folder:{tmp_path / 'videos'}", out=tmp_path / "run", steps=200)
    assert systems.load(str(weights)).pitch.item() == pytest.approx(980, abs=40)  # the geometric mean
