"""The registry: every entry is a metric, listing is cheap, and one file and one entry add a metric."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.cli import main
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics import registry
from v2a_nb.metrics.base import Metric, ScoredClip, load
from v2a_nb.metrics.frechet import Fad

TOY = '''"""Crest factor: how far the peak stands over the RMS."""

from v2a_nb.metrics.base import Metric


class Crest(Metric):
    extractor = "peak"

    def score(self, clip):
        return 20 * float(__import__("math").log10(clip.sound.peak)) - clip.sound.rms_dbfs
'''


@pytest.fixture
def toy(tmp_path, monkeypatch):
    (tmp_path / "toy_metric.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = registry.Entry("crest_db", "toy_metric.Crest", (), "mean distance of peak and RMS, dB")
    monkeypatch.setitem(registry.METRICS, "crest_db", entry)
    rng = np.random.default_rng(0)
    for k in range(3):
        media.save_wav(Sound(0.1 * np.sign(rng.standard_normal(16000)), 16000), tmp_path / "made" / f"c{k}.wav")
    return tmp_path


def test_one_file_and_one_entry_add_a_metric(toy, capsys):
    command = ["evaluate", "--generated", str(toy / "made"), "--json", str(toy / "scores.json")]
    assert main(command) == 0  # quick and without needs: it is scored unasked
    assert "crest_db" in capsys.readouterr().out
    assert main([*command, "--metrics", "crest_db", "--html", str(toy / "page.html")]) == 0
    (row,) = json.loads((toy / "scores.json").read_text())["metrics"]
    assert row["name"] == "crest_db" and row["extractor"] == "peak" and row["n"] == 3
    assert row["value"] == pytest.approx(0, abs=0.01)  # the peak of a square wave is its RMS
    assert "crest_db" in (toy / "page.html").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "  crest_db                 mean distance of peak and RMS, dB" in capsys.readouterr().out


def test_what_is_slow_is_scored_only_when_named(toy, monkeypatch):
    slow = registry.Entry("crest_db", "toy_metric.Crest", (), "slow", default=False)
    monkeypatch.setitem(registry.METRICS, "crest_db", slow)
    command = ["evaluate", "--generated", str(toy / "made"), "--json", str(toy / "scores.json")]
    for words, wanted in (([], ["ambience_db"]), (["--metrics", "ambience_db,crest_db"], ["ambience_db", "crest_db"])):
        assert main([*command, *words]) == 0
        assert [m["name"] for m in json.loads((toy / "scores.json").read_text())["metrics"]] == wanted


@pytest.mark.parametrize(
    ("words", "why"),
    [(["--metrics", "fad"], "fad needs true sounds"), (["--metrics", "fda"], "unknown metric 'fda'"),
     (["--metrics", ""], "at least one"), (["--metrics", "vaas_acc,onset_f1_50ms"], "vaas_acc needs the videos")],
)  # fmt: skip
def test_what_cannot_run_is_wrong_usage(toy, capsys, words, why):
    assert main(["evaluate", "--generated", str(toy / "made"), *words]) == 2
    error = capsys.readouterr().err
    assert why in error and len(error.strip().splitlines()) == 1


def test_every_entry_is_a_metric_with_its_one_line():
    for entry in registry.METRICS.values():
        metric = load(entry)
        assert isinstance(metric, Metric) and entry.name in metric.names and metric.needs == entry.needs
        assert set(entry.needs) <= set(registry.NEEDS)
        assert entry.help and "\n" not in entry.help and len(entry.name) <= 24
        assert f"  {entry.name:24} {entry.help}" in registry.listing().splitlines()
        assert metric.controls <= {"true", "round trip", "shuffled"}


def test_listing_costs_no_torch():
    code = (
        "import sys\nfrom v2a_nb.cli import main\n"
        "try:\n    main(['evaluate', '--help'])\nexcept SystemExit:\n    pass\n"
        "print(sorted({'torch', 'numpy'} & set(sys.modules)))"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "fad" in made.stdout and made.stdout.splitlines()[-1] == "[]"


def test_a_subclass_of_a_registered_metric_has_its_names():
    class Other(Fad):
        pass

    assert Other(model=print).names == ("fad",) and Other(model=print).needs == ("reference",)
    with pytest.raises(UsageError, match="known are"):
        registry.entries(["nothing"])


def test_a_clip_shares_what_is_computed_once():
    calls = []

    def frames():
        calls.append(1)
        return Clip(np.zeros((5, 4, 4, 3), np.uint8), fps=5.0)

    sound = Sound(np.ones(8000), 16000)
    clip = ScoredClip("a", "r", sound, open_video=frames)
    assert [clip.has(n) for n in ("video", "truth", "reference", "text")] == [True, False, False, False]
    other = clip.with_sound(sound.gain(-6))
    assert clip.duration == other.duration == 1.0 and len(calls) == 1
    assert other.fitted_sound.n == 16000 and other.fitted_sound.samples[0, -1] == 0
    assert clip.once_per_clip("x", lambda: 1) == other.once_per_clip("x", lambda: 2) == 1
    assert [c.once_per_sound("x", lambda k=k: k) for k, c in enumerate((clip, other, clip))] == [0, 1, 0]
    assert ScoredClip("a", "r", sound).duration == 0.5
