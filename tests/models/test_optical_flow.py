"""Optical flow on motion that is known: shifted and turned textures, at several frame rates."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, map_coordinates

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.models.optical_flow import (
    FULL_SPEED,
    displacements,
    flow,
    flow_clip,
    flow_to_color,
    motion_vectors,
)

INNER = slice(8, -8)


def texture(size: int, seed: int = 0) -> np.ndarray:
    """A picture with structure at all scales, float64 [size, size] from 0 to 255."""
    rng = np.random.default_rng(seed)
    total = sum(s * gaussian_filter(rng.standard_normal((size, size)), s, mode="wrap") for s in (1, 2, 4, 8))
    return 255 * (total - total.min()) / (total.max() - total.min())


def moving(
    times: np.ndarray, fps: float, velocity=(0.0, 0.0), spin: float = 0.0, size: int = 64, duration: float | None = None
) -> Clip:
    """A texture that moves by ``velocity`` (pixels a second) and turns by ``spin`` (radians a second)."""
    big, middle = texture(4 * size), (size - 1) / 2
    y, x = np.mgrid[:size, :size] - middle
    frames = []
    for t in times:
        cos, sin = np.cos(-spin * t), np.sin(-spin * t)
        u, v = cos * x - sin * y - velocity[0] * t, sin * x + cos * y - velocity[1] * t
        grey = map_coordinates(big, [v + 2 * size, u + 2 * size], order=3, mode="wrap")
        frames.append(np.repeat(np.clip(np.round(grey), 0, 255).astype(np.uint8)[..., None], 3, axis=-1))
    return Clip(np.stack(frames), times, fps, duration)


def errors(found: np.ndarray, wanted) -> float:
    return float(np.linalg.norm(found - wanted, axis=-1)[..., INNER, INNER].mean())


@pytest.mark.parametrize("velocity", [(7.5, -5.0), (25.0, 12.5), (100.0, -75.0), (-200.0, 0.0), (0.0, 2.5)])
@pytest.mark.parametrize("size", [64, 112])
def test_shifts_are_found_in_pixels_a_second(velocity, size):
    clip = moving(np.arange(4) / 25, 25.0, velocity, size=size)
    found = flow(clip)
    assert found.shape == (3, size, size, 2) and found.dtype == np.float32
    assert errors(found, velocity) / 25 < 0.05  # pixels of a frame


@pytest.mark.parametrize("fps", [12.5, 24000 / 1001, 25.0, 50.0])
def test_the_frame_rate_does_not_change_what_moves(fps):
    velocity = (40.0, -20.0)
    assert errors(flow(moving(np.arange(5) / fps, fps, velocity)), velocity) < 1.5


def test_uneven_times_are_taken_into_account():
    times = np.array([0.0, 0.02, 0.1, 0.13])
    found = flow(moving(times, 25.0, (30.0, 15.0)))
    assert max(errors(each, (30.0, 15.0)) for each in found) < 2.5


@pytest.mark.parametrize("spin", [0.6, -1.25])
def test_turns_are_found(spin):
    size = 64
    found = flow(moving(np.arange(3) / 25, 25.0, spin=spin, size=size))
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    assert errors(found, spin * np.stack([-y, x], axis=-1)) / 25 < 0.06


def test_what_stands_still_does_not_move():
    clip = moving(np.zeros(3) + np.arange(3) / 25, 25.0)
    assert np.abs(flow(clip)).max() == 0
    assert (flow_clip(clip).frames == 255).all() and not motion_vectors(clip, 50).any()


def test_colours_are_the_wheel():
    angles = np.deg2rad([0, 60, 120, 180, 240, 300])
    full = FULL_SPEED * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    wheel = [[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]]
    assert flow_to_color(full).tolist() == wheel
    assert flow_to_color(5 * full).tolist() == wheel
    np.testing.assert_allclose(flow_to_color(full / 2).astype(int), (np.array(wheel) + 255) / 2, atol=1)
    # against an independent conversion
    from matplotlib.colors import hsv_to_rgb

    some = np.random.default_rng(0).normal(0, 1, (40, 30, 2))
    hue = np.arctan2(some[..., 1], some[..., 0]) / (2 * np.pi) % 1
    speed = np.minimum(np.linalg.norm(some, axis=-1) / FULL_SPEED, 1)
    expected = 255 * hsv_to_rgb(np.stack([hue, speed, np.ones_like(hue)], axis=-1))
    np.testing.assert_allclose(flow_to_color(some), expected, atol=0.51)


def test_a_flow_clip_has_the_same_times_and_is_drawn_to_one_scale():
    times = np.array([0.0, 0.04, 0.08, 0.16])
    clip = moving(times, 25.0, (64.0, 0.0), duration=0.3)  # one width a second to the right
    drawn = flow_clip(clip)
    assert (drawn.times == times).all() and drawn.fps == 25 and drawn.duration == 0.3 and drawn.frames.dtype == np.uint8
    middle = drawn.frames[:, INNER, INNER].reshape(4, -1, 3).mean(1)
    np.testing.assert_allclose(middle, [[255, 127.5, 127.5]] * 4, atol=6)
    larger = flow_clip(moving(times, 25.0, (112.0, 0.0), size=112))  # as fast, in widths
    np.testing.assert_allclose(larger.frames[:, INNER, INNER].reshape(4, -1, 3).mean(1), middle, atol=6)
    sound = Sound(np.zeros(4800), 16000)
    assert flow_clip(clip.with_sound(sound)).sound is not None


@pytest.mark.parametrize("rate", [10.0, 25.0, 50.0])
def test_motion_vectors_mean_the_same_at_every_rate(rate):
    fps, velocity = 25.0, (32.0, -16.0)
    found = motion_vectors(moving(np.arange(25) / fps, fps, velocity), rate)
    assert found.shape == (rate, 192) and found.dtype == np.float32
    cells = found.reshape(-1, 8, 8, 3)[:, 1:-1, 1:-1]
    np.testing.assert_allclose(cells[..., :2].mean((0, 1, 2)), np.array(velocity) / 64, atol=0.01)
    assert cells[..., 2].mean() < 0.03


def test_no_motion_is_lost_between_vectors():
    """One jump of 4 pixels in a second: whatever the rate, the way is 4 pixels."""
    still = moving(np.arange(25) / 25, 25.0)
    jump = moving(np.array([0.0, 1.0]), 25.0, (4.0, 0.0)).frames[1]
    frames = still.frames.copy()
    frames[12:] = jump
    for rate in (5.0, 10.0, 25.0, 60.0):
        cells = motion_vectors(Clip(frames, fps=25.0), rate).reshape(-1, 8, 8, 3)
        np.testing.assert_allclose(cells[:, 1:-1, 1:-1, 0].mean((1, 2)).sum() / rate * 64, 4.0, atol=0.05)
        when = np.arange(len(cells)) / rate
        speed = np.abs(cells[..., 0]).mean((1, 2))
        assert abs((when * speed).sum() / speed.sum() - 11.5 / 25) < 0.5 / rate + 1e-3  # between frames 11 and 12


def test_cells_say_where_it_moves_and_how_mixed_it_is():
    left, right = (moving(np.arange(3) / 25, 25.0, (v, 0.0), size=64) for v in (-50.0, 50.0))
    frames = left.frames.copy()
    frames[:, :, 32:] = right.frames[:, :, 32:]
    cells = motion_vectors(Clip(frames, fps=25.0), 25.0).reshape(-1, 8, 8, 3)
    assert (cells[:, 1:-1, 1:3, 0] < -0.6).all() and (cells[:, 1:-1, 5:7, 0] > 0.6).all()
    coarse = motion_vectors(Clip(frames, fps=25.0), 25.0, cells=1).reshape(-1, 3)
    assert (np.abs(coarse[:, 0]) < 0.2).all() and (coarse[:, 2] > 0.6).all()
    assert motion_vectors(Clip(frames[:, :50, :37].copy(), fps=25.0), 25.0, cells=3).shape == (3, 27)


def test_flow_is_the_same_at_any_number_of_threads():
    import cv2

    clip, before, found = moving(np.arange(3) / 25, 25.0, (30.0, 10.0), size=128), cv2.getNumThreads(), []
    for threads in (1, 2, 5):
        cv2.setNumThreads(threads)
        found.append(flow(clip))
        assert cv2.getNumThreads() == threads
    cv2.setNumThreads(before)
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_farneback_finds_small_shifts_too():
    found = np.stack(list(displacements(moving(np.arange(3) / 25, 25.0, (30.0, -20.0)), "farneback")))
    assert errors(found, (1.2, -0.8)) < 0.05


def test_what_cannot_be_computed_is_one_clear_line(monkeypatch):
    clip = moving(np.arange(2) / 25, 25.0)
    assert flow(Clip(clip.frames[:1], fps=25.0)).shape == (0, 64, 64, 2)
    assert motion_vectors(Clip(clip.frames[:1], fps=25.0), 50.0).shape == (2, 192)
    assert (flow_clip(Clip(clip.frames[:1], fps=25.0)).frames == 255).all()
    flow(Clip(clip.frames[:, :16, :20].copy(), fps=25.0))
    with pytest.raises(UsageError, match="16 pixels or more"):
        flow(Clip(clip.frames[:, :15].copy(), fps=25.0))
    with pytest.raises(UsageError, match="algorithm must be one of"):
        next(displacements(clip, "magic"))
    for wrong in ({"rate": 0.0}, {"rate": 50.0, "cells": 0}, {"rate": 50.0, "cells": 65}):
        with pytest.raises(UsageError):
            motion_vectors(clip, **wrong)
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r'pip install "v2a-nb\[flow\]"'):
        flow_clip(clip)
