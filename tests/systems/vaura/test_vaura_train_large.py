"""V-AURA's larger presets: a few steps at the published widths on a folder of clips, and what they need."""

from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from feature_parts import features_of, small_video
from safetensors.torch import load_file

import v2a_nb as v2a
from v2a_nb.cli import main
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.models.codec import DacCodec
from v2a_nb.models.video_encoders.registry import small
from v2a_nb.models.video_encoders.segment_avclip import SegmentAvclip, SegmentConfig
from v2a_nb.systems.vaura import train_large as module
from v2a_nb.systems.vaura.system import PRESETS, VAura, VAuraDecoder
from v2a_nb.systems.vaura.train_large import (
    DecoderTraining,
    LargeTrainConfig,
    SmallTrainConfig,
    VAuraPaperRecipe,
    VAuraSmallRecipe,
    batches,
    rate_of,
    validation_loss,
)
from v2a_nb.training.recipe import run_recipe
from v2a_nb.training.registry import recipe_class, train


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Folders of a small encoder and a small codec with random weights, in the layout and at the rates of the published
    ones; and a folder of videos."""
    from transformers import DacConfig, DacModel

    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    SegmentAvclip(SegmentConfig(size=32, dim=768, depth=1, heads=12, mlp=64)).save_pretrained(folder / "encoder")
    sizes = {  # nine strides of 2 are a hop of 512 and, from 2 channels on, latents of 1024
        "encoder_hidden_size": 2, "decoder_hidden_size": 512, "n_codebooks": 9, "codebook_size": 1024,
        "codebook_dim": 8, "sampling_rate": 44100, "downsampling_ratios": [2] * 9,
    }  # fmt: skip
    DacCodec(DacModel(DacConfig(**sizes))).save_pretrained(folder / "codec")
    for i in range(3):
        small_video(folder / "videos" / f"v{i}.mp4", 3.2, seed=i)
    return folder


def few(folder, **changes) -> LargeTrainConfig:
    settings = {
        "steps": 2, "accumulation": 2, "clips": 6, "clips_per_recording": 2, "held_out": 1, "batch_size": 1, "size": 36,
        "warmup": 2, "encoder": str(folder / "encoder"), "codec": str(folder / "codec"),
    }  # fmt: skip
    return LargeTrainConfig(**{**settings, **changes})


@pytest.mark.golden  # with the other slow trainings
def test_the_paper_preset_trains_at_its_widths_on_a_folder_of_clips(parts, tmp_path):
    """One layer instead of 24; the rest is as published: 9 codebooks of 44.1 kHz, 12.5 visual tokens a second."""
    recipe = VAuraPaperRecipe(few(parts), model=replace(PRESETS["paper"], layers=1))
    weights = run_recipe(recipe, tmp_path / "run", source=f"folder:{parts / 'videos'}")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert log[-1]["ce"] == pytest.approx(np.log(1024), abs=0.2) and log[-1]["val_loss"] < np.log(1024)
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["preset"] == "paper" and run["model"]["context_frames"] == 221
    system = VAura.from_pretrained(weights)
    c = system.config
    assert (c.hidden, c.visual_width, c.audio_width, c.code_width) == (1536, 512, 1024, 8)
    assert (c.num_codebooks, c.codebook_size, Fraction(c.frame_rate)) == (9, 1024, Fraction(44100, 512))
    assert system.card["preset"] == "paper" and system.card["train_config"]["patience"] == 13
    clip = v2a.open(str(parts / "videos" / "v0.mp4"), duration=0.4).silent()
    assert system.generate(clip, seed=0).n == round(0.4 * 44100)


def test_code_embeddings_start_as_the_codecs(parts):
    recipe = VAuraPaperRecipe(few(parts), model=replace(PRESETS["paper"], layers=1))
    codec = module.networks(recipe.config.encoder, 0.0, recipe.config.codec)[1]
    clips = features_of(codes=np.zeros((4, 9, 221), np.uint16), visual=np.zeros((4, 32, 768), np.float16))
    for init, same in (("codec", True), ("released", False)):
        recipe.config = replace(recipe.config, code_init=init)
        decoder = recipe.decoder_stage(clips, codec).module.decoder
        quantizer = codec.model.quantizer.quantizers[3]
        assert torch.equal(decoder.embed[3].weight[:1024], quantizer.codebook.weight)
        assert torch.equal(decoder.project[3].weight, quantizer.out_proj.weight[..., 0]) == same


def test_any_registered_encoder_and_codec_will_do(parts, tmp_path):
    """CLIP at another rate, and our own codec: sizes that hang on them follow."""
    small("clip").save_pretrained(tmp_path / "clip")
    config = SmallTrainConfig(
        steps=2, accumulation=1, clips=4, clips_per_recording=2, held_out=1, batch_size=1, size=32, codec="codec",
        encoder=str(tmp_path / "clip"), encoder_rate=12.5, warmup=1,
    )  # fmt: skip
    tiny = replace(
        PRESETS["small"], hidden=64, layers=1, heads=2, intermediate=64, visual_width=32, audio_width=32
    )  # fmt: skip
    recipe = VAuraSmallRecipe(config, model=tiny)
    weights = run_recipe(recipe, tmp_path / "run", source=f"folder:{parts / 'videos'}")
    saved = json.loads((weights / "config.json").read_text())
    assert saved["parts"] == {"vision": "vision", "codec": "codec"} and not (weights / "codec").exists()
    system = VAura.from_pretrained(weights)
    assert system.encoder.rate == 12.5 and system.config.visual_dim == 24 and system.config.context_frames == 128
    clip = v2a.open(str(parts / "videos" / "v0.mp4"), duration=0.5).silent()
    assert system.generate(clip, seed=0).n == 8000


def test_an_encoder_that_is_referred_to_is_read_at_the_decoders_rate(tmp_path, monkeypatch):
    from v2a_nb.models.codec import load_codec
    from v2a_nb.models.video_encoders import registry

    encoder = small("clip")
    encoder.set_rate(12.5)
    config = replace(PRESETS["tiny"], hidden=32, layers=1, heads=2, visual_width=16, audio_width=16, intermediate=32)
    decoder = VAuraDecoder(replace(config, visual_dim=24, visual_rate="25/2"))
    folder = VAura(decoder, encoder, load_codec()).save_pretrained(tmp_path, vision="clip", codec="codec")
    monkeypatch.setattr(registry, "load_video_encoder", lambda name: small("clip") if name == "clip" else None)
    assert VAura.from_pretrained(folder).encoder.rate == 12.5


def test_optimizer_and_schedule_are_the_released_ones():
    recipe = VAuraPaperRecipe(LargeTrainConfig())
    with torch.device("meta"):
        optim = recipe.optim(VAuraDecoder(PRESETS["paper"]))
    assert optim.lr == pytest.approx(1.08e-4, rel=1e-3) and optim.weight_decay == pytest.approx(1.08e-5, rel=1e-3)
    assert (optim.betas, optim.clip_value, optim.warmup, optim.bf16) == ((0.9, 0.95), 1.0, 1000, True)
    assert optim.rate(0) < optim.rate(999) == optim.lr and optim.rate(199_999) == pytest.approx(optim.lr / 10, rel=1e-3)
    assert rate_of(694_530_120) == pytest.approx(1.0808e-4, rel=1e-4)
    assert LargeTrainConfig().batch_size * LargeTrainConfig().accumulation == 96
    assert LargeTrainConfig(patience=0).patience == 0
    with pytest.raises(UsageError, match="patience is -1: at least 0"):
        LargeTrainConfig(patience=-1)
    assert LargeTrainConfig().scaled(0.001).clips == LargeTrainConfig().clips  # fewer steps are not fewer clips


def test_validation_is_without_dropout_and_is_the_mean_over_clips():
    rng = np.random.default_rng(0)
    codes, visual = rng.integers(0, 1024, (5, 9, 30), dtype=np.uint16), rng.standard_normal((5, 5, 768))
    clips = features_of(codes=codes, visual=visual.astype(np.float16))
    sizes = {"hidden": 48, "layers": 1, "heads": 2, "intermediate": 48, "visual_width": 16, "audio_width": 32}
    torch.manual_seed(0)
    training = DecoderTraining(VAuraDecoder(replace(PRESETS["small"], **sizes)))
    torch.nn.init.normal_(training.decoder.heads.weight, std=0.5)
    training.eval()
    with torch.no_grad():
        one = validation_loss(training, clips, 1)
        assert validation_loss(training, clips, 2) == pytest.approx(one, rel=1e-5)
        assert validation_loss(training, clips, 8) == pytest.approx(one, rel=1e-5)
    batch = batches(clips, 3, seed=1)(7)
    assert batch["codes"].shape == (3, 9, 30) and batch["codes"].dtype == torch.int64
    assert torch.equal(batch["visual"], batches(clips, 3, seed=1)(7)["visual"])


@pytest.mark.parametrize(("preset", "parameters"), [("paper", "694,521,672"), ("small", "92,410,184")])
def test_a_dry_run_counts_the_memory_and_writes_nothing(preset, parameters, tmp_path, capsys):
    words = ["train", "vaura", "--preset", preset, "--dry-run", "--out", str(tmp_path / "run")]
    assert main([*words, "--set", "batch_size=4"]) == 0
    said = capsys.readouterr().out
    assert f"{parameters} parameters" in said and "batch_size: 4" in said and "GiB in bfloat16" in said
    assert not (tmp_path / "run").exists()


def test_the_published_encoder_is_asked_for_where_none_is_given(tmp_path):
    with pytest.raises(WeightsError, match="segment_avclip"):
        train("vaura", preset="paper", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="no recipe for preset 'small' of egosonics yet; there is tiny"):
        recipe_class("egosonics", "small")


def test_weights_are_half_precision(parts, tmp_path):
    recipe = VAuraPaperRecipe(few(parts), model=replace(PRESETS["paper"], layers=1))
    assert recipe.settings()["model"]["code_init"] == "codec"
    decoder = VAuraDecoder(recipe.model())
    encoder, codec = module.networks(recipe.config.encoder, 0.0, recipe.config.codec)
    weights = recipe.save(VAura(decoder, encoder, codec), tmp_path, {})
    assert {x.dtype for x in load_file(weights / "model.safetensors").values()} == {torch.float16}
    assert (weights / "vision").is_dir() and (weights / "codec").is_dir()
