"""Strike World as a game: other pictures of the very same recordings; the default pictures stay what they were."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache

import numpy as np
import pytest
from scipy.ndimage import binary_erosion

from v2a_nb.cli import main
from v2a_nb.errors import UsageError
from v2a_nb.world import STYLES, arrays, counterfactual, draw, picture, strike_world
from v2a_nb.world.picture import frames
from v2a_nb.world.scenery import silhouette

GOLDEN = {
    ("wide", 0): "1dc0ff8e205b1340", ("wide", 1): "c81819ecce6eb522", ("wide", 2): "3d3568480e087b51",
    ("wide", 3): "6d0349141fdfdf4f", ("plain", 0): "30a4359b204306db", ("plain", 1): "14879f1e09e90323",
}  # fmt: skip
"""Digests of three frames of recordings of seed 21, of the code before there were styles (numpy 2.4, x86-64)."""


@pytest.fixture(scope="module")
def both():
    return [strike_world(seed=5, clips=6, size=64, style=style) for style in STYLES]


@pytest.mark.parametrize(("variety", "index"), GOLDEN)
def test_default_pictures_are_those_of_before(variety, index):
    made = frames(draw(21, index, variety=variety), np.array([1.0, 1.04, 7.3]), 64, 25.0)
    assert hashlib.sha256(made.tobytes()).hexdigest()[:16] == GOLDEN[variety, index]


def test_only_the_pictures_differ(both):
    for a, b in zip(*both, strict=True):
        assert a.truth == b.truth and a.id == b.id
        for name in a.stems:
            assert np.array_equal(a.stems[name].samples, b.stems[name].samples)
        assert np.array_equal(a.masks, b.masks)
        assert a.clip.frames.shape == b.clip.frames.shape
        away = np.abs(a.clip.frames.astype(int) - b.clip.frames).max(axis=-1)
        assert (away > 8).mean() > 0.7


def test_a_game_is_flat_and_repeats_to_the_byte(both):
    again = strike_world(seed=5, clips=6, size=64, style="game")
    for a, b, c in zip(*both, again, strict=True):
        assert np.array_equal(b.clip.frames, c.clip.frames)
        shares = []
        for item in (a, b):
            colours = item.clip.frames[10].reshape(-1, 3) // 4
            count = np.sort(np.unique(colours, axis=0, return_counts=True)[1])[::-1]
            shares.append(count[:12].sum() / count.sum())
        assert shares[1] > 0.75 and shares[1] > shares[0] + 0.1  # a dozen colours are nearly all of it


def test_objects_stand_where_the_boxes_say(both):
    for item in both[1]:
        recording = item.recording.changed(sway=0.0)
        without = recording.changed(things=())
        with_things = _still(recording)
        empty = _still(without)
        for thing in recording.things:
            inside = binary_erosion(silhouette(recording, thing, 64), iterations=2)
            changed = np.abs(with_things.astype(int) - empty).max(axis=-1) > 8
            assert changed[inside].mean() > 0.9


def _still(recording):
    from v2a_nb.world import game

    return (game.still(recording, 64, 0) * 255).astype(np.uint8)


def test_the_actor_comes_down_on_what_it_strikes():
    """The picture around a contact changes at the object, in every actor's shape and without a smear."""
    seen = set()
    for index in range(60):
        recording = draw(7, index, style="game")
        hits = [e for e in recording.events if e.sounding and e.kind == "strike" and e.lift > 0.1]
        if recording.actor in seen or not hits:
            continue
        seen.add(recording.actor)
        item = recording.changed(sway=0.0)
        time_s = hits[0].time_s
        picture = frames(item, np.array([time_s - 0.12, time_s]), 64, 25.0).astype(int)
        changed = np.abs(picture[1] - picture[0]).max(axis=-1) > 30
        assert changed.sum() > 4, recording.actor
    assert seen >= {"stick", "mallet", "hand", "hammer", "foot"}


def test_counterfactuals_stay_in_style(both):
    a, b = next(filter(None, (counterfactual(item, "damping") for item in both[1])))
    assert a.recording.style == b.recording.style == "game"
    assert np.array_equal(a.clip.frames[0][:3], b.clip.frames[0][:3])  # the same display
    assert not np.array_equal(a.clip.frames, b.clip.frames)


def test_arrays_in_both_styles_have_the_same_sounds():
    (seen, heard), (drawn, same) = (arrays(4, 2, size=16, style=style) for style in STYLES)
    assert np.array_equal(heard, same) and not np.array_equal(seen, drawn)


def test_a_game_takes_no_more_pixels_to_draw_and_its_scenery_once(monkeypatch):
    pixels, canvases, depth, still = [], [], picture._depth, picture._canvases.__wrapped__

    def counted(*shape):
        made = depth(*shape)
        pixels.append(made.size)
        return made

    monkeypatch.setattr(picture, "_depth", counted)
    monkeypatch.setattr(picture, "_canvases", lru_cache(lambda *how: canvases.append(how) or still(*how)))
    spent = {}
    for style in STYLES:
        recording = draw(9, 3, style=style)
        for start in (5.0, 9.0):
            frames(recording, start + np.arange(64) / 25, 112, 25.0)
        spent[style] = sum(pixels)
        pixels.clear()
    assert 0 < spent["game"] < 0.4 * spent["camera"] and len(canvases) == 2


def test_command_writes_the_style_only_where_it_is_not_the_default(tmp_path):
    told = {}
    for style in STYLES:
        out = tmp_path / style
        assert main(["world", str(out), "--clips", "1", "--size", "32", "--seconds", "0.5", "--style", style]) == 0
        told[style] = json.loads((out / "truth.json").read_text())
    assert told["game"].pop("style") == "game" and told["game"] == told["camera"]
    stems = [p.read_bytes() for style in STYLES for p in sorted((tmp_path / style / "stems").iterdir())]
    assert len(stems) == 8 and stems[:4] == stems[4:]


def test_an_unknown_style_is_one_clear_error(tmp_path, capsys):
    with pytest.raises(UsageError, match="style='cartoon' is unknown; choose one of camera, game"):
        strike_world(0, 1, style="cartoon")
    assert main(["world", str(tmp_path / "w"), "--style", "cartoon"]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "w").exists()
