"""The recipes of AV-Sim and AV-Sync: shots, batches, what is learned, resuming, and their scores."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from av_parts import SMALL, SYNC, VIDEO, easy_shots, small_model

from v2a_nb.audio.onsets import log_mel
from v2a_nb.data.audio_visual_pairs import TrainConfig, compute_audio_visual_pairs, louder, relit
from v2a_nb.data.pool import Pool, quiet_dbfs
from v2a_nb.errors import UsageError, V2AError, WeightsError
from v2a_nb.hub import SHIPPED
from v2a_nb.metrics.av_sync import train as av_sync
from v2a_nb.metrics.av_sync.metric import AvSync
from v2a_nb.metrics.av_sync.model import AvSyncNet
from v2a_nb.metrics.av_sync.train import AvSyncTraining, held_out_report, train_av_sync, train_classifier
from v2a_nb.metrics.retrieval import ambience_found, ranks_of, recall
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.systems.retrieval import train as av_representation
from v2a_nb.systems.retrieval.system import Retrieval
from v2a_nb.systems.retrieval.train import AvTraining, pool_of, thinned, train_encoders
from v2a_nb.training.loop import fit
from v2a_nb.training.registry import RECIPES
from v2a_nb.world.dataset import Settings, Take
from v2a_nb.world.recording import draw

CONFIG = TrainConfig(recordings=10, watched=4, unseen=4, steps=4, batch_size=4)
SHIFTS = (0.5, 0.75)
EYES = SHIPPED / "vaura" / "vision"


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def rendered(tmp_path_factory) -> tuple:
    folder = tmp_path_factory.mktemp("shots")
    return compute_audio_visual_pairs(folder, recordings=2, per_recording=2, workers=1), folder


@pytest.fixture
def easy(monkeypatch) -> list:
    """The recipes get easy shots instead of rendered ones; what they asked for."""
    asked = []

    def gather_all(folder, budget, encoder, say):
        asked.append((folder, budget, encoder))
        every = easy_shots(budget.recordings, margin_s=1.5)
        return *every.split(budget.watched), easy_shots(budget.unseen, each=4, seed=3, margin_s=1.5)

    for recipe in (av_representation, av_sync):
        monkeypatch.setattr(recipe, "gather_all", gather_all)
    return asked


# --- shots ------------------------------------------------------------------------------------------


def test_shots_are_clips_of_the_world(rendered):
    shots, _ = rendered
    assert shots.takes.vectors.shape == (4, 128, 384) and shots.places.shape == (4, 8, 8, 3)
    assert shots.seconds == pytest.approx(2.56) and shots.margin_s == pytest.approx(2.0)
    model = AudioVisualEmbedding(eyes=StrikeVision.from_pretrained(EYES))
    assert shots.recordings.tolist() == [0, 0, 1, 1] and shots.encoder.startswith("vision@")
    one = shots.where(np.array([2]))
    recording = draw(shots.seed, 1)
    item = Take(recording, Settings(seconds=2.56, size=64)).clip(one.takes.starts[0], "x")
    vectors, places = model.windows(item.clip.silent())
    assert (one.seen([0])[0] - vectors).abs().max() < 0.02  # kept in half precision
    assert torch.equal(one.seen([0])[1], places)
    wave = item.stems["mix"].samples
    # a cut sound has no past and no future: what its first and last window say differs
    heard = one.heard([0])[0].numpy().T
    assert np.abs(heard - log_mel(wave[0])[:, :512])[:, 4:-4].max() < 0.02
    assert one.quiet_dbfs() == pytest.approx(quiet_dbfs(wave[0], 16000), abs=1e-6)
    assert one.ambiences.tolist() == [recording.ambience]
    pool = Pool(np.ones((1, 4)), np.ones((1, 4)), one.sources(), [0.0])
    assert np.array_equal(pool.sound(0).samples, wave)


def test_a_late_sound_is_one_read_earlier(rendered):
    shots, _ = rendered
    late = shots.takes.mels[1:2, :, 340:540].transpose(0, 2, 1).astype(np.float32)
    assert torch.equal(shots.heard([1], -0.3, 1.0), torch.from_numpy(late))
    assert torch.equal(shots.seen([1, 2], np.array([0.0, 0.5]), 1.0)[0][1], shots.seen([2])[0][0, 25:75])
    for start in (-2.01, 2.01):
        with pytest.raises(UsageError, match="margin"):
            shots.heard([1], start)


def test_nothing_is_rendered_twice(rendered, monkeypatch):
    shots, folder = rendered
    from v2a_nb.data import audio_visual_pairs as module
    from v2a_nb.data import clip_features as takes

    for place, name in ((module, "_make_places"), (takes, "_make_takes")):
        monkeypatch.setattr(place, name, None)
    again = compute_audio_visual_pairs(folder, recordings=2, per_recording=2, workers=1)
    assert np.array_equal(again.places, shots.places) and np.array_equal(again.takes.starts, shots.takes.starts)
    with pytest.raises(UsageError, match="holds other takes"):
        compute_audio_visual_pairs(folder, recordings=2, seed=7, workers=1)


def test_held_out_recordings_are_never_shared():
    training, unseen = easy_shots(10).split(3)
    assert not set(training.recordings) & set(unseen.recordings) and (len(training), len(unseen)) == (14, 6)
    for wrong in (0, 10):
        with pytest.raises(UsageError, match="held out"):
            easy_shots(10).split(wrong)
    few = thinned(training, 5)  # every third recording, whole
    assert few.recordings.tolist() == [0, 0, 3, 3, 6, 6] and len(thinned(training, 14)) == 14


def test_parts_of_shots(rendered):
    shots = easy_shots(20)
    rng = np.random.default_rng(0)
    which = shots.draw(12, 2, rng)
    assert len(set(shots.recordings[which])) == 12 and len(set(which)) == 24
    assert np.array_equal(shots.recordings[which[:12]], shots.recordings[which[12:]])
    assert shots.part(3, rng)[1] == pytest.approx(1.5)  # shorter than the least: whole
    for _ in range(8):
        start, seconds = rendered[0].part(50, rng)
        assert 2.0 - 1e-9 <= seconds <= 2.56 + 1e-9 and np.allclose(start * 50, np.round(start * 50))
        assert (start >= 0).all() and (start + seconds <= 2.56 + 1e-9).all()
        vectors, _ = rendered[0].seen(np.zeros(50, int), start, seconds)
        assert vectors.shape[1] == round(seconds * 50)
    with pytest.raises(UsageError, match="cannot be drawn"):
        shots.draw(21, 1, rng)


def test_other_light_is_the_same_place():
    shots = easy_shots(30)
    plain = torch.from_numpy(shots.places)
    made = relit(plain, np.random.default_rng(0))
    away = made - plain.float() / 255
    assert 0.005 < away.abs().mean() < 0.06 and made.min() >= 0 and made.max() <= 1
    assert away.mean((1, 2)).std() > 0.02 and torch.equal(made, relit(plain, np.random.default_rng(0)))


def test_louder_is_decibels():
    wave = 0.1 * np.random.default_rng(0).standard_normal(16000)
    mel = torch.from_numpy(log_mel(wave).T.copy())
    made = louder(mel.repeat(32, 1, 1), np.random.default_rng(0))
    gain = (made - mel).flatten(1).median(1)[0] * 10 / np.log(10)
    assert -6 <= gain.min() < -3 and 3 < gain.max() <= 6.01
    i = int(gain.argmax())
    louder_wave = log_mel(wave * 10 ** (gain[i].item() / 20)).T
    assert (made[i] - torch.from_numpy(louder_wave.copy())).abs().median() < 0.01
    assert made.min() >= np.log(1e-5) - 1e-5


def test_less_of_everything():
    small = TrainConfig().scaled(0.02)
    assert (small.recordings, small.watched, small.unseen, small.steps) == (40, 4, 4, 16)
    assert small.batch_size == 32 and TrainConfig().scaled(1.0) == TrainConfig()
    assert TrainConfig().scaled(0.001).steps == 1 and TrainConfig().scaled(2.0).recordings == TrainConfig().recordings
    assert {"av_sim", "av_sync"} <= RECIPES.keys()


# --- AV-Sim -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encoders(tmp_path_factory) -> tuple:
    """Encoders after some steps of the easy task, and shots that they never saw."""
    torch.set_num_threads(1)
    training, unseen = easy_shots(60).split(16)
    out = tmp_path_factory.mktemp("av")
    return train_encoders(training, out, steps=60, batch_size=16, config=SMALL), unseen, out


def test_a_short_training_matches_unseen_sounds(encoders):
    model, unseen, out = encoders
    seen, heard = av_representation.vectors_of(model, unseen)
    ranks = ranks_of(seen, heard)
    assert (ranks < 8).mean() > 0.6 and np.median(ranks) < 5  # of 32; chance is 0.25 and 15.5
    before = av_representation.vectors_of(small_model(), unseen)
    assert np.median(ranks_of(*before)) > 8
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"] and {"pairs", "room", "temperature"} <= log[-1].keys()


def test_the_room_term_knows_rooms_again():
    torch.manual_seed(0)
    batch = av_representation.batches(easy_shots(12), 8, 0)(0)
    assert batch["vectors"].shape == (16, 75, 384) and batch["bank"].shape == (16, 300, 40)
    paper, ours = AvTraining(SMALL, room=0.0), AvTraining(SMALL, room=0.5)
    ours.load_state_dict(paper.state_dict())
    a, b = paper(batch), ours(batch)
    assert a["loss"] == a["pairs"] == b["pairs"] and "room" not in a
    assert b["loss"].item() == pytest.approx((b["pairs"] + 0.5 * b["room"]).item())
    ours(batch)["room"].backward()
    assert ours.model.aud_proj[1].weight.grad is None  # it is about looks alone


def test_ranks_by_hand():
    answers = np.eye(3)
    queries = np.array([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.5, 0.5, 0.5]])
    assert ranks_of(queries, answers).tolist() == [0, 1, 1]  # two ties count as one above
    flat = recall(np.ones((40, 4)), np.ones((40, 4)))  # who cannot tell gets no recall
    assert flat["video_to_sound"]["r10"]["value"] == 0.0 and flat["video_to_sound"]["median_rank"] == 21
    assert flat["chance"] == {"r1": 1 / 40, "r5": 5 / 40, "r10": 10 / 40}
    exact = recall(np.eye(12), np.eye(12))
    assert exact["sound_to_video"]["r1"]["value"] == 1.0


def test_ambience_of_what_is_found(encoders):
    model, unseen, _ = encoders
    pool = pool_of(model, unseen)
    itself = np.eye(len(unseen), dtype=bool)
    names = [str(r) for r in unseen.recordings]
    made = ambience_found(pool, pool.seen, unseen.ambiences, unseen.ambiences, names, itself)
    # here a room's look tells its ambience; a random sound has the right one as often as there are such
    same = (unseen.ambiences[:, None] == unseen.ambiences[None]) & ~itself
    assert made["random"]["value"] == pytest.approx((same.sum(1) / (len(unseen) - 1)).mean())
    for by in ("sound", "look"):
        assert made[by]["value"] > made["random"]["value"] + 0.3
    assert made["sound"]["n"] == len(unseen)


def test_what_overlaps_with_a_query_is_no_answer(encoders):
    model, unseen, _ = encoders
    names = np.unique(unseen.recordings)[:6]
    twice = unseen.where(np.isin(unseen.recordings, names))
    twice = replace(twice, takes=replace(twice.takes, starts=np.full(len(twice), 3.0)))  # both shots are one moment
    report = av_representation.held_out_report(model, unseen, twice)
    assert report["same_room"]["value"] == 0.0
    assert av_representation.held_out_report(model, unseen, unseen)["same_room"]["value"] > 0.0


def test_av_sim_from_nothing_to_weights(tmp_path, capsys, easy):
    said = []
    how = {"budget": CONFIG, "config": SMALL, "say": said.append}
    folder = av_representation.train_av_sim(tmp_path / "run", **how)
    assert easy == [(tmp_path / "run" / "shots", CONFIG, EYES)]
    model = AudioVisualEmbedding.from_pretrained(tmp_path / "run" / "av_sim")
    scores = model.card["scores"]
    assert scores["recall"]["video_to_sound"]["r1"]["n"] == 16 and model.eyes is not None
    assert {"known_rooms", "unseen_rooms"} == set(scores["ambience"]) and model.card["watched"] == 4
    text = (folder / "README.md").read_text()
    assert "known rooms" in text and "chance, 16 clips" in text
    assert (tmp_path / "run" / "av_sim" / "README.md").read_text() == text
    system = Retrieval.from_pretrained(folder)
    clip = Take(draw(1, 0), Settings(seconds=0.8, size=16)).clip(2.0, "x").clip
    assert len(system.pool.searched) == 12 and len(system.pool) == 24  # and each in a quiet room
    assert system.generate(clip.silent()).n == 12800
    best = max(("sound", "look"), key=lambda by: scores["ambience"]["known_rooms"][by]["value"])
    assert system.by == best and system.pool.quiet.min() > -90  # levels of the true sounds
    score = ["--score", str(tmp_path / "run" / "av_sim")]
    assert av_representation.main(score, say=said.append) == 0 and "R@10" in said[-1]
    with pytest.raises(V2AError, match="holds a run"):
        av_representation.train_av_sim(tmp_path / "run", **how)
    assert av_representation.main(["--out", str(tmp_path / "run")]) == 1
    assert "holds a run" in capsys.readouterr().err


# --- AV-Sync ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(encoders, tmp_path_factory) -> tuple:
    training, unseen = easy_shots(60, seed=1).split(20)
    out = tmp_path_factory.mktemp("sync")
    net = train_classifier(
        training, out, steps=160, batch_size=16, config=SYNC, encoders=encoders[0], shifts_s=SHIFTS
    )  # fmt: skip
    return net, unseen, out


def test_pairs_are_half_matched_and_a_quarter_each():
    shots = easy_shots(20)
    batch = av_sync.batches(shots, 8, 0, SHIFTS)(3)
    assert len(batch["vectors"]) == len(batch["place"]) == 8 and len(batch["bank"]) == 12
    asked = []
    training = AvSyncTraining(AvSyncNet(SYNC), contrast=0.0)
    judge = training.net.judge
    training.net.judge = lambda seen, heard: asked.append((seen, heard)) or judge(seen, heard)
    training(batch)
    (seen, heard), sounds = asked[0], training.net.hear(batch["bank"])
    assert len(seen) == 16 and torch.allclose(seen[:8], seen[8:])
    assert torch.allclose(heard[:8], sounds[:8], atol=1e-5)  # matched
    assert torch.allclose(heard[8:12], sounds[8:], atol=1e-5)  # shifted
    assert torch.allclose(heard[12:], sounds[:4], atol=1e-5)  # the sounds of other recordings


def test_shifted_sounds_are_the_same_recording_at_another_time(monkeypatch):
    shots = easy_shots(20)
    monkeypatch.setattr(av_sync, "louder", lambda mels, rng: mels)
    columns = shots.takes.mels.shape[2]
    shots.takes.mels[:] = np.arange(columns, dtype=np.float16)  # a column's number
    shifts = []
    for step in range(30):
        bank = av_sync.batches(shots, 8, 0, SHIFTS)(step)["bank"]
        assert (bank[:, 1] - bank[:, 0] == 1).all() and (bank[:8, 0] == 150).all()
        shifts += (bank[8:, 0, 0] - 150).tolist()
    away = np.abs(np.array(shifts))
    assert away.min() >= 100 and away.max() <= 150 and 0.3 < (np.array(shifts) > 0).mean() < 0.7


def test_a_short_training_tells_synchronous_from_the_rest(classifier):
    net, unseen, _ = classifier
    report = held_out_report(net, unseen, pairs=120, shifts_s=SHIFTS)
    assert report["accuracy"]["value"] > 0.7 and report["auc"] > 0.75
    assert report["ground_truth"]["value"] > report["other_video"]["value"] + 30
    curve = {row["shift_s"]: row["value"] for row in report["curve"]}
    assert max(curve) == 0.75 and curve[0.0] > curve[0.75] + 20
    assert report["ground_truth"]["n"] == len(unseen) and report["curve"][1]["n"] == 2 * len(unseen)


@pytest.mark.parametrize("options", [{"size": 7}, {"shifts_s": (0.0, 0.5)}, {"shifts_s": (0.5, 0.9)}])
def test_impossible_pairs_are_refused(options):
    with pytest.raises(UsageError):
        av_sync.batches(easy_shots(20), **{"size": 8, "seed": 0, **options})


@pytest.mark.parametrize("recipe", ["av_sim", "av_sync"])
def test_a_killed_training_goes_on_as_if_it_was_not(tmp_path, recipe):
    shots = easy_shots(12)

    def run(folder, **how):
        if recipe == "av_sim":
            return train_encoders(shots, folder, steps=4, batch_size=4, config=SMALL, **how)
        return train_classifier(shots, folder, steps=4, batch_size=4, config=SYNC, shifts_s=SHIFTS, **how)

    whole = run(tmp_path / "whole")
    run(tmp_path / "killed", until=2)
    resumed = run(tmp_path / "killed", resume=True)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_av_sync_from_nothing_to_weights(tmp_path, easy):
    small_model().save_pretrained(tmp_path / "encoders")
    said = []
    how = {"budget": CONFIG, "encoders": tmp_path / "encoders", "say": said.append}
    folder = train_av_sync(tmp_path / "run", **how)
    judge = AvSync.from_pretrained(folder)
    assert judge.config.encoders == SMALL and judge.card["started_from"].startswith("av-sim@")
    assert judge.card["scores"]["accuracy"]["n"] == 32 and "upper bound" in (folder / "README.md").read_text()
    clip = Take(draw(1, 0), Settings(seconds=1.5, size=16)).clip(2.0, "x").clip
    assert 0 < judge.score(clip.silent(), clip.sound) < 1
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"watched_accuracy", "judged", "found"} <= log[-1].keys()
    assert av_sync.main(["--score", str(folder)], say=said.append) == 0 and "AV-Sync of the true sounds" in said[-1]
    with pytest.raises(V2AError, match="holds a run"):
        train_av_sync(tmp_path / "run", **how)


def test_encoders_of_other_eyes_are_no_start(tmp_path, easy, monkeypatch):
    told = replace(SMALL, video=replace(VIDEO, encoder="vision@0000"))
    AudioVisualEmbedding(told).save_pretrained(tmp_path / "encoders")
    monkeypatch.setattr(av_sync, "train_classifier", None)
    with pytest.raises((UsageError, WeightsError), match="vision@0000"):
        train_av_sync(tmp_path / "run", budget=CONFIG, encoders=tmp_path / "encoders", say=lambda line: None)


def test_a_killed_recipe_goes_on(tmp_path, monkeypatch, easy):
    how = {"budget": CONFIG, "config": SMALL, "say": lambda line: None}
    av_representation.train_av_sim(tmp_path / "whole", **how)

    def dies(*args, **options):
        fit(*args, **{**options, "until": 2})
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(av_representation, "fit", dies)
        with pytest.raises(Killed):
            av_representation.train_av_sim(tmp_path / "killed", **how)
    assert not (tmp_path / "killed" / "weights").exists()
    av_representation.train_av_sim(tmp_path / "killed", **how, resume=True)
    for name in ("weights/model.safetensors", "weights/config.json", "av_sim/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_the_easy_world_is_what_it_says():
    shots = easy_shots(4)
    vectors, places = shots.seen([0])
    assert vectors.shape == (1, 75, 384) and places.shape == (1, 8, 8, 3) and shots.heard([0]).shape == (1, 300, 40)
    row = int(np.argmax(vectors[0].amax(0)[:32].numpy().reshape(4, 8).mean(1)))
    loud = vectors[0, :, 8 * row] > 1
    heard = shots.heard([0])[0, ::4, 10 * row] > -5
    assert (loud & ~heard).sum() == 0 and loud.any()  # what is seen is heard at that moment
