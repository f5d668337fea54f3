"""EgoSonics' recipe: from nothing to weights, resumed to the byte, each stage training what it should; on files."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from egosonics_parts import SMALL, SMALL_AUTOENCODER, small_system, speak
from feature_parts import features_of, small_video
from vaura_parts import clip_of

from v2a_nb.audio.stft_image import STFT_IMAGES
from v2a_nb.data.latent_dataset import SECONDS
from v2a_nb.errors import UsageError, V2AError, WeightsError
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.systems.egosonics import train as recipe
from v2a_nb.systems.egosonics.system import EgoSonics
from v2a_nb.systems.egosonics.train import (
    ABLATIONS,
    EgoSonicsRecipe,
    EgoSonicsTrainConfig,
    EgoSonicsTraining,
    syncronet_report,
)
from v2a_nb.systems.registry import load
from v2a_nb.training import recipe as runner
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import run_recipe
from v2a_nb.training.recipes.autoencoder import AutoencoderTraining
from v2a_nb.training.registry import train

CONFIG = replace(SMALL, video_dim=384)
TRAIN = replace(EgoSonicsTrainConfig(base="").scaled(0.002), batch_size=4)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole run with small parts: a function that runs the recipe, and the run's folder. Griffin-Lim is quick."""
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("egosonics")
    StrikeVision().save_pretrained(root / "encoder")
    config = replace(TRAIN, encoder=str(root / "encoder"))

    def run(out, *, resume=False, ablation=None, seed=0, source=None, sizes=None, **changes):
        sizes = {"model": CONFIG, "autoencoder": SMALL_AUTOENCODER, **(sizes or {})}
        one = EgoSonicsRecipe(replace(config, **changes), seed=seed, ablation=ablation, **sizes)
        return run_recipe(one, out, source=source, resume=resume, cache=root / "features", say=[].append)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STFT_IMAGES, "tiny", replace(STFT_IMAGES["tiny"], iterations=4))
        patch.setattr(recipe, "SAMPLED", 2)
        assert run(root / "run") == root / "run" / "weights"
        yield run, root / "run"


@pytest.fixture
def trained(monkeypatch):
    """The stage of each step of training, in turn; an autoencoder cannot be trained."""
    steps, forward = [], EgoSonicsTraining.forward
    monkeypatch.setattr(
        EgoSonicsTraining, "forward", lambda self, batch: steps.append(self.stage) or forward(self, batch)
    )
    monkeypatch.setattr(AutoencoderTraining, "forward", None)
    return steps


def features_in(out, name):
    """The arrays of one kind of feature, in the order in which they were computed."""
    folders = sorted(out.parent.glob(f"features/{name}-*"), key=lambda path: path.stat().st_mtime)
    return [np.load(next(folder.glob("*.npy"))) for folder in folders]


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
    assert (card["preset"], card["source"]) == ("tiny", "strike:seed=1000,version=1+2")
    assert (card["seed"], card["steps"], card["base_steps"]) == (0, TRAIN.steps, TRAIN.base_steps)
    assert card["round_trip"]["onset_f1_50ms_true"] > 0.8 and card["round_trip"]["onset_f1_50ms_picture"] > 0.7
    assert card["versions"]["torch"] and card["encoder"].startswith("vision@")
    assert card["train_config"]["sound_recordings"] == TRAIN.sound_recordings
    files = {"config.json", "model.safetensors", "README.md", "autoencoder"}
    assert {p.name for p in (out / "weights").iterdir()} == files
    base = json.loads((out / "egosonics_base" / "config.json").read_text())
    assert base["steps"] == TRAIN.base_steps and (out / "egosonics_base" / "README.md").exists()


def test_every_stage_tells_the_monitor_how_it_goes(made):
    _, out = made
    last = {f: json.loads((out / f / "log.jsonl").read_text().splitlines()[-1]) for f in ("", "base", "text")}
    assert {"loss", "held_out", "use_of_video", "onset_f1_50ms"} <= last[""].keys()
    assert {"loss", "held_out"} <= last["base"].keys() and {"held_out", "explained"} <= last["text"].keys()
    for folder in ("", "base", "autoencoder"):
        assert list((out / folder / "samples").glob("*.wav"))


def test_a_run_can_be_carried_elsewhere(made, tmp_path):
    _, out = made
    shutil.copytree(out, tmp_path / "moved", ignore=shutil.ignore_patterns("state"))
    clip = clip_of(0.4)
    moved = EgoSonics.from_pretrained(tmp_path / "moved" / "weights")
    assert np.array_equal(moved.generate(clip).samples, load("egosonics", out / "weights").generate(clip).samples)


@pytest.mark.parametrize("stage", ["autoencoder", pytest.param("base", marks=pytest.mark.golden), ""])
def test_a_killed_run_goes_on_as_if_it_was_not(made, tmp_path, monkeypatch, stage):
    run, out = made
    again = tmp_path / "run"

    def fit_until_killed(module, batch_of, optim, folder, **options):
        if folder != (again / stage if stage else again):
            return fit(module, batch_of, optim, folder, **options)
        fit(module, batch_of, optim, folder, **options, until=2)
        raise Killed

    if not stage:  # what comes before is there
        shutil.copytree(out, again, ignore=shutil.ignore_patterns("weights", "ablations"))
        shutil.copytree(out / "autoencoder" / "weights", again / "autoencoder" / "weights")
        for name in ("log.jsonl", "state/state.pt"):
            (again / name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(runner, "fit", fit_until_killed)
        with pytest.raises(Killed):
            run(again, resume=not stage)
    assert not (again / "weights").exists()
    run(again, resume=True)
    assert same_weights(again, out)


@pytest.mark.golden
def test_an_ablation_shares_the_first_stages(made, trained):
    run, out = made
    before = (out / "weights" / "model.safetensors").read_bytes()
    weights = run(out, steps=2, ablation="fps4")
    assert trained == ["syncronet"] * 2
    assert weights == out / "ablations" / "fps4" / "weights"
    assert {p.name for p in weights.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert (out / "weights" / "model.safetensors").read_bytes() == before
    system = load("egosonics", weights)
    assert system.config.fps == 4 and system.card["ablation"] == "fps4"
    fast, slow = features_in(out, "frame-vectors")
    assert fast.shape == slow.shape and not np.array_equal(fast, slow)
    clip = clip_of(0.4)
    assert torch.equal(system.encode_video(clip), system.encoder.features(clip.at_fps(4.0))[None])
    assert system.generate(clip_of(0.4)).n == 6400
    trained.clear()
    run(out, steps=2, ablation="fps4")  # it is done: nothing is trained
    assert not trained


@pytest.mark.golden  # with the other slow trainings
def test_a_kept_base_is_not_trained(made, tmp_path, trained, videos):
    run, out = made
    kept = {"base": str(out / "weights"), "steps": 2, "text_steps": 2}
    weights = run(tmp_path / "run", **kept)
    assert trained == ["text"] * 2 + ["syncronet"] * 2
    for name in ("weights/autoencoder/model.safetensors", "egosonics_base/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (out / name).read_bytes()
    before, after = load("egosonics", out / "weights"), load("egosonics", weights)
    assert torch.equal(before.null_text, after.null_text)
    assert torch.equal(before.words.words.weight, after.words.words.weight)
    assert not torch.equal(before.syncronet.project.weight, after.syncronet.project.weight)
    assert after.card["base_steps"] == TRAIN.base_steps
    weights = run(tmp_path / "run", **kept, ablation="fps15")
    assert load("egosonics", weights).card["ablation"] == "fps15"
    with pytest.raises(V2AError, match=r"another autoencoder, base, config\.base"):
        run(tmp_path / "run", steps=2, text_steps=2, resume=True)
    with pytest.raises(UsageError, match="which the MLP learns from"):
        run(tmp_path / "silent", source=f"folder:{videos}", seconds=3.2, **kept)
    with pytest.raises(V2AError, match="has other sizes than what is trained"):
        run(tmp_path / "other", sizes={"model": replace(CONFIG, text_width=24)}, **kept)
    assert not (tmp_path / "other").exists()


def test_what_cannot_be_meant_is_refused(made, tmp_path):
    run, out = made
    with pytest.raises(V2AError, match="--resume"):
        run(out)
    with pytest.raises(V2AError, match="another seed"):
        run(out, seed=1, resume=True)
    with pytest.raises(V2AError, match=r"another config\.base_steps"):
        run(out, base_steps=9, ablation="fps15")
    with pytest.raises(V2AError, match=r"another autoencoder\.layers"):
        run(out, ablation="fps15", sizes={"autoencoder": replace(SMALL_AUTOENCODER, layers=2)})
    with pytest.raises(UsageError, match="no ablation"):
        run(tmp_path, ablation="fps24")
    with pytest.raises(UsageError, match="words"):
        run(tmp_path, sizes={"model": replace(CONFIG, words=False)})
    with pytest.raises(V2AError, match="do not fit"):
        run(tmp_path / "a", sizes={"model": replace(CONFIG, video_dim=100)})
    assert not (tmp_path / "a").exists()
    for wrong in (
        {"steps": 0}, {"base_steps": -1}, {"batch_size": 0}, {"held_out": 1250}, {"held_out": 1},
        {"sound_recordings": 30000}, {"prompt_dropout": 1.5}, {"seconds": 0.0}, {"clip_value": -1.0},
    ):  # fmt: skip
        with pytest.raises(UsageError, match=r"\d"):
            EgoSonicsTrainConfig(**wrong)
    with pytest.raises(UsageError, match="at least one step"):
        train("egosonics", steps=0, out=tmp_path)


def test_settings_of_the_command_line_are_read_as_what_they_are(tmp_path):
    with pytest.raises(WeightsError, match="nowhere"):
        train("egosonics", out=tmp_path, encoder="./nowhere")
    with pytest.raises(UsageError, match="clips cannot last 0"):
        train("egosonics", out=tmp_path, seconds="0")
    with pytest.raises(UsageError, match="narrations=1: bool is needed"):
        train("egosonics", out=tmp_path, narrations="1")
    assert not list(tmp_path.iterdir())


def test_amounts_shrink_together():
    scaled, none = EgoSonicsTrainConfig(base="").scaled(0.1), EgoSonicsTrainConfig().scaled(0.0)
    assert (scaled.steps, scaled.sound_recordings, scaled.text_steps, scaled.held_out) == (240, 200, 100, 15)
    assert (none.steps, none.video_recordings, none.held_out, none.batch_size) == (4, 4, 2, 16)


def test_clipping_by_value_is_a_setting():
    assert EgoSonicsTrainConfig().optim(10, seed=3).clip_value is None
    optim = EgoSonicsTrainConfig(clip_value=0.5).optim(10, seed=3)
    assert (optim.steps, optim.seed, optim.clip_value, optim.warmup) == (10, 3, 0.5, 2)


# --- files ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """A folder of three mp4s with sound."""
    folder = tmp_path_factory.mktemp("videos")
    for i in range(3):
        small_video(folder / f"v{i}.mp4", 4.0, seed=i)
    return folder


def test_videos_without_narrations_are_refused_or_learned_from_without(made, videos, tmp_path):
    run, _ = made
    source = f"folder:{videos}"
    with pytest.raises(UsageError, match=r"24 of 24 clips have no narration.*csv:FILE.*--set narrations=false"):
        run(tmp_path / "run", source=source, seconds=3.2)
    weights = run(tmp_path / "run", source=source, seconds=3.2, narrations=False)
    system = load("egosonics", weights)
    assert system.card["source"] == source and system.generate(clip_of(0.4)).n == 6400
    log = json.loads((tmp_path / "run" / "text" / "log.jsonl").read_text().splitlines()[-1])
    assert "held_out" in log and "explained" not in log
    assert json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])["onset_f1_50ms"] >= 0


def test_a_table_of_videos_gives_narrations(made, videos, tmp_path, monkeypatch):
    run, _ = made
    table = videos / "clips.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["video", "text"])
        rows.writerows([f"v{i}.mp4", f"a square jumps {i}"] for i in range(3))
    read, words = [], EgoSonics.stage
    monkeypatch.setattr(EgoSonics, "stage", lambda self, name: read.append(name) or words(self, name))
    weights = run(tmp_path / "run", source=f"csv:{table}", seconds=3.2, steps=2)
    assert {"base", "text", "syncronet"} <= set(read)
    assert load("egosonics", weights).generate(clip_of(0.4)).n == 6400
    log = json.loads((tmp_path / "run" / "text" / "log.jsonl").read_text().splitlines()[-1])
    assert "explained" in log


# --- what is trained --------------------------------------------------------------------------------


def batch_for(name):
    generator = torch.Generator().manual_seed(1)
    batch = {"latents": torch.randn(16, 4, 8, 16, generator=generator)}
    batch["vectors"] = torch.randn(16, 64, 12, generator=generator)
    batch["ids"] = torch.arange(1, 17)[:, None]
    return batch


@pytest.mark.parametrize("name", ["base", "text", "syncronet"])
def test_a_stage_trains_all_of_its_modules_and_no_other(name, tmp_path):
    module = EgoSonicsTraining(small_system(), name)
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
    module = AutoencoderTraining(ImageAutoencoder(SMALL_AUTOENCODER))
    module({"images": torch.rand(2, 1, 64, 64)})["loss"].backward()
    assert not [k for k, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum()]


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_train_what_they_leave(name):
    system = small_system(**ABLATIONS[name])
    module = EgoSonicsTraining(system, "syncronet")
    module(batch_for(name))["loss"].backward()
    silent = [k for k, p in system.stage("syncronet").items() if p.grad is None or not p.grad.abs().sum()]
    assert all("attn2" in k or "project" in k or "norm2" in k for k in silent)
    assert bool(silent) == (name == "no_cross_attention")


def test_without_narrations_all_text_is_the_null():
    system = small_system()
    module, batch = EgoSonicsTraining(system, "base", dropout=0.0), batch_for("base")
    text = module.text({"latents": batch["latents"]})
    assert text.shape == (16, 2, 16) and all(torch.equal(row, system.null_text) for row in text)
    assert torch.equal(module.text(batch), system.words(batch["ids"]))


@pytest.mark.parametrize(("stage", "dropout"), [("base", 0.1), ("syncronet", 0.5)])
def test_a_share_of_the_prompts_is_dropped(monkeypatch, stage, dropout):
    module, drops = EgoSonicsTraining(small_system(), stage, dropout), []
    keep = {"base": "loss_base", "syncronet": "loss"}[stage]
    monkeypatch.setattr(module.system, keep, lambda *a: drops.append(a[2]) or {"loss": torch.zeros(())})
    torch.manual_seed(0)
    for _ in range(25):
        module(batch_for(stage))
    assert torch.stack(drops).float().mean() == pytest.approx(dropout, abs=0.08)


def test_the_video_is_not_used_before_the_first_step(made):
    system = load("egosonics", made[1] / "weights")
    rng = np.random.default_rng(0)
    clips = features_of(
        latents=rng.standard_normal((6, 4, 8, 64)).astype(np.float16),
        vectors=rng.standard_normal((6, 256, 384)).astype(np.float16),
    )
    for name, values in (("start_s", [0.0] * 6), ("duration_s", [SECONDS] * 6)):
        clips = replace(clips, table=clips.table.add_column(name, values))
    system.start_syncronet()
    assert syncronet_report(system, clips, generate=False)["use_of_video"] == 0
    speak(system)
    report = syncronet_report(system, clips)
    assert report["use_of_video"] != 0 and report["sample"].duration == SECONDS
