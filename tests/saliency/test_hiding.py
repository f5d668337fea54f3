"""Hiding a part of the picture: only that part, only then, and only what depends on it changes."""

from __future__ import annotations

import numpy as np
import pytest
from saliency_parts import Lamp, flash
from system_parts import clip_of

from v2a_nb.errors import UsageError
from v2a_nb.saliency.hiding import STEP_S, depends_on, hide


def test_only_the_box_and_only_then():
    clip = clip_of(1.0)
    other = hide(clip, (0.2, 0.25, 0.5, 0.75), (0.2, 0.6))
    changed = (other.frames != clip.frames).any(-1)
    assert changed[5:15, 2:6, 2:5].mean() > 0.9
    changed[5:15, 2:6, 2:5] = False
    assert not changed.any()
    inside = other.frames[5:15, 2:6, 2:5].reshape(-1, 3)
    assert (inside == inside[0]).all()
    assert np.abs(inside[0] - clip.frames[:, 2:6, 2:5].mean((0, 1, 2))).max() <= 0.5


def test_the_sound_changes_when_and_only_when_the_cause_is_hidden():
    lamp, clip = Lamp(), flash()
    cause = depends_on(lamp, clip, (0.0, 0.2, 0.45, 0.8), (0.35, 0.6))
    assert 0.4 <= cause.greatest_s <= 0.52 and cause.difference_db.min() < -6
    times = (np.arange(len(cause.difference_db)) + 0.5) * STEP_S
    assert np.abs(cause.difference_db[(times < 0.34) | (times > 0.62)]).max() == 0
    assert list(cause.tracks.values())[:2] == [cause.whole, cause.hidden] and "dB at 0.4" in repr(cause)
    lost = cause.lost
    assert lost.n == cause.whole.n and lost.sample_rate == 16000
    wave, flash_ = np.abs(lost.samples[0]), slice(round(0.42 * 16000), round(0.5 * 16000))
    assert wave[flash_].mean() > 0.7 * np.abs(cause.whole.samples[0, flash_]).mean()
    assert wave[: round(0.3 * 16000)].max() < 1e-4
    right = depends_on(lamp, clip, (0.5, 0.0, 1.0, 1.0))
    assert not right.lost.samples.any()
    assert right.hidden.samples.tobytes() == right.whole.samples.tobytes() and not right.difference_db.any()


@pytest.mark.parametrize(
    ("box", "times", "words"),
    [
        ((0.5, 0, 0.5, 1), None, "no part of a picture"), ((0, 0, 1.2, 1), None, "no part of a picture"),
        ((0, 0, 1), None, "a box is"), ("abcd", None, "a box is"), ((0, 0, 1, 1), (0.5, 2.0), "no window"),
    ],
)  # fmt: skip
def test_what_cannot_be_hidden(box, times, words):
    with pytest.raises(UsageError, match=words):
        hide(flash(), box, times)
    with pytest.raises(UsageError, match="system"):
        depends_on(object(), flash(), (0, 0, 1, 1))
