"""The result: what a map says of itself, and that it comes back from its file without torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from system_parts import clip_of

from v2a_nb.errors import MediaError, UsageError
from v2a_nb.saliency.result import Saliency


def made(**changes) -> Saliency:
    map_ = np.zeros((20, 4, 4), np.float32)
    map_[8, 1, 2] = 2.0
    about = {"target": "x", "method": "gradient", "baseline": "blur", "value": -3.0, "system": "V-AURA"}
    return Saliency(map_, 25.0, (0.3, 0.5), **{**about, **changes})


def test_where_and_when():
    one = made()
    assert one.place == (2.5 / 4, 1.5 / 4) and one.peak_s == pytest.approx(8.5 / 25)
    assert one.curve.shape == (20,) and one.curve[8] == pytest.approx(2 / 16)
    assert one.title == "gradient from blur of V-AURA, sound 0.30 to 0.50 s" and "20 x 4 x 4" in repr(one)
    assert not one.map.flags.writeable


def test_a_verdict_is_about_what_was_checked():
    assert "not checked" in made().verdict
    assert made().with_scores({"a": 1.0}).verdict == "no check speaks against this map"
    failed = made().with_scores({"a": 1.0}, ("it survives",))
    assert failed.verdict == "do not believe this map: it survives" and failed.scores == {"a": 1.0}


def test_it_comes_back_from_its_file(tmp_path):
    one = made(notes=("n",), completeness_error=0.1).with_scores({"a": 1.0}, ("m",))
    back = Saliency.load(one.save(tmp_path / "x" / "saliency.npz"))
    assert np.array_equal(back.map, one.map) and back.map.dtype == np.float32
    for name in ("fps", "window", "target", "method", "baseline", "notes", "marks", "scores", "checked", "value"):
        assert getattr(back, name) == getattr(one, name), name
    with np.load(tmp_path / "x" / "saliency.npz") as found:  # the format of the design
        assert {"map", "fps", "window"} <= set(found.files) and found["map"].shape == (20, 4, 4)
        np.savez(tmp_path / "bare.npz", map=found["map"], fps=found["fps"])
    assert Saliency.load(tmp_path / "bare.npz").window == (0.0, 0.8)


def test_no_torch_is_needed(tmp_path):
    path = made().save(tmp_path / "s.npz")
    code = "import sys; from v2a_nb.saliency.result import Saliency; "
    code += f"Saliency.load({str(path)!r}); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_files_that_hold_no_map(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"nothing")
    np.savez(tmp_path / "b.npz", other=np.zeros(3))
    np.savez(tmp_path / "c.npz", map=np.zeros((3, 3)), fps=25.0)
    for name in ("a", "b", "c", "missing"):
        with pytest.raises(MediaError, match=f"{name}.npz: no saliency map"):
            Saliency.load(tmp_path / f"{name}.npz")


@pytest.mark.parametrize(
    "bad", [np.zeros((3, 3)), np.full((2, 2, 2), np.nan), -np.ones((2, 2, 2)), np.zeros((0, 2, 2)), [["a"]]]
)
def test_maps_that_are_none(bad):
    with pytest.raises(UsageError):
        Saliency(bad, 25.0, (0, 1))
    with pytest.raises(UsageError):
        Saliency(np.ones((2, 2, 2)), 25.0, (1, 0))
    with pytest.raises(UsageError):
        Saliency(np.ones((2, 2, 2)), 0.0, (0, 1))


def test_a_part_of_a_clip_and_a_picture_that_is_not_square():
    whole = made().part(clip_of(3.0), 1.0)
    assert whole.map.shape == (75, 4, 4) and whole.curve.argmax() == 33 and whole.window == (1.3, 1.5)
    wide = made().in_picture(640, 360)
    assert wide.map.shape == (20, 4, 7) and wide.map.sum() == made().map.sum()
    assert wide.map[8, 1, 3] == 2.0 and not wide.map[:, :, [0, 5, 6]].any()
    high = made().in_picture(360, 720)
    assert high.map.shape == (20, 8, 4) and high.map[8, 3, 2] == 2.0
    assert made().in_picture(100, 100).map.shape == (20, 4, 4)
