"""The vocoder's recipe: discriminators, who learns from which loss, resuming to the byte, scores and card."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from feature_parts import small_video

from v2a_nb.audio.match_mels import match_mels
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.models import discriminators as critics
from v2a_nb.models.discriminators import DiscriminatorConfig, Discriminators, PeriodDiscriminator
from v2a_nb.models.vocoder import PRESETS, Vocoder, VocoderConfig
from v2a_nb.training import recipe as runner
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import run_recipe
from v2a_nb.training.recipes import vocoder as recipe
from v2a_nb.training.recipes.vocoder import (
    SoundWindows,
    VocoderRecipe,
    VocoderTrainConfig,
    VocoderTraining,
    batches,
    start,
)
from v2a_nb.training.registry import train
from v2a_nb.world.recording import draw
from v2a_nb.world.sound import render

torch.set_num_threads(1)
CONFIG = VocoderConfig(channels=16, block_kernels=(3,), block_dilations=((1,),), match=4)
JUDGES = DiscriminatorConfig(
    periods=(2, 3), period_channels=(4, 8), scales=2, scale_layers=((4, 15, 4, 1), (8, 15, 4, 4))
)  # fmt: skip
TRAIN = VocoderTrainConfig(recordings=3, held_out=2, spectral_steps=3, steps=3, batch_size=2)


class Killed(Exception):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A whole run with small parts: a function that runs the recipe, and the run's folder."""
    root = tmp_path_factory.mktemp("vocoder")

    def run(out, *, resume=False, seed=0, source=None, **changes):
        one = VocoderRecipe(replace(TRAIN, **changes), seed=seed, model=CONFIG, judges=JUDGES)
        return run_recipe(one, out, source=source, resume=resume, cache=root / "features", say=[].append)

    assert run(root / "run") == root / "run" / "weights"
    return run, root / "run"


@pytest.fixture(scope="module")
def waves(made):
    """What the run was trained on."""
    (path,) = made[1].parent.glob("features/sound-windows-*/*.waves.npy")
    return np.load(path)[:3]


def training(waves, judged: bool = True) -> VocoderTraining:
    torch.manual_seed(0)
    vocoder = Vocoder(CONFIG)
    start(vocoder, waves)
    return VocoderTraining(vocoder, Discriminators(JUDGES) if judged else None)


def silent(module) -> list[str]:
    return [n for n, p in module.named_parameters() if p.grad is None or not p.grad.abs().sum()]


# --- matching -----------------------------------------------------------------------------------------------


def test_discriminators_hear_what_users_will(waves, monkeypatch):
    module, judged = training(waves), []
    of = critics.judge_both
    monkeypatch.setattr(critics, "judge_both", lambda judges, a, b: judged.append((a, b)) or of(judges, a, b))
    batch = batches(waves, module.vocoder.spectrogram, 2, 0, frames=8, more=4)(0)
    assert batch["spectrogram"].shape == (2, 128, 16) and batch["wave"].shape == (2, 8 * 256)
    module(batch)["loss"].backward()
    (true, made), spectrogram = judged[0], batch["spectrogram"]
    whole = match_mels(module.vocoder(spectrogram), spectrogram, module.vocoder.spectrogram, recipe.MATCHED)
    assert torch.equal(true, batch["wave"])
    assert torch.allclose(made, whole[:, 4 * 256 : 12 * 256], atol=1e-4)
    assert not silent(module)


def test_spectra_alone_teach_the_generator_alone(waves, monkeypatch):
    """Without discriminators the loss is that of the spectra, of waves whose mels were not matched."""
    monkeypatch.setattr(recipe, "match_mels", None)  # a call would fail
    module = training(waves, judged=False)
    losses = module(batches(waves, module.vocoder.spectrogram, 2, 0)(0))
    assert losses.keys() == {"loss", "mel", "spectral", "transport"}
    assert torch.isclose(losses["loss"], losses["mel"] + losses["spectral"] + losses["transport"])
    losses["loss"].backward()
    assert not silent(module) and all(name.startswith("vocoder.") for name, _ in module.named_parameters())


@pytest.mark.parametrize("more", [0, 4])
def test_a_segment_lies_in_the_middle_of_its_spectrogram(waves, more):
    front = Vocoder(CONFIG).spectrogram
    batch = batches(waves, front, 4, 0, frames=12, more=more)(5)
    inner = front(batch["wave"])[..., 2:-3]  # two frames at either end see what lies beyond
    frames = batch["spectrogram"].shape[-1]
    assert frames == 12 + 2 * more
    assert torch.allclose(batch["spectrogram"][..., more + 2 : more + 10], inner[..., :8], atol=1e-4)


# --- discriminators -----------------------------------------------------------------------------------------


def test_every_discriminator_judges_with_all_of_its_layers():
    judges = Discriminators()
    judged = judges(0.1 * torch.randn(3, 2048))
    assert len(judged) == 5 + 3
    for score, features in judged:
        assert score.shape[0] == 3 and score.dim() == 2 and torch.equal(features[-1].flatten(1), score)
        assert len(features) == 6
    for period, (_, features) in zip((2, 3, 5, 7, 11), judged[:5], strict=True):
        rows = -(-2048 // period)
        for layer, feature in enumerate(features):
            if layer < 4:  # each takes every third row
                rows = (rows - 1) // 3 + 1
            assert feature.shape[2:] == (rows, period)
    lengths = [features[0].shape[-1] for _, features in judged[5:]]
    assert lengths == [1024, 513, 257]


@pytest.mark.parametrize("period", [2, 3, 7])
def test_a_period_sees_only_what_is_a_multiple_of_it_away(period):
    torch.manual_seed(0)
    judge = PeriodDiscriminator(period, (4, 8))
    wave = torch.randn(1, 40 * period - 1)  # the last row is filled by reflection
    other = wave.clone()
    other[0, 10 * period + 1] += 1.0
    changed = (judge(wave)[1][-1] != judge(other)[1][-1])[0, 0].any(0)
    assert changed.nonzero().flatten().tolist() == [1]


def test_published_discriminators():
    with torch.device("meta"):
        judges = Discriminators(critics.PRESETS["paper"])
    # the lengths that weight normalisation adds are some thousands
    periods, scales = (sum(p.numel() for p in part.parameters()) for part in (judges.periods, judges.scales))
    assert (round(periods / 1e6, 1), round(scales / 1e6, 1)) == (41.1, 29.6)


def test_losses():
    true = [(torch.ones(2, 3), [torch.zeros(2, 4), torch.ones(2, 3)])] * 2
    fake = [(torch.zeros(2, 3), [torch.ones(2, 4), torch.zeros(2, 3)])] * 2
    assert critics.discriminator_loss(true, fake) == 0 and critics.discriminator_loss(fake, true) == 4
    assert critics.generator_loss(true) == 0 and critics.generator_loss(fake) == 2
    assert critics.feature_loss(true, true) == 0 and critics.feature_loss(true, fake) == 4


def test_frozen_judges_say_the_same():
    torch.manual_seed(0)
    judges = Discriminators(JUDGES).eval()
    wave = torch.randn(2, 600)
    for (a, left), (b, right) in zip(judges(wave), judges.frozen(wave), strict=True):
        assert torch.equal(a, b) and all(torch.equal(x, y) for x, y in zip(left, right, strict=True))
    true, fake = critics.judge_both(judges, wave, wave.flip(0))
    for (a, _), (b, c), (d, _) in zip(judges(wave), true, fake, strict=True):
        assert torch.allclose(a, b, atol=1e-6) and torch.allclose(a.flip(0), d, atol=1e-6)
        assert all(len(x) == 2 for x in c)


# --- who learns from which loss -----------------------------------------------------------------------------


def test_every_parameter_of_both_sides_gets_a_gradient(waves):
    module = training(waves)
    module(batches(waves, module.vocoder.spectrogram, 2, 0)(0))["loss"].backward()
    assert silent(module) == []
    module = training(waves, judged=False)
    module(batches(waves, module.vocoder.spectrogram, 2, 0)(0))["loss"].backward()
    assert silent(module) == []


@pytest.mark.parametrize("side", ["vocoder", "judges"])
def test_the_loss_of_one_side_leaves_the_other_as_it_is(waves, side):
    module = training(waves)
    batch = batches(waves, module.vocoder.spectrogram, 2, 0)(0)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2)
    losses = module.discriminator_losses(module.vocoder(batch["spectrogram"]), batch["wave"])
    (losses["discriminator"] if side == "judges" else losses["generator"] + losses["feature"]).backward()
    optimizer.step()
    names = {k for k, _ in module.named_parameters()}
    changed = {k for k, v in module.state_dict().items() if k in names and not torch.equal(v, before[k])}
    assert changed == {k for k in names if k.startswith(side)}


def test_one_optimizer_steps_both_sides_as_two_would(waves):
    one, two = training(waves), training(waves)
    two.load_state_dict(one.state_dict())
    batch = batches(waves, one.vocoder.spectrogram, 2, 0)(0)
    how = {"lr": 1e-3, "betas": (0.8, 0.99)}
    both = torch.optim.AdamW(one.parameters(), **how)
    torch.manual_seed(0)
    one(batch)["loss"].backward()
    both.step()
    torch.manual_seed(0)
    losses = two(batch)
    for name, part in (("judges", losses["discriminator"]), ("vocoder", losses["loss"] - losses["discriminator"])):
        parameters = list(getattr(two, name).parameters())
        gradients = torch.autograd.grad(part, parameters, retain_graph=True)
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g
    for name in ("judges", "vocoder"):
        torch.optim.AdamW(getattr(two, name).parameters(), **how).step()
    for (k, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), k


def test_spectral_losses_are_nothing_for_the_true_wave(waves):
    module = training(waves)
    true = batches(waves, module.vocoder.spectrogram, 2, 0)(0)["wave"]
    assert all(v == 0 for v in module.spectral_losses(true, true).values())
    softer = module.spectral_losses(0.5 * true, true)
    assert 0.3 < softer["mel"] <= np.log(2) + 1e-3  # less only where the floor is reached
    assert all(v > 0 for v in softer.values())


def test_a_started_generator_can_be_heard_and_learns(waves, tmp_path):
    module = training(waves, judged=False)
    front = module.vocoder.spectrogram
    batch = batches(waves, front, 4, 0)(0)
    assert 1e-3 < module.vocoder(batch["spectrogram"]).std() < 1
    assert not module.vocoder.model.mean.eq(0).any() and not module.vocoder.model.scale.eq(1).any()
    plan = OptimConfig(steps=40, lr=3e-3, warmup=5, log_every=1, betas=(0.8, 0.99))
    fit(module, batches(waves, front, 4, 0), plan, tmp_path)
    log = [json.loads(line)["mel"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert np.mean(log[-5:]) < 0.8 * np.mean(log[:5])


# --- data ---------------------------------------------------------------------------------------------------


def test_sounds_are_windows_of_recordings(waves):
    assert waves.shape == (3, 128000) and waves.dtype == np.float16
    mix = render(draw(1000, 1))["mix"].astype(np.float16)
    at = [i for i in np.flatnonzero(mix[:-127999] == waves[1, 0]) if np.array_equal(mix[i : i + 128000], waves[1])]
    assert len(at) == 1
    recording = StrikeRecordings(1000).open(1)
    assert np.array_equal(SoundWindows(8.0, 16000).extract(recording, at)["waves"][0], waves[1])


def test_segments_are_functions_of_the_step_with_frames_as_in_the_whole(waves):
    front = Vocoder(CONFIG).spectrogram
    of = batches(waves, front, 3, 0)
    a, b, c = of(3), of(3), of(4)
    assert all(torch.equal(a[k], b[k]) for k in a) and not torch.equal(a["wave"], c["wave"])
    assert a["wave"].shape == (3, 8192) and a["spectrogram"].shape == (3, 128, 32)
    # frames whose windows lie inside of the segment do not know where it was cut
    assert torch.allclose(front(a["wave"])[..., 2:30], a["spectrogram"][..., 2:30], atol=1e-6)
    assert not torch.allclose(front(a["wave"])[..., 0], a["spectrogram"][..., 0], atol=1e-2)


# --- the run ------------------------------------------------------------------------------------------------


def test_from_nothing_to_weights(made):
    _, out = made
    vocoder = Vocoder.from_pretrained(out / "weights")
    assert vocoder.config == CONFIG
    card = json.loads((out / "weights" / "config.json").read_text())
    assert (card["preset"], card["source"], card["seed"], card["steps"]) == ("tiny", "strike:seed=1000", 0, 3)
    assert card["judges"]["periods"] == [2, 3] and card["matched"] == 4
    assert {p.name for p in (out / "weights").iterdir()} == {"config.json", "model.safetensors", "README.md"}
    last = {f: json.loads((out / f / "log.jsonl").read_text().splitlines()[-1]) for f in ("spectral", "")}
    assert {"loss", "mel", "spectral", "transport", "held_out_mel", "onset_f1_50ms"} <= last["spectral"].keys()
    assert {"discriminator", "generator", "feature", "mel", "held_out_mel"} <= last[""].keys()
    assert list((out / "samples").glob("*.wav")) and list((out / "spectral" / "samples").glob("*.wav"))


@pytest.mark.parametrize("stage", ["spectral", ""])
def test_a_killed_run_goes_on_as_if_it_was_not(made, tmp_path, monkeypatch, stage):
    run, out = made

    def fit_until_killed(module, batch_of, optim, folder, **options):
        if folder != (tmp_path / stage if stage else tmp_path):
            return fit(module, batch_of, optim, folder, **options)
        fit(module, batch_of, optim, folder, **options, until=2)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(runner, "fit", fit_until_killed)
        with pytest.raises(Killed):
            run(tmp_path)
    assert not (tmp_path / "weights").exists()
    run(tmp_path, resume=True)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / "weights" / name).read_bytes() == (out / "weights" / name).read_bytes(), name
    states = [torch.load(r / "state" / "state.pt", weights_only=True)["module"] for r in (tmp_path, out)]
    assert states[0].keys() == states[1].keys() and any(k.startswith("judges.") for k in states[0])
    assert all(torch.equal(v, states[1][k]) for k, v in states[0].items())


def test_what_cannot_be_meant_is_refused(made, tmp_path):
    run, out = made
    with pytest.raises(V2AError, match="--resume"):
        run(out)
    with pytest.raises(V2AError, match="another seed"):
        run(out, seed=1, resume=True)
    with pytest.raises(V2AError, match="holds a run of 3 steps"):
        run(out, steps=2, resume=True)
    for wrong in ({"steps": 0}, {"recordings": 0}, {"batch_size": -1}, {"held_out": 0}, {"seconds": 0.2}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            VocoderTrainConfig(**wrong)
    config = VocoderTrainConfig()
    assert config.scaled(0.5).steps == config.steps // 2
    assert config.scaled(0.0001).steps == 4 and config.scaled(0.1).batch_size == config.batch_size
    with pytest.raises(UsageError, match="at least one step"):
        train("vocoder", steps=0, out=tmp_path)
    assert not list(tmp_path.iterdir())


def test_videos_are_learned_from_and_short_ones_with_shorter_windows(made, tmp_path, monkeypatch):
    run, _ = made
    for i in range(3):
        small_video(tmp_path / "videos" / f"v{i}.mp4", 3.2, seed=i)
    source = f"folder:{tmp_path / 'videos'}"
    with pytest.raises(UsageError, match=r"no recording lasts 8.00 s: give longer videos, or --set seconds=S"):
        run(tmp_path / "run", source=source)
    watched, of = [], recipe.held_out_eval
    monkeypatch.setattr(recipe, "held_out_eval", lambda v, waves: watched.append(waves.shape) or of(v, waves))
    weights = run(tmp_path / "run", source=source, seconds=3.0)
    assert Vocoder.from_pretrained(weights).config == CONFIG and watched == [(1, 48000)]
    assert json.loads((weights / "config.json").read_text())["source"] == source


def test_the_paper_preset_trains_with_its_own_discriminators():
    with torch.device("meta"):
        module = VocoderTraining(Vocoder(PRESETS["paper"]), Discriminators(critics.PRESETS["paper"]))
        made = module.vocoder(torch.rand(2, 128, 32))
        judged = module.judges(made)
    assert made.shape == (2, 8192) and len(judged) == 8


def test_a_state_can_be_read_as_weights(made, tmp_path):
    _, out = made
    shutil.copytree(out / "weights", tmp_path / "moved")
    vocoder = Vocoder.from_pretrained(tmp_path / "moved")
    state = torch.load(out / "state" / "state.pt", weights_only=True)["module"]
    for key, value in vocoder.state_dict().items():
        assert torch.equal(state[f"vocoder.{key}"].half().float(), value)
