"""Frame rates: what an encoder of one rate reads of a clip of another."""

from __future__ import annotations

import numpy as np
import pytest

from v2a_nb.clip import Clip
from v2a_nb.hub import SHIPPED
from v2a_nb.models.video_encoders.frames import at_rate, at_times
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.world import strike_world

RATES = (15, 24000 / 1001, 24, 25, 30000 / 1001, 30, 50, 60, 120)


def brightening(fps: float, seconds: float = 2.0) -> Clip:
    """A clip that brightens evenly, by 100 a second, from 20."""
    times = np.arange(int(seconds * fps)) / fps
    level = np.round(20 + 100 * times).astype(np.uint8)
    return Clip(np.broadcast_to(level[:, None, None, None], (len(times), 4, 4, 3)), fps=fps)


@pytest.mark.parametrize("fps", RATES)
def test_even_motion_stays_even_and_in_time(fps):
    clip = brightening(fps)
    shown = at_rate(clip, 25.0)
    inside = (shown.times > 0.02) & (shown.times < clip.times[-1] - 0.02)
    away = shown.frames[inside, 0, 0, 0] - (20 + 100 * shown.times[inside])
    assert np.abs(away).max() <= 1.5 and abs(away.mean()) < 0.3  # in levels, of which one is 10 ms
    assert shown.n == np.ceil(clip.duration * 25 - 1e-6) and shown.duration == clip.duration


def test_the_wanted_rate_changes_no_pixel_even_if_times_are_rounded():
    frames = np.random.default_rng(0).integers(0, 255, (25, 4, 4, 3), dtype=np.uint8)
    times = np.round(np.arange(25) / 25 + np.random.default_rng(1).uniform(-5e-4, 5e-4, 25), 3)
    for clip in (Clip(frames, fps=25.0), Clip(frames, times - times[0], fps=25.0)):
        assert np.array_equal(at_rate(clip, 25.0).frames, frames)


def test_frames_between_are_mixed_and_ends_are_held():
    frames = np.zeros((2, 1, 1, 3), np.uint8)
    frames[1] = 100
    clip = Clip(frames, np.array([0.1, 0.2]), fps=10.0, duration=0.4)
    wanted = np.array([0.0, 0.1, 0.125, 0.15, 0.1999, 0.2, 0.3])
    assert at_times(clip, wanted, 10.0)[:, 0, 0, 0].tolist() == [0, 0, 25, 50, 100, 100, 100]


def test_a_faster_camera_is_averaged_over_the_exposure_of_the_slower():
    """A flash of one frame in 120 must not be missed: it is what a longer exposure would have caught."""
    frames = np.zeros((120, 1, 1, 3), np.uint8)
    frames[61] = 250  # at 508 ms, between the frames of 25 fps at 480 and 520 ms
    shown = at_rate(Clip(frames, fps=120.0), 25.0).frames[:, 0, 0, 0]
    assert shown[13] in (50, 62, 63) and shown.sum() == shown[13]


@pytest.fixture(scope="module")
def encoder() -> StrikeVision:
    return StrikeVision.from_pretrained(SHIPPED / "strike_vision")


@pytest.mark.parametrize("fps", [24000 / 1001, 30, 60])
def test_hits_are_expected_when_they_happen_at_any_frame_rate(encoder, fps):
    """The newest frame was 13 to 25 ms late."""
    away = []
    for item in strike_world(seed=10000, clips=12, size=64, fps=fps):
        true = np.array([e["time_s"] for e in item.truth["events"] if e["sounding"]])
        for hit in encoder.hits(item.clip):
            if hit["probability"] > 0.5 and len(true) and np.abs(true - hit["time_s"]).min() < 0.1:
                away.append(hit["time_s"] - true[np.abs(true - hit["time_s"]).argmin()])
    assert len(away) >= 10 and abs(np.median(away)) < 0.006
