"""VTA-LDM's recipe: from nothing to weights, resumed to the byte, ablations, windows, what is dropped and masked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from action2sound_parts import SMALL_AUTOENCODER
from datasets import Dataset
from system_parts import clip_of
from vta_parts import SMALL, small_system

from v2a_nb.audio.stft_image import STFT_IMAGES
from v2a_nb.clip import Clip
from v2a_nb.data.augmentation import JoinedRecordings
from v2a_nb.data.features import Features, ShardedArray
from v2a_nb.data.latent_dataset import AlignScores, ClipVectors
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.errors import UsageError
from v2a_nb.hub import tag_of
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.registry import ENCODERS, small
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.models.vocoder import GriffinLimVocoder
from v2a_nb.systems.registry import load
from v2a_nb.systems.vta_ldm import train as recipe
from v2a_nb.systems.vta_ldm.model import PRESETS, for_encoder
from v2a_nb.systems.vta_ldm.train import (
    ABLATIONS,
    UNSEEN,
    VtaLdmRecipe,
    VtaLdmTrainConfig,
    VtaLdmTraining,
    Windows,
    aligned,
    report_of,
)
from v2a_nb.training.loop import fit
from v2a_nb.training.recipe import run_recipe

CONFIG = replace(SMALL, video_dim=384)
TRAIN = replace(VtaLdmTrainConfig().scaled(0.0008), batch_size=4, vocoder="griffin-lim")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole run with small parts: a function that runs the recipe, and the run's folder. Griffin-Lim is quick."""
    quick = {"iterations": 2, "method": "pinv"}
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("vta_ldm")
    StrikeVision().save_pretrained(root / "encoder")
    small("vivit").save_pretrained(root / "vivit")
    ImageAutoencoder(SMALL_AUTOENCODER).save_pretrained(root / "autoencoder")
    config = replace(TRAIN, encoder=str(root / "encoder"), autoencoder=str(root / "autoencoder"))

    def run(out, *, resume=False, ablation=None, seed=0, **changes):
        one = VtaLdmRecipe(replace(config, **changes), seed=seed, ablation=ablation, model=CONFIG)
        return run_recipe(one, out, resume=resume, cache=root / "features", say=[].append)

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STFT_IMAGES, "action2sound", replace(STFT_IMAGES["action2sound"], **quick))
        patch.setattr(recipe, "load_vocoder", lambda name: GriffinLimVocoder(**quick))
        patch.setattr(recipe, "SAMPLED", 2)
        patch.setitem(ABLATIONS, "encoder_vivit", {"encoder": str(root / "vivit")})
        assert run(root / "run") == root / "run" / "weights"
        yield run, root / "run"


def same_weights(a, b) -> bool:
    names = ("weights/model.safetensors", "weights/text/model.safetensors", "weights/config.json")
    return all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


# --- all of it ------------------------------------------------------------------------------------------


def test_from_nothing_to_weights(made):
    _, out = made
    system = load(out / "weights")
    assert system.card["clips"] == 8 and system.card["steps"] == 4 and system.text_encoder.dim == 8
    assert system.generate(clip_of(0.5), steps=1, prompt="metal").n == 8000
    assert len([*out.glob("encoders/*/config.json")]) == 1
    assert (out / "action2sound" / "autoencoder" / "config.json").exists()
    card = (out / "weights" / "README.md").read_text()
    assert "4 steps of the diffusion model" in card and "Not scored yet" in card and "ablation" not in card
    log = (out / "log.jsonl").read_text()
    assert all(word in log for word in ("held_out", "use_of_video", "use_of_text", "onset_f1_50ms"))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(made):
    run, out = made
    run(out.parent / "again")
    assert same_weights(out, out.parent / "again")
    run(out.parent / "other", seed=1)
    assert not same_weights(out, out.parent / "other")


class Killed(Exception):
    pass


@pytest.mark.parametrize("pretrain", ["", pytest.param("audio", marks=pytest.mark.golden)])
def test_a_run_that_was_killed_goes_on_to_the_byte(made, monkeypatch, pretrain):
    """In its first stage, which with ``pretrain`` is another one than its last."""
    run, out = made
    whole, killed = out.parent / f"whole{pretrain}", out.parent / f"killed{pretrain}"

    def stop(*args, **how):
        fit(*args, until=2, **how)
        raise Killed

    monkeypatch.setattr("v2a_nb.training.recipe.fit", stop)
    with pytest.raises(Killed):
        run(killed, pretrain=pretrain)
    monkeypatch.undo()
    run(killed, resume=True, pretrain=pretrain)
    if not pretrain:
        assert same_weights(out, killed)
        return
    run(whole, pretrain=pretrain)
    assert same_weights(whole, killed) and not same_weights(out, killed)
    assert (killed / "pretrain" / "log.jsonl").exists() and not (out / "pretrain").exists()


QUICK, SLOW = (
    ("vision_only", "text_only", "encoder_vivit", "filtered"),
    ("vision_flow", "vision_motion", "pretrain_video"),
)


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.golden) for name in SLOW)])
def test_an_ablation_trains_the_last_stage_with_its_difference(made, name):
    run, out = made
    folder = run(out, ablation=name)
    assert folder == out / "ablations" / name / "weights"
    system, c = load(folder), load(folder).config
    assert c.text == ("text" in name or name in ("encoder_vivit", "filtered", "pretrain_video"))
    assert c.vision == (name != "text_only") and c.flow == {"vision_flow": "color", "vision_motion": "vectors"}.get(
        name
    )
    assert system.card["ablation"] == name and system.card["clips"] == (4 if name == "filtered" else 8)
    assert (c.video_dim, c.video_rate) == ((32, 6.25) if name == "encoder_vivit" else (384, 50.0))
    frames = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    assert system.generate(Clip(frames, fps=25.0), steps=1).n == 12800


def test_a_run_goes_on_from_other_weights_and_a_text_is_worth_reading(made, tmp_path):
    run, out = made
    folder = run(tmp_path / "on", init=str(out / "weights"), misled=0.5)
    before, after = load(out / "weights"), load(folder)
    assert after.card["begun_at"] == str(out / "weights")
    moved = [(a - b).abs().max().item() for a, b in zip(before.unet.parameters(), after.unet.parameters(), strict=True)]
    assert 0 < max(moved) < 0.05  # four steps away
    with pytest.raises(UsageError, match="misled wants a model with a text"):
        run(tmp_path / "text", ablation=None, misled=0.5, encoder=str(out.parent / "vivit"))


def test_misleading_pictures_say_when_and_not_what():
    vectors, yes = torch.arange(4.0)[:, None, None].expand(4, 5, 6).clone(), torch.ones(4, dtype=torch.bool)
    given = {"video": torch.tensor([True, True, True, False]), "text": torch.tensor([True, False, True, True])}
    made = recipe.misleading(vectors, slice(2, 4), given, 1.0)
    assert made[..., [0, 1, 4, 5]].equal(vectors[..., [0, 1, 4, 5]])
    assert made[:, 0, 2].tolist() == [3.0, 1.0, 1.0, 3.0]  # the first and the third say what the one before them does
    torch.manual_seed(0)
    some = [recipe.misleading(vectors, slice(2, 4), {"video": yes, "text": yes}, 0.3) for _ in range(200)]
    assert torch.stack(some)[:, :, 0, 2].ne(torch.arange(4.0)).float().mean() == pytest.approx(0.3, abs=0.05)
    channels = StrikeVision().content_channels
    assert (channels.start, channels.stop) == (192, 192 + 96 + 72)


def test_every_ablation_is_a_configuration():
    for name, changes in ABLATIONS.items():
        training = {k: v for k, v in changes.items() if k in VtaLdmTrainConfig.__dataclass_fields__}
        replace(VtaLdmTrainConfig(), **training)
        replace(PRESETS["tiny"], **{k: v for k, v in changes.items() if k not in training})
        assert name == "whole" or changes
    assert {name.removeprefix("encoder_") for name in ABLATIONS if name.startswith("encoder_")} == {*ENCODERS} - {
        "strike_wide"
    }


def test_concat_augmentation_leaves_the_held_out_as_they_are():
    one = VtaLdmRecipe(replace(VtaLdmTrainConfig(), recordings=40, held_out=4), ablation="concat")
    joined = one._joined(StrikeRecordings(1000))
    assert isinstance(joined, JoinedRecordings) and joined.probability == 0.5
    assert "+" in joined.open(UNSEEN).name and "+" in joined.open(UNSEEN + 35).name
    assert "+" not in joined.open(UNSEEN + 36).name and "+" not in joined.open(UNSEEN + 39).name


@pytest.mark.parametrize(
    "wrong",
    [{"joined": 1.5}, {"ended": -0.1}, {"text_dropout": 0.9}, {"pretrain": "text"}, {"held_out": 1000}, {"misled": 2}],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        VtaLdmTrainConfig(**wrong)


# --- the encoder decides the tokens ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "tokens", "stack"), [(50.0, 48, 4), (25.0, 48, 2), (5.0, 15, 1), (2.0, 6, 1), (0.1, 2, 1)]
)
def test_a_slow_encoder_gets_a_token_for_each_vector(rate, tokens, stack):
    c = for_encoder(PRESETS["tiny"], 10, rate)
    assert (c.video_tokens, c.stack, c.video_dim, c.video_rate) == (tokens, stack, 10, rate)
    assert c.video_tokens * c.token_s == pytest.approx(c.window_s)


def test_vectors_are_what_the_encoder_says_of_the_clip(made):
    _, out = made
    recording, encoder = StrikeRecordings(1000).open(UNSEEN), small("vivit")
    extractor = ClipVectors(str(out.parent / "vivit"), tag_of(encoder, "vision"), seconds=1.0)
    vectors = extractor.extract(recording, [16000])["vectors"]
    frames = recording.frames(1.0, np.arange(25) / 25, 112, 25.0)
    assert np.allclose(vectors[0], encoder.encode(frames, 25.0).numpy(), atol=2e-3)
    motion = replace(extractor, flow="vectors").extract(recording, [16000])
    assert motion["flow"].shape == (1, 7, 192)
    assert AlignScores(1.0).extract(recording, [0, 16000])["align"].shape == (2,)


# --- windows --------------------------------------------------------------------------------------------


class Still:
    """Recordings in which the same things sound in every clip."""

    def open(self, number):
        return self

    def onsets(self, start_s, seconds):
        return np.array([0.5, 2.0, 4.0])


def synthetic(n: int = 24) -> Features:
    """Clips with latents whose columns say where they are."""
    rng = np.random.default_rng(0)
    table = {"recording": np.arange(n) // 4, "name": [f"r{i // 4}" for i in range(n)], "start_s": [0.0] * n}
    table |= {"duration_s": [5.12] * n, "text": [("a stick strikes the wood block", "")[i % 2] for i in range(n)]}
    latents = np.broadcast_to(np.arange(40.0), (n, 4, 16, 40)) + 100 * np.arange(n)[:, None, None, None]
    arrays = {"latents": latents, "vectors": rng.standard_normal((n, 256, 12)), "align": rng.random(n)}
    arrays["align"][3] = np.nan
    arrays = {name: ShardedArray([array.astype(np.float32)]) for name, array in arrays.items()}
    return Features(Dataset.from_dict(table), Still(), arrays, "in memory")


def test_a_batch_is_windows_at_any_column_and_some_videos_end():
    windows = Windows(synthetic(), 24, 0.128)
    of = windows.batches(64, seed=0, ended=0.5)
    a, b, c = of(3), of(3), of(4)
    assert all(torch.equal(a[k], b[k]) for k in a) and not torch.equal(a["latents"], c["latents"])
    at = (a["start_s"] / 0.128).round()
    assert torch.equal(a["latents"][:, 0, 0, 0], 100.0 * a["row"] + at) and set(at.int().tolist()) == set(range(17))
    ends = a["seconds"] < torch.inf
    assert 0.3 < ends.float().mean() < 0.7
    inside = (a["seconds"] - a["start_s"])[ends]
    assert inside.min() >= 0.3 and inside.max() <= 3.072
    assert not (windows.batches(64, seed=0, ended=0.0)(3)["seconds"] < torch.inf).any()


def test_the_best_aligned_stay():
    clips = synthetic()
    kept = aligned(clips, 0.5)
    scores, all_scores = kept["align"][:], clips["align"][:]
    assert len(kept) == 12 and np.isnan(scores).sum() == 1
    assert np.nanmin(scores) > np.sort(all_scores[~np.isnan(all_scores)])[:12].max()
    assert aligned(clips, 1.0) is clips


def test_shares_of_video_and_text_are_dropped_and_a_blind_stage_drops_all(monkeypatch):
    system, windows = small_system(), Windows(synthetic(), 24, 0.128)
    train = replace(TRAIN, condition_dropout=0.1, video_dropout=0.2, text_dropout=0.4)
    module, seen, context = VtaLdmTraining(system, list(windows.clips.table["text"]), train), [], system.context
    monkeypatch.setattr(system, "context", lambda *a, **k: seen.append(k["given"]) or context(*a, **k))
    monkeypatch.setattr(system, "loss", lambda *a: {"loss": torch.zeros(())})
    torch.manual_seed(0)
    batch = windows.batches(250, seed=0, ended=0.0)(0)
    for _ in range(8):
        module(batch)
    video, text = (torch.cat([each[name] for each in seen]).float() for name in ("video", "text"))
    assert video.mean() == pytest.approx(0.7, abs=0.04) and text.mean() == pytest.approx(0.5, abs=0.04)
    assert ((1 - video) * (1 - text)).mean() == pytest.approx(0.1, abs=0.03)
    module.blind = True
    module(batch)
    assert not seen[-1]["video"].any() and not seen[-1]["text"].any()


def test_the_report_tells_use_from_no_use():
    clips, system = synthetic(), small_system()
    latents = ShardedArray([np.random.default_rng(1).standard_normal((24, 4, 16, 40)).astype(np.float32)])
    windows = Windows(replace(clips, arrays={**clips.arrays, "latents": latents}), 24, 0.128)
    report = report_of(system, windows, generate=False)
    assert report.keys() == {"held_out", "use_of_video", "use_of_text"} and report["use_of_video"] != 0
    assert report_of(system, windows, generate=False) == report
    system.tokens.video.weight.data.zero_()
    assert report_of(system, windows, generate=False)["use_of_video"] == 0
    with_sound = report_of(system, windows)
    assert 0 <= with_sound["onset_f1_50ms"] <= 1 and with_sound["sample"].n == 49152
