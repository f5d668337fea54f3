"""Physics metrics: golden moves of synthetic hits, the ceiling and the floor on rendered pairs, and the command."""

from __future__ import annotations

import json
import math
import shutil

import numpy as np
import pytest

from v2a_nb.cli import main
from v2a_nb.clip import Sound
from v2a_nb.errors import V2AError
from v2a_nb.metrics import physics, registry
from v2a_nb.metrics.base import ScoredClip, load
from v2a_nb.metrics.evaluate import evaluate, evaluate_folder, scored_clip
from v2a_nb.metrics.pairing import read_truth
from v2a_nb.metrics.physics import Hit, decay_time, hit_level, log_spectrum, octaves_between
from v2a_nb.world import strike_world, write_world
from v2a_nb.world.counterfactual import FACTORS, pairs_of

RATE, SECONDS, PAIRS = 16000, 2.0, 5


def ring(at=0.8, pitch=1.0, t60=0.3, level_db=0.0, floor_db=-60.0) -> np.ndarray:
    """A hit of four modes at a time, over steady noise."""
    time = np.arange(int(SECONDS * RATE)) / RATE - at
    wave = sum(np.sin(2 * np.pi * 400 * pitch * ratio * time) for ratio in (1, 1.51, 2.74, 4.3))
    wave = 0.1 * wave * np.where(time >= 0, np.exp(-6.9078 * np.maximum(time, 0) / t60), 0)
    noise = np.random.default_rng(0).standard_normal(len(wave)) * 10 ** (floor_db / 20)
    return wave * 10 ** (level_db / 20) + noise


def move(factor, a, b, before=0.8, after=0.8, **expect) -> float:
    """The gain of a pair of waves with one event each."""
    metric = load(registry.METRICS[f"pair_gain_{factor}"])
    rows = []
    for side, wave, time in (("a", a, before), ("b", b, after)):
        pair = {"of": "x", "factor": factor, "side": side, "from": before, "to": after, "expect": expect}
        event = {"time_s": time, "kind": "strike", "material": "wood", "object": 0, "sounding": True}
        truth = {"duration_s": SECONDS, "events": [event] if side == "a" or factor != "removal" else [], "pair": pair}
        rows.append(metric.score(ScoredClip(f"x.{side}", "r", Sound(wave, RATE), truth)))
    return metric.pool(rows, f"pair_gain_{factor}")


# --- golden moves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level_db", [-12.0, -6.0, 3.0])
def test_a_wave_that_is_scaled_moves_by_its_decibels(level_db):
    for factor in ("speed", "distance"):
        assert move(factor, ring(), ring(level_db=level_db), level_db=-6.0) == pytest.approx(level_db / -6, abs=0.01)
    loud, soft = (hit_level(ring(level_db=db, floor_db=-40), [0.8]) for db in (0, level_db))
    assert (
        loud is not None and soft is not None and soft - loud == pytest.approx(level_db, abs=0.4)
    )  # the ambience, as loud in both, is taken off


@pytest.mark.parametrize("ratio", [0.5, 2 / 3, 1.1, 1 / 0.6])
def test_a_pitch_that_is_changed_moves_by_its_octaves(ratio):
    assert move("size", ring(), ring(pitch=ratio), pitch_ratio=ratio) == pytest.approx(1, abs=0.08)
    a, b = (log_spectrum(ring(pitch=p), [Hit(0.8, SECONDS)]) for p in (1, ratio))
    assert a is not None and b is not None
    assert octaves_between(a, b) == pytest.approx(math.log2(ratio), abs=0.02)
    assert octaves_between(b, a) == pytest.approx(-math.log2(ratio), abs=0.02)


@pytest.mark.parametrize("ratio", [0.2, 0.5, 2.0])
def test_a_decay_that_is_changed_moves_by_its_ratio(ratio):
    assert move("damping", ring(), ring(t60=0.3 * ratio), decay_ratio=ratio) == pytest.approx(1, abs=0.05)
    assert decay_time(ring(t60=0.3 * ratio), [Hit(0.8, SECONDS)]) == pytest.approx(0.3 * ratio, rel=0.05)
    assert decay_time(0.1 * np.sin(np.arange(RATE) * 0.3) * (np.arange(RATE) >= 8000), [Hit(0.5, 1)]) == (
        physics.LONGEST_S
    )


def test_an_onset_moves_by_its_milliseconds_and_may_be_gone():
    late = ring(at=0.92)
    assert move("shift", ring(), late, after=0.92, shift_s=0.12) == pytest.approx(1, abs=0.03)
    assert move("shift", ring(), ring(at=0.86), after=0.92, shift_s=0.12) == pytest.approx(0.5, abs=0.05)
    assert move("shift", ring(), ring(), after=0.92, shift_s=0.12) == 0  # the old onset is not taken for the new one
    assert move("removal", ring(), ring(level_db=-120), onsets=-1) == 1
    assert move("removal", ring(), ring(), onsets=-1) == 0 == move("removal", ring(at=1.5), ring(at=1.5), onsets=-1)


def test_what_cannot_be_heard_does_not_move():
    silence, noise = np.zeros(int(SECONDS * RATE)), ring(level_db=-120)
    for factor, expect in (
        ("speed", {"level_db": -6}),
        ("size", {"pitch_ratio": 2}),
        ("damping", {"decay_ratio": 0.2}),
    ):
        for nothing in (silence, noise):
            assert move(factor, ring(), nothing, **expect) == move(factor, nothing, ring(), **expect) == 0
    assert hit_level(noise, [0.8]) is None and decay_time(noise, [Hit(0.8, 2)]) is None
    assert log_spectrum(ring(), [Hit(0.8, 0.81)]) is None  # the next hit comes at once


# --- rendered pairs ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world():
    return strike_world(404, 4 * PAIRS + 12, size=16)


@pytest.mark.parametrize("factor", FACTORS)
def test_true_pairs_are_right_swapped_ones_wrong_and_one_sound_for_both_a_tie(world, factor):
    metric = load(registry.METRICS[f"pair_direction_{factor}"])
    items = pairs_of(world, factor, PAIRS)
    clips = [scored_clip(item) for item in items]
    recordings = [clip.recording for clip in clips]

    def scores(sounds) -> list[float]:
        rows = [metric.score(clip.with_sound(sound)) for clip, sound in zip(clips, sounds, strict=True)]
        results = metric.results(rows, recordings)
        assert [row["name"] for row in results] == [f"pair_{what}_{factor}" for what in physics.WHAT]
        assert all(row["n"] == PAIRS and row["low"] <= row["value"] + 1e-9 <= row["high"] + 2e-9 for row in results)
        return [row["value"] for row in results]

    true = [item.stems["mix"] for item in items]
    direction, gain, ties = scores(true)
    assert direction == 1 and ties == 0 and gain == pytest.approx(1, abs=0.06)
    assert scores([true[k ^ 1] for k in range(len(true))]) == pytest.approx([0, -gain, 0])
    assert scores([true[k // 2 * 2] for k in range(len(true))]) == [0, 0, 1]
    assert scores([sound.gain(-200) for sound in true]) == [0, 0, 1]


def test_halves_are_paired_by_name_and_resampled_whole():
    metric = physics.SpeedPairs()
    values = {"x": (0.0, -6.0), "y": (0.0, -3.0), "z": (1.0, 4.0)}
    rows = [physics.Half(x, side, -6.0, ab[side == "b"]) for x, ab in values.items() for side in "ba"]
    assert [move.gain for move in metric.moves(rows)] == [1, 0.5, -0.5]
    assert metric.pool(rows, "pair_gain_speed") == 0.5 and metric.pool(rows, "pair_direction_speed") == 2 / 3
    assert [move.gain for move in metric.moves(rows[:2] * 2)] == [1, 1]  # what a bootstrap drew twice
    assert metric.count(rows[:3], "pair_ties_speed") == 1 and math.isnan(metric.pool(rows[:1], "pair_gain_speed"))
    (problem,) = metric.left_out(rows[:3])
    assert problem["id"] == "y" and "only clip b" in problem["what"] and metric.left_out(rows) == []
    twice = [physics.Half(f"{row.pair}{k}", row.side, -6.0, row.value) for k in range(4) for row in rows]
    still = [physics.Half(row.pair, row.side, -6.0, 0.0) for row in twice]
    compared = metric.difference(still, twice, [row.pair for row in twice], "pair_direction_speed")
    assert compared["difference"] == pytest.approx(2 / 3) and compared["p"] < 0.05


# --- the command -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("pairs") / "w", 2, seed=404, size=16, pairs="speed")


def test_evaluate_pairs_what_the_truth_pairs(pairs, tmp_path, capsys):
    command = ["evaluate", "--generated", str(pairs.parent / "stems"), "--truth", str(pairs)]
    assert main([*command, "--json", str(tmp_path / "all.json")]) == 0
    found = {row["name"]: row for row in json.loads((tmp_path / "all.json").read_text())["metrics"]}
    assert [name for name in found if name.startswith("pair_")] == [f"pair_{what}_speed" for what in physics.WHAT]
    assert found["pair_direction_speed"]["value"] == 1 and found["pair_direction_speed"]["n"] == 2
    assert found["pair_gain_speed"]["value"] == pytest.approx(1, abs=0.06) and found["onset_f1_50ms"]["value"] > 0.9
    assert main([*command, "--metrics", "pair_gain_size"]) == 2
    error = capsys.readouterr().err
    assert "pair_gain_size needs a truth with pairs for size (v2a-nb world OUT --pairs size)" in error


def test_a_pair_with_one_half_is_named(pairs, tmp_path):
    a, b, *_ = json.loads(pairs.read_text())["clips"]
    shutil.copytree(pairs.parent / "stems", tmp_path / "made")
    (tmp_path / "made" / f"{b['id']}.mix.wav").unlink()
    report = evaluate_folder(tmp_path / "made", truth=pairs, metrics=["pair_direction_speed"])
    assert report.metrics[0]["n"] == 1 and report.per_clip[0].keys() == {"id"}
    assert {"id": a["pair"]["of"], "what": "only clip a of this pair could be scored; speed leaves the pair out"} in (
        report.problems
    )


def test_a_truth_without_pairs_and_one_that_is_wrong(pairs, tmp_path, world):
    truth = json.loads(pairs.read_text())
    plain = {**truth, "clips": [{k: v for k, v in clip.items() if k != "pair"} for clip in truth["clips"]]}
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    report = evaluate_folder(pairs.parent / "stems", truth=tmp_path / "plain.json", controls=False)
    assert not any(row["name"].startswith("pair_") for row in report.metrics)
    truth["clips"][0]["pair"]["side"] = "left"
    (tmp_path / "odd.json").write_text(json.dumps(truth))
    with pytest.raises(V2AError, match="side 'left'"):
        read_truth(tmp_path / "odd.json", [])
    truth["clips"][0]["pair"] |= {"side": "a", "expect": {}}
    (tmp_path / "odd.json").write_text(json.dumps(truth))
    report = evaluate_folder(pairs.parent / "stems", truth=tmp_path / "odd.json", metrics=["pair_direction_speed"])
    assert any("its pair for speed lacks something" in problem["what"] for problem in report.problems)


def test_clips_of_a_world_without_pairs_say_what_is_needed(world):
    class Silent:
        def generate(self, clip, seed):
            return Sound(np.zeros(round(clip.duration * RATE)), RATE)

    with pytest.raises(V2AError, match="it needs a truth with pairs for size"):
        evaluate(world.clips[:2], Silent(), metrics=["pair_direction_size"])
    report = evaluate(pairs_of(world, "size", 2), Silent(), metrics=["pair_direction_size", "pair_ties_size"])
    assert report["pair_direction_size"] == 0 and report["pair_ties_size"] == 1
    assert report.controls["ground truth"][0]["value"] == 1


def test_every_factor_of_the_world_has_its_metrics():
    assert [need.removesuffix(" pairs") for need in registry.NEEDS if need.endswith(" pairs")] == list(FACTORS)
    for factor in FACTORS:
        for what in physics.WHAT:
            metric = load(registry.METRICS[f"pair_{what}_{factor}"])
            assert isinstance(metric, physics.PairMetric) and metric.factor == factor and not metric.per_clip
    assert load(registry.METRICS["pair_gain_material"]).extractor.startswith("strike-material@")
