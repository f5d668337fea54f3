"""The vision encoder: shapes, any clip, and what its glimpse may depend on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from v2a_nb.clip import Clip
from v2a_nb.errors import WeightsError
from v2a_nb.models.video_encoders.event_crop import centroids
from v2a_nb.models.video_encoders.frames import square
from v2a_nb.models.video_encoders.strike import StrikeVision


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
    monkeypatch.setattr("v2a_nb.models.video_encoders.strike.MINUTE", 60)
    assert torch.allclose(encoder.features(clip), whole, atol=1e-4)


def test_peaks_are_local_maxima_above_the_threshold(encoder):
    flux = torch.zeros(1, 50, 12)
    flux[0, 10, 2], flux[0, 11, 0], flux[0, 30, 1], flux[0, 40, 3] = 0.9, 0.8, 0.5, 0.05
    assert encoder.glimpse.peaks(flux).tolist() == [[0, 42], [0, 121]]


def test_hit_stream_is_empty_before_the_first_peak_and_held_after(encoder):
    frames, when = torch.rand(1, 25, 3, 64, 64), torch.rand(1, 50, encoder.config.when_dim)
    attention = torch.rand(1, 25, 4, 8, 8)
    flux = torch.zeros(1, 50, 12)
    flux[0, 20, 0] = 1.0
    stream = encoder.glimpse.stream(frames, when, flux, attention)[0]
    embed = encoder.config.glimpse.embed
    assert (stream[:19, : embed + 1] == 0).all() and (stream[:19, -1] == 1).all()
    assert torch.allclose(stream[20:, : embed + 1], stream[20, : embed + 1].expand(30, -1))
    ages = stream[20:, embed + 1]
    assert (ages[1:] < ages[:-1]).all()


def test_caution_and_gain_move_probabilities_and_nothing_else(encoder, monkeypatch):
    frames, when = torch.rand(1, 50, 3, 64, 64), torch.rand(1, 100, encoder.config.when_dim)
    attention, flux = torch.rand(1, 50, 4, 8, 8), torch.zeros(1, 100, 12)
    flux[0, 20::20, 0] = 1.0

    def look(**settings) -> tuple:
        monkeypatch.setattr(encoder.glimpse, "config", replace(encoder.config.glimpse, **settings))
        return encoder.glimpse.look(frames, when, flux, attention)

    peaks, embedded, plain, looked = look(caution=0.0, gain=1.0)
    careful = look(caution=0.5, gain=3.0)
    assert len(peaks) == 4 and torch.equal(careful[0], peaks)
    assert torch.equal(careful[1], embedded) and torch.equal(careful[3], looked)
    assert torch.allclose(careful[2].logit(), 3.0 * (plain.logit() - 0.5), atol=1e-4)


def test_glimpse_reads_five_pictures_and_no_other(encoder):
    frames = torch.rand(2, 25, 3, 64, 64)
    peaks = torch.tensor([[1, 80]])  # 0.4 s: frame 10
    other = frames.clone()
    other[0] = 0
    other[:, :8], other[:, 13:] = 0, 0
    pictures = encoder.glimpse.cut(frames, peaks)
    assert torch.equal(pictures, encoder.glimpse.cut(other, peaks))
    assert torch.equal(pictures[0, 6:9] + 0.5, frames[1, 10])


def test_the_fovea_is_centred_on_its_place_and_the_border_repeated(encoder):
    pictures = torch.rand(2, 15, 64, 64)
    patches = encoder.glimpse.patches(pictures, torch.tensor([[20.0, 31.0], [-5.0, 90.0]]))
    half = encoder.config.glimpse.patch // 2
    assert torch.equal(patches[0, :, half, half], pictures[0, :, 31, 20])
    assert torch.equal(patches[1, :, half, half], pictures[1, :, 63, 0])
    assert torch.equal(patches[1, :, -1, 0], pictures[1, :, 63, 0])


def test_centroids_find_a_bump_between_cells():
    y, x = torch.meshgrid(torch.arange(8) + 0.5, torch.arange(8) + 0.5, indexing="ij")
    bump = torch.exp(-((x - 5.2) ** 2 + (y - 2.7) ** 2) / 0.5)
    assert (centroids(bump[None])[0] - torch.tensor([5.2, 2.7]) * 8).abs().max() < 1.0


def test_the_periphery_starts_at_the_given_place(encoder):
    pictures, context = torch.zeros(1, 15, 64, 64), torch.zeros(1, encoder.glimpse.context_dim)
    for x, y in ((10.0, 50.0), (40.0, 20.0)):
        attention = encoder.glimpse(pictures, torch.tensor([[x, y]]), context)[2]
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


def test_square_crops_the_middle():
    frames = np.zeros((1, 40, 80, 3), np.uint8)
    frames[:, :, 20:60] = 200
    assert (square(frames, 20)[:, :, 1:-1] == 200).all() and (square(frames, 20) > 150).all()  # edges blend
