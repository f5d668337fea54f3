"""Version 2 of Strike World: as wide as real video, and its truth as exact as version 1's."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from v2a_nb.audio.onsets import detect_onsets, match_onsets
from v2a_nb.cli import main
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.data.sources import open_recordings, read_source
from v2a_nb.errors import UsageError
from v2a_nb.world import FACTORS, arrays, counterfactual, draw, sounds, strike_world
from v2a_nb.world.compression import compressed
from v2a_nb.world.counterfactual import level_difference
from v2a_nb.world.description import MANNERS, METRES, Camera
from v2a_nb.world.motion import actor_path
from v2a_nb.world.photographs import PHOTOGRAPHS, Texture, photograph
from v2a_nb.world.picture import Move, frames
from v2a_nb.world.scenery import cover_of, silhouette, view_of


@cache
def recording(index: int, style: str = "camera"):
    return draw(31, index, version=2, style=style)


@pytest.fixture(scope="module")
def world():
    return strike_world(seed=5, clips=40, size=64, version=2)


def first(wanted, count=200):
    """The first recording for which ``wanted`` is true."""
    return next(r for r in map(recording, range(count)) if wanted(r))


def test_plain_is_the_same_in_both_versions():
    old, new = (draw(3, 2, variety="plain", version=version) for version in (1, 2))
    assert new.changed(version=1) == old
    times = np.array([1.0, 4.3])
    assert np.array_equal(frames(old, times, 64, 25.0), frames(new, times, 64, 25.0))


def test_same_seed_same_bytes():
    first_pictures, first_sounds = arrays(9, 6, size=48, version=2)
    again_pictures, again_sounds = arrays(9, 6, size=48, version=2)
    assert np.array_equal(first_pictures, again_pictures) and np.array_equal(first_sounds, again_sounds)
    old_pictures, old_sounds = arrays(9, 6, size=48, version=1)
    assert not np.array_equal(old_pictures, first_pictures) and not np.array_equal(old_sounds, first_sounds)
    assert np.array_equal(sounds(9, 2, version=2), sounds(9, 2, version=2))


def test_a_picture_does_not_depend_on_the_other_times():
    """Uneven times, one after the other or all at once; what H.264 does to them is not looked at."""
    times = np.array([0.4, 0.41, 1.13, 3.0, 3.2, 8.05])
    for index in range(8):
        item = recording(index)
        item = item.changed(look=item.look.__class__(**{**vars(item.look), "crf": 0}))
        together = frames(item, times, 48, 30.0)
        alone = np.concatenate([frames(item, times[k : k + 1], 48, 30.0) for k in range(len(times))])
        assert np.array_equal(together, alone)


def test_everything_that_real_video_has_is_drawn():
    many = [recording(index) for index in range(200)]
    events = [event for item in many for event in item.events]
    upright = np.mean([abs(item.roll) < 0.4 for item in many])
    assert 0.55 < upright < 0.78 and max(abs(item.roll) for item in many) > 2.9
    assert all(abs(item.roll) <= 0.3 for item in many if item.actor == "ball")
    strikes = [e for e in events if e.kind == "strike"]
    rebounds = [e.rebound for e in strikes]
    assert min(rebounds) < 0.08 and max(rebounds) > 0.75
    assert max(abs(e.slant) for e in strikes) > 1 and min(e.power for e in strikes) < 1.5
    assert any(e.rest_s > 0.3 for e in strikes) and any(e.slide for e in strikes)
    assert {e.manner for e in events if not e.sounding} == set(MANNERS)
    gaps = [b.time_s - a.time_s for item in many for a, b in zip(item.events, item.events[1:])]
    assert 0.11 < min(gaps) < 0.13
    for share, low, high in (
        ([item.photographs for item in many], 0.4, 0.6),
        ([item.look.crf > 0 for item in many], 0.25, 0.45),
        ([item.occluders > 0 for item in many], 0.15, 0.35),
        ([item.camera.zoom > 0 for item in many], 0.05, 0.3),
        ([bool(item.camera.jolts) for item in many], 0.2, 0.4),
    ):
        assert low < np.mean(share) < high
    materials = [item.things[e.thing].material for item in many for e in item.events if e.sounding]
    assert min(materials.count(name) for name in set(materials)) > 0.12 * len(materials)


def test_striking_point_lies_on_the_surface_at_contacts():
    inside = []
    for index in range(60):
        item = recording(index)
        path, view = actor_path(item), view_of(item, 64)
        for event in item.events:
            if not event.sounding:
                continue
            x, y = path(np.array([event.time_s]))
            at, wanted = view.to_pixels(x, y), view.to_pixels(event.x, event.y)
            assert np.hypot(at[0] - wanted[0], at[1] - wanted[1]) < 1
            thing = item.things[event.thing]
            assert cover_of(thing, x, y + 0.002) == 1 and thing.top - 1e-9 <= event.y <= thing.top + thing.face + 1e-9
            move = Move.of(item, np.array([event.time_s]), 64)
            px, py = move.at(at[0], 0)[0], move.at(at[1], 1)[0]
            inside.append(0 <= px < 64 and 0 <= py < 64)
    assert np.mean(inside) > 0.95


def test_strikes_arrive_with_their_speed_and_leave_with_its_share():
    for index in range(40):
        item = recording(index)
        if item.actor == "ball":
            continue
        path = actor_path(item)
        for event in item.events:
            if event.kind != "strike" or event.lift < 0.1 or event.rest_s or event.slide:
                continue
            x, y = path(event.time_s + np.array([-0.001, 0.0, 0.001]))
            before, after = np.hypot(np.diff(x), np.diff(y)) / 0.001
            assert before == pytest.approx(event.speed / METRES, rel=0.12)
            assert after == pytest.approx(event.rebound * event.speed / METRES, rel=0.12)


def test_near_misses_touch_nothing_and_end_in_their_manner():
    for index in range(80):
        item = recording(index)
        if item.actor == "ball":
            continue
        path = actor_path(item)
        for event in (e for e in item.events if not e.sounding):
            x, y = path(event.time_s + np.array([-0.012, -0.01, 0.0, 0.01, 0.012]))
            before, after = (float(np.hypot(x[k + 1] - x[k], y[k + 1] - y[k]) / 0.002) for k in (0, 3))
            speed = event.speed / METRES
            if event.manner == "pass":  # it does not slow down
                assert before > 0.5 * speed and after > 0.7 * speed
            elif event.manner == "touch":  # too gently to be heard
                assert abs(y[2] - event.y) < 1e-6 and before < 0.08
            elif event.manner == "hover":
                assert before < 0.2 and event.y - y[2] > 0.025
            elif event.manner == "stop":
                assert before < 0.25 * speed and event.y - y[2] > 0.025
            elif not event.side:
                assert event.y - y[2] > 0.025
            if event.gap and not event.side:
                assert (
                    event.y - path(event.time_s + np.linspace(-0.1, 0.05, 40))[1]
                ).min() > 0.0 or event.manner == "pass"


def test_limbs_move_without_jumps_and_between_events():
    moving = []
    for index in range(40):
        item = recording(index)
        times = np.arange(0, item.duration_s, 0.002)
        x, y = actor_path(item)(times)
        steps = np.hypot(np.diff(x), np.diff(y))
        assert steps.max() < 0.05
        if item.restless > 0.6:
            calm = np.all([np.abs(times[:-1] - e.time_s) > 0.5 for e in item.events], axis=0)
            if calm.sum() > 500:
                moving.append(np.mean(steps[calm] > 1e-5))
    assert np.median(moving) > 0.4


def test_sounds_begin_at_the_true_events(world):
    hits = events = 0
    offsets = []
    for item in world:
        true = np.array([e["time_s"] for e in item.truth["events"] if e["sounding"]])
        found = detect_onsets(item.stems["action"])
        pairs = match_onsets(true, found, 0.05)
        offsets += [found[j] - true[i] for i, j in pairs]
        hits, events = hits + len(pairs), events + len(true)
    assert hits / events > 0.85 and abs(np.median(offsets)) < 0.003


def test_a_resting_tool_damps_the_ring():
    item = first(lambda r: r.actor == "stick" and any(r.things[e.thing].material == "metal" for e in r.events))
    event = next(e for e in item.events if e.kind == "strike" and item.things[e.thing].material == "metal")
    from v2a_nb.world.sound import synthesize

    waves = []
    for rest in (0.0, 0.5):
        alone = item.changed(events=(event.__class__(**{**vars(event), "rest_s": rest, "slide": 0.0}),))
        waves.append(synthesize(alone, 16000)["action"])
    start = round(event.time_s * 16000)
    assert np.array_equal(waves[0][: start + 160], waves[1][: start + 160])
    late = [np.square(w[start + 3200 : start + 8000]).sum() for w in waves]
    assert late[1] < 0.1 * late[0]


@pytest.mark.parametrize("style", ["camera", "game"])
def test_boxes_and_masks_follow_roll_squash_and_zoom(style):
    """An object that is painted in another way changes the picture where its mask is, and within its box."""
    item = first(lambda r: len(r.things) == 1 and r.things[0].width < 0.5 and r.actor != "ball")
    camera = Camera(centre=item.camera.centre, squash=0.6, zoom=0.15, pan=0.03)
    event = next(e for e in item.events if e.sounding)
    item = item.changed(camera=camera, roll=1.3, style=style, events=(event,), look=None, sway=0.004, limbs=0)
    clip = strike_world(5, 1, size=64, version=2)[0].take.__class__(item, strike_world(5, 1, size=64).settings)
    clip = clip.clip(max(0.0, event.time_s - 1.0), "a")
    k = int(np.ceil((event.time_s - clip.start_s) * 25))
    time = np.array([clip.start_s + k / 25])
    far = item.changed(events=(), actor="ball", actor_scale=0.01)
    gone = tuple(t.__class__(**{**vars(t), "x": t.x + 9}) for t in item.things)
    there, empty = (frames(r, time, 64, 25.0)[0].astype(int) for r in (far, far.changed(things=gone)))
    changed = np.abs(there - empty).max(axis=-1) > 12
    inside = binary_erosion(clip.masks[k], iterations=2)
    assert inside.sum() > 10 and changed[inside].mean() > 0.75
    x0, y0, x1, y1 = clip.box(event)
    rows, columns = np.nonzero(clip.masks[k])
    assert x0 - 1.5 <= columns.min() and columns.max() <= x1 + 1.5 and y0 - 1.5 <= rows.min() and rows.max() <= y1 + 1.5


def test_silhouettes_are_those_of_the_view():
    for index in range(20):
        item = recording(index)
        view = view_of(item, 64)
        thing = item.things[0]
        px, py = view.to_pixels(np.array([thing.x]), np.array([thing.top + 0.5 * (thing.base - thing.top)]))
        assert np.allclose(view.to_world(px, py), [[thing.x], [thing.top + 0.5 * (thing.base - thing.top)]])
        i, j = int(np.floor(py[0])), int(np.floor(px[0]))
        if 0 <= i < 64 and 0 <= j < 64 and min(thing.width, thing.base - thing.top) > 0.1:
            assert silhouette(item, thing, 64)[i, j]


@pytest.mark.parametrize(("count", "height", "width"), [(1, 64, 64), (7, 63, 65), (64, 64, 64), (40, 112, 112)])
def test_h264_keeps_number_and_order_of_pictures(count, height, width):
    rng = np.random.default_rng(0)
    pictures = np.repeat(rng.integers(0, 255, (1, height, width, 3), np.uint8) // 4, count, axis=0)
    for k in range(count):
        pictures[k, :, (k * width // count) :][:, : 1 + width // 8] = 220  # a bar goes from left to right
    made = compressed(pictures, 34)
    assert made.shape == pictures.shape and made.dtype == np.uint8
    assert not np.array_equal(made, pictures) and np.array_equal(made, compressed(pictures, 34))
    bright = made.astype(int).sum(axis=(1, 3)).argmax(axis=1)
    assert np.all(np.diff(bright) >= -width // 8) and bright[-1] >= bright[0]


def test_compressed_recordings_have_every_frame():
    item = first(lambda r: r.look.crf)
    assert frames(item, np.arange(31) / 60, 50, 60.0).shape == (31, 50, 50, 3)


def test_photographs_are_there_and_small():
    for which in range(len(PHOTOGRAPHS)):
        picture = photograph(which)
        assert max(picture.shape) <= 256 and picture.shape[2] == 3 and picture.std() > 0.02
    grid = np.linspace(-3, 3, 50, dtype=np.float32)
    colours = Texture(np.random.default_rng(1)).at(*np.meshgrid(grid, grid))
    assert colours.shape == (50, 50, 3) and colours.std() > 0.01


def test_truth_is_json_and_names_manners(world):
    manners = set()
    for item in world:
        json.dumps(item.truth)
        for event in item.truth["events"]:
            x0, y0, x1, y1 = event["box"]
            assert 0 <= x0 <= x1 <= 64 and 0 <= y0 <= y1 <= 64
            manners.add(event.get("manner", "turn"))
            assert event["sounding"] or event["kind"] == "near_miss"
        assert item.narration
    assert len(manners) > 2


@pytest.mark.parametrize("factor", FACTORS)
def test_counterfactuals_change_one_thing(world, factor):
    a, b = next(filter(None, (counterfactual(item, factor) for item in world)))
    assert a.recording.version == b.recording.version == 2
    assert np.array_equal(a.stems["ambient"].samples, b.stems["ambient"].samples)
    expect = a.truth["pair"]["expect"]
    if "level_db" in expect:
        assert level_difference(a, b) == pytest.approx(expect["level_db"], abs=1.5)
    if factor == "speed":  # half as fast at the same times
        path = actor_path(b.recording)
        for event in (e for e in b.events if e.sounding):
            assert abs(path(np.array([event.time_s]))[1][0] - event.y) < 1e-6


def test_mismatched_recordings_sound_like_another_of_their_version():
    fair, foul = (strike_world(9, 1, size=16, version=2, mismatched=share)[0] for share in (0.0, 1.0))
    other = draw(9 + 7919, 0, version=2)
    assert foul.truth["ambient"]["kind"] == fair.truth["ambient"]["kind"]
    from v2a_nb.world.sound import render

    start = round(foul.start_s * 16000)
    assert np.array_equal(foul.stems["mix"].samples[0], render(other, 16000)["mix"][start : start + 40960])


def test_sources_name_the_version():
    assert "version" not in StrikeRecordings(version=1).describe()
    assert StrikeRecordings(version=2).describe()["version"] == 2
    opened = open_recordings("strike:seed=4,clips=2,version=2")
    assert opened == StrikeRecordings(seed=4, limit=2, version=2)
    assert opened.open(3).description == draw(4, 3, version=2)
    assert read_source("strike:seed=4,clips=2,version=2").head["version"] == 2
    with pytest.raises(UsageError, match="version=3"):
        open_recordings("strike:version=3")
    with pytest.raises(UsageError, match="version=3"):
        draw(0, 0, version=3)


def test_foreground_of_another_recording_is_in_the_picture():
    crossed = StrikeRecordings(seed=4, version=2, cross_recording_foreground=True).open(3).description
    own, other = draw(4, 3, version=2), draw(4, 4, version=2)
    assert crossed.ambience == own.ambience and crossed.things == other.things
    assert crossed.camera == other.camera and crossed.look == own.look


def test_command_writes_the_version(tmp_path, capsys):
    words = ["--clips", "1", "--size", "32", "--seconds", "0.5"]
    assert main(["world", str(tmp_path / "a"), *words, "--world-version", "2"]) == 0
    truth = json.loads((tmp_path / "a" / "truth.json").read_text())
    assert truth["version"] == 2 and (tmp_path / "a" / truth["clips"][0]["video"]).exists()
    capsys.readouterr()
    assert main(["world", str(tmp_path / "b"), *words, "--world-version", "3"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "b").exists()
