"""The vision encoder: shapes, any clip, and what its event crops may depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.models.video_encoders.event_crop import centroids
from v2a_nb.models.video_encoders.frames import square
from v2a_nb.models.video_encoders.strike import StrikeVision, VisionConfig


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return StrikeVision().eval()


def clip_of(seconds: float, fps: float, height: int, width: int) -> Clip:
    rng = np.random.default_rng(0)
    return Clip(rng.integers(0, 255, (int(seconds * fps), height, width, 3), dtype=np.uint8), fps=fps)


@pytest.mark.parametrize(
    ("seconds", "fps", "height", "width"), [(0.4, 25, 64, 64), (1.0, 30, 90, 160), (2, 15, 99, 61)]
)
def test_any_clip_gives_fifty_tokens_a_second(encoder, seconds, fps, height, width):
    tokens = encoder.features(clip_of(seconds, fps, height, width))
    assert tokens.shape == (2 * int(np.ceil(seconds * 25)), encoder.dim)
    assert torch.isfinite(tokens).all()


def test_a_batch_is_its_clips(encoder):
    frames = torch.rand(3, 20, 3, 64, 64)
    together = encoder(frames)
    alone = torch.cat([encoder(frames[i : i + 1]) for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)


def test_reading_in_parts_changes_no_token(encoder, monkeypatch):
    clip = clip_of(9.0, 25, 64, 64)
    whole = encoder.features(clip)
    assert torch.allclose(whole, encoder(encoder.pixels(clip))[0], atol=1e-4)
    monkeypatch.setattr("v2a_nb.models.video_encoders.strike.CHUNK", 60)
    assert torch.allclose(encoder.features(clip), whole, atol=1e-4)


def test_the_whole_picture_is_squashed_or_its_middle_cut_out():
    torch.manual_seed(0)
    frames = np.random.default_rng(0).integers(0, 255, (10, 64, 112, 3), dtype=np.uint8)
    clip = Clip(frames, fps=25.0)
    crop, squash = (StrikeVision(VisionConfig(fit=fit)).pixels(clip) for fit in ("crop", "squash"))
    middle = torch.from_numpy(frames[:, :, 24:88]).permute(0, 3, 1, 2)[None] / 255
    assert torch.allclose(crop, middle) and squash.shape == crop.shape
    assert torch.allclose(squash[0].mean(), torch.from_numpy(frames).float().mean() / 255, atol=0.01)
    edge = frames.copy()
    edge[:, :, :10] = 0
    changed = [StrikeVision(VisionConfig(fit=fit)).pixels(replace(clip, frames=edge)) for fit in ("crop", "squash")]
    assert torch.equal(changed[0], crop) and not torch.equal(changed[1], squash)
    with pytest.raises(UsageError, match="fit must be one of crop, squash"):
        VisionConfig(fit="stretch")


@pytest.mark.parametrize("size", [1, 7, 19])
def test_groups_of_frames_change_nothing(encoder, monkeypatch, size):
    frames = torch.rand(2, 20, 3, 64, 64)
    whole = encoder(frames)
    monkeypatch.setattr("v2a_nb.models.video_encoders.strike.GROUP", size)
    assert torch.allclose(encoder(frames), whole, atol=1e-4)
    assert torch.allclose(encoder((255 * frames).byte()), encoder((255 * frames).byte() / 255), atol=1e-4)


def test_peaks_are_local_maxima_above_the_threshold(encoder):
    flux = torch.zeros(1, 50, 12)
    flux[0, 10, 2], flux[0, 11, 0], flux[0, 30, 1], flux[0, 40, 3] = 0.9, 0.8, 0.5, 0.05
    assert encoder.event_crop.peaks(flux).tolist() == [[0, 42], [0, 121]]


def test_event_features_are_empty_before_the_first_peak_and_held_after(encoder):
    frames, timing = torch.rand(1, 25, 3, 64, 64), torch.rand(1, 50, encoder.config.timing_dim)
    attention = torch.rand(1, 25, 4, 8, 8)
    flux = torch.zeros(1, 50, 12)
    flux[0, 20, 0] = 1.0
    features = encoder.event_crop.features(frames, timing, flux, attention)[0]
    embed = encoder.config.event_crop.embed
    assert (features[:19, : embed + 1] == 0).all() and (features[:19, -1] == 1).all()
    assert torch.allclose(features[20:, : embed + 1], features[20, : embed + 1].expand(30, -1))
    ages = features[20:, embed + 1]
    assert (ages[1:] < ages[:-1]).all()


def test_logit_bias_and_scale_move_probabilities_and_nothing_else(encoder, monkeypatch):
    frames, timing = torch.rand(1, 50, 3, 64, 64), torch.rand(1, 100, encoder.config.timing_dim)
    attention, flux = torch.rand(1, 50, 4, 8, 8), torch.zeros(1, 100, 12)
    flux[0, 20::20, 0] = 1.0

    @torch.no_grad()
    def judge(**settings) -> tuple:
        monkeypatch.setattr(encoder.event_crop, "config", replace(encoder.config.event_crop, **settings))
        peaks, embedded, logit, attended = encoder.event_crop.events(frames, timing, flux, attention)
        return peaks, embedded, logit, attended, encoder.event_crop.probability(logit)

    peaks, embedded, logit, attended, plain = judge(logit_bias=0.0, logit_scale=1.0)
    careful = judge(logit_bias=0.5, logit_scale=3.0)
    assert len(peaks) == 4 and torch.equal(careful[0], peaks)
    assert torch.equal(careful[1], embedded) and torch.equal(careful[2], logit) and torch.equal(careful[3], attended)
    assert torch.allclose(careful[4].logit(), 3.0 * (plain.logit() - 0.5), atol=1e-4)


def test_hits_are_reported_with_the_calibrated_probability_and_features_keep_theirs(encoder, monkeypatch):
    frames, timing = torch.rand(1, 50, 3, 64, 64), torch.rand(1, 100, encoder.config.timing_dim)
    attention, flux = torch.rand(1, 50, 4, 8, 8), torch.zeros(1, 100, 12)
    flux[0, 20::20, 0] = 1.0
    crops, plain = encoder.event_crop, replace(encoder.config.event_crop, logit_bias=1.0, logit_scale=8.0)
    found = {}
    for name, config in {
        "as it is": plain,
        "told": replace(plain, calibration_bias=0.5, calibration_scale=2.0),
    }.items():
        monkeypatch.setattr(crops, "config", config)
        with torch.no_grad():
            found[name] = crops.expected(frames, timing, flux, attention)
            logit = crops.events(frames, timing, flux, attention)[2]
    assert [e.reported for e in found["as it is"]] == [float(e.probability) for e in found["as it is"]]
    assert all(torch.equal(a.probability, b.probability) for a, b in zip(*found.values(), strict=True))
    assert torch.allclose(torch.tensor([e.reported for e in found["told"]]), (2.0 * (logit - 0.5)).sigmoid())


def test_an_event_reads_five_frames_and_no_other(encoder):
    frames = torch.rand(2, 25, 3, 64, 64)
    peaks = torch.tensor([[1, 80]])  # 0.4 s: frame 10
    other = frames.clone()
    other[0] = 0
    other[:, :8], other[:, 13:] = 0, 0
    pictures = encoder.event_crop.pictures_of(frames, peaks)
    assert torch.equal(pictures, encoder.event_crop.pictures_of(other, peaks))
    assert torch.equal(pictures[0, 6:9] + 0.5, frames[1, 10])


def test_the_crop_is_centred_on_its_place_and_the_border_repeated(encoder):
    pictures = torch.rand(2, 15, 64, 64)
    crops = encoder.event_crop.crops(pictures, torch.tensor([[20.0, 31.0], [-5.0, 90.0]]))
    half = encoder.config.event_crop.crop // 2
    assert torch.equal(crops[0, :, half, half], pictures[0, :, 31, 20])
    assert torch.equal(crops[1, :, half, half], pictures[1, :, 63, 0])
    assert torch.equal(crops[1, :, -1, 0], pictures[1, :, 63, 0])


def test_centroids_find_a_bump_between_cells():
    y, x = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    bump = torch.exp(-((x - 5.2) ** 2 + (y - 2.7) ** 2) / 0.5)
    assert (centroids(bump[None])[0] - torch.tensor([5.2, 2.7]) * 8).abs().max() < 1.0


def test_attention_over_the_frame_starts_at_the_given_place(encoder):
    pictures, peak = torch.zeros(1, 15, 64, 64), torch.zeros(1, encoder.event_crop.peak_dim)
    for x, y in ((10.0, 50.0), (40.0, 20.0)):
        attention = encoder.event_crop(pictures, torch.tensor([[x, y]]), peak)[2]
        assert attention.shape == (1, 4, 16, 16) and torch.allclose(attention.sum((2, 3)), torch.ones(1, 4))
        found = centroids(attention[:, 0])[0]
        assert (found - torch.tensor([x, y])).abs().max() < 4


def test_save_and_load(tmp_path, encoder):
    encoder.save_pretrained(tmp_path / "v", note="x")
    again = StrikeVision.from_pretrained(tmp_path / "v")
    frames = torch.rand(1, 10, 3, 64, 64)
    assert torch.allclose(again(frames), encoder(frames), atol=0.05)
    with pytest.raises(WeightsError):
        StrikeVision.from_pretrained(tmp_path / "none")


def test_names_on_disk_are_those_of_the_shipped_weights(tmp_path, encoder):
    """The file has the names of an earlier version, so that weights and their tags stay as they are."""
    from safetensors.torch import load_file

    from v2a_nb.hub import SHIPPED, read_config, tag_of

    shipped, folder = SHIPPED / "strike_vision", encoder.save_pretrained(tmp_path / "v")
    assert load_file(folder / "model.safetensors").keys() == load_file(shipped / "model.safetensors").keys()
    ours, theirs = read_config(folder), read_config(shipped)
    later = {"calibration_bias", "calibration_scale"}
    assert ours.keys() == {*theirs, "fit"} and ours["glimpse"].keys() == {*theirs["glimpse"], *later}
    loaded = StrikeVision.from_pretrained(shipped)
    assert tag_of(loaded, "vision") == "vision@c329"  # what the configurations of the systems name
    assert (loaded.config.event_crop.logit_bias, loaded.config.event_crop.logit_scale) == (1.75, 8.0)


def test_square_crops_the_middle():
    frames = np.zeros((1, 40, 80, 3), np.uint8)
    frames[:, :, 20:60] = 200
    assert (square(frames, 20)[:, :, 1:-1] == 200).all() and (square(frames, 20) > 150).all()  # edges blend
