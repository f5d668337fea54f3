"""V-AURA's recipe: features once, stages that resume, a decoder that starts knowing nothing; Strike World or files."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from feature_parts import features_of, small_video
from safetensors.torch import load_file

from v2a_nb.audio import targets
from v2a_nb.data.dataset import Cut, cut_clips
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.models.video_encoders import hit_windows
from v2a_nb.models.video_encoders.event_crop import EventCropEncoder
from v2a_nb.models.video_encoders.strike import StrikeVision, VisionConfig
from v2a_nb.systems.vaura.model import levels_of
from v2a_nb.systems.vaura.system import PRESETS, VAura, VAuraDecoder
from v2a_nb.systems.vaura.train import (
    ABLATIONS,
    UNSEEN,
    DecoderTraining,
    PicturesAndSound,
    VAuraRecipe,
    VAuraTrainConfig,
    batches,
    compute_similarity,
    compute_tokens,
    foreign_sounds,
    frame_weights,
    load_decoder,
)
from v2a_nb.training import recipe as runner
from v2a_nb.training.loop import fit
from v2a_nb.training.recipe import run_recipe
from v2a_nb.training.recipes.codec import Cycle
from v2a_nb.training.recipes.event_crop import BELOW, calibrate, event_crop_stage, platt
from v2a_nb.training.recipes.event_crop import batches as event_crop_batches
from v2a_nb.training.recipes.video_encoder import Pretraining, pretraining_stage, zoomed
from v2a_nb.training.registry import train
from v2a_nb.world import arrays

CYCLES = tuple(replace(VAuraTrainConfig().codec_cycles[i], steps=4) for i in (0, -1))
FEW = VAuraTrainConfig(
    steps=4, clips=16, event_crop_clips=16, decoder_clips=16, vision_steps=3, event_crop_steps=3, codec_cycles=CYCLES,
    batch_size=4,
)  # fmt: skip


def test_every_pretraining_parameter_but_the_event_crops_gets_a_gradient():
    module = Pretraining()
    frames, waves = arrays(1, 2)
    batch = {
        "frames": torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 255,
        "mel": targets.log_mel(torch.from_numpy(waves)),
    }
    module(batch)["loss"].backward()
    bare = {n for n, p in module.named_parameters() if p.grad is None}
    assert bare == {n for n, _ in module.named_parameters() if "event_crop" in n}


def test_event_crop_recipe_touches_only_the_event_crops(tmp_path):
    torch.manual_seed(0)
    encoder = StrikeVision()
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (4, 20, 64, 64, 3), dtype=np.uint8)
    examples = {
        "clip": rng.integers(0, 4, 40).astype(np.int32),
        "frame": np.tile(np.arange(5, dtype=np.int16), (40, 1)),
        "place": rng.uniform(0, 64, (40, 2)).astype(np.float32),
        "context": rng.standard_normal((40, encoder.event_crop.peak_dim)).astype(np.float16),
        "sounded": np.tile([0.0, 1.0], 20).astype(np.float16),
        "colour": rng.standard_normal((40, 80)).astype(np.float16),
    }
    before = {k: v.clone() for k, v in encoder.state_dict().items()}
    stage = event_crop_stage(encoder, frames, examples, steps=3, batch_size=8)
    trained = fit(stage.module, stage.batch_of, stage.optim, tmp_path)
    assert all(torch.equal(v, before[k]) for k, v in encoder.state_dict().items())
    own = trained.event_crop.state_dict()
    assert any(not torch.equal(v, before[f"event_crop.{k}"]) for k, v in own.items())


def test_the_reported_probability_is_fitted_on_what_sounded():
    rng = np.random.default_rng(0)
    logits = torch.from_numpy(rng.normal(0, 2, 20000))
    sounded = torch.from_numpy((rng.random(20000) < (2.5 * (logits - 0.7)).sigmoid().numpy()).astype(np.float64))
    bias, scale = platt(logits, sounded)
    assert abs(bias - 0.7) < 0.05 and abs(scale - 2.5) < 0.1
    told = (scale * (logits - bias)).sigmoid()
    for low in (0.0, 0.2, 0.4, 0.6, 0.8):  # of hits with 0.7, seven in ten sound
        some = (told >= low) & (told < low + 0.2)
        assert abs(told[some].mean() - sounded[some].mean()) < 0.04
    apart = platt(torch.tensor([-1.0, 1.0], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert np.isfinite(apart).all() and apart[1] > 1  # parted by a line: sure, and still a number
    against = platt(torch.tensor([-1.0, 1.0, -2.0, 2.0]).double(), torch.tensor([1.0, 0.0, 1.0, 0.0]).double())
    assert against[1] == 0.01 and abs(1 / (1 + np.exp(against[1] * against[0])) - 0.5) < 0.01


class Follower:
    """An encoder whose heads attend near a square that flashes, one of them always by the same distance."""

    def __init__(self):
        self.config = VisionConfig()
        self.event_crop = EventCropEncoder(self.config.event_crop, self.config.timing_dim)

    def timing_and_content(self, pictures):
        b, t = pictures.shape[:2]
        change = pictures[:, 1:] - pictures[:, :-1]
        energy = F.pad(change.square().flatten(2).sum(2), (1, 0))  # [B, T]: the flux hangs on what flashes
        when = energy.repeat_interleave(2, 1)[..., None]
        rng = np.random.default_rng(0)
        line = torch.arange(8) * 8 + 4.0
        heads = []
        for clip in pictures.detach():
            y, x = (v.float().mean() for v in (clip[-1, 0] > 0.8).nonzero().T)
            away = [(9.0, -6.0), *rng.uniform(-20, 20, (3, 2))][::-1]  # the last head is the steady one
            maps = [torch.exp(-((line - y - a[1])[:, None] ** 2 + (line - x - a[0]) ** 2) / 60) for a in away]
            heads.append(torch.stack([m / m.sum() for m in maps]))
        return when, None, torch.stack(heads)[:, None].expand(b, t, -1, -1, -1)

    def flux(self, when):
        moment = torch.tensor([0.0, 1.0, 0.0, 0.0] + [0.0] * 8)
        return when * moment - 4


def test_calibration_finds_the_steady_head_and_its_distance_without_labels():
    rng = np.random.default_rng(1)
    frames = np.full((16, 20, 64, 64, 3), 60, np.uint8)
    for clip in frames:
        x, y = rng.integers(20, 44, 2)
        clip[9:, y : y + 5, x : x + 5] = 255
    found = calibrate(Follower(), frames)
    assert found.head == 3
    assert abs(found.shift_x + 9) < 2 and abs(found.shift_y - (6 + BELOW)) < 2
    with pytest.raises(V2AError, match="nowhere"):
        calibrate(Follower(), frames[:, :5])


def random_tokens(**arrays):
    rng = np.random.default_rng(0)
    codes = np.repeat(rng.integers(0, 256, (8, 4, 1)), 128, axis=2).astype(np.uint8)
    visual = rng.standard_normal((8, 128, 384)).astype(np.float16)
    return features_of(**{"codes": codes, "visual": visual, "flux": np.zeros((8, 128), np.float16), **arrays})


def test_decoder_starts_at_ln_256_and_learns(tmp_path):
    tokens = random_tokens()
    torch.manual_seed(0)
    fresh = {name: p.detach().clone() for name, p in DecoderTraining(VAuraDecoder(PRESETS["tiny"])).named_parameters()}
    start = DecoderTraining(VAuraDecoder(PRESETS["tiny"]))(batches(tokens, 4, seed=0)(0))
    assert start["ce"].item() == pytest.approx(np.log(256), abs=0.05)
    recipe = VAuraRecipe(replace(VAuraTrainConfig(), steps=20, batch_size=4))
    stage = recipe.decoder_stage(tokens, StrikeVision().eval(), TinyCodec().eval())
    trained = fit(stage.module, stage.batch_of, stage.optim, tmp_path)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["ce"] < np.log(256) - 0.3
    after = dict(trained.named_parameters())
    assert after.keys() == fresh.keys() and not [k for k, p in after.items() if torch.equal(p.cpu(), fresh[k])]


def test_levels_are_learned_before_the_codes(tmp_path):
    frames, waves = arrays(1, 2)
    clips, store = features_of(frames=frames, sounds=waves), FeatureStore(tmp_path)
    encoder, codec = StrikeVision().eval(), TinyCodec().eval()
    plain, tokens = (compute_tokens(store, clips, encoder, codec, bins)["codes"][:] for bins in (0, 64))
    assert tokens.shape == (2, 5, 128) and (tokens[:, 1:] == plain).all()
    assert (tokens[:, 0] == levels_of(torch.from_numpy(waves), 320, 64).numpy()).all()
    recipe = VAuraRecipe(replace(VAuraTrainConfig(), steps=4, batch_size=2, levels=True))
    stage = recipe.decoder_stage(random_tokens(codes=tokens[[0, 1] * 4]), encoder, codec)
    assert (stage.module.decoder.config.num_codebooks, stage.module.decoder.config.level_bins) == (5, 64)
    trained = fit(stage.module, stage.batch_of, stage.optim, tmp_path / "run").decoder
    VAura(trained.cpu(), encoder, codec).save_pretrained(tmp_path / "weights")
    again = VAura.from_pretrained(tmp_path / "weights")
    assert again.config == trained.config and torch.equal(again.decoder.heads.weight, trained.heads.weight.half())


def test_frame_weights_hold_from_one_before_to_six_after():
    flux = torch.zeros(1, 20)
    flux[0, 8] = 1.0
    assert frame_weights(flux)[0].tolist() == [1.0] * 7 + [5.0] * 8 + [1.0] * 5


def test_targets_stand_where_the_hit_is():
    wave = torch.zeros(1, 40960)
    t = torch.arange(4000) / 16000
    wave[0, 16000:20000] = 0.5 * torch.sin(2 * torch.pi * 900 * t) * torch.exp(-t * 20)
    wave += 1e-4 * torch.randn(1, 40960, generator=torch.Generator().manual_seed(0))
    sharp, _ = targets.flux_target(targets.log_mel(wave))
    fine = sharp.flatten(1)[0]
    assert abs(int(fine.argmax()) - 200) <= 2
    assert fine[:150].max() < 0.1 and fine[260:].max() < 0.1


def test_pictures_and_sound_are_those_of_the_world():
    recordings, cut = StrikeRecordings(9), Cut(2.56, per_recording=2, recordings=1, first=3)
    starts = cut_clips(recordings, cut)["start"]
    made = PicturesAndSound().extract(recordings.open(3), list(starts))
    frames, waves = arrays(9, 2, first=3)
    assert np.array_equal(made["frames"], frames) and np.array_equal(made["sounds"], waves)


def test_cameras_of_other_rates_show_the_same_moments():
    recording, times = StrikeRecordings(9).open(3), np.arange(64) / 25
    films = {r: PicturesAndSound(camera_rates=(r,)).extract(recording, [0])["frames"][0] for r in (15.0, 25.0, 50.0)}
    assert np.array_equal(films[25.0], recording.frames(0.0, times, 64, 25.0))
    for rate, film in films.items():
        assert film.shape == (64, 64, 64, 3)
        late = [np.abs(film[8 + k : 56 + k].astype(int) - films[25.0][8:56]).mean() for k in (-1, 0, 1)]
        assert late[1] == min(late), rate  # neither early nor late by a frame
    some = PicturesAndSound(camera_rates=(15.0, 25.0, 50.0))
    one, two = (some.extract(recording, [0, 9000, 20000, 30000])["frames"] for _ in range(2))
    assert np.array_equal(one, two)


def test_a_zoom_moves_crops_with_what_they_show():
    dot = torch.zeros(1, 3, 64, 64)
    dot[..., 20:24, 40:44] = 1.0
    assert torch.allclose(zoomed(dot, 0.0, 0.0, 1.0, 1.0), dot, atol=1e-6)
    encoder = StrikeVision(replace(VisionConfig(), event_crop=replace(VisionConfig().event_crop, crop=8)))
    frames = np.zeros((1, 5, 64, 64, 3), np.uint8)
    frames[:, :, 20:24, 40:44] = 255
    examples = {
        "clip": np.zeros(1, np.int32), "frame": np.arange(5, dtype=np.int16)[None],
        "place": np.array([[41.5, 21.5]], np.float32),
        "context": np.zeros((1, encoder.event_crop.peak_dim), np.float16),
        "sounded": np.ones(1, np.float16), "colour": np.zeros((1, 80), np.float16),
    }  # fmt: skip
    batch = event_crop_batches(frames, examples, 200, 0)(0)
    inside = (batch["place"] > 4).all(1) & (batch["place"] < 60).all(1)
    assert inside.sum() > 100
    for picture, (x, y) in zip(batch["pictures"][inside], batch["place"][inside].tolist(), strict=True):
        bright = (picture[0] > -0.3).nonzero().float().mean(0)  # y, x of the dot
        assert abs(bright[0] - y) < 8 and abs(bright[1] - x) < 8  # places are jittered by two pixels besides


DECIDED = replace(VisionConfig().event_crop, logit_bias=1.75, logit_scale=8.0, calibration_scale=2.0)


def other_vaura() -> VAura:
    """Weights to go on from; its encoder has decided."""
    torch.manual_seed(3)
    eyes = StrikeVision(replace(VisionConfig(), event_crop=DECIDED))
    return VAura(VAuraDecoder(PRESETS["tiny"]), eyes, TinyCodec()).eval()


@pytest.mark.golden
def test_a_run_goes_on_from_other_weights(tmp_path):
    before = other_vaura()
    stage = pretraining_stage(np.zeros((2, 8, 64, 64, 3), np.uint8), None, steps=4, init=before.encoder)
    begun = stage.module.encoder
    assert begun.config == replace(VisionConfig(), fit="squash")  # it decides nothing while it learns
    assert before.encoder.config == replace(VisionConfig(), event_crop=DECIDED)
    assert all(torch.equal(v, before.encoder.state_dict()[k]) for k, v in begun.state_dict().items())
    assert stage.optim.lr < pretraining_stage(np.zeros((2, 8, 64, 64, 3), np.uint8), None, steps=4).optim.lr
    folder = before.save_pretrained(tmp_path / "before")
    few = replace(FEW, init=str(folder))
    run_recipe(VAuraRecipe(few), tmp_path / "run", source=SOURCE)
    assert not (tmp_path / "run" / "codec").exists()  # the codec stays as it is
    after = VAura.from_pretrained(tmp_path / "run" / "weights")
    codecs = [load_file(w / "codec" / "model.safetensors") for w in (folder, tmp_path / "run" / "weights")]
    assert codecs[0].keys() == codecs[1].keys() and all(torch.equal(v, codecs[1][k]) for k, v in codecs[0].items())
    assert after.card["train_config"]["init"] == str(folder) and after.encoder.config.fit == "squash"
    other = VAuraDecoder(replace(PRESETS["tiny"], layers=2))
    with pytest.raises(UsageError, match="other sizes"):
        load_decoder(VAuraDecoder(PRESETS["tiny"]), other)


@pytest.mark.golden
def test_a_decoder_alone_is_trained_on_an_encoder_that_is_kept(tmp_path, monkeypatch):
    before, out, seen = other_vaura(), tmp_path / "run", {}
    folder = before.save_pretrained(tmp_path / "before")
    stages = VAuraRecipe.decoder_stage

    def spy(self, tokens, encoder, codec, init=None):
        seen[self.ablation] = (tokens.table["recording"], encoder.config.event_crop.logit_scale, init)
        return stages(self, tokens, encoder, codec, init)

    monkeypatch.setattr(VAuraRecipe, "decoder_stage", spy)
    few = replace(FEW, steps=2, init=str(folder), keep_encoder=True)
    for ablation in ("whole", None):
        run_recipe(VAuraRecipe(few, ablation=ablation), out, source=SOURCE, resume=True)
    assert not any((out / stage).exists() for stage in ("codec", "vision", "event_crop"))
    eyes = [
        load_file(w / "vision" / "model.safetensors")
        for w in (folder, out / "weights", out / "ablations/whole/weights")
    ]
    assert all(torch.equal(v, each[k]) for each in eyes[1:] for k, v in eyes[0].items())
    for recordings, scale, _ in seen.values():
        assert min(recordings) >= UNSEEN, "the encoder saw the recordings before"
        assert scale == 1.0, "a decoder learns from what is not decided yet"
    assert seen["whole"][2] is None and seen[None][2] is not None, "ablations begin from nothing"


def test_an_encoder_is_kept_of_other_weights_alone():
    with pytest.raises(UsageError, match="keep_encoder keeps the video encoder of other weights: say which"):
        VAuraTrainConfig(keep_encoder=True)


def test_amounts_shrink_together_and_have_a_least():
    half, none = VAuraTrainConfig().scaled(0.5), VAuraTrainConfig().scaled(0.0)
    assert (half.steps, half.clips, half.vision_steps) == (1200, 4000, 1000)
    assert [c.steps for c in half.codec_cycles] == [c.steps // 2 for c in VAuraTrainConfig().codec_cycles]
    assert (none.steps, none.clips, none.vision_steps) == (4, 32, 4) and none.codec_cycles[0].steps == 8
    with pytest.raises(UsageError, match="clips is 0"):
        VAuraTrainConfig(clips=0)


@pytest.mark.golden
def test_files_are_learned_from_as_strike_world_is(tmp_path, monkeypatch):
    """From a folder of mp4s to weights that load, through the command's own function."""
    for i in range(3):
        small_video(tmp_path / "videos" / f"v{i}.mp4", 4.0, seed=i)
    clips = dict.fromkeys(("clips", "event_crop_clips", "decoder_clips"), 8)
    few = {"batch_size": 2, "codec_cycles": (Cycle(2, 1e-3), Cycle(2, 1e-3, decoder_only=True)), **clips}
    weights = train("vaura", data=f"folder:{tmp_path / 'videos'}", steps=4, out=tmp_path / "run", **few)
    system = VAura.from_pretrained(weights)
    assert system.card["source"].startswith("folder:") and system.card["steps"] == 4
    settings = json.loads((tmp_path / "run" / "run.json").read_text())
    assert settings["recipe"] == "vaura" and settings["config"]["batch_size"] == 2
    with pytest.raises(V2AError, match="--resume"):
        train("vaura", data=f"folder:{tmp_path / 'videos'}", steps=4, out=tmp_path / "run")
    with pytest.raises(V2AError, match=r"another config.codec_cycles, seed; give"):
        train("vaura", steps=4, seed=1, out=tmp_path / "run", resume=True)


class Killed(Exception):
    """The process was ended."""


@pytest.fixture(scope="module", autouse=True)
def small_world_of_windows():
    """Windows of hits are looked for in one clip: encoders that have learned for a moment are sure of none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hit_windows, "CLIPS", 1)
        yield


STAGES = ["codec/cycle1", "codec/cycle2", "vision", "vision/glimpse", ""]
SLOW = STAGES[1:3]
SOURCE = "strike:seed=1000,clips=16"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a run that nobody disturbed."""
    out = tmp_path_factory.mktemp("vaura")
    run_recipe(VAuraRecipe(FEW), out, source=SOURCE)
    return out


def weights_of(run) -> dict[str, torch.Tensor]:
    files = sorted((run / "weights").rglob("*.safetensors"))
    return {f"{file.parent.name}.{key}": value for file in files for key, value in load_file(file).items()}


# the slower two run with the other trainings of `make golden`
@pytest.mark.parametrize("stage", [pytest.param(s, marks=[pytest.mark.golden] * (s in SLOW)) for s in STAGES[1:]])
def test_a_run_that_was_killed_goes_on_as_if_it_was_not(whole, tmp_path, monkeypatch, stage):
    """Killed in the middle of any stage, with those before it done."""
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    for later in STAGES[STAGES.index(stage) :]:
        for path in [out / later] if later else [out / name for name in ("state", "weights", "samples")]:
            shutil.rmtree(path, ignore_errors=True)
    (out / "log.jsonl").unlink()

    def fit_until_killed(module, batch_of, optim, folder, **how):
        if folder == out / stage:
            fit(module, batch_of, optim, folder, until=2, **{**how, "eval_fn": None})
            raise Killed
        return fit(module, batch_of, optim, folder, **how)

    monkeypatch.setattr(runner, "fit", fit_until_killed)
    with pytest.raises(Killed):
        run_recipe(VAuraRecipe(FEW), out, source=SOURCE, resume=True)
    monkeypatch.setattr(runner, "fit", fit)
    run_recipe(VAuraRecipe(FEW), out, source=SOURCE, resume=True)
    expected, found = weights_of(whole), weights_of(out)
    assert found.keys() == expected.keys() and not [k for k, v in expected.items() if not torch.equal(found[k], v)]


# --- ablations ---------------------------------------------------------------------------------------------


def test_foreign_sounds_are_of_other_recordings_and_of_as_many_as_asked():
    recordings = np.repeat(np.arange(20), [1, 2, 3, 2] * 5)
    sounds = foreign_sounds(recordings, 0.3, seed=0)
    foreign = recordings[sounds] != recordings
    assert len(np.unique(recordings[foreign])) == 6
    assert (foreign | (sounds == np.arange(len(sounds)))).all()
    assert np.array_equal(sounds, foreign_sounds(recordings, 0.3, seed=0))
    assert not np.array_equal(sounds, foreign_sounds(recordings, 0.3, seed=1))
    assert np.array_equal(foreign_sounds(np.zeros(5), 0.3, seed=0), np.arange(5))


def test_similarity_tells_own_sounds_from_foreign_ones(tmp_path):
    frames, waves = arrays(1000, 12, first=9000)
    vectors = compute_similarity(FeatureStore(tmp_path), features_of(frames=frames, sounds=waves))
    pictures, sounds = vectors["pictures"][:], vectors["sounds"][:]
    assert np.allclose(np.linalg.norm(pictures, axis=1), 1, atol=1e-4)
    own, foreign = (pictures * sounds).sum(1), (pictures * np.roll(sounds, 6, axis=0)).sum(1)
    assert own.mean() > foreign.mean() + 0.2


@pytest.mark.golden  # with the other slow trainings
def test_every_ablation_trains_the_decoder_anew_on_what_it_says(whole, tmp_path, monkeypatch):
    """On a run whose codec and encoder are there."""
    out = tmp_path / "run"
    shutil.copytree(whole, out)
    trained = {}

    def spy(stages):
        def record(self, tokens, *parts):
            stage = stages(self, tokens, *parts)
            trained[self.ablation] = (tokens["codes"][:], stage.module.decoder.config.conditioning)
            return stage

        return record

    monkeypatch.setattr(VAuraRecipe, "decoder_stage", spy(VAuraRecipe.decoder_stage))
    some = {**ABLATIONS, "noisy_02": {**ABLATIONS["noisy_02"], "mismatched": 0.5}}
    monkeypatch.setattr(VAuraRecipe, "ablations", some)
    told = {}
    for name in ("whole", "prepend", "noisy", "noisy_02"):
        weights = run_recipe(VAuraRecipe(replace(FEW, steps=2), ablation=name), out, source=SOURCE)
        told[name] = json.loads((weights / "config.json").read_text())
        assert told[name]["ablation"] == name and told[name]["clips"] == len(trained[name][0])
    assert VAura.from_pretrained(out / "ablations" / "prepend" / "weights").config.conditioning == "prepend"
    own = trained["whole"][0]
    assert trained["prepend"][1] == "prepend" and np.array_equal(trained["prepend"][0], own)
    assert trained["noisy"][1] == "fusion" and 0 < (trained["noisy"][0] != own).any((1, 2)).mean() < 0.6
    assert FEW.batch_size <= len(trained["noisy_02"][0]) < len(own), "many foreign sounds are too unlike"
    assert told["whole"]["mismatched_share"] == 0 < told["noisy"]["mismatched_share"] < 0.6
    with pytest.raises(UsageError, match="have a similarity of 2"):
        monkeypatch.setattr(VAuraRecipe, "ablations", {"noisy": {"mismatched": 0.3, "similarity": 2.0}})
        run_recipe(VAuraRecipe(replace(FEW, steps=2), ablation="noisy"), tmp_path / "run", source=SOURCE)
