"""The recipe of AV-Sync: pairs, what is learned, resuming, and its scores."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from av_parts import SMALL, SYNC, VIDEO, easy_pairs, small_model
from clip_parts import run_stage

from v2a_nb.errors import UsageError, V2AError, WeightsError
from v2a_nb.metrics.av_sync import train as recipe
from v2a_nb.metrics.av_sync.metric import AvSync
from v2a_nb.metrics.av_sync.model import AvSyncNet
from v2a_nb.metrics.av_sync.train import (
    AvSyncRecipe,
    AvSyncTrainConfig,
    AvSyncTraining,
    classifier_stage,
    held_out_report,
)
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.training.recipe import run_recipe
from v2a_nb.world.dataset import Settings, Take
from v2a_nb.world.recording import draw

SHIFTS = (0.5, 0.75)


class EasyRecipe(AvSyncRecipe):
    """The recipe with a small network on easy pairs."""

    template = None
    network = SYNC

    def features(self, recordings, store):
        return easy_pairs(10, margin_s=1.5).split(4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple:
    """A classifier after some steps of the easy task, and pairs that it never saw."""
    torch.set_num_threads(1)
    training, unseen = easy_pairs(60, seed=1).split(20)
    stage = classifier_stage(
        training, unseen, steps=200, batch_size=16, config=SYNC, embedding=small_model(), shifts_s=SHIFTS
    )  # fmt: skip
    return run_stage(stage, tmp_path_factory.mktemp("sync")).net, unseen


def test_pairs_are_half_matched_and_a_quarter_each():
    batch = recipe.batches(easy_pairs(20), 8, 0, SHIFTS)(3)
    assert len(batch["video"]) == len(batch["thumbnail"]) == 8 and len(batch["audio"]) == 12
    asked = []
    training = AvSyncTraining(AvSyncNet(SYNC), contrast=0.0)
    judge = training.net.judge
    training.net.judge = lambda video, audio: asked.append((video, audio)) or judge(video, audio)
    training(batch)
    (video, audio), sounds = asked[0], training.net.hear(batch["audio"])
    assert len(video) == 16 and torch.allclose(video[:8], video[8:])
    assert torch.allclose(audio[:8], sounds[:8], atol=1e-5)  # matched
    assert torch.allclose(audio[8:12], sounds[8:], atol=1e-5)  # shifted
    assert torch.allclose(audio[12:], sounds[:4], atol=1e-5)  # the sounds of other recordings


def test_shifted_sounds_are_the_same_recording_at_another_time(monkeypatch):
    pairs = easy_pairs(20)
    monkeypatch.setattr(recipe, "random_gain", lambda mels, rng: mels)
    numbered = np.broadcast_to(np.arange(pairs["log_mel"].shape[2], dtype=np.float16), pairs["log_mel"].shape)
    pairs = replace(pairs, arrays={**pairs.arrays, "log_mel": numbered})  # in each column its number
    shifts = []
    for step in range(30):
        audio = recipe.batches(pairs, 8, 0, SHIFTS)(step)["audio"]
        assert (audio[:, 1] - audio[:, 0] == 1).all() and (audio[:8, 0] == 150).all()
        shifts += (audio[8:, 0, 0] - 150).tolist()
    away = np.abs(np.array(shifts))
    assert away.min() >= 100 and away.max() <= 150 and 0.3 < (np.array(shifts) > 0).mean() < 0.7


def test_a_short_training_tells_synchronous_from_the_rest(trained):
    net, unseen = trained
    report = held_out_report(net, unseen, pairs=400, shifts_s=SHIFTS)
    assert report["accuracy"]["value"] > 0.65 and report["auc"] > 0.75
    assert report["ground_truth"]["value"] > report["other_video"]["value"] + 30
    curve = {row["shift_s"]: row["value"] for row in report["curve"]}
    assert max(curve) == 0.75 and curve[0.0] > curve[0.75] + 10
    assert report["ground_truth"]["n"] == len(unseen) and report["curve"][1]["n"] == 2 * len(unseen)


@pytest.mark.parametrize("options", [{"size": 7}, {"shifts_s": (0.0, 0.5)}, {"shifts_s": (0.5, 0.9)}])
def test_impossible_pairs_are_refused(options):
    with pytest.raises(UsageError):
        recipe.batches(easy_pairs(20), **{"size": 8, "seed": 0, **options})


def test_a_killed_training_goes_on_as_if_it_was_not(tmp_path):
    def stage():
        pairs = easy_pairs(12)
        return classifier_stage(pairs, pairs, steps=4, batch_size=4, config=SYNC, shifts_s=SHIFTS)

    whole = run_stage(stage(), tmp_path / "whole")
    run_stage(stage(), tmp_path / "killed", until=2)
    resumed = run_stage(stage(), tmp_path / "killed", resume=True)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_from_an_embedding_to_weights(tmp_path):
    small_model().save_pretrained(tmp_path / "embedding")
    config = AvSyncTrainConfig(steps=4, batch_size=4, embedding=str(tmp_path / "embedding"))
    # the embedding was trained with a video encoder that knows nothing
    config = replace(config, encoder=str(tmp_path / "embedding" / "vision"))
    folder = run_recipe(EasyRecipe(config), tmp_path / "run", say=lambda line: None)
    judge = AvSync.from_pretrained(folder)
    assert judge.card["started_from"].startswith("av-sim@") and judge.card["train_config"]["contrast"] == 1.0
    assert judge.config.encoders.video.encoder == json.loads((tmp_path / "run" / "run.json").read_text())["encoder"]
    clip = Take(draw(1, 0), Settings(seconds=1.5, size=16)).clip(2.0, "x").clip
    assert 0 < judge.score(clip.silent(), clip.sound) < 1
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"held_out_accuracy", "judged", "found"} <= log[-1].keys()
    with pytest.raises(V2AError, match="holds a run"):
        run_recipe(EasyRecipe(config), tmp_path / "run", say=lambda line: None)
    with pytest.raises(V2AError, match=r"another config\.embedding, started_from"):
        run_recipe(EasyRecipe(replace(config, embedding="")), tmp_path / "run", resume=True, say=lambda line: None)


def test_an_embedding_of_another_encoder_is_no_start(tmp_path):
    other = replace(SMALL, video=replace(VIDEO, encoder="vision@0000"))
    AudioVisualEmbedding(other).save_pretrained(tmp_path / "embedding")
    config = AvSyncTrainConfig(steps=1, embedding=str(tmp_path / "embedding"))
    with pytest.raises((UsageError, WeightsError), match="vision@0000"):
        run_recipe(EasyRecipe(config), tmp_path / "run", say=lambda line: None)
