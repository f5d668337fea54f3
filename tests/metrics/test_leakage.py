"""Leakage: golden mixtures of tones, the true stems of Strike World, and what it cannot tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.leakage import TEMPLATES, Leakage, shares, templates
from v2a_nb.world import strike_world

RATE = 16000
TIMES = np.arange(2 * RATE) / RATE


def tone(hz, power=1.0):
    return Sound(0.1 * math.sqrt(power) * np.sin(2 * math.pi * hz * TIMES), RATE)


STEMS = {"action": tone(3000), "ambient": tone(300)}


@pytest.mark.parametrize("power", [0.0, 0.25, 1.0, 4.0])
def test_golden_mixtures(power):
    """Two tones in bands of their own: the leakage is the share of the ambience's energy in all bands."""
    mixed = Sound(STEMS["action"].samples + tone(300, power).samples, RATE)
    leakage, unexplained = shares(mixed, STEMS)
    one, other = shares(STEMS["ambient"], STEMS), shares(STEMS["action"], STEMS)
    assert one[0] == pytest.approx(1, abs=0.01) and other[0] == pytest.approx(0, abs=0.01)
    quarter = shares(Sound(STEMS["action"].samples + tone(300, 1.0).samples, RATE), STEMS)[0]
    odds = quarter / (1 - quarter)  # the bands are not equally wide: a power of 1 need not be a share of 1/2
    assert leakage == pytest.approx(power * odds / (1 + power * odds), abs=0.01)
    assert unexplained == pytest.approx(0, abs=0.01)


def test_what_is_no_part_of_the_true_sound_is_unexplained():
    mixed = Sound(STEMS["action"].samples + tone(1200, 9.0).samples, RATE)
    leakage, unexplained = shares(mixed, STEMS)
    assert leakage < 0.02 and unexplained > 0.7
    assert shares(mixed.gain(-12), STEMS) == pytest.approx((leakage, unexplained), abs=0.01)  # no level
    late = Sound(np.roll(mixed.samples, 4000), RATE)
    assert shares(late, STEMS) == pytest.approx((leakage, unexplained), abs=0.02)  # and no time: a fact about it


def test_silence_and_missing_stems():
    quiet = Sound(np.zeros(RATE), RATE)
    assert all(math.isnan(value) for value in shares(quiet, STEMS))
    assert all(math.isnan(value) for value in shares(tone(300), {"action": quiet, "ambient": quiet}))
    assert shares(tone(3000), {"action": tone(3000), "ambient": quiet}) == pytest.approx((0, 0), abs=0.01)
    assert len(templates(quiet)) == 0 and 1 <= len(templates(tone(300))) <= TEMPLATES
    assert templates(tone(300)).sum(1) == pytest.approx(1)
    with pytest.raises(UsageError, match="there is no ambient"):
        shares(tone(300), {"action": tone(300)})
    with pytest.raises(UsageError, match="there is no action"):
        Leakage().score(ScoredClip("a", "r", quiet, stems={"ambient": quiet}))


def test_true_stems_are_in_order():
    """Each stem alone is told from the other, and the mix has the leakage that it has in truth."""
    metric, rows = Leakage(), {"action": [], "mix": [], "ambient": [], "other": []}
    items = list(strike_world(404, 24, size=16))
    for k, item in enumerate(items):
        clip = ScoredClip(item.id, "r", stems=item.stems)
        for name, row in rows.items():
            row.append(
                metric.score(clip.with_sound(items[k - 12].stems["mix"] if name == "other" else item.stems[name]))
            )
    leak, error, rest = (
        {name: metric.pool(row, value) for name, row in rows.items()}
        for value in ("ambience_leakage", "leakage_error", "unexplained_share")
    )
    assert leak["action"] < 0.05 and leak["ambient"] > 0.8 and leak["action"] < leak["mix"] < leak["ambient"]
    assert error["mix"] < 0.02 < error["action"] < 0.1 and error["ambient"] > 0.5
    assert max(rest["action"], rest["mix"], rest["ambient"]) < 0.2 < 0.3 < rest["other"]
