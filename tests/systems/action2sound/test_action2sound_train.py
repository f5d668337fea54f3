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
from datasets import Dataset
from feature_parts import small_video
from system_parts import clip_of

from v2a_nb.audio.stft_image import STFT_IMAGES
from v2a_nb.data import denoised
from v2a_nb.data.dataset import cut_clips, cut_sounds
from v2a_nb.data.features import Features, ShardedArray
from v2a_nb.data.latent_dataset import PER_RECORDING, SECONDS, latent_cut
from v2a_nb.data.pool import quiet_dbfs
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.models.vocoder import GriffinLimVocoder
from v2a_nb.systems.action2sound import train as recipe
from v2a_nb.systems.action2sound.system import Action2Sound
from v2a_nb.systems.action2sound.train import (
    ABLATIONS,
    LEVELS_DBFS,
    UNSEEN,
    Action2SoundRecipe,
    Action2SoundTrainConfig,
    Action2SoundTraining,
    Windows,
    report_of,
)
from v2a_nb.systems.registry import load
from v2a_nb.training import recipe as runner
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import run_recipe
from v2a_nb.training.recipes.autoencoder import AutoencoderTraining
from v2a_nb.training.registry import train
from v2a_nb.world import sound as world_sound
from v2a_nb.world.recording import draw

CONFIG = replace(SMALL, video_dim=384)
TRAIN = replace(
    Action2SoundTrainConfig(autoencoder="").scaled(0.002), batch_size=4, vocoder="griffin-lim", retrieval=""
)
ROOMS = StrikeRecordings(1000, ambience_dbfs=LEVELS_DBFS, version="1+2")


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole run with small parts: a function that runs the recipe, and the run's folder. Griffin-Lim is quick."""
    quick = {"iterations": 2, "method": "pinv"}
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("action2sound")
    StrikeVision().save_pretrained(root / "encoder")
    config = replace(TRAIN, encoder=str(root / "encoder"))

    def run(out, *, resume=False, ablation=None, seed=0, source=None, sizes=None, **changes):
        sizes = {"model": CONFIG, "autoencoder": SMALL_AUTOENCODER, **(sizes or {})}
        one = Action2SoundRecipe(replace(config, **changes), seed=seed, ablation=ablation, **sizes)
        return run_recipe(one, out, source=source, resume=resume, cache=root / "features", say=[].append)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STFT_IMAGES, "action2sound", replace(STFT_IMAGES["action2sound"], **quick))
        patch.setattr(recipe, "load_vocoder", lambda name: {"griffin-lim": GriffinLimVocoder(**quick)}[name])
        patch.setattr(recipe, "SAMPLED", 2)
        assert run(root / "run") == root / "run" / "weights"
        yield run, root / "run"


@pytest.fixture
def windows_of_runs(monkeypatch):
    """The windows that runs train on, and those that they hold out, in turn."""
    drawn, of = [], Windows.of.__func__
    monkeypatch.setattr(Windows, "of", classmethod(lambda cls, *a, **k: drawn.append(of(cls, *a, **k)) or drawn[-1]))
    return drawn


def features_in(out, name):
    """The arrays of one kind of feature, in the order in which they were computed."""
    folders = sorted(out.parent.glob(f"features/{name}-*"), key=lambda path: path.stat().st_mtime)
    return [np.load(next(folder.glob("*.npy"))) for folder in folders]


def same_weights(a, b) -> bool:
    names = ("weights/model.safetensors", "weights/autoencoder/model.safetensors", "weights/config.json")
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


def changes_of(name: str) -> dict[str, object]:
    """What an ablation changes in the configuration of the model."""
    return {k: v for k, v in ABLATIONS[name].items() if k in CONFIG.__dataclass_fields__}


# --- all of it ------------------------------------------------------------------------------------------


def test_from_nothing_to_weights(made):
    _, out = made
    system = load("action2sound", out / "weights")
    assert isinstance(load(str(out / "weights")), Action2Sound) and isinstance(system.vocoder, GriffinLimVocoder)
    sound = system.generate(clip_of(0.5), ambient=noise(-45))
    assert (sound.n, sound.sample_rate) == (8000, 16000)
    card = system.card
    assert (card["preset"], card["source"]) == ("tiny", "strike:seed=1000,version=1+2")
    assert (card["seed"], card["steps"], card["autoencoder_steps"]) == (0, TRAIN.steps, TRAIN.autoencoder_steps)
    assert card["neighbours"]["clips"] == 2 * PER_RECORDING * 3 and card["neighbours"]["with"] > 20
    assert card["round_trip"]["onset_f1_50ms_true"] > 0.6 and card["versions"]["torch"]
    assert card["encoder"].startswith("vision@") and card["train_config"]["min_gap_s"] == 3.0
    files = {"config.json", "model.safetensors", "README.md", "autoencoder"}
    assert {p.name for p in (out / "weights").iterdir()} == files
    parts = json.loads((out / "weights" / "config.json").read_text())["parts"]
    vision = f"../encoders/{card['encoder'].removeprefix('vision@')}"
    assert parts == {"vision": vision, "autoencoder": "autoencoder", "vocoder": "griffin-lim"}


def test_the_log_tells_how_it_goes(made):
    _, out = made
    last = json.loads((out / "log.jsonl").read_text().splitlines()[-1])
    assert {"loss", "held_out", "use_of_video", "use_of_neighbour", "onset_f1_50ms"} <= last.keys()
    assert last["step"] == TRAIN.steps and 0.3 < last["held_out"] < 3 and last["use_of_neighbour"] != 0
    for folder in ("", "autoencoder"):
        assert list((out / folder / "samples").glob("*.wav"))


def test_a_run_can_be_carried_elsewhere(made, tmp_path):
    _, out = made
    shutil.copytree(out, tmp_path / "moved", ignore=shutil.ignore_patterns("state"))
    clip, how = clip_of(0.4), {"ambient": noise(-45), "vocoder": GriffinLimVocoder(iterations=2, method="pinv")}
    sounds = [Action2Sound.from_pretrained(f / "weights").generate(clip, **how) for f in (out, tmp_path / "moved")]
    assert sounds[0].samples.tobytes() == sounds[1].samples.tobytes()


def test_a_killed_run_goes_on_as_if_it_was_not(made, tmp_path, monkeypatch):
    run, out = made
    again = tmp_path / "run"  # the first stage is there; that it goes on is EgoSonics' test
    shutil.copytree(out, again, ignore=shutil.ignore_patterns("ablations"))
    shutil.rmtree(again / "weights")
    for name in ("log.jsonl", "state/state.pt"):
        (again / name).unlink()

    def fit_until_killed(module, batch_of, optim, folder, **options):
        if folder != again:
            return fit(module, batch_of, optim, folder, **options)
        fit(module, batch_of, optim, folder, **options, until=3)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(runner, "fit", fit_until_killed)
        with pytest.raises(Killed):
            run(again, resume=True)
    assert not (again / "weights").exists()
    run(again, resume=True)
    assert same_weights(again, out)


@pytest.mark.parametrize("name", ["no_condition", "fps5"])
def test_an_ablation_shares_the_first_stage(made, monkeypatch, name):
    run, out = made
    steps = []
    forward = Action2SoundTraining.forward
    monkeypatch.setattr(
        Action2SoundTraining, "forward", lambda self, batch: steps.append(set(batch)) or forward(self, batch)
    )
    monkeypatch.setattr(AutoencoderTraining, "forward", None)
    monkeypatch.setattr(recipe, "SLOW_RECORDINGS", 3)
    before = (out / "weights" / "model.safetensors").read_bytes()
    weights = run(out, steps=2, ablation=name)
    names = {"latents", "vectors", "start_s"} | (set() if name == "no_condition" else {"neighbour"})
    assert steps == [names] * 2
    assert weights == out / "ablations" / name / "weights"
    assert {p.name for p in weights.iterdir()} == {"config.json", "model.safetensors", "README.md"}
    assert (out / "weights" / "model.safetensors").read_bytes() == before
    system = load("action2sound", weights)
    assert system.card["ablation"] == name and system.config == replace(CONFIG, **ABLATIONS[name])
    quick = GriffinLimVocoder(iterations=2, method="pinv")
    ambient = None if name == "no_condition" else noise(-45)
    assert system.generate(clip_of(0.4), ambient=ambient, vocoder=quick).n == 6400
    if name == "fps5":  # what it saw in training is what it will see; of the last recordings only, which is enough
        fast, slow = features_in(out, "frame-vectors")
        assert len(slow) == 3 * PER_RECORDING and fast[-len(slow) :].shape == slow.shape
        assert not np.array_equal(fast[-len(slow) :], slow)
        assert system.card["neighbours"]["clips"] < 3 * len(slow)
        clip = clip_of(0.4)
        assert torch.equal(system.encode_video(clip), system.encoder.features(clip.at_fps(5.0))[None])
    else:
        log = (weights.parent / "log.jsonl").read_text()
        assert "use_of_video" in log and "use_of_neighbour" not in log


@pytest.mark.golden  # with the other slow trainings
def test_a_kept_autoencoder_is_not_trained(made, tmp_path, monkeypatch):
    run, out = made
    monkeypatch.setattr(AutoencoderTraining, "forward", None)
    kept = {"autoencoder": str(out / "weights"), "steps": 2}
    weights = run(tmp_path / "run", **kept)
    name = "autoencoder/model.safetensors"
    assert (weights / name).read_bytes() == (out / "weights" / name).read_bytes()
    card = load("action2sound", weights).card
    assert card["autoencoder_steps"] == TRAIN.autoencoder_steps
    assert card["round_trip"] == load("action2sound", out / "weights").card["round_trip"]
    weights = run(tmp_path / "run", **kept, ablation="frozen_audio")
    assert load("action2sound", weights).card["ablation"] == "frozen_audio"
    with pytest.raises(V2AError, match=r"another autoencoder, config\.autoencoder"):
        run(tmp_path / "run", steps=2, resume=True)
    with pytest.raises(V2AError, match="do not fit"):
        run(tmp_path / "other", sizes={"model": replace(CONFIG, latent_channels=8)}, **kept)
    with pytest.raises(V2AError, match="nowhere"):
        run(tmp_path / "other", autoencoder="./nowhere")
    assert not (tmp_path / "other").exists()


def test_without_the_noise_reducer_one_clear_error(made, monkeypatch):
    run, out = made
    monkeypatch.setitem(sys.modules, "noisereduce", None)
    with pytest.raises(UsageError, match=r"noisereduce package: pip install 'v2a-nb\[denoise\]'"):
        run(out, ablation="denoised")
    assert not features_in(out, "denoised-spectrograms") and not (out / "ablations" / "denoised").exists()


def test_the_denoised_ablation_trains_on_other_targets(made, monkeypatch, windows_of_runs):
    run, out = made
    gate = lambda waves, rate: ((np.abs(waves) > 0.05) * waves).astype(np.float32)  # noqa: E731
    monkeypatch.setattr(recipe, "denoise", gate)
    monkeypatch.setattr(denoised, "denoise", gate)
    monkeypatch.setattr("v2a_nb.parallel.cores", lambda: 1)  # another process would have the true one
    weights = run(out, steps=2, ablation="denoised")
    system, plain = load("action2sound", weights), features_in(out, "latents")[0]
    assert not system.config.neighbour and system.card["ablation"] == "denoised"
    latents = windows_of_runs[0].clips["latents"][:]
    assert latents.shape == plain[: len(latents)].shape and not np.allclose(latents, plain[: len(latents)], atol=1e-2)
    (images,) = features_in(out, "denoised-spectrograms")
    table = cut_clips(ROOMS, latent_cut(TRAIN.recordings, UNSEEN))
    for i in (2, 9):
        wave = cut_sounds(ROOMS.open(table[i]["recording"]), [table[i]["start"]], SECONDS, 16000)
        wanted = STFT_IMAGES["action2sound"].to_image(torch.from_numpy(gate(wave, 16000))).numpy()
        assert np.abs(images[i] - wanted[0]).max() < 1e-3


def test_what_cannot_be_meant_is_refused(made, tmp_path):
    run, out = made
    with pytest.raises(V2AError, match="--resume"):
        run(out)
    with pytest.raises(V2AError, match="another seed"):
        run(out, seed=1, resume=True)
    with pytest.raises(V2AError, match=f"holds a run of {TRAIN.steps} steps"):
        run(out, steps=TRAIN.steps - 1, resume=True)
    for changes in ({"autoencoder_steps": 9}, {"min_gap_s": 0.0}, {"recordings": 5}):
        with pytest.raises(V2AError, match=rf"another config\.{next(iter(changes))}"):
            run(out, **changes, ablation="frozen_audio")
    with pytest.raises(V2AError, match=r"another autoencoder\.layers"):
        run(out, sizes={"autoencoder": replace(SMALL_AUTOENCODER, layers=2)}, ablation="frozen_audio")
    with pytest.raises(UsageError, match="no ablation"):
        run(tmp_path, ablation="fps24")
    with pytest.raises(V2AError, match="do not fit"):
        run(tmp_path / "a", sizes={"model": replace(CONFIG, video_dim=100)})
    assert not (tmp_path / "a").exists()
    for wrong in (
        {"steps": 0}, {"autoencoder_steps": -1}, {"batch_size": 0}, {"held_out": 1250}, {"held_out": 1},
        {"min_gap_s": -1.0}, {"video_dropout": 2.0},
    ):  # fmt: skip
        with pytest.raises(UsageError):
            Action2SoundTrainConfig(**wrong)
    with pytest.raises(UsageError, match="at least one step"):
        train("action2sound", steps=0, out=tmp_path)


def test_amounts_shrink_together():
    config = Action2SoundTrainConfig()
    assert (config.scaled(0.1).steps, config.scaled(0.1).recordings, config.scaled(0.1).held_out) == (450, 125, 15)
    assert (config.scaled(0.0).steps, config.scaled(0.0).held_out, config.scaled(0.0).batch_size) == (4, 2, 16)


# --- files ----------------------------------------------------------------------------------------------


@pytest.mark.golden  # with the other slow trainings
def test_videos_are_learned_from_with_neighbours_out_of_themselves(made, tmp_path, windows_of_runs):
    run, _ = made
    for i in range(3):
        small_video(tmp_path / "videos" / f"v{i}.mp4", 9.0, seed=i)
    source = f"folder:{tmp_path / 'videos'}"
    with pytest.raises(UsageError, match=r"needs stems.*--set cross_recording_foreground=0"):
        run(tmp_path / "run", source=source)
    weights = run(tmp_path / "run", source=source, cross_recording_foreground=0.0)
    system = load("action2sound", weights)
    assert system.card["source"] == source
    windows, unseen = windows_of_runs
    assert not set(windows.clips.column("name")) & set(unseen.clips.column("name"))
    quick = GriffinLimVocoder(iterations=2, method="pinv")
    assert system.generate(clip_of(0.4), ambient=noise(-45), vocoder=quick).n == 6400
    assert run(tmp_path / "run", source=source, cross_recording_foreground=0.0, ablation="own_actions", steps=1)


@pytest.mark.golden
def test_short_clips_of_one_video_are_each_others_neighbours(made, tmp_path, windows_of_runs):
    """As of Ego4D-Sounds: a table of clips of 3 s that says where in which video each begins."""
    run, _ = made
    rows = ["video,start_s,duration_s"]
    for i in range(3):
        small_video(tmp_path / f"v{i}.mp4", 9.4, seed=i)
        rows += [f"v{i}.mp4,{start},3.1" for start in (0.0, 3.1, 6.2)]
    (tmp_path / "clips.csv").write_text("\n".join(rows))
    short = {"cross_recording_foreground": 0.0, "seconds": 3.072, "per_recording": 1, "recordings": 9, "steps": 1}
    run(tmp_path / "run", source=f"csv:{tmp_path / 'clips.csv'}", **short)
    windows, unseen = windows_of_runs
    assert windows.clips.column("name").tolist() == ["v0"] * 3 + ["v1"] * 3
    assert unseen.clips.column("name").tolist() == ["v2"] * 3  # no clip of it is trained on
    assert windows.neighbours.counts() == {"clips": 6, "with": 6, "alone": 0, "crowded": 0}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_one_part_of_the_model(name):
    """What else its targets and neighbours lack is tested with runs, above and below."""
    whole, ablated = small_system(), small_system(**changes_of(name))
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
    module = Action2SoundTraining(small_system(**changes_of(name)))
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


@pytest.mark.parametrize("share", [0.2, 0.0])
def test_a_share_of_the_videos_is_dropped(monkeypatch, share):
    module, drops, batch = Action2SoundTraining(small_system(), share), [], batch_for()
    monkeypatch.setattr(module.system, "loss", lambda *a, **k: drops.append(a[4]) or {"loss": torch.zeros(())})
    torch.manual_seed(0)
    for _ in range(25):
        module(batch)
    dropped = torch.stack(drops).float()
    assert dropped.shape == (25, 16) and dropped.mean() == pytest.approx(share, abs=0.4 * share)


def test_the_report_tells_use_from_no_use():
    windows, system = Windows.of(synthetic(), SMALL), small_system()
    report = report_of(system, windows, generate=False)
    assert report.keys() == {"held_out", "use_of_video", "use_of_neighbour"}
    assert report["use_of_video"] != 0 and report["use_of_neighbour"] != 0
    assert report_of(system, windows, generate=False) == report
    system.video_tokens.embed.weight.data.zero_()
    blind = report_of(system, windows, generate=False)
    assert blind["use_of_video"] == 0 and blind["use_of_neighbour"] != 0
    for p in system.audio_tokens.project.parameters():
        p.data.zero_()
    assert report_of(system, windows, generate=False)["use_of_neighbour"] == 0


def test_another_clips_neighbour_in_the_report_is_of_another_room(monkeypatch):
    """What is compared with would else have the same ambience."""
    windows, system, asked = Windows.of(synthetic(), SMALL), small_system(), []
    batch = Windows.batch
    monkeypatch.setattr(Windows, "batch", lambda self, rows, seed: asked.append(rows) or batch(self, rows, seed))
    report_of(system, windows, generate=False)
    rooms = windows.clips.column("name")[windows.clip[asked[0]]]
    assert len(rooms) == 16 and (rooms != np.roll(rooms, 1)).all()


# --- windows and their neighbours -----------------------------------------------------------------------


class Still:
    """Recordings in which the same things sound in every clip."""

    def open(self, number):
        return self

    def onsets(self, start_s, seconds):
        return np.array([0.5, 2.0, 4.0])


def synthetic(recordings: int = 6, seed: int = 0) -> Features:
    """Clips of recordings of 30 s, with latents that say where they are from."""
    rng, n = np.random.default_rng(seed), recordings * PER_RECORDING
    starts = np.sort(rng.integers(0, 24 * 16000, (recordings, PER_RECORDING)), axis=1).ravel()
    numbers = np.repeat(np.arange(recordings), PER_RECORDING)
    table = {"recording": numbers, "name": [f"r{i}" for i in numbers], "start": starts, "start_s": starts / 16000}
    table |= {"time_s": starts / 16000, "duration_s": [SECONDS] * n}
    arrays = {"latents": rng.standard_normal((n, 4, 16, 40)), "vectors": rng.standard_normal((n, 256, 12))}
    arrays = {name: ShardedArray([array.astype(np.float16)]) for name, array in arrays.items()}
    return Features(Dataset.from_dict(table), Still(), arrays, "in memory")


def starts_of(windows: Windows) -> np.ndarray:
    return windows.clips.column("start_s")[windows.clip] + windows.at * windows.column_s


def pairs(windows: Windows, steps: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Rows of training and the neighbours that were drawn for them."""
    rows = np.concatenate([windows.usable()] * steps)
    near = [windows.neighbours.draw([0, 6, step], windows.usable()) for step in range(steps)]
    return rows, np.concatenate(near)


def test_neighbours_are_of_the_same_recording_and_do_not_overlap():
    clips = synthetic()
    windows = Windows.of(clips, SMALL)
    assert len(windows.clip) == 24 * 3 and set(windows.at) == {0, 8, 16}
    rows, near = pairs(windows)
    assert near.min() >= 0 and len(set(near)) > 20
    recording = clips.column("recording")[windows.clip]
    assert (recording[rows] == recording[near]).all()
    apart = np.abs(starts_of(windows)[rows] - starts_of(windows)[near])
    assert apart.min() >= SMALL.window_s - 1e-6
    wide = Windows.of(clips, SMALL, min_gap_s=6.0)
    rows, near = pairs(wide)
    assert np.abs(starts_of(wide)[rows] - starts_of(wide)[near]).min() >= 6.0


def test_recordings_of_one_take_share_their_neighbours():
    """Several files, each a clip of its take, as of Ego4D-Sounds."""
    clips = synthetic()
    columns = clips.table.to_dict() | {"recording": list(range(24))}
    columns |= {"start_s": [0.0] * 24, "start": [0] * 24}
    windows = Windows.of(replace(clips, table=Dataset.from_dict(columns)), SMALL)
    rows, near = pairs(windows)
    whole = Windows.of(clips, SMALL)
    assert np.array_equal(rows, pairs(whole)[0]) and np.array_equal(near, pairs(whole)[1])


def test_the_released_rule_lets_neighbours_overlap():
    clips = synthetic()
    windows = Windows.of(clips, SMALL, min_gap_s=0.0)
    rows, near = pairs(windows)
    apart = np.abs(starts_of(windows)[rows] - starts_of(windows)[near])
    assert windows.neighbours.rule == "released" and (apart < SMALL.window_s).mean() > 0.3
    recording = clips.column("recording")[windows.clip]
    assert (recording[rows] == recording[near]).all() and 0 not in near


def test_what_is_held_out_is_never_trained_on(made, windows_of_runs):
    run, out = made
    run(out, steps=1, ablation="frozen_audio")
    windows, unseen = windows_of_runs
    assert set(windows.clips.column("recording")) == {UNSEEN, UNSEEN + 1}
    assert set(unseen.clips.column("recording")) == {UNSEEN + 2, UNSEEN + 3}


def test_a_window_without_a_neighbour_is_left_out():
    clips = synthetic()
    times = clips.column("time_s")
    times[:4] = 1.0  # the first four clips are the same moment
    table = clips.table.remove_columns("time_s").add_column("time_s", times)
    windows = Windows.of(replace(clips, table=table), SMALL)
    assert windows.clip[windows.usable()].min() == 4
    with pytest.raises(UsageError, match="no clip of 1 recordings has a neighbour 3 s from it"):
        Windows.of(replace(clips, table=table).where(slice(0, 4)), SMALL)


def test_a_batch_is_what_it_says():
    clips = synthetic()
    windows = Windows.of(clips, SMALL)
    rows = windows.usable()[[0, 5, 20, 31]]
    batch, near = windows.batch(rows, [3, 1]), windows.neighbours.draw([3, 1], rows)
    assert {k: tuple(v.shape) for k, v in batch.items()} == {
        "latents": (4, 4, 16, 24), "neighbour": (4, 4, 16, 24), "vectors": (4, 256, 12), "start_s": (4,),
    }  # fmt: skip
    for i, (row, other) in enumerate(zip(rows, near, strict=True)):
        for name, r in (("latents", row), ("neighbour", other)):
            wanted = clips["latents"][windows.clip[r]][:, :, windows.at[r] : windows.at[r] + 24]
            assert np.array_equal(batch[name][i].numpy(), wanted.astype(np.float32))
        assert np.array_equal(batch["vectors"][i].numpy(), clips["vectors"][windows.clip[row]].astype(np.float32))
        assert batch["start_s"][i].item() == pytest.approx(windows.at[row] * 0.128)
    late = int(np.flatnonzero(windows.at == 16)[0])  # from 2.048 s
    assert windows.onsets(late, SMALL.window_s) == pytest.approx([1.952])


def test_batches_are_functions_of_their_number():
    clips = synthetic()
    windows = Windows.of(clips, SMALL)
    of = windows.batches(8, seed=0)
    a, b, c = of(3), of(3), of(4)
    assert all(torch.equal(a[k], b[k]) for k in a) and not torch.equal(a["latents"], c["latents"])
    assert not torch.equal(windows.batches(8, seed=1)(3)["latents"], a["latents"])
    alone = windows.batches(8, seed=0, neighbour=False)(3)
    assert alone.keys() == a.keys() - {"neighbour"} and torch.equal(alone["latents"], a["latents"])
    known = {v.tobytes() for v in clips["vectors"][:].astype(np.float32)}
    assert not any(v.numpy().tobytes() in known for v in a["vectors"])  # a little noise on what was seen
    zeros = ShardedArray([np.zeros((24, 256, 12), np.float16)])
    plain = replace(windows, clips=replace(clips, arrays={**clips.arrays, "vectors": zeros}))
    assert plain.batches(8, seed=0)(3)["vectors"].std() == pytest.approx(0.1, abs=0.01)


# --- rooms ----------------------------------------------------------------------------------------------


def test_rooms_get_levels_of_their_own_within_the_range():
    levels = [ROOMS.open(UNSEEN + i).description.ambience_dbfs for i in range(60)]
    assert LEVELS_DBFS == (-85.0, -38.0)
    assert -85 <= min(levels) < -78 and -44 < max(levels) <= -38 and len(set(levels)) == 60
    plain = draw(1000, UNSEEN)
    assert ROOMS.open(UNSEEN).description == plain.changed(ambience_dbfs=levels[0])
    assert StrikeRecordings(1000).open(UNSEEN).description == plain


def test_all_clips_of_a_recording_are_in_one_room(made):
    _, out = made
    table = cut_clips(ROOMS, latent_cut(TRAIN.recordings, UNSEEN))
    assert table["recording"] == np.repeat(UNSEEN + np.arange(4), PER_RECORDING).tolist()
    for i in range(4):
        room, quiet = ROOMS.open(UNSEEN + i), []
        for clip in table.select(range(PER_RECORDING * i, PER_RECORDING * (i + 1))):
            wave = cut_sounds(room, [clip["start"]], SECONDS, 16000)
            quiet.append(quiet_dbfs(wave[0], 16000))
        assert min(quiet) > room.description.ambience_dbfs - 6
        assert min(quiet) == pytest.approx(room.description.ambience_dbfs, abs=8)
    image = STFT_IMAGES["action2sound"].to_image(torch.from_numpy(wave)).numpy()[0]
    assert any(np.abs(images[-1] - image).max() < 2e-3 for images in features_in(out, "spectrograms"))


# --- the cross-recording foreground ---------------------------------------------------------------------


def test_others_act_in_the_same_room():
    own, other = ROOMS.open(UNSEEN).description, draw(1000, UNSEEN + 1)
    foreign = replace(ROOMS, cross_recording_foreground=True).open(UNSEEN).description
    assert foreign.things == other.things != own.things and foreign.actor == other.actor
    assert foreign.events == tuple(e for e in other.events if e.time_s + e.duration_s < own.duration_s)
    stems, theirs = (world_sound.render(recording, 16000) for recording in (own, foreign))
    gain = float(np.dot(theirs["ambient"], stems["ambient"]) / np.dot(stems["ambient"], stems["ambient"]))
    assert np.allclose(theirs["ambient"], gain * stems["ambient"], atol=1e-6) and 0.3 < gain < 3  # one for all stems
    assert abs(np.corrcoef(theirs["action"], stems["action"])[0, 1]) < 0.3


def test_neighbours_have_a_foreign_foreground_in_the_share_that_was_asked_for():
    clips = synthetic()
    foreign = ShardedArray([clips["latents"][:] + 10])
    mixed = replace(clips, arrays={**clips.arrays, "foreign": foreign})
    rows = Windows.of(clips, SMALL).usable()
    plain = Windows.of(clips, SMALL).batch(rows, [1])
    for share in (0.0, 0.5, 1.0):
        batch = Windows.of(mixed, SMALL, share=share).batch(rows, [1])
        assert torch.equal(batch["latents"], plain["latents"])  # what is learned is never foreign
        away = (batch["neighbour"] - plain["neighbour"]).flatten(1)
        theirs = away.mean(1) > 5
        assert torch.allclose(away[theirs], torch.full_like(away[theirs], 10.0), atol=0.01) and not away[~theirs].any()
        assert theirs.float().mean() == pytest.approx(share, abs=0.2 if share == 0.5 else 0)


def test_the_recipe_has_foreign_foregrounds_and_an_ablation_the_papers_neighbours(made, windows_of_runs):
    run, out = made
    for name in ("whole", "own_actions"):
        run(out, steps=1, ablation=name)
    whole, _, own, _ = windows_of_runs
    latents, foreign = whole.clips["latents"][:], whole.clips["foreign"][:]
    assert foreign.shape == latents.shape and whole.share == 1.0 and np.abs(foreign - latents).mean() > 0.01
    assert "foreign" not in own.clips.arrays


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_a_share(share):
    with pytest.raises(UsageError, match="share from 0 to 1"):
        Action2SoundTrainConfig(cross_recording_foreground=share)
