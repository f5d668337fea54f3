"""KL divergences of classes: golden numbers of every convention, SciPy, and what is capped or negative."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import entropy

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.kl import CONVENTIONS, KullbackLeibler, kl_divergence

P, Q = np.log([0.1, 0.4, 0.5]), np.log([0.8, 0.15, 0.05])
TRUE, GENERATED = np.array([2.0, 0, -1]), np.array([0.0, 1, 0])


@pytest.mark.parametrize(
    ("true", "generated", "convention", "value"),
    [
        (P, Q, "softmax", 1.335680), (Q, P, "softmax", 1.401300), (P, Q, "softmax_capped", 1.335667),
        (TRUE, GENERATED, "softmax", 0.912983), (GENERATED, TRUE, "softmax", 0.982577),
        (TRUE, GENERATED, "sigmoid", 0.558872), (TRUE, GENERATED, "sigmoid_partial", 0.142007),
        (np.array([-2.0, -2]), np.zeros(2), "sigmoid_partial", -0.341822),
        (np.array([30.0, 0, 0]), np.array([0.0, 30, 0]), "softmax", 30.0),
        (np.array([30.0, 0, 0]), np.array([0.0, 30, 0]), "softmax_capped", 13.815511),
    ],
)  # fmt: skip
def test_golden_numbers(true, generated, convention, value):
    assert kl_divergence(true, generated, convention) == pytest.approx(value, abs=1e-6)


def test_properties():
    rng = np.random.default_rng(0)
    true, generated = 4 * rng.standard_normal((2, 50, 7))
    here = kl_divergence(true, generated)
    assert here == pytest.approx(entropy(softmax(true, axis=1), softmax(generated, axis=1), axis=1))
    assert (here > 0).all() and (kl_divergence(true, generated, "sigmoid") > 0).all()
    shift = rng.standard_normal((50, 1))
    assert kl_divergence(true + shift, generated - shift) == pytest.approx(here)
    for convention in ("softmax", "sigmoid", "sigmoid_partial"):
        assert kl_divergence(true, true, convention) == pytest.approx(np.zeros(50), abs=1e-12)
    equal = kl_divergence(true, true, "softmax_capped")  # the addition is not divided out again
    assert (equal < 0).all() and (equal > -7.1e-6).all()
    assert (kl_divergence(100 * true, 100 * generated, "softmax_capped") < 13.8156).all()
    extreme = np.array([800.0, -800, 0])  # nothing overflows
    assert all(np.isfinite(kl_divergence(extreme, -extreme, c)) for c in CONVENTIONS)


def test_what_has_no_divergence_is_refused():
    for bad, message in ((np.zeros(4), "twice the same"), (np.array([0, 1, np.nan]), "NaN")):
        with pytest.raises(UsageError, match=message):
            kl_divergence(TRUE, bad)
    with pytest.raises(UsageError, match="at least two classes"):
        kl_divergence(np.zeros(1), np.zeros(1))
    with pytest.raises(UsageError, match="there are softmax, softmax_capped"):
        kl_divergence(TRUE, GENERATED, "reversed")


class Peak:
    """Two classes: loud and quiet."""

    tag = "peak@0000"

    def logits(self, sound):
        assert sound.duration == 1.0
        return np.array([sound.peak, 1 - sound.peak], np.float32)


def test_a_clip_is_its_true_sound_against_the_generated_one():
    true, generated = Sound(np.full(16000, 0.75), 16000), Sound(np.full(20000, 0.25), 16000)
    metric = KullbackLeibler(Peak())
    clip = ScoredClip("a", "r", generated, reference=true)
    row = metric.score(clip)
    for name, convention in (("kl", "softmax"), ("kl_capped", "softmax_capped"), ("kl_sigmoid", "sigmoid")):
        expected = kl_divergence(np.array([0.75, 0.25]), np.array([0.25, 0.75]), convention)
        assert metric.pool([row], name) == pytest.approx(float(expected), abs=1e-6)
    assert metric.pool([metric.score(clip.with_sound(true))], "kl") == 0
    assert metric.extractor == "peak@0000" and metric.names == ("kl", "kl_capped", "kl_sigmoid")
