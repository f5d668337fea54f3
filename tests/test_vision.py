"""The vision encoder: shapes, any clip, and what its glimpse may depend on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from v2a_nb.clip import Clip
from v2a_nb.errors import WeightsError
from v2a_nb.vision.encoder import StrikeVision
from v2a_nb.vision.frames import square


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


def test_glimpse_sees_its_patch_and_nothing_else(encoder):
    frames = torch.rand(1, 25, 3, 64, 64)
    peaks = torch.tensor([[0, 80]])
    place = torch.tensor([[20.0, 20.0]])
    frame = torch.tensor([10])
    patch = encoder.glimpse.cut(frames, peaks, frame, place)
    other = frames.clone()
    other[:, :, :, 45:, 45:] = 0
    other[:, :8] = 0
    other[:, 13:] = 0
    assert torch.equal(patch, encoder.glimpse.cut(other, peaks, frame, place))
    assert torch.allclose(patch[0, 6:9, 20, 20] + 0.5, frames[0, 10, :, 20, 20])


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
