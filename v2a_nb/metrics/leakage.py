"""Leakage: how much of a sound has the spectrum of the clip's ambience, where it should have that of the action.

A generated sound is not in phase with the true stems, so SI-SDR against them would mean nothing. What can be compared
is the spectrum: the power of each block of 25 ms in 40 bands is written as a sum of templates with the non-negative
weights that fit best (least squares). Some templates are spectra of the true action stem, the others of the true
ambience stem. The share of power that the ambience's templates take is the leakage, and the power that no template
explains is unexplained: something else sounds.

How it is fooled: it knows no time, so ambience in the wrong place counts as ambience and hits in the wrong place as
action. An action and an ambience with like spectra, such as a scrape and rain, cannot be told apart: the score of the
true stem alone, which the control ladder shows, says how well they can. Silence has no score.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from v2a_nb.audio.onsets import SAMPLE_RATE, log_mel
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.metrics.base import Metric, ScoredClip

TEMPLATES = 4
"""Templates of each stem: the mean spectra of its frames, sorted by their centre of gravity, in so many parts."""
BLOCK = 5
"""Frames of 5 ms that are averaged into one."""
SILENT = 1e-9
"""Power of a block of the wave below which it has no spectrum."""


@check_types
def shares(sound: Sound, stems: Mapping) -> tuple[float, float]:
    """The shares of a sound's power that its ambience's spectra take and that no spectrum explains.

    Args:
        sound: any rate.
        stems: with the sounds ``action`` and ``ambient``. A silent stem has no templates.

    Returns:
        leakage and unexplained share, 0 to 1; NaN for a silent sound, and where both stems are silent.

    Raises:
        UsageError: a stem is missing.
    """
    missing = [name for name in ("action", "ambient") if name not in stems]
    if missing:
        raise UsageError(f"leakage needs the stems action and ambient of the clip; there is no {missing[0]}")
    return _shares(sound, templates(stems["action"]), templates(stems["ambient"]))


def templates(stem: Sound) -> np.ndarray:
    """Spectra of a stem [at most 4, 40], each of sum 1; none for silence.

    Loud blocks count for more. They are sorted by their centre of gravity, so that a thud and a clink of one clip do
    not become one spectrum that neither has.
    """
    power = _bands(stem)
    total = power.sum(1)
    power, total = power[total > 1e-4 * total.max(initial=0)], total[total > 1e-4 * total.max(initial=0)]
    if not len(power):
        return np.zeros((0, power.shape[1]))
    order = np.argsort(power @ np.arange(power.shape[1]) / total, kind="stable")
    edges = np.searchsorted(np.cumsum(total[order]), np.linspace(0, total.sum(), TEMPLATES + 1)[1:-1])
    means = [power[part].sum(0) for part in np.split(order, edges) if len(part)]
    return np.array([mean / mean.sum() for mean in means])


def _shares(sound: Sound, action: np.ndarray, ambient: np.ndarray) -> tuple[float, float]:
    from scipy.optimize import nnls

    basis = np.concatenate([action, ambient])
    power = _bands(sound)
    total = float(power.sum())
    if not total or not len(basis):
        return float("nan"), float("nan")
    weights = np.array([nnls(basis.T, frame)[0] for frame in power])
    explained = weights @ basis
    rest = float(np.clip(power - explained, 0, None).sum())
    whole = float(weights.sum()) + rest  # templates sum to 1, so that weights are powers
    return float(weights[:, len(action) :].sum()) / whole, rest / whole


def _bands(sound: Sound) -> np.ndarray:
    """Power in 40 bands of blocks of 25 ms, float64 [blocks, 40]; silent blocks are left out."""
    wave = sound.mono().resample(SAMPLE_RATE).samples[0]
    if len(wave) < BLOCK * 80:
        return np.zeros((0, 40))
    mel = np.exp(log_mel(wave).astype(np.float64))
    mel = np.clip(mel - 1.01e-5, 0, None)  # the floor of the logarithm is no sound
    frames = mel.shape[1] // BLOCK * BLOCK
    power = mel[:, :frames].reshape(len(mel), -1, BLOCK).mean(2).T
    return power[power.sum(1) > SILENT]


class Leakage(Metric):
    """Mean shares over clips, and the distance of the leakage from that of the true sound (the sum of its stems)."""

    extractor = "templates"

    def score(self, clip: ScoredClip) -> dict[str, float]:
        return clip.once_per_sound("leakage", lambda: self._score(clip))

    def _score(self, clip: ScoredClip) -> dict[str, float]:
        assert clip.stems is not None
        stems = clip.stems
        missing = [name for name in ("action", "ambient") if name not in stems]
        if missing:
            raise UsageError(f"leakage needs the stems action and ambient of the clip; there is no {missing[0]}")
        both = clip.once_per_clip("templates", lambda: (templates(stems["action"]), templates(stems["ambient"])))
        leakage, unexplained = _shares(clip.fitted_sound, *both)
        true = clip.once_per_clip("true leakage", lambda: _energy_share(stems))
        return {"ambience_leakage": leakage, "leakage_error": abs(leakage - true), "unexplained_share": unexplained}


def _energy_share(stems: Mapping[str, Sound]) -> float:
    """The share of the power in all bands that the ambience has in truth."""
    action, ambient = (float(_bands(stems[name]).sum()) for name in ("action", "ambient"))
    return ambient / (action + ambient) if action + ambient else float("nan")
