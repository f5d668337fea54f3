"""The inception score: golden numbers, bounds, splits as in torch-fidelity, and an interval within the bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import log_softmax

from v2a_nb.errors import UsageError
from v2a_nb.metrics.inception_score import LEAST, InceptionScore, InceptionScore10, inception_score


def test_golden_numbers():
    sure = np.where(np.eye(5, dtype=bool), 500.0, 0.0)
    assert inception_score(np.tile(sure, (20, 1)), splits=1) == pytest.approx((5.0, 0.0), abs=1e-9)
    assert inception_score(np.log([[0.9, 0.1], [0.1, 0.9]]), splits=1)[0] == pytest.approx(1.444935, abs=1e-6)
    assert np.exp(0.9 * np.log(1.8) + 0.1 * np.log(0.2)) == pytest.approx(1.444935, abs=1e-6)
    for rows in (np.zeros((30, 5)), np.tile([3.0, -1, 0.5], (30, 1))):
        assert inception_score(rows, splits=3) == pytest.approx((1.0, 0.0), abs=1e-9)


def test_properties():
    rng = np.random.default_rng(0)
    logits = 3 * rng.standard_normal((200, 6))
    score, deviation = inception_score(logits)
    assert 1 <= score <= 6 and deviation > 0
    assert inception_score(logits + rng.standard_normal((200, 1))) == pytest.approx((score, deviation))
    assert inception_score(rng.permutation(logits), splits=1)[0] == pytest.approx(inception_score(logits, 1)[0])
    assert score < inception_score(logits, splits=1)[0]  # many splits score lower


def test_splits_are_those_of_torch_fidelity():
    logits = 2 * np.random.default_rng(1).standard_normal((103, 4))
    log_p = log_softmax(logits, axis=1)[np.random.RandomState(2020).permutation(103)]
    scores = []
    for i in range(10):
        part = log_p[i * 103 // 10 : (i + 1) * 103 // 10]
        divergence = (np.exp(part) * (part - np.log(np.exp(part).mean(0)))).sum(1)
        scores.append(np.exp(divergence.mean()))
    assert inception_score(logits) == pytest.approx((np.mean(scores), np.std(scores)))
    assert inception_score(logits)[1] != pytest.approx(np.std(scores, ddof=1), rel=1e-3)


def test_what_has_no_score_is_refused():
    for rows, splits, message in (
        (np.zeros((9, 3)), 10, "9 clips cannot be divided into 10 splits"), (np.zeros((0, 3)), 1, "0 clips"),
        (np.zeros((9, 1)), 1, "two classes"), (np.full((9, 3), np.inf), 1, "NaN"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            inception_score(rows, splits)


def test_the_interval_stays_between_1_and_the_number_of_classes():
    rng = np.random.default_rng(2)
    recordings = [f"r{i // 2}" for i in range(80)]
    for spread in (0.0, 0.3, 3.0, 300.0):
        rows = list(spread * rng.standard_normal((80, 5)))
        metric = InceptionScore(model=print)
        low, high = metric.interval(rows, recordings, "is")
        assert 1 <= low <= metric.pool(rows, "is") + 1e-9 <= high + 2e-9 <= 5 + 3e-9
    assert metric.refusal(rows) == "" and f"at least {LEAST}" in metric.refusal(rows[: LEAST - 1])
    assert "at least 500" in InceptionScore(model=print, splits=10).refusal(rows)


def test_ten_splits_by_name():
    rows = list(np.random.default_rng(0).standard_normal((500, 4)))
    ten, one = InceptionScore10(print), InceptionScore(print)
    assert ten.names == ("is_10",) and one.names == ("is",) and ten.refusal(rows) == ""
    assert ten.pool(rows, "is_10") == pytest.approx(inception_score(np.stack(rows), 10)[0])
    assert ten.pool(rows, "is_10") < one.pool(rows, "is") and "at least 500" in ten.refusal(rows[1:])
