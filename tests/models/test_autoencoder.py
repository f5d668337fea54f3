"""Pictures of sound: the STFT image, the autoencoder and super-resolution."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from v2a_nb.audio import stft_image
from v2a_nb.audio.onsets import detect_onsets, onset_scores
from v2a_nb.audio.spectrogram import Spectrogram
from v2a_nb.audio.stft_image import STFT_IMAGES
from v2a_nb.clip import Sound
from v2a_nb.errors import MediaError, UsageError, WeightsError
from v2a_nb.models.autoencoder import PRESETS, AutoencoderConfig, ImageAutoencoder

SMALL = AutoencoderConfig(latent_channels=4, widths=(8, 16, 16), groups=4)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small(**changes) -> ImageAutoencoder:
    torch.manual_seed(0)
    return ImageAutoencoder(SMALL, **changes).eval()


# --- the picture ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(STFT_IMAGES))
@pytest.mark.parametrize("seconds", [0.3, 1.0, 2.345])
def test_pictures_fit_the_networks_and_waves_come_back_at_any_length(name: str, seconds: float):
    image = STFT_IMAGES[name]
    n = round(seconds * image.sample_rate)
    wave = 0.1 * torch.randn(2, n, generator=seeded())
    picture = image.to_image(wave)
    assert picture.shape == (2, image.channels, image.height, image.columns(n))
    assert picture.shape[3] % image.align == 0 and picture.shape[3] / image.columns_per_s >= seconds
    least, most = (-11.6, 3.0) if name == "vta_ldm-paper" else (-1, 1)  # AudioLDM's are natural logarithms, as they are
    assert picture.min() >= least and picture.max() <= most
    made = image.to_wave(picture, n)
    assert made.shape == (2, n)
    assert torch.equal(made, image.to_wave(picture, n))


@pytest.mark.parametrize("seconds", [2.24, 4.48, 8.96, 0.32, 2.56])
def test_whole_columns_are_not_rounded_up_by_a_float(seconds: float):
    """0.01 s columns: 2.24 * 100 is 224.00000000000003 in floats, and would be aligned to 256."""
    assert STFT_IMAGES["tiny"].columns(round(16000 * seconds)) == round(100 * seconds)
    assert STFT_IMAGES["tiny"].columns(round(16000 * seconds) + 1) == round(100 * seconds) + 32
    assert STFT_IMAGES["paper"].columns(220500) == 512 and STFT_IMAGES["paper"].columns(220501) == 576


def test_ten_seconds_are_the_papers_picture():
    image = STFT_IMAGES["paper"]
    assert image.to_image(torch.zeros(1, 220500)).shape == (1, 3, 512, 512)
    assert image.to_spectrogram(torch.zeros(1, 3, 512, 512)).shape == (1, 1025, 862)
    assert STFT_IMAGES["paper-44k"].to_spectrogram(torch.zeros(1, 3, 512, 512)).shape == (1, 1025, 862)


def test_three_seconds_are_action2sounds_picture():
    """Three equal channels in [0, 1], not in [-1, 1], a column a frame, filled with the wave backwards to the end."""
    wave = 0.1 * torch.randn(1, 48000, generator=seeded())
    image = STFT_IMAGES["action2sound-paper"]
    picture = image.to_image(wave)
    assert picture.shape == (1, 3, 128, 192) and picture.min() >= 0 and 0.4 < picture.max() <= 1
    assert torch.equal(picture[:, 0], picture[:, 1]) and torch.equal(picture[:, 0], picture[:, 2])
    assert picture.any(2).all()  # no column is silent
    longer = torch.cat([wave, wave[:, -1152:].flip(-1)], dim=-1)
    assert torch.equal(picture, image.to_image(longer))
    front = Spectrogram(image.front_end)
    assert torch.allclose(picture[:, 0, :, :180], front(wave)[..., :180], atol=1e-6)  # the lowest band first
    tiny = STFT_IMAGES["action2sound"].to_image(wave)
    assert tiny.shape == (1, 1, 128, 192)
    assert torch.allclose((tiny[:, 0].flip(1) + 1) / 2, picture[:, 0], atol=1e-6)
    for name in ("action2sound", "action2sound-paper"):
        made = STFT_IMAGES[name].to_spectrogram(STFT_IMAGES[name].to_image(wave))
        assert torch.allclose(made, picture[:, 0], atol=1e-6)


def test_a_short_sound_goes_to_and_fro_until_its_picture_is_full():
    image = STFT_IMAGES["tiny"]
    wave = 0.1 * torch.randn(2, 2000, generator=seeded())
    once = torch.cat([wave, wave.flip(-1)], dim=-1)
    assert torch.equal(image.to_image(wave), image.to_image(torch.cat([once, wave[:, :1120]], dim=-1)))
    with pytest.raises(UsageError, match="empty"):
        image.to_image(wave[:, :0])


@pytest.mark.parametrize("name", ["tiny", "paper"])
def test_a_column_means_the_same_time_at_every_length(name: str):
    image = STFT_IMAGES[name]
    wave = torch.zeros(1, 5 * image.sample_rate)
    wave[:, 2 * image.sample_rate] = 1.0
    for seconds in (2.5, 3.3, 5.0):
        picture = image.to_image(wave[:, : round(seconds * image.sample_rate)])
        assert abs(int(picture[0, 0].mean(0).argmax()) / image.columns_per_s - 2.0) < 1.5 / image.columns_per_s


def test_silence_is_black_and_comes_back_silent():
    image = STFT_IMAGES["tiny"]
    picture = image.to_image(torch.zeros(1, 16000))
    assert (picture == -1).all()
    assert image.to_wave(picture).abs().max() == 0


def test_low_frequencies_are_at_the_bottom():
    picture = STFT_IMAGES["tiny"].to_image(0.1 * torch.sin(torch.arange(16000) * 2 * np.pi * 200 / 16000)[None])
    assert picture[0, 0, :, 40].argmax() > 50


def test_onsets_of_the_world_survive_the_picture():
    """The ceiling of everything that is generated as such a picture."""
    from v2a_nb.world import strike_world

    image, scores = STFT_IMAGES["tiny"], []
    for item in strike_world(seed=4243, clips=4, seconds=5.12, size=16).clips:
        made = image.to_wave(image.to_image(item.stems["mix"]), 81920)[0].numpy()
        true = np.array([e["time_s"] for e in item.truth["events"] if e["sounding"]])
        scores.append(onset_scores(true, detect_onsets(made), 0.05)[2])
    assert np.nanmean(scores) > 0.95


def test_long_sounds_are_inverted_in_pieces_without_a_seam(monkeypatch):
    image = STFT_IMAGES["tiny"]
    wave = 0.05 * torch.randn(1, 5 * 16000, generator=seeded())
    picture = image.to_image(wave)
    whole = image.to_wave(picture, 80000)
    monkeypatch.setattr(stft_image, "PIECE_S", 1.0)
    pieces = image.to_wave(picture, 80000)
    assert pieces.shape == whole.shape
    level = pieces.view(-1, 400).square().mean(1).sqrt()  # 25 ms each
    borders = level[39::40]
    assert 0.75 < borders.mean() / level.mean() < 1.25
    assert level.min() > 0.5 * level.mean()


def test_pictures_that_do_not_fit_are_refused():
    image = STFT_IMAGES["tiny"]
    with pytest.raises(UsageError, match="64, columns"):
        image.to_wave(torch.zeros(1, 1, 32, 64))
    with pytest.raises(UsageError, match="waves"):
        image.to_image(torch.zeros(16000))
    with pytest.raises(MediaError, match="NaN"):
        image.to_image(torch.full((1, 16000), float("nan")))


def test_a_sound_is_mixed_and_resampled():
    sound = Sound(np.zeros((2, 44100), np.float32), 44100)
    assert STFT_IMAGES["tiny"].to_image(sound).shape == (1, 1, 64, 128)


# --- the autoencoder ------------------------------------------------------------------------------------


def test_paper_preset_is_stable_diffusions():
    with torch.device("meta"):
        autoencoder = ImageAutoencoder(PRESETS["paper"])
        latents = autoencoder.encode(torch.zeros(1, 3, 512, 512))
    assert sum(p.numel() for p in autoencoder.parameters()) == 83_653_863
    assert (autoencoder.factor, autoencoder.scaling_factor) == (8, 0.18215)
    assert latents.shape == (1, 4, 64, 64)


def test_tiny_preset_is_small():
    autoencoder = ImageAutoencoder(PRESETS["tiny"])
    assert sum(p.numel() for p in autoencoder.parameters()) < 1_700_000
    assert autoencoder.factor == 8


@pytest.mark.parametrize("columns", [8, 64, 200])
def test_shapes_at_any_width(columns: int):
    autoencoder = small()
    latents = autoencoder.encode(torch.zeros(2, 1, 64, columns))
    assert latents.shape == (2, 4, 8, columns // 8)
    assert autoencoder.decode(latents).shape == (2, 1, 64, columns)


def test_the_scaling_factor_is_undone():
    autoencoder = small()
    picture = torch.randn(2, 1, 64, 64, generator=seeded())
    plain = autoencoder.encode(picture)
    made = autoencoder.decode(plain)
    scaled = ImageAutoencoder(AutoencoderConfig(**{**SMALL.__dict__, "scaling_factor": 0.2}), autoencoder.model)
    assert torch.allclose(scaled.encode(picture), 0.2 * plain)
    assert torch.allclose(scaled.decode(scaled.encode(picture)), made, atol=1e-5)


def test_calibration_gives_unit_variance_and_the_same_pictures():
    autoencoder = small()
    pictures = torch.rand(20, 1, 64, 64, generator=seeded()) * 2 - 1
    before = autoencoder.decode(autoencoder.encode(pictures))
    autoencoder.calibrate(pictures)
    latents = autoencoder.encode(pictures)
    assert torch.allclose(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3)
    assert torch.allclose(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-2)
    assert torch.allclose(autoencoder.decode(latents), before, atol=1e-4)


def test_draws_of_the_posterior_take_a_generator():
    autoencoder, picture = small(), torch.zeros(1, 1, 64, 64)
    first, again, other = (autoencoder.encode(picture, draw=True, generator=seeded(s)) for s in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(autoencoder.encode(picture), autoencoder.encode(picture))


def test_the_loss_falls_and_reaches_every_parameter():
    autoencoder = small().train()
    pictures = STFT_IMAGES["tiny"].to_image(0.1 * torch.randn(2, 5000, generator=seeded()).cumsum(1).sin())
    optimizer = torch.optim.Adam(autoencoder.parameters(), 3e-3)
    losses = []
    for step in range(12):
        made = autoencoder.loss(pictures, generator=seeded(step))
        made["loss"].backward()
        if step == 0:
            unreached = [n for n, p in autoencoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
            assert unreached == []
        optimizer.step()
        optimizer.zero_grad()
        losses.append(made["loss"].item())
    assert losses[-1] < 0.8 * losses[0]
    assert made.keys() == {"loss", "l1", "l2", "edge", "kl"}


def test_the_edge_term_counts_what_changes_from_column_to_column():
    autoencoder, picture = small(), torch.zeros(1, 1, 64, 64)
    picture[..., 32:] = 0.5
    with torch.no_grad():
        made = {w: autoencoder.loss(picture, edge_weight=w, generator=seeded()) for w in (0.0, 2.0)}
    assert made[0.0]["edge"] > 0
    assert made[2.0]["loss"] == pytest.approx(float(made[0.0]["loss"] + 2 * made[0.0]["edge"]), rel=1e-5)


def test_wrong_pictures_and_latents_are_refused():
    autoencoder = small()
    for wrong in (torch.zeros(1, 3, 64, 64), torch.zeros(1, 1, 64, 60), torch.zeros(1, 64, 64)):
        with pytest.raises(UsageError, match="picture"):
            autoencoder.encode(wrong)
    with pytest.raises(UsageError, match="latents"):
        autoencoder.decode(torch.zeros(1, 3, 8, 8))


def test_saved_weights_come_back(tmp_path):
    autoencoder = small()
    autoencoder.calibrate(torch.rand(4, 1, 64, 64, generator=seeded()))
    folder = autoencoder.save_pretrained(tmp_path / "autoencoder", steps=3)
    loaded = ImageAutoencoder.from_pretrained(folder)
    assert loaded.config == SMALL and not loaded.training
    picture = torch.rand(1, 1, 64, 64, generator=seeded())
    assert torch.allclose(loaded.encode(picture), autoencoder.encode(picture), atol=2e-2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "kind": "codec"}))
    with pytest.raises(WeightsError, match="not an image autoencoder"):
        ImageAutoencoder.from_pretrained(folder)


def test_a_published_autoencoder_is_read_from_diffusers_layout(tmp_path):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    model = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2, block_out_channels=(8, 16), norm_num_groups=4, scaling_factor=0.3,
    ).eval()  # fmt: skip
    model.save_pretrained(tmp_path / "vae")
    loaded = ImageAutoencoder.from_diffusers(tmp_path)
    assert (loaded.config.channels, loaded.factor, loaded.scaling_factor) == (3, 2, 0.3)
    picture = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(loaded.encode(picture), 0.3 * model.encode(picture).latent_dist.mode())
    with pytest.raises(WeightsError, match="no autoencoder"):
        ImageAutoencoder.from_diffusers(tmp_path / "nowhere")
