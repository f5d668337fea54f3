"""Protocols: each measure is a metric or says why not, sounds are prepared as there, what lacks weights is left out."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from clap_parts import small_clap
from paths import ROOT
from safetensors.torch import save_file

from v2a_nb import media
from v2a_nb.cli import main
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.metrics import protocols, registry
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.evaluate import compare_folders, evaluate, evaluate_folder
from v2a_nb.metrics.protocols import PROTOCOLS, plan
from v2a_nb.models.vggish import Vggish
from v2a_nb.world import strike_world

EVERYTHING = tuple(registry.NEEDS)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A small VGGish and a small CLAP in the published layouts."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    save_file({k: v.contiguous() for k, v in Vggish(width=2, hidden=16).state_dict().items()}, folder / "v.safetensors")
    small_clap(folder / "clap")
    return [f"vggish={folder / 'v.safetensors'}", f"clap={folder / 'clap'}"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Eight sounds of 4 s, references that are the same but louder, and a table of texts."""
    path, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    lines = ["id,text"]
    for k in range(8):
        wave = 0.05 * rng.standard_normal(4 * 16000) * (1 + np.arange(4 * 16000) % 9000 / 3000)
        media.save_wav(Sound(wave, 16000), path / "made" / f"c{k}.wav")
        media.save_wav(Sound(1.5 * wave, 16000), path / "true" / f"c{k}.wav")
        lines.append(f"c{k},{'rain' if k % 2 else 'a stick hits metal'}")
    (path / "texts.csv").write_text("\n".join(lines))
    return path


def test_every_measure_is_a_metric_or_says_why_not():
    assert list(PROTOCOLS) == ["v-aura", "egosonics", "action2sound", "vta-ldm", "av-benchmark"]
    for name, protocol in PROTOCOLS.items():
        metrics = [measure.metric for measure in protocol.measures if measure.metric]
        assert len(set(metrics)) == len(metrics) and registry.entries(metrics)  # each is known, and takes its extractor
        assert len({measure.original for measure in protocol.measures}) == len(protocol.measures)
        assert all(measure.differs and "\n" not in measure.differs for measure in protocol.measures)
        assert not any(measure.stand_in and not measure.metric for measure in protocol.measures)
        assert protocol.title and protocol.sources and (protocol.seconds or 1) > 0
        for measure in protocol.measures:
            assert f"{measure.metric or 'left out':30} for {measure.original}" in protocols.listing()
            assert measure.original in protocols.document() and name in protocols.document()


def test_the_settings_are_those_of_the_papers():
    settings = {name: (p.seconds, p.sample_rate, p.zero_mean) for name, p in PROTOCOLS.items()}
    assert settings == {
        "v-aura": (2.56, None, False), "egosonics": (10.0, 22050, False), "action2sound": (3.0, 16000, False),
        "vta-ldm": (None, 16000, True), "av-benchmark": (8.0, None, True),
    }  # fmt: skip
    assert PROTOCOLS["v-aura"].settings.startswith("the first 2.56 s, mono, at each extractor's rate, loudness left")
    assert PROTOCOLS["vta-ldm"].settings.startswith("whole clips, mono, at 16000 Hz, mean taken off")


def test_sounds_are_prepared_as_there():
    wave = np.stack([np.linspace(0, 1, 40000), np.full(40000, 0.5)])
    stereo = Sound(wave, 8000)  # 5 s
    short = PROTOCOLS["v-aura"].sound(stereo)
    assert (short.channels, short.sample_rate, short.n) == (1, 8000, 20480)
    assert short.samples[0] == pytest.approx(wave.mean(0)[:20480], abs=1e-6)
    whole = PROTOCOLS["vta-ldm"].sound(stereo)
    assert whole.sample_rate == 16000 and whole.duration == 5 and abs(whole.samples.mean()) < 1e-3
    # the mean of the whole sound is taken off before it is cut, as in av-benchmark
    long = PROTOCOLS["av-benchmark"].sound(Sound(np.linspace(0, 1, 10000), 1000))
    assert long.duration == 8 and long.samples[0, 0] == pytest.approx(-0.5, abs=1e-3)
    assert long.samples.mean() == pytest.approx(-0.1, abs=1e-3)
    again = PROTOCOLS["action2sound"].sound(PROTOCOLS["action2sound"].sound(stereo))
    assert again.duration == 3 and again.sample_rate == 16000
    assert PROTOCOLS["egosonics"].sound(stereo).duration == 5  # nothing is filled


def test_clips_are_cut_with_all_that_they_have():
    video = Clip(np.zeros((50, 4, 4, 3), np.uint8), fps=10.0)
    truth = {"duration_s": 5.0, "events": [{"time_s": 1.0}, {"time_s": 3.0}]}
    sound = Sound(np.ones(5000), 1000)
    clip = ScoredClip("a", "r", sound, truth, sound, "text", lambda: video, {"action": sound})
    assert clip.duration == 5
    cut = PROTOCOLS["v-aura"].clip(clip)
    assert cut.duration == cut.reference.duration == cut.stems["action"].duration == cut.sound.duration == 2.56
    assert cut.video.duration == 2.56 and len(cut.truth["events"]) == 1 and cut.text == "text"
    assert len(truth["events"]) == 2 and truth["duration_s"] == clip.duration == 5
    without = PROTOCOLS["v-aura"].clip(ScoredClip("a", "r", sound, open_video=lambda: video))
    assert without.duration == 2.56 and without.truth is without.reference is without.stems is None
    assert PROTOCOLS["vta-ldm"].clip(clip).video is video


def test_what_lacks_weights_or_what_it_needs_is_left_out_with_the_option_that_gives_it():
    planned = plan("v-aura", EVERYTHING)
    rows = {row["original"].split()[0]: row for row in planned.rows}
    assert planned.metrics == ["av_sim"] and rows["IB"]["status"] == "stand-in" and rows["IB"]["give"] == ""
    assert rows["FAD"]["status"] == rows["KLD"]["status"] == rows["Sync"]["status"] == "left out"
    assert rows["FAD"]["give"] == "weights (--weights vggish=FILE.safetensors)"
    assert rows["Sync"]["give"] == "weights (--weights synchformer=FILE.safetensors)"
    assert "--weights ast-audioset, which downloads them" in rows["KLD"]["give"]
    planned = plan("v-aura", ["reference"], ["vggish=a b.safetensors", "ast-audioset"])
    assert planned.metrics == ["fad[vggish=a b.safetensors]", "kl_capped[ast-audioset]"]
    statuses = [row["status"] for row in planned.rows]
    assert statuses[:3] == ["scored", "stand-in", "left out"] and "--videos DIR" in planned.rows[2]["give"]
    full = plan("av-benchmark", EVERYTHING, ["vggish=v", "panns-cnn14=p", "ast-audioset=a", "clap-general"])
    assert [row["original"] for row in full.rows if not row["metric"]] == ["MS-CLAP-Score"]  # no option gives it
    assert full.rows[-1]["status"] == "left out" and full.rows[-1]["give"] == ""
    assert "fd[panns-cnn14=p]" in full.metrics and "clap[clap-general]" in full.metrics


@pytest.mark.parametrize(
    ("arguments", "why"),
    [(("mmaudio", EVERYTHING), r"unknown protocol 'mmaudio'; known are v-aura"),
     (("v-aura", EVERYTHING, ["panns-cnn14=x"]), r"'panns-cnn14': the protocol v-aura reads vggish, ast-audioset"),
     (("v-aura", ["reference"]), r"nothing of the protocol v-aura can be scored: fad\[vggish\] needs weights"),
     (("egosonics", []), r"vaas_acc needs the videos")],
)  # fmt: skip
def test_what_cannot_be_planned_is_one_clear_line(arguments, why):
    with pytest.raises(UsageError, match=why) as error:
        plan(*arguments)
    assert "\n" not in str(error.value)


def test_a_folder_by_a_protocol(folder, weights):
    report = evaluate_folder(
        folder / "made", folder / "true", text=folder / "texts.csv", protocol="action2sound", weights=weights
    )
    assert [m["name"] for m in report.metrics] == ["fad[vggish]", "clap[clap]", "ambience_energy"]
    assert report.metrics[0]["extractor"].startswith("vggish@") and report.problems == []  # 4 s are cut to 3 s
    by_hand = evaluate_folder(folder / "made", metrics=["ambience_energy"], controls=False)
    assert report["ambience_energy"] >= by_hand["ambience_energy"] - 1e-9
    rows = {row["original"].split()[0]: row for row in report.protocol["measures"]}
    assert {name: row["status"] for name, row in rows.items()} == {
        "FAD": "scored", "AV-Sync": "left out", "CLAP": "stand-in", "ambient": "scored",
    }  # fmt: skip
    text, page = repr(report), report._repr_html_()
    for word in ("protocol action2sound: Action2Sound (arXiv:2406.09272", "the first 3 s, mono, at 16000 Hz",
                 "left out", "needs the videos (--videos DIR)", "all: averages are over clips"):  # fmt: skip
        assert word in text and word in page.replace("<li>", "all: ")
    saved = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert saved["protocol"]["name"] == "action2sound" and saved["protocol"]["seconds"] == 3.0
    assert saved["protocol"]["measures"] == list(report.protocol["measures"]) and saved["protocol"]["differs"]
    assert "protocol" not in by_hand.to_dict()


def test_what_gets_no_value_counts_as_left_out_and_short_clips_are_said(folder, weights):
    # av-benchmark's default length is 8 s; an inception score needs 500 clips, and is not asked for without weights
    report = evaluate_folder(folder / "made", folder / "true", protocol="av-benchmark", weights=weights[:1])
    assert [m["name"] for m in report.metrics] == ["fad[vggish]"] and list(report.controls) == []
    assert report.problems == [{"id": "protocol av-benchmark", "what": "8 of 8 clips are shorter than its 8 s"}]
    planned = plan("av-benchmark", EVERYTHING, ["panns-cnn14=x"])
    results = [{"name": "is_10[panns-cnn14]", "value": float("nan")}, {"name": "fd[panns-cnn14]", "value": 1.0}]
    statuses = {row["metric"]: row["status"] for row in planned.to_dict(results)["measures"]}
    assert statuses["is_10[panns-cnn14]"] == "left out" and statuses["fd[panns-cnn14]"] == "scored"


def test_two_folders_and_the_command(folder, weights, capsys):
    both = compare_folders(
        {"a": folder / "made", "b": folder / "true"}, folder / "true", protocol="action2sound", weights=weights[:1]
    )
    assert both["a"].protocol["name"] == "action2sound" and both["b"].protocol is None
    assert [row["name"] for row in both.comparisons] == ["fad[vggish]", "ambience_energy"]
    command = ["evaluate", "--generated", str(folder / "made"), "--protocol", "action2sound"]
    assert main([*command, "--json", str(folder / "scores.json"), "--html", str(folder / "page.html")]) == 0
    printed = capsys.readouterr().out
    assert "ambience_energy" in printed and "--weights vggish=FILE.safetensors" in printed
    assert json.loads((folder / "scores.json").read_text())["protocol"]["measures"][0]["status"] == "left out"
    for words, why in ((["--metrics", "fad"], "says which metrics"), (["--weights", "mert"], "reads vggish, clap")):
        assert main([*command, *words]) == 2
        error = capsys.readouterr().err
        assert why in error and len(error.strip().splitlines()) == 1
    assert main(["evaluate", "--generated", str(folder / "made"), "--weights", "vggish=x"]) == 2
    assert "weights are for a protocol" in capsys.readouterr().err
    with pytest.raises(WeightsError, match="comes without weights"):  # no place is published for it
        evaluate(folder / "made", reference=folder / "true", protocol="v-aura", weights=["vggish"])
    with pytest.raises(UsageError, match=r"give \['vggish=x'\]"):
        evaluate_folder(folder / "made", folder / "true", protocol="v-aura", weights="vggish=x")


class Echo:
    """A system that gives every clip the same 4 s."""

    def generate(self, clip, *, seed):
        assert clip.duration == 4
        return Sound(0.1 * np.random.default_rng(seed).standard_normal(64000), 16000)


def test_a_system_on_a_world_by_a_protocol():
    world = strike_world(505, 4, seconds=4.0, size=16, per_recording=1)
    report = evaluate(world, Echo(), protocol="action2sound")
    assert [m["name"] for m in report.metrics] == ["av_sync_acc", "ambience_energy"] and report.problems == []
    assert report.protocol["measures"][1]["status"] == "stand-in" and report.clips == 4
    assert [m["n"] for m in report.controls["ground truth"]] == [4, 4]


def test_the_document_is_rendered():
    assert protocols.document() in (ROOT / "docs" / "protocols.md").read_text(encoding="utf-8")
