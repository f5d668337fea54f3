"""The control ladder: the controls are what their names say, good metrics are in order, and bad ones are flagged."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.cli import main
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics import registry
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.evaluate import evaluate_folder, evaluate_ladder
from v2a_nb.metrics.ladder import LEAST_CLIPS, delayed, noise_like, plan_others, rungs
from v2a_nb.metrics.orders import (
    ACTION,
    AMBIENCE,
    LATE,
    NOISE,
    ORDERS,
    OTHER,
    OTHER_MATERIAL,
    SAME_MATERIAL,
    SILENCE,
    TRUTH,
    flags,
    order_of,
)
from v2a_nb.world import strike_world

RATE = 16000
TIMING = [
    "onset_f1_25ms", "onset_f1_50ms", "onset_f1_100ms", "onset_recall_50ms", "onset_offset_abs_ms",
    "onset_offset_signed_ms", "onset_miss_rate", "onset_count_error", "envelope_lag_abs_ms", "envelope_lag_signed_ms",
    "event_energy_ratio_db", "event_energy_error_db",
]  # fmt: skip
CONTENT = [
    "material_accuracy", "ambience_error_db", "decay_error_db", "event_mel_distance", "event_stft_distance", "fad",
    "ambience_leakage", "leakage_error", "unexplained_share", "ambience_kind_accuracy", "ambience_db",
]  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return strike_world(404, 40, size=16)


@pytest.fixture(scope="module")
def ladder(world):
    halved = {"codec round trip": lambda sound: sound.gain(-6)}
    return evaluate_ladder(world, [*TIMING, *CONTENT], round_trips=halved)


def test_every_registered_metric_has_its_order_and_every_order_its_controls():
    assert set(registry.METRICS) <= set(ORDERS) and order_of("fad[clap]") == ORDERS["fad"] != order_of("no metric")
    known = {TRUTH, SILENCE, NOISE, AMBIENCE, ACTION, OTHER, SAME_MATERIAL, OTHER_MATERIAL, *LATE}
    for name, order in ORDERS.items():
        assert order.orders and all(len(steps) > 1 for steps in order.orders), name
        assert {control for steps in order.orders for control in steps} <= known, name
        assert order.better in ("higher", "lower", "") and order.rising == (order.better == ""), name


def test_metrics_that_measure_what_they_say_are_in_order(ladder):
    assert ladder.flags == [] and ladder.problems == [] and ladder.clips == 40
    assert ladder.controls == [
        TRUTH, "codec round trip", *LATE, SAME_MATERIAL, OTHER_MATERIAL, ACTION, AMBIENCE, NOISE, SILENCE
    ]  # fmt: skip
    assert [row["name"] for row in ladder.metrics] == [*TIMING, *CONTENT]
    f1, lag = ladder["onset_f1_50ms"], ladder["envelope_lag_abs_ms"]
    assert f1[TRUTH] > 0.95 > f1["40 ms late"] > 0.8 > f1["100 ms late"] and f1[SILENCE] == 0
    assert [lag[late] for late in LATE] == pytest.approx([40, 100, 200, 500], abs=1)
    assert math.isnan(lag[SILENCE]) and ladder["fad"][TRUTH] == pytest.approx(0, abs=1e-6)
    assert ladder["ambience_error_db"]["codec round trip"] == pytest.approx(6, abs=0.6)
    assert ladder["material_accuracy"][SAME_MATERIAL] > ladder["material_accuracy"][OTHER_MATERIAL]


class Peak(Metric):
    """One that promises to know the true sound and listens to the peak alone."""

    names, needs, extractor = ("onset_f1_50ms",), (), "peak"

    def score(self, clip):
        return clip.sound.peak


def test_what_does_not_order_them_is_flagged_with_the_reason(world):
    ladder = evaluate_ladder(world.clips[:8], [Peak()])
    (row,) = ladder.metrics
    assert row["flags"] and row["better"] == "higher"
    assert any(flag.startswith("100 ms late") and "is not worse than truth" in flag for flag in row["flags"])
    assert "out of order: onset_f1_50ms: 100 ms late" in repr(ladder) and "! onset_f1_50ms" in repr(ladder)
    assert "! onset_f1_50ms" in ladder._repr_html_() and "is not worse than truth" in ladder._repr_html_()
    assert json.loads(json.dumps(ladder.to_dict(), allow_nan=False))["metrics"][0]["flags"] == row["flags"]


def test_golden_flags():
    late = dict(zip((TRUTH, *LATE), (1.0, 40.0, 100.0, 200.0, 500.0), strict=True))
    assert flags("envelope_lag_abs_ms", late) == [] == flags("envelope_lag_signed_ms", late)
    swapped = {**late, "100 ms late": 260.0}
    assert flags("envelope_lag_abs_ms", swapped) == ["200 ms late (200.000) is better than 100 ms late (260.000)"]
    assert flags("envelope_lag_signed_ms", swapped) == ["200 ms late (200.000) is lower than 100 ms late (260.000)"]
    assert (
        flags("envelope_lag_abs_ms", {**late, "500 ms late": 0.5})[0]
        == "500 ms late (0.500) is not worse than truth (1.000)"
    )
    assert flags("envelope_lag_abs_ms", {**late, "100 ms late": 50.0, "40 ms late": 60.0}) == []  # within the slack
    assert flags("onset_f1_50ms", {TRUTH: 0.5, SILENCE: 0.5}) == ["silence (0.500) is not worse than truth (0.500)"]
    assert flags("onset_f1_50ms", {TRUTH: 0.5, SILENCE: math.nan}) == flags("onset_f1_50ms", {TRUTH: 0.5}) == []
    assert flags("not registered", {TRUTH: 0.0, SILENCE: 1.0}) == []


def test_controls_are_what_their_names_say(world):
    item = world[0]
    mix = item.stems["mix"]
    clip = ScoredClip("a", "r", reference=mix, stems=item.stems)
    made = dict(rungs(clip, {OTHER: world[20].stems["mix"]}, {"half": lambda sound: sound.gain(-6)}))
    assert list(made) == [TRUTH, "half", *LATE, OTHER, ACTION, AMBIENCE, NOISE, SILENCE]
    assert all((sound.n, sound.sample_rate) == (mix.n, RATE) for sound in made.values())
    assert np.array_equal(made["100 ms late"].samples[:, 1600:], mix.samples[:, :-1600])
    assert made["100 ms late"].rms_dbfs == pytest.approx(mix.rms_dbfs, abs=1e-3)
    assert made[NOISE].rms_dbfs == pytest.approx(mix.rms_dbfs, abs=1e-3) and made[SILENCE].peak == 0
    assert np.array_equal(made[NOISE].samples, dict(rungs(clip, {}))[NOISE].samples)  # the same at every run
    bare = dict(rungs(ScoredClip("a", "r", reference=mix), {}))
    assert list(bare) == [TRUTH, *LATE, NOISE, SILENCE]
    power = np.square(np.abs(np.fft.rfft(noise_like(Sound(np.ones((2, 160000)), RATE), 3).samples, axis=1))).mean(0)
    bands = [power[1000 * 2**k : 2000 * 2**k].sum() for k in range(5)]  # each an octave: pink has the same in all
    assert np.ptp(10 * np.log10(bands)) < 1
    assert delayed(mix, 0.0) is not mix and np.array_equal(delayed(mix, 0.0).samples, mix.samples)


def test_other_clips_are_of_another_recording_and_of_the_material(world):
    entries = [item.truth for item in world]
    plan = plan_others(entries)

    def material(k):
        names = [e["material"] for e in entries[k]["events"] if e["sounding"]]
        return max(sorted(set(names)), key=names.count) if names else None

    assert list(plan) == [SAME_MATERIAL, OTHER_MATERIAL]
    for name, same in ((SAME_MATERIAL, True), (OTHER_MATERIAL, False)):
        pairs = [(k, j) for k, j in enumerate(plan[name]) if j is not None]
        assert len(pairs) > 30
        for k, j in pairs:
            assert entries[k]["recording"] != entries[j]["recording"] and (material(k) == material(j)) == same
    bare = plan_others([{"id": str(k)} for k in range(LEAST_CLIPS)])
    assert list(bare) == [OTHER] and all(k != j for k, j in enumerate(bare[OTHER]))
    one = plan_others([{"id": str(k), "recording": "r"} for k in range(LEAST_CLIPS)])
    assert one == {OTHER: [None] * LEAST_CLIPS}


def test_too_few_clips_are_refused(world):
    with pytest.raises(UsageError, match=f"ladder of 7 clips would be chance; it needs {LEAST_CLIPS}"):
        evaluate_ladder(world.clips[:7])
    with pytest.raises(UsageError, match="clips must be"):
        evaluate_ladder("world")


def test_the_command_scores_references_and_their_stems(world, tmp_path, capsys, one_picture):
    some = world.clips[:12]
    (tmp_path / "truth.json").write_text(json.dumps({"clips": [item.truth for item in some]}))
    for k, item in enumerate(some):
        for stem in ("mix", "action", "ambient"):
            media.save_wav(item.stems[stem], tmp_path / "true" / f"{item.id}.{stem}.wav")
        media.save_wav(some[k - 6].stems["mix"], tmp_path / "made" / f"{item.id}.wav")
    words = ["evaluate", "--generated", str(tmp_path / "made"), "--reference", str(tmp_path / "true")]
    words += ["--truth", str(tmp_path / "truth.json"), "--metrics", "onset_f1_50ms,ambience_leakage"]
    files = ["--json", str(tmp_path / "s.json"), "--html", str(tmp_path / "s.html")]
    assert main([*words, "--ladder", *files]) == 0
    assert "control ladder of 12 clips" in capsys.readouterr().out
    saved = json.loads((tmp_path / "s.json").read_text())
    assert list(saved) == ["clips", "metrics", "per_clip", "problems", "ladder"] and saved["problems"] == []
    assert {ACTION, AMBIENCE, SAME_MATERIAL, OTHER_MATERIAL} < set(saved["ladder"]["controls"])
    values = {row["name"]: row["values"] for row in saved["ladder"]["metrics"]}
    assert values["onset_f1_50ms"][TRUTH] > 0.9 and saved["metrics"][0]["value"] < 0.5  # truth, and what was generated
    assert values["ambience_leakage"][ACTION] < 0.1 < 0.7 < values["ambience_leakage"][AMBIENCE]
    assert "Control ladder of 12 clips" in (tmp_path / "s.html").read_text()
    capsys.readouterr()
    assert main(["evaluate", "--generated", str(tmp_path / "made"), "--ladder"]) == 2
    assert "ladder needs true sounds" in capsys.readouterr().err
    # without truth, onsets are those of the references, and the other clip is any
    bare = evaluate_folder(tmp_path / "made", tmp_path / "true", metrics=["onset_f1_50ms"], ladder=True)
    assert bare.ladder is not None and OTHER in bare.ladder.controls
    assert bare.ladder.metrics[0]["extractor"] == "mel-rise against reference" and bare.ladder.flags == []


def test_few_true_sounds_and_missing_stems_are_said(world, tmp_path):
    for item in world.clips[:9]:
        media.save_wav(item.stems["mix"], tmp_path / "made" / f"{item.id}.wav")
    for item in world.clips[:5]:
        media.save_wav(item.stems["mix"], tmp_path / "true" / f"{item.id}.wav")
    with pytest.raises(UsageError, match="ladder of 5 true sounds would be chance"):
        evaluate_folder(tmp_path / "made", tmp_path / "true", metrics=["fad"], ladder=True)
    with pytest.raises(Exception, match=r"ambience_leakage could score none of 9 clips.*"):
        evaluate_folder(tmp_path / "made", tmp_path / "true", metrics=["ambience_leakage"])
    media.save_wav(world[0].stems["action"], tmp_path / "true" / f"{world[0].id}.action.wav")
    media.save_wav(world[0].stems["ambient"], tmp_path / "true" / f"{world[0].id}.ambient.wav")
    report = evaluate_folder(tmp_path / "made", tmp_path / "true", metrics=["ambience_leakage"])
    assert report.metrics[0]["n"] == 1
    assert sum(p["what"].startswith("no stems in") for p in report.problems) == 8
