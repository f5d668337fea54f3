"""Selection of the parts of a recording that are loud enough to learn from (EgoSonics, section 3.1, supplement D)."""

from __future__ import annotations

import numpy as np

from v2a_nb.errors import UsageError


def rms_dbfs(wave: np.ndarray) -> float:
    """Root mean square of a wave in [-1, 1], dBFS; silence is -inf.

    Examples:
        >>> rms_dbfs(np.ones(4))
        0.0
    """
    power = float(np.mean(np.square(np.asarray(wave, np.float64)))) if np.size(wave) else 0.0
    return 10 * float(np.log10(power)) if power > 0 else float("-inf")


def loud_parts(
    wave: np.ndarray,
    sample_rate: int,
    seconds: float,
    threshold_dbfs: float,
    *,
    at_most: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Find parts that do not overlap and whose RMS exceeds a threshold.

    The wave is cut into adjacent parts from a random offset on, so that no place in a recording is favoured. The paper
    does not give its threshold, which was set by hand.

    Args:
        wave: [n], in [-1, 1].
        sample_rate: Hz.
        seconds: length of a part.
        threshold_dbfs: parts at or below it are left out.
        at_most: maximum number of parts, chosen at random; left out, all.
        seed: of the offset and the choice.

    Returns:
        starts of the parts, samples, int64 [k], increasing; empty where no part is loud enough.

    Raises:
        UsageError: parts without length, or more than one channel.

    Examples:
        >>> wave = np.concatenate([np.zeros(16000), 0.5 * np.ones(32000)])
        >>> loud_parts(wave, 16000, 1.0, -20.0).size
        2
    """
    size = round(seconds * sample_rate)
    if np.ndim(wave) != 1 or size < 1 or (at_most is not None and at_most < 0):
        raise UsageError(f"parts of {seconds} s, at most {at_most}, cannot be cut out of {np.shape(wave)} samples")
    rng = np.random.default_rng(seed)
    spare = len(wave) % size if len(wave) >= size else 0
    starts = np.arange(rng.integers(0, spare + 1), len(wave) - size + 1, size)
    loud = starts[[rms_dbfs(wave[a : a + size]) > threshold_dbfs for a in starts]] if len(starts) else starts
    if at_most is not None and len(loud) > at_most:
        loud = np.sort(rng.choice(loud, at_most, replace=False))
    return loud.astype(np.int64)
