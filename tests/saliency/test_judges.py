"""Judges: right of maps whose answer is known; sanity checks tell a map of the network from one of the picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from saliency_parts import WINDOW, planted, small_system, the_clip

from v2a_nb.errors import UsageError
from v2a_nb.saliency import judges
from v2a_nb.saliency.methods import attribute
from v2a_nb.saliency.result import Saliency
from v2a_nb.saliency.targets import FrameFunction, target_of


def truth() -> tuple[np.ndarray, np.ndarray]:
    """A mask of 16 x 16 of 64 pixels in three frames, and the map [10, 16, 16] that is exactly it."""
    masks = np.zeros((3, 64, 64), bool)
    masks[:, 8:24, 32:48] = True
    map_ = np.zeros((10, 16, 16), np.float32)
    map_[4:7, 2:6, 8:12] = 1
    return masks, map_


def test_a_perfect_map_and_one_that_is_wrong():
    masks, map_ = truth()
    found = judges.against_truth(map_, 25.0, masks, [0.22])
    assert found["pointing"] == found["pointing_6pc"] == found["temporal_pointing_80ms"] == 1
    assert found["area_iou"] > 0.85 and found["relevance_mass"] > 0.85 and found["pixel_ap"] > 0.95
    wrong = np.roll(map_, (3, 8), (0, 1))
    found = judges.against_truth(wrong, 25.0, masks, [0.22])
    assert found["pointing"] == found["pointing_6pc"] == found["temporal_pointing_80ms"] == 0
    assert found["area_iou"] == 0 and found["relevance_mass"] < 0.01 and found["pixel_ap"] < 0.1


def test_tolerance_is_a_share_of_the_picture():
    masks, map_ = truth()
    above = np.zeros_like(map_)
    above[:, 1, 9] = 1  # 2 pixels above the mask, of 64: 3 %
    assert judges.pointing(above, masks) == 0 and judges.pointing(above, masks, 0.06) == 1
    assert judges.pointing(above, masks, 0.02) == 0


def test_uniform_maps_get_what_chance_gets():
    masks, map_ = truth()
    even = np.ones_like(map_)
    share = masks[0].mean()
    assert judges.relevance_mass(even, masks) == pytest.approx(share)
    assert judges.pixel_ap(even, masks) == pytest.approx(share)  # ties are taken together, not in the picture's order
    assert judges.pointing(even, masks) == 0  # the middle of the picture
    assert judges.temporal_pointing(even, 25.0, [0.2]) == 1 and judges.temporal_pointing(even, 25.0, [0.3]) == 0


def test_average_precision_is_that_of_the_definition():
    rng = np.random.default_rng(0)
    values, mask = rng.random((1, 8, 8)), rng.random((1, 8, 8)) < 0.3
    order = np.argsort(-values.ravel())
    right = mask.ravel()[order]
    precision = np.cumsum(right) / np.arange(1, 65)
    assert judges.pixel_ap(values, mask) == pytest.approx(precision[right].mean())


def test_within_80_ms_and_without_truth():
    map_ = np.zeros((20, 1, 1))
    map_[10] = 1  # 0.42 s
    assert [judges.temporal_pointing(map_, 25.0, [t]) for t in (0.345, 0.33, 0.495, 0.51)] == [1, 0, 1, 0]
    assert np.isnan(judges.temporal_pointing(map_, 25.0, []))
    masks, full = truth()
    none = np.zeros_like(masks)
    found = judges.against_truth(full, 25.0, none, [])
    assert all(np.isnan(value) for value in found.values())
    assert list(judges.against_truth(map_, 25.0, masks, [0.4])) == ["temporal_pointing_80ms"]


def test_baseline_maps_say_what_they_are():
    target = planted()
    target.frames = torch.full((1, 16, 3, 32, 32), 0.5)
    target.frames[:, 7:, :, 4:8, 4:8] = 1.0  # one step at frame 7, which is in the window
    maps = {name: judges.baseline_map(name, target) for name in judges.BASELINE_MAPS}
    inside = (np.arange(16) + 0.5) / 25
    inside = (inside > 0.2 - 0.07) & (inside < 0.4 + 0.07)
    for made in maps.values():
        assert not made.map[~inside].any() and made.map[inside].any()
    assert maps["motion energy"].place == (5 / 32, 5 / 32) and maps["motion energy"].curve.argmax() == 7
    assert np.ptp(maps["uniform"].map[inside]) == 0
    assert judges.pointing(maps["centre"].map, _box(14, 18)) == 1
    assert maps["flicker"].map[:, :1].sum() == 0 and maps["flicker"].map[6:8, 2:4, 2:4].all()
    with pytest.raises(UsageError, match="unknown baseline map"):
        judges.baseline_map("guess", target)


def _box(low: int, high: int) -> np.ndarray:
    mask = np.zeros((1, 32, 32), bool)
    mask[:, low:high, low:high] = True
    return mask


@pytest.mark.parametrize("fill", judges.FILLS)
def test_insertion_and_deletion_prefer_the_cause(fill):
    target = planted()
    target.frames[:, 6:8, :, 8:16, 16:24] = 1.0  # so that hiding it is seen
    good = attribute(target, "integrated_gradients")
    bad = Saliency(good.map.max() - good.map, good.fps, good.window)
    right, wrong = (judges.insertion_deletion(each, target, fill) for each in (good, bad))
    assert right["deletion"] < wrong["deletion"] and right["insertion"] > wrong["insertion"]
    assert right["faithfulness"] > 0 > wrong["faithfulness"]


def test_infidelity_is_low_for_the_cause_and_one_for_nothing():
    target = planted()
    target.frames[:, 6:8, :, 8:16, 16:24] = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(2))
    made = attribute(target, "gradient")
    elsewhere = Saliency(np.roll(made.map, (5, 5), (1, 2)), 25.0, (0.2, 0.4))
    nothing = Saliency(np.zeros_like(made.map), 25.0, (0.2, 0.4))
    values = [judges.infidelity(each, target, samples=24) for each in (made, elsewhere, nothing)]
    assert 0 <= values[0] < values[1] <= values[2] + 1e-6 and values[2] == 1
    assert values[0] == judges.infidelity(made, target, samples=24)


def test_sensitivity_of_a_linear_target_is_small():
    made = attribute(planted(), "gradient")
    value = judges.sensitivity(made, planted())
    assert 0 < value < 0.5 and value == judges.sensitivity(made, planted())


def test_sensitivity_is_the_share_of_the_maps_length_by_which_noise_changes_it():
    target = target_of(small_system("vaura"), *the_clip(), WINDOW)
    made = attribute(target, "gradient")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        noise = torch.FloatTensor(target.frames.shape).uniform_(-0.01, 0.01)
    noisy = attribute(judges.with_frames(target, target.frames + noise), "gradient", seed=3)
    wanted = np.linalg.norm(noisy.map - made.map) / np.linalg.norm(made.map)
    assert judges.sensitivity(made, target, samples=1, seed=3) == pytest.approx(wanted, rel=1e-4) and wanted < 2


def test_randomized_weights_come_back_and_coders_are_left_alone():
    system, clip = small_system("vaura"), the_clip()
    target = target_of(system, *clip, WINDOW)
    before, value = [p.clone() for p in system.parameters()], target.value
    with judges.randomized(target):
        assert target.value != pytest.approx(value)
        changed = {
            n.split(".")[0]
            for (n, p), b in zip(system.named_parameters(), before, strict=True)
            if not torch.equal(p, b)
        }
        assert changed == {"decoder", "encoder"}
    assert all(torch.equal(p, b) for p, b in zip(system.parameters(), before, strict=True)) and target.value == value
    with judges.randomized(target, parts=["decoder"]):
        assert (
            torch.equal(target.tokens, target.tokens) and torch.equal(system.encoder.flux.weight, before[-1]) is False
        )
    with (
        pytest.raises(UsageError, match="no network"),
        judges.randomized(FrameFunction(torch.mean, clip_frames(), 25.0)),
    ):
        pass


def clip_frames() -> torch.Tensor:
    return torch.rand(1, 4, 3, 8, 8)


def test_a_map_of_the_picture_survives_and_one_of_the_network_does_not():
    """What a network does to noise changes with its weights; the motion of the picture does not."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Flatten(1), torch.nn.Linear(8 * 3 * 16 * 16, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)
    )
    target = FrameFunction(torch.nn.Sequential(network, torch.nn.Flatten(0)), torch.rand(1, 8, 3, 16, 16), 25.0)
    own = attribute(target, "smoothgrad")
    assert abs(judges.randomization(own, target)) < 0.3
    fixed = FrameFunction(lambda frames: frames[..., :4, :4].square().sum((1, 2, 3, 4)), target.frames, 25.0)
    assert judges.permutation(attribute(fixed, "gradient"), fixed) > judges.SURVIVES
    scores = {
        "randomization": 0.9,
        **{f"faithfulness_{f}{e}": v for f in judges.FILLS for e, v in (("", 1), ("_motion", 2))},
    }
    marks = judges.marks_of(scores)
    assert len(marks) == 2 and "survives" in marks[0] and "motion energy" in marks[1]
    assert not judges.marks_of({**scores, "randomization": 0.1, "faithfulness_blur": 9.0})


def test_check_scores_and_marks_a_map():
    target = target_of(small_system("vaura"), *the_clip(), WINDOW)
    made = judges.check(attribute(target, "gradient_attention"), target)
    assert made.checked and {"randomization", "deletion_blur", "insertion_linear"} <= made.scores.keys()
    assert made.marks == judges.marks_of(dict(made.scores))
    assert ("do not believe" in made.verdict) == bool(made.marks)
