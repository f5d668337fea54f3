"""Reports: a folder against a truth file, and a system beside its controls."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from v2a_nb import media
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, V2AError, WeightsError
from v2a_nb.metrics import registry
from v2a_nb.metrics.base import Metric
from v2a_nb.metrics.evaluate import evaluate, evaluate_folder
from v2a_nb.metrics.frechet import Fad
from v2a_nb.metrics.material.metric import shipped_classifier
from v2a_nb.metrics.pairing import shuffled
from v2a_nb.metrics.truth import NAMES, pool, score_clip
from v2a_nb.metrics.vaas.metric import VaasMetric
from v2a_nb.world import strike_world

KEYS = ["clips", "metrics", "per_clip", "problems"]
WITH_TRUTH = [*NAMES[:8], "ambience_kind_accuracy", "ambience_db"]
"""The others compare with a true sound."""


@pytest.fixture(scope="module")
def world():
    return strike_world(505, 12, size=16)


@pytest.fixture
def folder(world, tmp_path):
    """A truth file and the true sounds as if they had been generated."""
    (tmp_path / "made").mkdir()
    clips = [item.truth for item in world]
    (tmp_path / "truth.json").write_text(json.dumps({"world": "strike", "version": 1, "clips": clips}))
    for item in world:
        media.save_wav(item.stems["mix"], tmp_path / "made" / f"{item.id}.wav")
    return tmp_path


def score(folder, **options):
    return evaluate_folder(folder / "made", truth=folder / "truth.json", **options)


class Echo:
    """A system that knows the answers: it gives each clip's true sound, asked by its name."""

    def __init__(self, world, wrong=0):
        self.sounds = {item.id: item.stems["mix"] for item in world}
        self.seeds = []

    def generate(self, clip, *, seed, gain=1.0):
        assert clip.sound is None, "the true sound must not reach the system"
        self.seeds.append(seed)
        return Sound(gain * self.sounds[clip.name].samples, 16000)


class Batched(Echo):
    def generate_batch(self, clips, *, seeds, **options):
        assert len(clips) <= 5 and len({c.duration for c in clips}) == 1
        return [self.generate(c, seed=s, **options) for c, s in zip(clips, seeds, strict=True)]


def test_true_sounds_score_at_the_top_and_nothing_is_odd(folder, world):
    report = score(folder)
    assert report.clips == 12 and report.problems == []
    assert report["onset_f1_50ms"] > 0.95
    assert report["near_miss_silent"] > 0.9
    assert report["ambience_error_db"] < 1
    by_hand = [score_clip(item.stems["mix"], item.truth) for item in world]
    assert report["onset_f1_50ms"] == pytest.approx(pool(by_hand, "onset_f1_50ms"), abs=1e-6)
    shuffle = {m["name"]: m["value"] for m in report.controls["shuffled"]}
    assert shuffle["onset_f1_50ms"] < 0.4


def test_json_is_the_contract(folder):
    made = json.loads(json.dumps(score(folder).to_dict(), allow_nan=False))
    assert list(made) == KEYS
    assert [m["name"] for m in made["metrics"]] == WITH_TRUTH
    for metric in made["metrics"]:
        assert list(metric) == ["name", "extractor", "value", "low", "high", "n"]
        assert isinstance(metric["n"], int) and isinstance(metric["extractor"], str)
        assert metric["low"] <= metric["value"] <= metric["high"]
    extractor = {m["name"]: m["extractor"] for m in made["metrics"]}
    assert extractor["material_accuracy"] == shipped_classifier().tag
    assert (extractor["onset_f1_50ms"], extractor["ambience_db"]) == ("mel-rise", "quiet-level")
    assert len(made["per_clip"]) == 12
    assert all(list(row) == ["id", *WITH_TRUTH] for row in made["per_clip"])
    assert "shuffled" in score(folder).to_dict(controls=True)["controls"]


def test_chosen_metrics_only(folder):
    made = score(folder, metrics=["onset_f1_50ms", "ambience_error_db"]).to_dict()
    assert [m["name"] for m in made["metrics"]] == ["onset_f1_50ms", "ambience_error_db"]
    assert list(made["per_clip"][0]) == ["id", "onset_f1_50ms", "ambience_error_db"]
    with pytest.raises(UsageError, match=r"'fda'; known are onset_f1_25ms.*fad"):
        score(folder, metrics=["fda"])
    with pytest.raises(UsageError, match=r"fad needs .*--reference"):
        score(folder, metrics=["fad"])
    with pytest.raises(UsageError, match=r"onset_f1_50ms needs .*--truth"):
        evaluate_folder(folder / "made", metrics=["onset_f1_50ms"])
    with pytest.raises(UsageError, match=r"vaas_acc needs .*--videos"):
        evaluate_folder(folder / "made", truth=folder / "truth.json", metrics=["vaas_acc"])
    for wrong in ([], ["fad", "fad"], "fad", [Fad], 3):  # a class is no metric
        with pytest.raises(UsageError, match="metric"):
            evaluate_folder(folder / "made", folder / "made", metrics=wrong)


def test_without_truth_the_clips_are_what_the_folder_holds(folder, world):
    report = evaluate_folder(folder / "made")
    assert [m["name"] for m in report.metrics] == ["ambience_db"] and report.clips == 12 and report.problems == []
    assert report.recordings == 12 and [row["id"] for row in report.per_clip] == sorted(item.id for item in world)
    stems = folder / "stems"
    stems.mkdir()
    for item in world:
        for name in ("mix", "action"):
            media.save_wav(item.stems[name], stems / f"{item.id}.{name}.wav")
    assert evaluate_folder(stems)["ambience_db"] == report["ambience_db"]
    (folder / "made" / f"{world[0].id}.wav").unlink()
    report = evaluate_folder(stems, folder / "made", metrics=["fad"])
    assert report["fad"] == pytest.approx(0, abs=1e-6) and report.metrics[0]["n"] == 11
    assert report.controls == {} and report.clips == 12 and report.per_clip[0] == {"id": report.per_clip[0]["id"]}
    assert [p["id"] for p in report.problems] == [world[0].id]
    (folder / "empty").mkdir()
    with pytest.raises(V2AError, match="no sounds in this folder"):
        evaluate_folder(folder / "empty")


def test_a_named_metric_that_scores_nothing_is_an_error(folder, world):
    media.save_wav(world[0].stems["mix"], folder / "other" / "x.wav")
    with pytest.raises(V2AError, match=r"fad could score none of 12 clips.*no sound in"):
        evaluate_folder(folder / "made", folder / "other", metrics=["fad"])
    report = evaluate_folder(folder / "made", folder / "other")
    assert math.isnan(report["fad"]) and report.metrics[-1]["n"] == 0


def test_videos_are_enough_for_what_compares_picture_and_sound(folder, world):
    for item in world.clips[:3]:
        media.save_mp4(item.clip, None, folder / "videos" / f"{item.id}.mp4")
    (folder / "videos" / f"{world[3].id}.mp4").write_bytes(b"no video at all")
    done = []
    report = evaluate_folder(
        folder / "made", videos=folder / "videos", metrics=["av_sim", "av_sync_acc", "vaas_score", "vaas_acc"],
        progress=lambda *counts: done.append(counts),
    )  # fmt: skip
    assert done == [(k, 12) for k in range(1, 13)]
    assert [m["name"] for m in report.metrics] == ["av_sim", "av_sync_acc", "vaas_score", "vaas_acc"]
    assert [m["n"] for m in report.metrics] == [3] * 4 and all(0 < m["value"] <= 100 for m in report.metrics)
    assert math.isnan(report.per_clip[5]["av_sim"]) and report.clips == 12
    unreadable = [p for p in report.problems if p["id"] == world[3].id]
    assert len(unreadable) == 1 and str(folder / "videos") in unreadable[0]["what"]
    assert len(report.problems) == 9  # and eight that are not there
    assert report.controls["shuffled"][2]["value"] < report["vaas_score"]


def test_nan_is_null(folder, world):
    clip = dict(world[0].truth, events=[])
    (folder / "truth.json").write_text(json.dumps({"clips": [clip]}))
    report = score(folder)
    assert math.isnan(report["material_accuracy"])
    made = report.to_dict()
    value = next(m for m in made["metrics"] if m["name"] == "material_accuracy")
    assert value["value"] is None and value["low"] is None and value["n"] == 0
    report.save_json(folder / "scores.json")
    assert json.loads((folder / "scores.json").read_text()) == made


def test_every_oddity_is_a_problem(folder, world):
    made, ids = folder / "made", [item.id for item in world]
    (made / f"{ids[0]}.wav").unlink()
    media.save_wav(Sound(np.zeros(40960), 16000), made / f"{ids[1]}.wav")
    media.save_wav(world[2].stems["mix"].slice(0, 1.0), made / f"{ids[2]}.wav")
    (made / f"{ids[3]}.wav").write_bytes(b"no sound at all")
    (made / f"{ids[4]}.wav").write_bytes(b"")
    (made / f"{ids[5]}.flac").write_bytes((made / f"{ids[5]}.wav").read_bytes())
    save_float_wav(made / f"{ids[6]}.wav", np.full(40960, np.nan, np.float32))
    media.save_wav(world[0].stems["mix"], made / "stranger.wav")
    media.save_wav(Sound(np.tile(world[7].stems["mix"].samples, 2), 16000), made / f"{ids[7]}.wav")
    (made / "notes.txt").write_text("not a sound, not a problem")
    report = score(folder)
    what = {}
    for problem in report.problems:
        assert list(problem) == ["id", "what"]
        what.setdefault(problem["id"], []).append(problem["what"])
    assert set(what) == {*ids[:8], "stranger"}
    assert all(len(lines) == 1 for lines in what.values()), what
    assert "no sound in" in what[ids[0]][0]
    assert "silent" in what[ids[1]][0]
    assert "1.00 s instead of 2.56 s" in what[ids[2]][0]
    assert "empty" in what[ids[4]][0]
    assert f"{ids[5]}.flac" in what[ids[5]][0]
    assert "NaN" in what[ids[6]][0]
    assert "5.12 s instead of 2.56 s" in what[ids[7]][0]
    assert report.clips == 12 - 4  # one missing, three unreadable; the silent and the short one are scored
    rows = {row["id"]: row for row in report.to_dict()["per_clip"]}
    assert not {ids[0], ids[3], ids[4], ids[6]} & set(rows)
    assert rows[ids[1]]["onset_f1_50ms"] in (0, None)


def save_float_wav(path, samples):
    """32-bit float WAV: the one that can hold a NaN."""
    data = samples.astype("<f4").tobytes()
    head = b"WAVEfmt " + np.array([16], "<u4").tobytes() + np.array([3, 1], "<u2").tobytes()
    head += np.array([16000, 64000], "<u4").tobytes() + np.array([4, 32], "<u2").tobytes()
    head += b"data" + np.array([len(data)], "<u4").tobytes()
    path.write_bytes(b"RIFF" + np.array([len(head) + len(data)], "<u4").tobytes() + head + data)


def test_a_video_beside_its_sound_is_no_double_and_stems_are_understood(folder, world):
    (folder / "made" / f"{world[0].id}.mp4").write_bytes(b"the sound is taken, not this")
    assert score(folder).problems == []
    stems = folder / "stems"
    stems.mkdir()
    for item in world:
        for name in ("mix", "action", "ambient", "offscreen"):
            media.save_wav(item.stems[name], stems / f"{item.id}.{name}.wav")
    report = score(folder, reference=stems, controls=False)
    assert report.problems == [] and list(report.controls) == ["reference"]
    same = {m["name"]: m["value"] for m in report.controls["reference"]}
    assert same["onset_f1_50ms"] == report["onset_f1_50ms"]
    assert evaluate_folder(stems, truth=folder / "truth.json").problems == []


def test_soundtracks_of_videos_are_read(folder, world):
    videos = folder / "videos"
    videos.mkdir()
    media.save_mp4(world[0].clip, None, videos / f"{world[0].id}.mp4")
    (folder / "truth.json").write_text(json.dumps({"clips": [world[0].truth, world[1].truth]}))
    report = evaluate_folder(videos, truth=folder / "truth.json")
    assert report.clips == 1 and [p["id"] for p in report.problems] == [world[1].id]
    assert report["onset_offset_abs_ms"] < 5  # the encoder's delay is taken out
    report = score(folder, videos=videos)
    assert {"id": world[1].id, "what": f"no video in {videos}"} in report.problems


def test_bad_truth_files_are_one_clear_error(folder, world):
    good = world[0].truth
    broken = [
        ("{", "not a truth.json"),
        ("[]", "not a truth.json"),
        (json.dumps({"clips": []}), "no clips"),
        (json.dumps({"clips": [{"id": "a"}]}), "events"),
        (json.dumps({"clips": [dict(good, duration_s=-1)]}), "lasts -1"),
        (json.dumps({"clips": [dict(good, id="x")]}), "none of the 1 clips"),
    ]
    for text, match in broken:
        (folder / "truth.json").write_text(text)
        with pytest.raises(V2AError, match=match):
            score(folder)
    with pytest.raises(V2AError, match=r"gone\.json"):
        evaluate_folder(folder / "made", truth=folder / "gone.json")
    (folder / "truth.json").write_text(json.dumps({"clips": [good, good]}))
    with pytest.raises(V2AError, match="is not a folder"):
        evaluate_folder(folder / "gone", truth=folder / "truth.json")
    report = score(folder)
    assert report.clips == 1
    assert any(p["id"] == good["id"] and "twice" in p["what"] for p in report.problems)


def test_a_system_beside_its_controls(world):
    system = Echo(world)
    report = evaluate(world, system, seed=3)
    assert list(report.controls) == ["ground truth", "shuffled video"]
    assert report.metrics[:8] == report.controls["ground truth"]  # it echoes the truth
    assert [m["value"] for m in report.metrics[8:]] == [0, 0, 0, 0]
    wrong = {m["name"]: m["value"] for m in report.controls["shuffled video"]}
    assert wrong["decay_error_db"] > 1 and wrong["event_mel_distance"] > 0.1
    assert wrong["onset_f1_50ms"] < 0.4 < report["onset_f1_50ms"]
    assert list(report.to_dict()) == KEYS and report.problems == []
    assert len(set(system.seeds)) == len(world.clips)  # each clip its own noise
    done = []
    batched = Batched(world)
    again = evaluate(world, batched, seed=3, batch=5, controls=False, progress=lambda a, b: done.append((a, b)))
    assert batched.seeds == system.seeds and again.controls == {}
    assert again.to_dict()["metrics"] == report.to_dict()["metrics"]
    assert done == [(5, 12), (10, 12), (12, 12)]


class Halving(Echo):
    """Its codec halves the level: that, not the true sound, is the most the system can reach."""

    round_trip_of = "codec"

    def round_trip(self, sound):
        return Sound(0.5 * sound.samples, sound.sample_rate)


def test_the_codec_is_a_control_of_its_own(world):
    report = evaluate(world, Halving(world))
    assert list(report.controls) == ["ground truth", "codec round trip", "shuffled video"]
    level = {m["name"]: m["value"] for m in report.controls["codec round trip"]}["ambience_error_db"]
    assert level == pytest.approx(6.02, abs=0.6)
    assert report["ambience_error_db"] < 1


class Judge:
    """Aligned is whatever belongs to the very clip whose pictures were looked at."""

    tag = "judge@0000"

    def __init__(self, world):
        self.first = {c.clip.frames.tobytes(): c.stems["mix"].samples.tobytes() for c in world}
        self.looked = 0

    def vectors(self, clip):
        assert clip.sound is None
        self.looked += 1
        return torch.frombuffer(bytearray(self.first[clip.frames.tobytes()]), dtype=torch.float32)

    def score(self, vectors, sound):
        return 0.9 if np.asarray(vectors).tobytes() == sound.samples.tobytes() else 0.2


def test_alignment_is_judged_for_the_system_and_its_controls():
    world = strike_world(508, 8, size=16)
    judge, system = Judge(world), Echo(world)
    report = evaluate(world, system, metrics=[VaasMetric(judge), "onset_f1_50ms"])
    assert [m["name"] for m in report.metrics] == ["vaas_acc", "vaas_score", "onset_f1_50ms"]
    assert (report["vaas_acc"], report["vaas_score"]) == (100, pytest.approx(90))
    wrong = {m["name"]: m for m in report.controls["shuffled video"]}
    assert wrong["vaas_acc"]["value"] == 0 and wrong["vaas_score"]["value"] == pytest.approx(20)
    assert wrong["vaas_acc"]["extractor"] == "judge@0000" and wrong["vaas_acc"]["n"] == 8
    assert report.per_clip[0]["vaas_score"] == pytest.approx(90)
    # each clip is generated once and looked at once, whatever is scored of it
    assert len(system.seeds) == judge.looked == 8


class Duration(Metric):
    """One that is in no registry, and refuses one clip."""

    names, needs, extractor = ("seconds",), ("reference", "text"), "clock"

    def __init__(self, refused):
        self.refused = refused

    def score(self, clip):
        if clip.id == self.refused:
            raise UsageError("not this one")
        assert clip.reference is not None and clip.text and clip.video.duration == clip.duration
        return clip.sound.duration


def test_a_clip_that_a_metric_refuses_is_a_problem_and_no_end():
    world = strike_world(508, 8, size=16)
    report = evaluate(world, Echo(world), metrics=[Duration(world[2].id)], controls=False)
    assert report.metrics == [
        {"name": "seconds", "extractor": "clock", "value": 2.56, "low": 2.56, "high": 2.56, "n": 7}
    ]
    assert report.problems == [{"id": world[2].id, "what": "seconds: not this one"}]
    assert math.isnan(report.per_clip[2]["seconds"])


def test_options_reach_the_system_and_pictures_are_not_hoarded():
    world = strike_world(506, 8, size=16)
    kept = world[0].clip  # the caller's own: stays
    report = evaluate(world, Echo(world), gain=0.0)
    assert report["onset_f1_50ms"] == 0
    assert [p["what"] for p in report.problems] == ["silent"] * 8
    assert world[0].clip is kept
    assert not any("clip" in vars(item) for item in world.clips[1:])


def test_a_list_has_a_value_for_each_clip():
    world = strike_world(506, 8, size=16)
    gains = [1.0, 0.0] * 4

    class Each(Batched):
        def generate_batch(self, clips, *, seeds, gain):
            return [self.generate(c, seed=s, gain=g) for c, s, g in zip(clips, seeds, gain, strict=True)]

    report = evaluate(world, Each(world), batch=3, controls=False, gain=gains)
    assert [p["id"] for p in report.problems] == [item.id for item in world][1::2]
    with pytest.raises(UsageError, match="gain: 3 values for 8 clips"):
        evaluate(world, Each(world), gain=gains[:3])


def test_the_frechet_distance_is_to_the_true_sounds():
    class Levels:
        tag = "levels@0000"

        def __call__(self, sound):
            return np.log10(np.square(sound.samples).reshape(8, -1).mean(1) + 1e-9)[:, None]

    world = strike_world(506, 8, size=16)
    report = evaluate(world, Halving(world), metrics=[Fad(Levels()), "onset_f1_50ms"])
    fad = {m["name"]: m for m in report.metrics}["fad"]
    assert fad["value"] == pytest.approx(0, abs=1e-9) and fad["extractor"] == "levels@0000" and fad["n"] == 8
    assert 0 <= fad["low"] <= fad["value"] <= fad["high"] and "fad" not in report.per_clip[0]
    # 0 for the true sounds and the same for shuffled ones, by construction: neither is a control
    named = {control: [m["name"] for m in rows] for control, rows in report.controls.items()}
    assert named == {
        "ground truth": ["onset_f1_50ms"], "shuffled video": ["onset_f1_50ms"],
        "codec round trip": ["fad", "onset_f1_50ms"],
    }  # fmt: skip
    softer = evaluate(world, Echo(world), metrics=[Fad(Levels())], controls=False, gain=0.1)
    assert softer["fad"] == pytest.approx(4, rel=0.1)  # 20 dB are 2 in log10 of power
    assert "fad" not in {m["name"] for m in evaluate(world, Echo(world), controls=False).metrics}


def test_weights_that_are_not_there_are_said_once_and_end_it():
    class Absent(Metric):
        """Its extractor cannot be had."""

        names, needs, asked = ("absent",), (), 0

        def load_model(self):
            type(self).asked += 1
            raise WeightsError("nobody/clap: no CLAP there")

        def score(self, clip):
            return self.model

    world = strike_world(506, 3, size=16)
    with pytest.raises(WeightsError, match="no CLAP there"):
        evaluate(world, Echo(world), metrics=[Absent()])
    assert Absent.asked == 1, "not once a clip: each would wait for the download"


def test_metrics_by_name_are_the_shipped_ones():
    world = strike_world(506, 8, size=112)
    # but for CLAP's, which are downloaded, pairs, which these clips are not, and one that is for longer clips
    some = [e for e in registry.METRICS.values() if e.gives != "texts" and e.name != "desync_s"]
    names = [e.name for e in some if not any(need.endswith(" pairs") for need in e.needs)]
    report = evaluate(world, Echo(world), metrics=names)
    assert [m["name"] for m in report.metrics] == names and len(names) > 50
    # eight clips are too few for some: these say so, once each, and have no value
    refused = {name for p in report.problems for name in p["id"].split(", ")}
    assert refused == {"fad_inf", "precision", "recall", "density", "coverage", "is", "is_10"}
    assert all(math.isfinite(m["value"]) == (m["name"] not in refused) and m["n"] for m in report.metrics), report
    tags = {m["name"]: m["extractor"].split("@")[0] for m in report.metrics}
    assert (tags["fad"], tags["vaas_acc"], tags["av_sync_acc"]) == ("strike-audio", "vaas-tiny", "av-sync-tiny")
    assert (tags["av_sim"], tags["summary_gain"]) == ("av-sim", "summary")
    wrong = {m["name"]: m["value"] for m in report.controls["shuffled video"]}
    for name in ("av_sim", "av_sync_acc", "vaas_acc", "vaas_score"):
        assert wrong[name] < report[name], name


def test_one_recording_cannot_be_shuffled_and_says_so():
    world = strike_world(507, 3, size=16)
    report = evaluate(world, Echo(world))
    assert list(report.controls) == ["ground truth"]
    assert [p["id"] for p in report.problems] == ["shuffled video"]
    assert math.isnan(report.metrics[0]["low"])  # one recording says nothing about others
    assert report.recordings == 1 and "intervals mean little" in repr(report)


def test_wrong_arguments_get_words(world, tmp_path):
    system, clip = Echo(world), world[0]
    for clips, match in (
        ("folder", r"clips must be clips of a Strike World, such as world\.test, and not 'folder'; v2a-nb evaluate"),
        (tmp_path, "clips must be a list, not a PosixPath"),
        (clip, "clips must be a list, not a WorldClip"),
        (clip.clip, "clips must be a list, not a Clip"),
        ([clip.clip], "clips must be clips of a Strike World.*not a Clip"),
        ([], "no clips"),
    ):
        with pytest.raises(UsageError, match=match):
            evaluate(clips, system)
    with pytest.raises(UsageError, match=r"system must have generate.*v2a\.load\('vaura'\); not 'vaura'"):
        evaluate([clip], "vaura")
    with pytest.raises(UsageError, match=r"system must have generate.*not a Clip"):
        evaluate([clip], clip.clip)
    with pytest.raises(UsageError, match=r"list of names and Metric objects: give \['fad'\]"):
        evaluate([clip], system, metrics="fad")
    with pytest.raises(UsageError, match="it holds the class Fad"):
        evaluate([clip], system, metrics=[Fad])
    for name in ("seed", "controls", "batch", "progress", "metrics"):
        with pytest.raises(UsageError, match=f"evaluate: {name} must be"):
            evaluate([clip], system, **{name: object()})
    for name in ("generated", "reference", "videos", "truth", "controls", "progress", "metrics"):
        with pytest.raises(UsageError, match=f"evaluate_folder: {name} must be"):
            evaluate_folder(**{"generated": tmp_path, name: object()})
    with pytest.raises(UsageError, match="at least one clip at a time"):
        evaluate([clip], system, batch=0)


def test_shuffle_leaves_every_recording():
    rng = np.random.default_rng(0)
    possible = 0
    for _ in range(300):
        names = [str(v) for v in rng.integers(0, rng.integers(1, 6), rng.integers(1, 20))]
        order = shuffled(names)
        if max(names.count(n) for n in names) * 2 > len(names):
            assert order is None
            continue
        possible += 1
        assert sorted(order) == list(range(len(names)))
        assert all(names[i] != names[j] for i, j in enumerate(order))
    assert possible > 50
    assert shuffled([]) is None


class Words(Metric):
    names, needs, extractor = ("words",), ("text",), "split"

    def score(self, clip):
        return len(clip.text.split())


def test_texts_come_from_a_table_and_what_is_wrong_with_it_is_said(folder):
    names = sorted(path.stem for path in (folder / "made").iterdir())
    table = folder / "texts.csv"
    table.write_text(f'id,text\n{names[0]},a b c\n{names[0]},again\n{names[1]},\nnobody,a b\n{names[2]},"a, b"\n')
    report = evaluate_folder(folder / "made", text=table, metrics=[Words()], controls=False)
    assert report["words"] == 2.5 and report.metrics[0]["n"] == 2
    what = {(p["id"], p["what"].partition(str(table))[0]) for p in report.problems}
    assert {(names[0], "twice in "), ("nobody", ""), (names[1], "no text in ")} < what and len(what) == len(names)
    # beside a truth.json, a table goes before its narrations
    both = score(folder, text=table, metrics=[Words()], controls=False)
    assert both.metrics[0]["n"] == len(names) and both.per_clip[0]["words"] == 3
    assert not [p for p in both.problems if p["what"].startswith("no text")]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("id,caption\na,b\n", "no column 'text'"),
        (b"id,text\n\xff\xfe", "cannot be read as a table"),
        (None, "cannot be"),
    ],
)
def test_a_table_of_texts_that_is_none(folder, text, why):
    path = folder / "texts.csv"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(V2AError, match=why):
        evaluate_folder(folder / "made", text=path)


def test_the_command_reads_texts(folder, capsys):
    from v2a_nb.cli import main

    table = folder / "texts.csv"
    assert main(["evaluate", "--generated", str(folder / "made"), "--text", str(table)]) == 1
    assert "texts.csv cannot be read as a table" in capsys.readouterr().err


def test_too_few_clips_are_refused_in_one_line(folder, capsys):
    from v2a_nb.cli import main

    command = ["evaluate", "--generated", str(folder / "made"), "--reference", str(folder / "made")]
    assert main([*command, "--metrics", "density,coverage"]) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]  # behind the progress
    assert error == "v2a-nb: density, coverage: 12 clips: neighbours among clips need at least 50"
    # beside a metric that has a value, it is a problem
    assert main([*command, "--metrics", "is,kad", "--json", str(folder / "scores.json")]) == 0
    report = json.loads((folder / "scores.json").read_text())
    assert report["problems"] == [{"id": "is", "what": "12 clips: an inception score needs at least 50"}]
    values = {m["name"]: m["value"] for m in report["metrics"]}
    assert values["is"] is None and values["kad"] < 0  # true sounds against themselves: an unbiased 0
    assert "kad[strike-audio@" in capsys.readouterr().out


def test_an_extractor_of_choice(folder, tmp_path, capsys):
    from clap_parts import small_clap

    from v2a_nb.cli import main

    small_clap(tmp_path / "clap")
    names = f"fad[clap={tmp_path / 'clap'}],fad,kl,e_l1"
    command = ["evaluate", "--generated", str(folder / "made"), "--reference", str(folder / "made")]
    assert main([*command, "--metrics", names, "--json", str(folder / "scores.json")]) == 0
    report = json.loads((folder / "scores.json").read_text())
    tags = {m["name"]: m["extractor"].partition("@")[0] for m in report["metrics"]}
    assert tags == {"fad[clap]": "clap", "fad": "strike-audio", "kl": "strike-material", "e_l1": "rms"}
    assert all(m["value"] == pytest.approx(0, abs=1e-6) and m["n"] == 12 for m in report["metrics"])
    assert report["per_clip"][0].keys() == {"id", "kl", "e_l1"}
    assert "fad[clap@" in capsys.readouterr().out
    for name, why in (
        ("e_l1[clap]", "e_l1 takes no extractor"), ("kl[clap]", "kl takes kl[strike-material] or kl[ast-audioset]"),
        ("fad[clap", "fad takes fad[strike-audio]"), ("fad[vgg]", "fad takes"), ("fda[clap]", "unknown metric"),
    ):  # fmt: skip
        assert main([*command, "--metrics", name]) == 2
        assert why in capsys.readouterr().err
