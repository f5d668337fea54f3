"""Action2Sound's recipe: from nothing to weights, resumed to the byte, ablations, neighbours that are no leak."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from action2sound_parts import SMALL, SMALL_AUTOENCODER, noise, small_system
from system_parts import clip_of

from v2a_nb.audio.stft_image import STFT_IMAGES
from v2a_nb.data import denoised
from v2a_nb.data.latent_dataset import PER_RECORDING, LatentDataset, compute_latent_dataset, room_of
from v2a_nb.data.pool import quiet_dbfs
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.models.vocoder import GriffinLimVocoder
from v2a_nb.systems.action2sound import train as recipe
from v2a_nb.systems.action2sound.system import Action2Sound
from v2a_nb.systems.action2sound.train import (
    ABLATIONS,
    LEVELS_DBFS,
    Stage,
    TrainConfig,
    Windows,
    report_of,
    train_action2sound,
)
from v2a_nb.systems.registry import load
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipes import autoencoder as first_stage
from v2a_nb.training.registry import train
from v2a_nb.world import sound as world_sound
from v2a_nb.world.recording import draw

CONFIG = replace(SMALL, video_dim=384)
TRAIN = replace(TrainConfig().scaled(0.002), batch_size=4)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole run with small parts: how it is called, and its folder. Griffin-Lim is quick and poor."""
    quick = {"iterations": 2, "method": "pinv"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STFT_IMAGES, "action2sound", replace(STFT_IMAGES["action2sound"], **quick))
        patch.setattr(recipe, "load_vocoder", lambda name: {"griffin-lim": GriffinLimVocoder(**quick)}[name])
        patch.setattr(recipe, "LISTENED", 2)
        torch.manual_seed(0)
        root = tmp_path_factory.mktemp("action2sound")
        eyes = StrikeVision().save_pretrained(root / "eyes")
        how = {"config": CONFIG, "autoencoder": SMALL_AUTOENCODER, "encoder": eyes, "data": root / "cache"}
        how |= {"vocoder": "griffin-lim", "retrieval": None, "budget": TRAIN, "say": lambda line: None}
        assert train_action2sound(root / "run", **how) == root / "run" / "weights"
        yield how, root / "run"


def scenes_of(how) -> LatentDataset:
    return compute_latent_dataset(
        how["data"] / "clips", recordings=TRAIN.recordings, first=recipe.FIRST, picture="action2sound",
        encoder=how["encoder"], ambience_dbfs=LEVELS_DBFS,
    )  # fmt: skip


def same_weights(a, b) -> bool:
    names = ("weights/model.safetensors", "weights/autoencoder/model.safetensors", "weights/config.json")
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


# --- all of it ------------------------------------------------------------------------------------------


def test_from_nothing_to_weights(made):
    _, out = made
    system = load("action2sound", out / "weights")
    assert isinstance(load(str(out / "weights")), Action2Sound) and isinstance(system.vocoder, GriffinLimVocoder)
    sound = system.generate(clip_of(0.5), ambient=noise(-45))
    assert (sound.n, sound.sample_rate) == (8000, 16000)
    card = system.card
    assert (card["preset"], card["data_seed"], card["seed"], card["steps"]) == ("tiny", 1000, 0, TRAIN.steps)
    assert card["neighbours"]["clips"] == 4 * PER_RECORDING * 3 and card["neighbours"]["with"] > 40
    assert card["round_trip"]["onset_f1_50ms_true"] > 0.6 and card["versions"]["torch"]
    assert card["encoder"].startswith("vision@") and card["budget"]["min_gap_s"] == 3.0
    assert {p.name for p in (out / "weights").iterdir()} == {"config.json", "model.safetensors", "autoencoder"}
    assert "retrieval" not in card["parts"] and card["parts"]["vocoder"] == "griffin-lim"


def test_the_log_tells_how_it_goes(made):
    _, out = made
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert {"loss", "held_out", "use_of_video", "use_of_neighbour", "onset_f1_50ms"} <= last.keys()
    assert last["step"] == TRAIN.steps and 0.3 < last["held_out"] < 3 and last["use_of_neighbour"] != 0
    for folder in ("", "autoencoder"):
        assert list((out / folder / "samples").glob("*.wav"))


def test_a_run_can_be_carried_elsewhere(made, tmp_path):
    _, out = made
    shutil.copytree(out, tmp_path / "moved", ignore=shutil.ignore_patterns("state", "latents"))
    clip, how = clip_of(0.4), {"ambient": noise(-45), "vocoder": GriffinLimVocoder(iterations=2, method="pinv")}
    sounds = [Action2Sound.from_pretrained(f / "weights").generate(clip, **how) for f in (out, tmp_path / "moved")]
    assert sounds[0].samples.tobytes() == sounds[1].samples.tobytes()


def test_a_killed_run_goes_on_as_if_it_was_not(made, tmp_path, monkeypatch):
    how, out = made

    def dies(module, batch_of, plan, folder, **options):
        fit(module, batch_of, plan, folder, **options, until=3)
        raise Killed

    run = tmp_path / "run"  # the first stage is there; that it goes on is EgoSonics' test
    shutil.copytree(out, run, ignore=shutil.ignore_patterns("ablations"))
    shutil.rmtree(run / "weights")
    for name in ("log.jsonl", "state/state.pt"):
        (run / name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(recipe, "fit", dies)
        with pytest.raises(Killed):
            train_action2sound(run, **how)
    assert not (run / "weights").exists()
    train_action2sound(run, **how, resume=True)
    assert same_weights(run, out)


@pytest.mark.parametrize("name", ["no_condition", "fps5"])
def test_an_ablation_shares_the_first_stage(made, monkeypatch, name):
    how, out = made
    steps = []
    forward = Stage.forward
    monkeypatch.setattr(Stage, "forward", lambda self, batch: steps.append(set(batch)) or forward(self, batch))
    monkeypatch.setattr(first_stage, "fit", None)
    monkeypatch.setattr(recipe, "SLOW_RECORDINGS", 3)
    before = (out / "weights" / "model.safetensors").read_bytes()
    budget = replace(TRAIN, steps=2)
    weights = train_action2sound(out, **{**how, "budget": budget}, ablation=name)
    told = {"latents", "vectors", "start_s"} | (set() if name == "no_condition" else {"neighbour"})
    assert steps == [told] * 2
    assert weights == out / "ablations" / name / "weights"
    assert {p.name for p in weights.iterdir()} == {"config.json", "model.safetensors"}
    assert (out / "weights" / "model.safetensors").read_bytes() == before
    system = load("action2sound", weights)
    assert system.card["ablation"] == name and system.config == replace(CONFIG, **ABLATIONS[name])
    quick = GriffinLimVocoder(iterations=2, method="pinv")
    ambient = None if name == "no_condition" else noise(-45)
    assert system.generate(clip_of(0.4), ambient=ambient, vocoder=quick).n == 6400
    with pytest.raises(V2AError, match="--resume"):
        train_action2sound(out, **how, ablation=name)
    if name == "fps5":  # what it saw in training is what it will see; of the last recordings only, which is enough
        fast, slow = (np.load(how["data"] / f / "vectors.npy") for f in ("clips", "clips_5"))
        assert len(slow) == 3 * PER_RECORDING and fast[-len(slow) :].shape == slow.shape
        assert not np.array_equal(fast[-len(slow) :], slow)
        assert system.card["neighbours"]["clips"] == 3 * len(slow)
        clip = clip_of(0.4)
        assert torch.equal(system.encode_video(clip), system.encoder.features(clip.at_fps(5.0))[None])
    else:
        log = (weights.parent / "log.jsonl").read_text()
        assert "use_of_video" in log and "use_of_neighbour" not in log


def test_without_the_noise_reducer_one_clear_error(made, monkeypatch):
    how, out = made
    monkeypatch.setitem(sys.modules, "noisereduce", None)
    with pytest.raises(UsageError, match=r"noisereduce package: pip install 'v2a-nb\[denoise\]'"):
        train_action2sound(out, **how, ablation="denoised")
    assert not (how["data"] / "denoised").exists() and not (out / "ablations" / "denoised").exists()


def test_the_denoised_ablation_trains_on_other_targets(made, monkeypatch):
    how, out = made
    heard, drawn = [], []

    def gate(waves, sample_rate):
        heard.append(waves.shape)
        return (np.abs(waves) > 0.05) * waves

    of = Windows.of.__func__
    monkeypatch.setattr(denoised, "denoise", gate)
    monkeypatch.setattr(Windows, "of", classmethod(lambda cls, *a, **k: drawn.append(of(cls, *a, **k)) or drawn[-1]))
    weights = train_action2sound(out, **{**how, "budget": replace(TRAIN, steps=2)}, ablation="denoised")
    system, plain = load("action2sound", weights), np.load(out / "latents" / "latents.npy")
    assert not system.config.neighbour and system.card["ablation"] == "denoised"
    assert drawn[0].latents.shape == plain.shape and not np.allclose(drawn[0].latents, plain, atol=1e-2)
    scenes = scenes_of(how)
    which = np.array([2, 9])
    rows = np.load(how["data"] / "denoised" / "images.npy", mmap_mode="r")[which]
    wanted = scenes.stft.to_image(torch.from_numpy(gate(scenes.waves(which), 16000).astype(np.float32))).numpy()
    assert np.abs(rows - wanted).max() < 1e-3
    calls = len(heard)
    shutil.rmtree(weights.parent)
    train_action2sound(out, **{**how, "budget": replace(TRAIN, steps=2)}, ablation="denoised")
    assert len(heard) == calls + 1  # made once: only the question whether it can be done
    with pytest.raises(UsageError, match="holds other sounds"):
        denoised.denoised_dataset(replace(scenes, seed=1), how["data"] / "denoised")


def test_what_cannot_be_meant_is_refused(made, tmp_path):
    how, out = made
    with pytest.raises(V2AError, match="--resume"):
        train_action2sound(out, **how)
    with pytest.raises(V2AError, match="another seed"):
        train_action2sound(out, **how, seed=1, resume=True)
    with pytest.raises(V2AError, match="another steps"):
        train_action2sound(out, **{**how, "budget": replace(TRAIN, steps=TRAIN.steps + 1)}, resume=True)
    for changes in ({"autoencoder_steps": 9}, {"min_gap_s": 0.0}, {"recordings": 5}):
        with pytest.raises(V2AError, match=f"another {next(iter(changes))}"):
            train_action2sound(out, **{**how, "budget": replace(TRAIN, **changes)}, ablation="frozen_audio")
    with pytest.raises(V2AError, match="another autoencoder"):
        train_action2sound(
            out, **{**how, "autoencoder": replace(SMALL_AUTOENCODER, layers=2)}, ablation="frozen_audio"
        )  # fmt: skip
    with pytest.raises(UsageError, match="no ablation"):
        train_action2sound(tmp_path, **how, ablation="fps24")
    with pytest.raises(V2AError, match="do not fit"):
        train_action2sound(tmp_path / "a", **{**how, "config": replace(CONFIG, video_dim=100)})
    assert not (tmp_path / "a").exists()
    with pytest.raises(UsageError, match="other clips"):
        compute_latent_dataset(
            how["data"] / "clips", recordings=TRAIN.recordings, first=recipe.FIRST, picture="action2sound"
        )
    for wrong in (
        {"steps": 0}, {"autoencoder_steps": -1}, {"batch_size": 0}, {"held_out": 1250}, {"held_out": 1},
        {"min_gap_s": -1.0},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            TrainConfig(**wrong)
    with pytest.raises(UsageError, match="at least one step"):
        train("action2sound", steps=0, out=tmp_path)
    assert recipe.main(["--steps", "0", "--out", str(tmp_path)]) == 2


def test_the_command_runs_the_recipe(monkeypatch, tmp_path):
    called = {}
    monkeypatch.setattr(recipe, "train_action2sound", lambda out, **how: called.update(how, out=out) or tmp_path)
    assert train("action2sound", steps=TrainConfig().steps // 100, seed=3, out=tmp_path, resume=True) == tmp_path
    assert called["budget"] == TrainConfig().scaled(0.01) and called["seed"] == 3 and called["resume"]
    said = []
    words = ["--ablation", "fps8", "--steps", "7", "--min-gap-s", "0", "--vocoder", "griffin-lim", "--out", "there"]
    assert recipe.main(words, said.append) == 0
    assert (called["ablation"], called["out"], called["vocoder"]) == ("fps8", "there", "griffin-lim")
    assert called["budget"] == replace(TrainConfig(), steps=7, min_gap_s=0.0)
    assert said == [str(tmp_path)]


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_part_of_the_model(name):
    """What else its targets and neighbours lack is tested with runs, above and below."""
    whole, ablated = small_system(), small_system(**ABLATIONS[name])
    lost = whole.state_dict().keys() - ablated.state_dict().keys()
    parts = {"neighbour": "audio_tokens.", "time": "processor.cos", "rows": "processor.by_row."}
    missing = {part for part, key in parts.items() if any(key in k for k in lost)}
    frozen = {k.split(".")[0] for k in set(whole.trained()) - set(ablated.trained()) - lost}
    assert missing == {
        "no_condition": {"neighbour"}, "denoised": {"neighbour"}, "no_time_bias": {"time", "rows"},
        "no_row_values": {"rows"},
    }.get(name, set())  # fmt: skip
    assert frozen == ({"audio_tokens"} if name == "frozen_audio" else set())
    assert (ablated.config.fps is None) == (not name.startswith("fps"))


# --- what is trained ------------------------------------------------------------------------------------


def batch_for(neighbour: bool = True) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    latents, near = torch.randn(2, 16, 4, 16, 24, generator=generator)
    batch = {"latents": latents, "vectors": torch.randn(16, 256, 12, generator=generator)}
    batch["start_s"] = torch.arange(16) % 3 * 1.024
    return {**batch, "neighbour": near} if neighbour else batch


@pytest.mark.parametrize("name", ["whole", "no_condition", "frozen_audio", "no_time_bias"])
def test_training_moves_what_it_should_and_nothing_else(name, tmp_path):
    module = Stage(small_system(**ABLATIONS[name]))
    before = {k: v.clone() for k, v in module.system.state_dict().items()}
    fit(
        module,
        lambda step: batch_for(name != "no_condition"),
        OptimConfig(steps=2, warmup=1, weight_decay=0.0),
        tmp_path,
    )
    changed = {k for k, v in module.system.state_dict().items() if not torch.equal(v.cpu(), before[k])}
    # the maps of rows begin as zero, so that what they read of a token moves one step later
    late = {k for k in before if k.endswith("by_row.read.weight")}
    assert changed | late == set(module.system.trained())
    assert any(k.startswith("audio_tokens") for k in changed) == (name in ("whole", "no_time_bias"))


def test_a_fifth_of_the_videos_is_dropped(monkeypatch):
    module, seen, batch = Stage(small_system()), [], batch_for()
    monkeypatch.setattr(module.system, "loss", lambda *a, **k: seen.append(a[4]) or {"loss": torch.zeros(())})
    torch.manual_seed(0)
    for _ in range(25):
        module(batch)
    dropped = torch.stack(seen).float()
    assert dropped.shape == (25, 16) and 0.12 < dropped.mean() < 0.28
    seen.clear()
    monkeypatch.setattr(recipe, "NULL_SHARE", 0.0)
    module(batch)
    assert not seen[0].any()


def test_the_report_tells_use_from_no_use():
    scenes, latents = synthetic()
    windows, system = Windows.of(scenes, latents, 8, SMALL), small_system()
    seen = report_of(system, windows, listen=False)
    assert seen.keys() == {"held_out", "use_of_video", "use_of_neighbour"}
    assert seen["use_of_video"] != 0 and seen["use_of_neighbour"] != 0
    assert report_of(system, windows, listen=False) == seen
    system.video_tokens.embed.weight.data.zero_()
    deaf = report_of(system, windows, listen=False)
    assert deaf["use_of_video"] == 0 and deaf["use_of_neighbour"] != 0
    for p in system.audio_tokens.project.parameters():
        p.data.zero_()
    assert report_of(system, windows, listen=False)["use_of_neighbour"] == 0


def test_another_clips_neighbour_in_the_report_is_of_another_room(monkeypatch):
    """What is compared with would else have the same ambience."""
    scenes, latents = synthetic()
    windows, system, asked = Windows.of(scenes, latents, 16, SMALL), small_system(), []
    batch = Windows.batch
    monkeypatch.setattr(Windows, "batch", lambda self, rows, seed: asked.append(rows) or batch(self, rows, seed))
    report_of(system, windows, listen=False)
    rooms = scenes.recordings[windows.scene[asked[0]]]
    assert len(rooms) == 16 and (rooms != np.roll(rooms, 1)).all()


# --- windows and their neighbours -----------------------------------------------------------------------


def synthetic(recordings: int = 6, seed: int = 0) -> tuple[LatentDataset, np.ndarray]:
    """LatentDataset of 30 s recordings without pictures, and latents that say where they are from."""
    rng, n = np.random.default_rng(seed), recordings * PER_RECORDING
    starts = np.sort(rng.integers(0, 24 * 16000, (recordings, PER_RECORDING)), axis=1).ravel()
    latents = rng.standard_normal((n, 4, 16, 40)).astype(np.float16)
    scenes = LatentDataset(
        images=np.zeros((n, 1)), vectors=rng.standard_normal((n, 256, 12)).astype(np.float16), narrations=[""] * n,
        onsets=[np.array([0.5, 2.0, 4.0])] * n, starts=starts,
        recordings=recipe.FIRST + np.repeat(np.arange(recordings), PER_RECORDING), seed=0,
        stft=STFT_IMAGES["action2sound"],
    )  # fmt: skip
    return scenes, latents


def starts_of(windows: Windows) -> np.ndarray:
    return windows.scenes.starts[windows.scene] / 16000 + windows.at * windows.column_s


def pairs(windows: Windows, steps: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Rows of training and the neighbours that were drawn for them."""
    rows = np.concatenate([windows.usable()] * steps)
    near = [windows.neighbours.draw([0, 6, step], windows.usable()) for step in range(steps)]
    return rows, np.concatenate(near)


def test_neighbours_are_of_the_same_recording_and_do_not_overlap():
    scenes, latents = synthetic()
    windows = Windows.of(scenes, latents, 8, SMALL)
    assert len(windows.scene) == 24 * 3 and set(windows.at) == {0, 8, 16}
    rows, near = pairs(windows)
    assert near.min() >= 0 and len(set(near)) > 20
    recording = scenes.recordings[windows.scene]
    assert (recording[rows] == recording[near]).all()
    apart = np.abs(starts_of(windows)[rows] - starts_of(windows)[near])
    assert apart.min() >= SMALL.window_s - 1e-6
    wide = Windows.of(scenes, latents, 8, SMALL, min_gap_s=6.0)
    rows, near = pairs(wide)
    assert np.abs(starts_of(wide)[rows] - starts_of(wide)[near]).min() >= 6.0


def test_the_released_rule_lets_neighbours_overlap():
    scenes, latents = synthetic()
    windows = Windows.of(scenes, latents, 8, SMALL, min_gap_s=0.0)
    rows, near = pairs(windows)
    apart = np.abs(starts_of(windows)[rows] - starts_of(windows)[near])
    assert windows.neighbours.rule == "released" and (apart < SMALL.window_s).mean() > 0.3
    recording = scenes.recordings[windows.scene]
    assert (recording[rows] == recording[near]).all() and 0 not in near


def test_what_is_held_out_is_never_trained_on():
    scenes, latents = synthetic()
    for gap in (3.0, 0.0):
        windows = Windows.of(scenes, latents, 8, SMALL, min_gap_s=gap)
        train_rows, kept = windows.usable(), windows.usable(unseen=True)
        assert windows.scene[train_rows].max() < 16 <= windows.scene[kept].min()
        rows, near = pairs(windows)
        assert windows.scene[rows].max() < 16 and windows.scene[near].max() < 16
        assert windows.scene[windows.neighbours.draw(0, kept)].min() >= 16


def test_a_window_without_a_neighbour_is_left_out():
    scenes, latents = synthetic()
    scenes = replace(scenes, starts=np.where(scenes.recordings == recipe.FIRST, 16000, scenes.starts))
    windows = Windows.of(scenes, latents, 8, SMALL)  # the first four scenes are the same moment
    assert windows.scene[windows.usable()].min() == 4


def test_a_batch_is_what_it_says():
    scenes, latents = synthetic()
    windows = Windows.of(scenes, latents, 8, SMALL)
    rows = windows.usable()[[0, 5, 20, 31]]
    batch, near = windows.batch(rows, [3, 1]), windows.neighbours.draw([3, 1], rows)
    assert {k: tuple(v.shape) for k, v in batch.items()} == {
        "latents": (4, 4, 16, 24), "neighbour": (4, 4, 16, 24), "vectors": (4, 256, 12), "start_s": (4,),
    }  # fmt: skip
    for i, (row, other) in enumerate(zip(rows, near, strict=True)):
        for name, r in (("latents", row), ("neighbour", other)):
            wanted = latents[windows.scene[r], :, :, windows.at[r] : windows.at[r] + 24]
            assert np.array_equal(batch[name][i].numpy(), wanted.astype(np.float32))
        assert np.array_equal(batch["vectors"][i].numpy(), scenes.vectors[windows.scene[row]].astype(np.float32))
        assert batch["start_s"][i].item() == pytest.approx(windows.at[row] * 0.128)
    late = int(np.flatnonzero(windows.at == 16)[0])  # from 2.048 s
    assert windows.onsets(late, SMALL.window_s) == pytest.approx([1.952])


def test_batches_are_functions_of_the_step():
    scenes, latents = synthetic()
    windows = Windows.of(scenes, latents, 8, SMALL)
    of = windows.batches(8, seed=0)
    a, b, c = of(3), of(3), of(4)
    assert all(torch.equal(a[k], b[k]) for k in a) and not torch.equal(a["latents"], c["latents"])
    assert not torch.equal(windows.batches(8, seed=1)(3)["latents"], a["latents"])
    alone = windows.batches(8, seed=0, neighbour=False)(3)
    assert alone.keys() == a.keys() - {"neighbour"} and torch.equal(alone["latents"], a["latents"])
    known = {v.tobytes() for v in scenes.vectors.astype(np.float32)}
    assert not any(v.numpy().tobytes() in known for v in a["vectors"])  # a little noise on what was seen
    plain = replace(windows, scenes=replace(scenes, vectors=np.zeros_like(scenes.vectors)))
    assert plain.batches(8, seed=0)(3)["vectors"].std() == pytest.approx(0.1, abs=0.01)


# --- rooms ----------------------------------------------------------------------------------------------


def test_rooms_get_levels_of_their_own_within_the_range():
    levels = [room_of(1000, recipe.FIRST + i, LEVELS_DBFS).ambience_dbfs for i in range(60)]
    low, high = LEVELS_DBFS
    assert low <= min(levels) < low + 7 and high - 6 < max(levels) <= high and len(set(levels)) == 60
    loud = [room_of(1000, recipe.FIRST + i, (-30.0, -20.0)).ambience_dbfs for i in range(60)]
    assert min(loud) >= -30 and max(loud) <= -20
    again = room_of(1000, recipe.FIRST, LEVELS_DBFS)
    assert again.ambience_dbfs == levels[0]
    plain = draw(1000, recipe.FIRST)
    assert again == plain.changed(ambience_dbfs=levels[0]) and room_of(1000, recipe.FIRST) == plain


def test_all_scenes_of_a_recording_are_in_one_room(made):
    how, _ = made
    scenes = scenes_of(how)
    assert scenes.recordings.tolist() == np.repeat(recipe.FIRST + np.arange(4), PER_RECORDING).tolist()
    waves = scenes.waves(np.arange(len(scenes)))
    for i in range(4):
        room = room_of(1000, recipe.FIRST + i, LEVELS_DBFS)
        mix = world_sound.render(room, 16000)["mix"]
        for j in range(PER_RECORDING * i, PER_RECORDING * (i + 1)):
            start = scenes.starts[j]
            assert np.array_equal(waves[j], mix[start : start + waves.shape[1]].astype(np.float32))
            assert quiet_dbfs(waves[j], 16000) > room.ambience_dbfs - 6
        quietest = min(quiet_dbfs(wave, 16000) for wave in waves[PER_RECORDING * i : PER_RECORDING * (i + 1)])
        assert quietest == pytest.approx(room.ambience_dbfs, abs=8)
    image = scenes.stft.to_image(torch.from_numpy(waves[:2])).numpy()
    assert np.abs(scenes.images[:2] - image).max() < 2e-3


# --- strangers ------------------------------------------------------------------------------------------


def test_strangers_act_in_the_same_room():
    own, other = room_of(1000, recipe.FIRST, LEVELS_DBFS), draw(1000, recipe.FIRST + 1)
    strange = room_of(1000, recipe.FIRST, LEVELS_DBFS, strangers=True)
    assert strange.things == other.things != own.things and strange.actor == other.actor
    assert strange.events == tuple(e for e in other.events if e.time_s + e.duration_s < own.duration_s)
    stems, theirs = (world_sound.render(recording, 16000) for recording in (own, strange))
    gain = float(np.dot(theirs["ambient"], stems["ambient"]) / np.dot(stems["ambient"], stems["ambient"]))
    assert np.allclose(theirs["ambient"], gain * stems["ambient"], atol=1e-6) and 0.3 < gain < 3  # one for all stems
    assert abs(np.corrcoef(theirs["action"], stems["action"])[0, 1]) < 0.3


def test_neighbours_are_strangers_in_the_share_that_was_asked_for():
    scenes, latents = synthetic()
    strange = latents + 10
    rows = Windows.of(scenes, latents, 8, SMALL).usable()
    plain = Windows.of(scenes, latents, 8, SMALL).batch(rows, [1])
    for share in (0.0, 0.5, 1.0):
        windows = Windows.of(scenes, latents, 8, SMALL, strangers=strange, share=share)
        batch = windows.batch(rows, [1])
        assert torch.equal(batch["latents"], plain["latents"])  # what is learned is never a stranger's
        away = (batch["neighbour"] - plain["neighbour"]).flatten(1)
        theirs = away.mean(1) > 5
        assert torch.allclose(away[theirs], torch.full_like(away[theirs], 10.0), atol=0.01) and not away[~theirs].any()
        assert theirs.float().mean() == pytest.approx(share, abs=0.2 if share == 0.5 else 0)


def test_the_recipe_tells_strangers_and_an_ablation_the_papers_neighbours(made, monkeypatch):
    how, out = made
    heard = []
    of = Windows.of.__func__
    monkeypatch.setattr(Windows, "of", classmethod(lambda cls, *a, **k: heard.append(a) or of(cls, *a, **k)))
    for name in ("whole", "own_actions"):
        train_action2sound(out, **{**how, "budget": replace(TRAIN, steps=1)}, ablation=name)
    (_, latents, *_, strangers, share), own = heard
    assert strangers.shape == latents.shape and share == 1.0 and np.abs(strangers - latents).mean() > 0.01
    assert own[-2] is None


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_of_strangers_is_a_share(share):
    with pytest.raises(UsageError, match="share from 0 to 1"):
        TrainConfig(strangers=share)
