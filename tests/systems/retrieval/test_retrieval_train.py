"""The recipe of the audio-visual embedding and its pool: batches, what is learned, resuming, and its scores."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from av_parts import SMALL, VIDEO, bands_of, easy_pairs, small_model
from clip_parts import in_memory, run_stage

from v2a_nb.data.audio_visual_pairs import AudioVisualPairs
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.hub import tag_of
from v2a_nb.metrics.retrieval import ambience_found, ranks_of, recall
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.scores.retrieval import places
from v2a_nb.systems.retrieval import train as recipe
from v2a_nb.systems.retrieval.system import Retrieval
from v2a_nb.systems.retrieval.train import (
    EmbeddingTraining,
    RetrievalFeatures,
    RetrievalRecipe,
    RetrievalTrainConfig,
    embedding_stage,
    pool_of,
    thinned,
    vectors_of,
)
from v2a_nb.training import recipe as runner
from v2a_nb.training.loop import fit
from v2a_nb.training.recipe import run_recipe
from v2a_nb.world.dataset import Settings, Take
from v2a_nb.world.recording import draw


class Killed(Exception):
    pass


class EasyRecipe(RetrievalRecipe):
    """The recipe with a small network on easy pairs."""

    template = None
    network = SMALL

    def features(self, recordings, store):
        training, held_out = easy_pairs(10, margin_s=1.5).split(4)
        levels = np.linspace(-60, -50, len(training))
        return RetrievalFeatures(training, held_out, easy_pairs(4, each=4, seed=3), training, levels)


def easy_recipe(seed: int = 0, **how) -> EasyRecipe:
    return EasyRecipe(RetrievalTrainConfig(steps=4, batch_size=4, **how), seed=seed)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple:
    """An embedding after some steps of the easy task, and pairs that it never saw."""
    torch.set_num_threads(1)
    training, unseen = easy_pairs(60).split(16)
    out = tmp_path_factory.mktemp("av")
    stage = embedding_stage(training, unseen, steps=60, batch_size=16, config=SMALL)
    return run_stage(stage, out).model, unseen, out


def test_a_short_training_matches_unseen_sounds(trained):
    model, unseen, out = trained
    ranks = ranks_of(*vectors_of(model, unseen))
    assert (ranks < 8).mean() > 0.6 and np.median(ranks) < 5  # of 32; chance is 0.25 and 15.5
    assert np.median(ranks_of(*vectors_of(small_model(), unseen))) > 8
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"] and {"pairs", "room", "temperature"} <= log[-1].keys()


def test_the_room_term_knows_rooms_again():
    batch = recipe.batches(easy_pairs(12), 8, 0)(0)
    assert batch["video"].shape == (16, 75, 384) and batch["audio"].shape == (16, 300, 40)
    torch.manual_seed(0)
    paper, ours = EmbeddingTraining(SMALL, 0.0, True), EmbeddingTraining(SMALL, 0.5, True)
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


def test_ambience_of_what_is_found(trained):
    model, unseen, _ = trained
    pool, kinds = pool_of(model, unseen), bands_of(unseen)
    itself = np.eye(len(unseen), dtype=bool)
    names = [str(r) for r in unseen.recording_ids]
    found = ambience_found(pool, pool.video, kinds, kinds, names, itself)
    # here a room's look tells its kind; a random sound has the right one as often as there are such
    same = (kinds[:, None] == kinds[None]) & ~itself
    assert found["random"]["value"] == pytest.approx((same.sum(1) / (len(unseen) - 1)).mean())
    for by in ("sound", "look"):
        assert found[by]["value"] > found["random"]["value"] + 0.3
    assert found["sound"]["n"] == len(unseen)


def test_what_overlaps_with_a_query_is_no_answer(trained):
    model, unseen, _ = trained
    few = unseen.where(slice(0, 12))
    numbers = few.recording_ids
    arrays = {name: array[:] for name, array in few.arrays.items()}
    one_moment = in_memory(numbers, starts_s=[3.0] * 12, view=AudioVisualPairs, **arrays)
    system = Retrieval(model, pool_of(model, unseen))
    rows = {(row.subject, row.metric): row.value for row in places(system, one_moment)}
    assert rows["known rooms", "same_recording_found"] == 0.0
    rows = {(row.subject, row.metric): row.value for row in places(system, unseen)}
    assert rows["known rooms", "same_recording_found"] > 0.0
    assert {subject for subject, _ in rows} == {"known rooms", "unseen rooms"}


def test_of_many_sounds_whole_recordings_are_left_out():
    training = easy_pairs(7)
    few = thinned(training, 5)  # every third recording, whole
    assert few.recording_ids.tolist() == [0, 0, 3, 3, 6, 6] and len(thinned(training, 14)) == 14


def test_from_nothing_to_weights(tmp_path):
    folder = run_recipe(easy_recipe(room=0.2), tmp_path / "run", say=lambda line: None)
    assert folder == tmp_path / "run" / "weights"
    model = AudioVisualEmbedding.from_pretrained(tmp_path / "run" / "av_sim")
    assert model.frame_encoder is not None and model.config.video.encoder == tag_of(model.frame_encoder, "vision")
    assert model.card["train_config"]["room"] == 0.2 and model.card["source"] == "strike:seed=6000"
    system = Retrieval.from_pretrained(folder)
    clip = Take(draw(1, 0), Settings(seconds=0.8, size=16)).clip(2.0, "x").clip
    assert len(system.pool.searched) == 12 and len(system.pool) == 24  # and each in a quiet room
    assert system.generate(clip.silent()).n == 12800
    found = recipe.known_rooms(model, easy_pairs(4, each=4, seed=3))
    assert system.by == max(("sound", "look"), key=lambda by: found[by]["value"])
    assert np.allclose(system.pool.quiet[:12], np.linspace(-60, -50, 12), atol=0.05)
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"held_out_r1", "held_out_r10"} <= log[-1].keys()
    with pytest.raises(V2AError, match="holds a run"):
        run_recipe(easy_recipe(room=0.2), tmp_path / "run", say=lambda line: None)
    with pytest.raises(V2AError, match=r"another config\.room"):
        run_recipe(easy_recipe(room=0.1), tmp_path / "run", resume=True, say=lambda line: None)


def test_an_embedding_of_another_encoder_is_refused(tmp_path):
    class Other(EasyRecipe):
        network = replace(SMALL, video=replace(VIDEO, encoder="vision@0000"))

    with pytest.raises(UsageError, match="vision@0000"):
        run_recipe(Other(RetrievalTrainConfig(steps=1)), tmp_path, say=lambda line: None)


def test_a_killed_stage_goes_on_as_if_it_was_not(tmp_path):
    def stage():
        pairs = easy_pairs(12)
        return embedding_stage(pairs, pairs, steps=4, batch_size=4, config=SMALL)

    whole = run_stage(stage(), tmp_path / "whole")
    run_stage(stage(), tmp_path / "killed", until=2)
    resumed = run_stage(stage(), tmp_path / "killed", resume=True)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_killed_recipe_goes_on(tmp_path, monkeypatch):
    run_recipe(easy_recipe(), tmp_path / "whole", say=lambda line: None)

    def dies(*args, **options):
        fit(*args, **{**options, "until": 2})
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(runner, "fit", dies)
        with pytest.raises(Killed):
            run_recipe(easy_recipe(), tmp_path / "killed", say=lambda line: None)
    assert not (tmp_path / "killed" / "weights").exists()
    run_recipe(easy_recipe(), tmp_path / "killed", resume=True, say=lambda line: None)
    for name in ("weights/model.safetensors", "weights/config.json", "av_sim/model.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()
