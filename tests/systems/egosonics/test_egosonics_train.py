"""EgoSonics' recipe: from nothing to weights, resumed to the byte, each stage training what it should."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from egosonics_parts import SMALL, SMALL_AUTOENCODER, small_system, speak
from vaura_parts import clip_of

from v2a_nb.data.latent_dataset import PER_RECORDING, SECONDS, batches, compute_latent_dataset
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.systems.egosonics import train as recipe
from v2a_nb.systems.egosonics.system import EgoSonics
from v2a_nb.systems.egosonics.train import Stage, TrainConfig, train_egosonics
from v2a_nb.systems.registry import load
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipes import autoencoder as first_stage
from v2a_nb.training.registry import train
from v2a_nb.world.dataset import Settings, Take
from v2a_nb.world.recording import draw

CONFIG = replace(SMALL, video_dim=384)
TRAIN = replace(TrainConfig().scaled(0.002), batch_size=4)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole run with small parts: how it is called, and its folder."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("egosonics")
    eyes = StrikeVision().save_pretrained(root / "eyes")
    how = {"config": CONFIG, "autoencoder": SMALL_AUTOENCODER, "encoder": eyes, "data": root / "cache"}
    how |= {"budget": TRAIN, "say": lambda line: None}
    assert train_egosonics(root / "run", **how) == root / "run" / "weights"
    return how, root / "run"


def same_weights(a, b):
    return all(
        (a / name).read_bytes() == (b / name).read_bytes()
        for name in ("weights/model.safetensors", "weights/autoencoder/model.safetensors", "weights/config.json")
    )


def test_from_nothing_to_weights(made):
    _, out = made
    system = load("egosonics", out / "weights")
    assert isinstance(load(str(out / "weights")), EgoSonics)
    sound = system.generate(clip_of(0.5), seed=0)
    assert sound.n == 8000 and sound.sample_rate == 16000
    card = system.card
    assert (card["preset"], card["data_seed"], card["seed"], card["steps"]) == ("tiny", 1000, 0, TRAIN.steps)
    assert card["round_trip"]["onset_f1_50ms_true"] > 0.8 and card["round_trip"]["onset_f1_50ms_picture"] > 0.7
    assert card["versions"]["torch"] and card["encoder"].startswith("vision@")
    assert {p.name for p in (out / "weights").iterdir()} == {"config.json", "model.safetensors", "autoencoder"}


def test_every_stage_tells_the_monitor_how_it_goes(made):
    _, out = made
    last = {f: json.loads((out / f / "log.jsonl").read_text().splitlines()[-1]) for f in ("", "base", "text")}
    assert {"loss", "held_out", "use_of_video", "onset_f1_50ms"} <= last[""].keys()
    assert {"loss", "held_out"} <= last["base"].keys() and {"held_out", "explained"} <= last["text"].keys()
    for folder in ("", "base", "autoencoder"):
        assert list((out / folder / "samples").glob("*.wav"))


def test_a_run_can_be_carried_elsewhere(made, tmp_path):
    _, out = made
    shutil.copytree(out, tmp_path / "moved", ignore=shutil.ignore_patterns("state", "latents"))
    clip = clip_of(0.4)
    moved = EgoSonics.from_pretrained(tmp_path / "moved" / "weights")
    assert np.array_equal(moved.generate(clip).samples, load("egosonics", out / "weights").generate(clip).samples)


@pytest.mark.parametrize("stage", ["autoencoder", "base", "run"])
def test_a_killed_run_goes_on_as_if_it_was_not(made, tmp_path, monkeypatch, stage):
    how, out = made

    def dies(module, batch_of, plan, folder, **options):
        if folder.name != stage:
            return fit(module, batch_of, plan, folder, **options)
        fit(module, batch_of, plan, folder, **options, until=2)
        raise Killed

    run = tmp_path / "run"
    if stage == "run":  # what comes before is there
        shutil.copytree(out, run, ignore=shutil.ignore_patterns("weights", "ablations"))
        shutil.copytree(out / "autoencoder" / "weights", run / "autoencoder" / "weights")
        for name in ("log.jsonl", "state/state.pt"):
            (run / name).unlink()
    with monkeypatch.context() as patch:
        for module in (recipe, first_stage):
            patch.setattr(module, "fit", dies)
        with pytest.raises(Killed):
            train_egosonics(run, **how)
    assert not (run / "weights").exists()
    train_egosonics(run, **how, resume=True)
    assert same_weights(run, out)


def test_an_ablation_shares_the_first_stages(made, monkeypatch):
    how, out = made
    trained = []
    forward = Stage.forward
    monkeypatch.setattr(Stage, "forward", lambda self, batch: trained.append(self.name) or forward(self, batch))
    monkeypatch.setattr(first_stage, "fit", None)
    before = (out / "weights" / "model.safetensors").read_bytes()
    budget = replace(TRAIN, steps=2)
    weights = train_egosonics(out, **{**how, "budget": budget}, ablation="fps4")
    assert trained == ["syncronet"] * 2
    assert weights == out / "ablations" / "fps4" / "weights"
    assert {p.name for p in weights.iterdir()} == {"config.json", "model.safetensors"}
    assert (out / "weights" / "model.safetensors").read_bytes() == before
    system = load("egosonics", weights)
    assert system.config.fps == 4 and system.card["ablation"] == "fps4"
    fast, slow = (np.load(how["data"] / name / "vectors.npy").astype(np.float32) for name in ("videos", "videos_fps4"))
    assert fast.shape == slow.shape and not np.array_equal(fast, slow)
    clip = clip_of(0.4)
    assert torch.equal(system.encode_video(clip), system.encoder.features(clip.at_fps(4.0))[None])
    assert system.generate(clip_of(0.4)).n == 6400
    with pytest.raises(V2AError, match="--resume"):
        train_egosonics(out, **how, ablation="fps4")


def test_what_cannot_be_meant_is_refused(made, tmp_path):
    how, out = made
    with pytest.raises(V2AError, match="--resume"):
        train_egosonics(out, **how)
    with pytest.raises(V2AError, match="another seed"):
        train_egosonics(out, **how, seed=1, resume=True)
    with pytest.raises(V2AError, match="another base_steps"):
        train_egosonics(out, **{**how, "budget": replace(TRAIN, base_steps=9)}, ablation="fps15")
    with pytest.raises(UsageError, match="no ablation"):
        train_egosonics(tmp_path, **how, ablation="fps24")
    with pytest.raises(UsageError, match="words"):
        train_egosonics(tmp_path, **{**how, "config": replace(CONFIG, words=False)})
    with pytest.raises(V2AError, match="do not fit"):
        train_egosonics(tmp_path / "a", **{**how, "config": replace(CONFIG, video_dim=100)})
    assert not (tmp_path / "a").exists()
    for wrong in ({"steps": 0}, {"base_steps": -1}, {"batch_size": 0}, {"held_out": 1250}, {"sound_recordings": 30000}):
        with pytest.raises(UsageError):
            TrainConfig(**wrong)
    with pytest.raises(UsageError, match="at least one step"):
        train("egosonics", steps=0, out=tmp_path)
    assert recipe.main(["--steps", "0", "--out", str(tmp_path)]) == 2


def test_the_command_runs_the_recipe(monkeypatch, tmp_path):
    called = {}
    monkeypatch.setattr(recipe, "train_egosonics", lambda out, **how: called.update(how, out=out) or tmp_path)
    assert train("egosonics", steps=TrainConfig().steps // 100, seed=3, out=tmp_path, resume=True) == tmp_path
    assert called["budget"] == TrainConfig().scaled(0.01) and called["seed"] == 3 and called["resume"]
    said = []
    assert recipe.main(["--ablation", "fps15", "--steps", "7", "--out", "there"], said.append) == 0
    assert (called["ablation"], called["budget"].steps, called["out"]) == ("fps15", 7, "there")
    assert said == [str(tmp_path)]


# --- what is trained --------------------------------------------------------------------------------


def batch_for(name):
    generator = torch.Generator().manual_seed(1)
    batch = {"latents": torch.randn(16, 4, 8, 16, generator=generator)}
    batch["vectors"] = torch.randn(16, 64, 12, generator=generator)
    batch["ids"] = torch.arange(1, 17)[:, None]
    return batch


@pytest.mark.parametrize("name", ["base", "text", "syncronet"])
def test_a_stage_trains_all_of_its_modules_and_no_other(name, tmp_path):
    module = Stage(small_system(), name)
    trained = module.system.stage(name)
    torch.manual_seed(0)
    module(batch_for(name))["loss"].backward()
    silent = {k for k, p in trained.items() if p.grad is None or not p.grad.abs().sum()}
    assert silent <= {"words.words.weight"} if name == "base" else not silent, silent
    module.zero_grad(set_to_none=True)
    before = {k: v.clone() for k, v in module.system.state_dict().items()}
    fit(module, lambda step: batch_for(name), OptimConfig(steps=3, warmup=1, weight_decay=0.0), tmp_path)
    changed = {k for k, v in module.system.state_dict().items() if not torch.equal(v.cpu(), before[k])}
    assert changed == set(trained)


def test_the_autoencoder_is_trained_whole():
    torch.manual_seed(0)
    module = first_stage.AutoencoderTraining(ImageAutoencoder(SMALL_AUTOENCODER))
    module({"images": torch.rand(2, 1, 64, 64)})["loss"].backward()
    assert not [k for k, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum()]


@pytest.mark.parametrize("name", recipe.ABLATIONS)
def test_ablations_train_what_they_leave(name):
    system = small_system(**recipe.ABLATIONS[name])
    module = Stage(system, "syncronet")
    module(batch_for(name))["loss"].backward()
    silent = [k for k, p in system.stage("syncronet").items() if p.grad is None or not p.grad.abs().sum()]
    assert all("attn2" in k or "project" in k or "norm2" in k for k in silent)
    assert bool(silent) == (name == "no_cross_attention")


def test_the_video_is_not_used_before_the_first_step(made):
    how, out = made
    system = load("egosonics", out / "weights")
    scenes = compute_latent_dataset(
        how["data"] / "videos", recordings=TRAIN.video_recordings, first=recipe.VIDEO_FIRST, encoder=how["encoder"]
    )
    latents = np.load(out / "latents" / "videos" / "latents.npy")
    data = recipe._Data(scenes, latents, system.words.ids(scenes.narrations), 8)
    system.start_syncronet()
    assert recipe.syncronet_report(system, data, listen=False)["use_of_video"] == 0
    speak(system)
    seen = recipe.syncronet_report(system, data)
    assert seen["use_of_video"] != 0 and seen["sample"].duration == SECONDS


# --- data -------------------------------------------------------------------------------------------


def test_scenes_are_clips_of_the_world_with_their_truth(made, tmp_path):
    how, _ = made
    scenes = compute_latent_dataset(how["data"] / "sounds", recordings=TRAIN.sound_recordings)
    assert scenes.images.shape == (4 * PER_RECORDING, 1, 64, 512) and scenes.images.dtype == np.float16
    assert scenes.vectors is None
    which = np.array([1, 6])
    for i, wave in zip(which, scenes.waves(which), strict=True):
        take = Take(draw(1000, int(scenes.recordings[i])), Settings(SECONDS, 64))
        clip = take.clip(scenes.starts[i] / 16000, "x")
        assert np.array_equal(wave, clip.stems["mix"].samples[0])
        assert scenes.narrations[i] == clip.narration
        assert np.allclose(scenes.onsets[i], [e["time_s"] for e in clip.truth["events"] if e["sounding"]])
        image = scenes.stft.to_image(torch.from_numpy(wave[None]))[0].numpy()
        assert np.abs(scenes.images[i] - image).max() < 1e-3
    with pytest.raises(UsageError, match="other clips"):
        compute_latent_dataset(how["data"] / "sounds", recordings=TRAIN.sound_recordings, seed=1)


def test_vectors_are_what_generation_will_see(made):
    how, _ = made
    scenes = compute_latent_dataset(
        how["data"] / "videos", recordings=TRAIN.video_recordings, first=recipe.VIDEO_FIRST, encoder=how["encoder"]
    )
    take = Take(draw(1000, int(scenes.recordings[5])), Settings(SECONDS, 64))
    clip = take.clip(scenes.starts[5] / 16000, "x").clip
    wanted = StrikeVision.from_pretrained(how["encoder"]).features(clip)
    assert np.abs(scenes.vectors[5] - wanted.numpy()).max() < 5e-3
    assert scenes.recordings.min() == recipe.VIDEO_FIRST


def test_rendering_goes_on_where_it_stopped(tmp_path):
    first = compute_latent_dataset(tmp_path, recordings=1, seed=5)
    images, part = np.array(first.images), tmp_path / "part-00000.json"
    stamp = part.stat().st_mtime_ns
    compute_latent_dataset(tmp_path, recordings=1, seed=5)
    assert part.stat().st_mtime_ns == stamp
    part.unlink()
    again = compute_latent_dataset(tmp_path, recordings=1, seed=5)
    assert np.array_equal(again.images, images) and again.narrations == first.narrations


def test_batches_are_functions_of_the_step():
    arrays = {"images": np.random.default_rng(0).standard_normal((10, 1, 4, 32)), "vectors": np.zeros((10, 8, 3))}
    of = batches(arrays, 6, 4, seed=0, stage=1, crop=8)
    a, b, c = of(3), of(3), of(4)
    assert torch.equal(a["images"], b["images"]) and not torch.equal(a["images"], c["images"])
    assert a["images"].shape == (4, 1, 4, 8)
    assert a["vectors"].std() == pytest.approx(0.1, abs=0.03)
    seen = torch.cat([batches(arrays, 6, 4, 0, 1)(step)["images"] for step in range(50)])
    assert not any((seen == torch.from_numpy(x).float()).flatten(1).all(1).any() for x in arrays["images"][6:])
    assert not torch.equal(batches(arrays, 6, 4, 0, 2)(3)["images"], batches(arrays, 6, 4, 0, 1)(3)["images"])
