"""What follows a hit: how fast it decays, how much of a clip is loud, and how far the spectrum is from the true one.

Onsets are all that an onset F1 counts: a hit that rings on to the end of the clip costs nothing there. It does here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RATE = 16000
HEAD_S, TAIL_S = 0.05, (0.1, 0.4)
"""The decay is the power in the tail relative to the power in the head, both from the onset on."""
LEAST_TAIL_S, GUARD_S = 0.05, 0.02
"""A tail that the next hit or the clip's end makes shorter is not measured; it ends ``GUARD_S`` before the next hit."""
AUDIBLE_DB = 10.0
"""A true hit stands out so much from the true ambience, or its decay is not measured."""
LOUD_DBFS, FRAME_S = -35.0, 0.02
"""A frame of this length is loud from this RMS on: 7 dB over the loudest ambience of Strike World."""
STUCK = 0.25
"""A clip is stuck if its loud share exceeds that of the true sound by more."""
EVENT_S = (-0.05, 0.45)
"""The window in which an event's spectra are compared, from its true time on."""
EVENT_RANGE_DB = 40.0
"""What lies so far below the loudest of the true window counts as silent: the hit is compared and not its ambience."""


class Hit(NamedTuple):
    """Where a true event begins in two sounds.

    Attributes:
        generated: time of its onset in the generated sound, s; NaN where that has none.
        true: the same in the true sound.
        decays: whether its decay can be measured; that of a scrape cannot, but it may follow a hit.
    """

    generated: float
    true: float
    decays: bool = True


def decay_errors(
    wave: np.ndarray, true: np.ndarray, hits: Sequence[Hit], ambience_dbfs: tuple[float, float]
) -> list[float]:
    """Decays of a generated sound minus those of the true sound, dB, one for each hit that can be compared.

    - A hit that the generated sound leaves out has no decay. One that it covers with something loud has: that of what
      is there.
    - Both tails are equally long. They end before the next hit of either sound; a hit whose tail would be shorter than
      :data:`LEAST_TAIL_S` is left out. What else sounds in the tail, such as a hit that is not true, counts.
    - What falls below the ambience, relative to the hit, cannot be told. Both decays are limited to the louder of the
      two ambiences, so that neither a loud room nor a quiet one counts as ringing. A true hit that is less than
      :data:`AUDIBLE_DB` over its ambience is left out. What is loud in the generated sound, or less than that under
      the hit, is no ambience.

    Args:
        wave, true: the generated and the true sound, [n] at 16 kHz.
        hits: in the order of time.
        ambience_dbfs: levels of the ambience of both.
    """
    errors = []
    for i, hit in enumerate(hits):
        if not hit.decays:
            continue
        start = hit.true if np.isnan(hit.generated) else hit.generated
        if np.isnan(hit.generated) and _dbfs(wave, start, start + HEAD_S) < LOUD_DBFS:
            continue
        pairs = (wave, start), (true, hit.true)
        ends = [len(w) / RATE for w, _ in pairs]
        if i + 1 < len(hits):
            ends = [np.fmin(end, following - GUARD_S) for end, following in zip(ends, hits[i + 1][:2], strict=True)]
        length = min(TAIL_S[1], *(end - begin for end, (_, begin) in zip(ends, pairs, strict=True)))
        if length < TAIL_S[0] + LEAST_TAIL_S:
            continue
        heads = [_dbfs(w, begin, begin + HEAD_S) for w, begin in pairs]
        decays = [_dbfs(w, t + TAIL_S[0], t + length) - head for (w, t), head in zip(pairs, heads, strict=True)]
        floor = ambience_dbfs[1] - heads[1]
        if floor <= -AUDIBLE_DB:
            floor = max(floor, min(min(ambience_dbfs[0], LOUD_DBFS) - heads[0], -AUDIBLE_DB))
            errors.append(max(decays[0], floor) - max(decays[1], floor))
    return errors


def loud_share(wave: np.ndarray) -> float:
    """Share of the frames of a 16 kHz wave that are loud, 0 to 1; 0 for a wave that is shorter than a frame."""
    n = round(FRAME_S * RATE)
    frames = wave[: len(wave) // n * n].reshape(-1, n)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1)
    return float(np.mean(power > 10 ** (LOUD_DBFS / 10))) if len(power) else 0.0


def event_distances(wave: np.ndarray, true: np.ndarray, times: Sequence[float]) -> list[tuple[float, float]]:
    """Distances of the spectra in a window about each event: of log-mels, and of STFTs at several resolutions.

    The first is the mean distance of :func:`~v2a_nb.models.codec_report.log10_mel`, 0.05 for 1 dB; the second
    :func:`~v2a_nb.models.codec_report.stft_distance`. In both, what lies :data:`EVENT_RANGE_DB` below the loudest of
    the true window counts as that loud.

    Args:
        wave, true: [n] at 16 kHz, equally long.
        times: of the events, s.
    """
    import torch

    from v2a_nb.models.codec_report import log10_mel, stft_distance

    both, distances = torch.from_numpy(np.stack([wave, true])).float(), []
    for time in times:
        window = both[:, max(0, round((time + EVENT_S[0]) * RATE)) : round((time + EVENT_S[1]) * RATE)]
        mels = log10_mel(window, RATE)
        mels = mels.clamp(min=float(mels[1].max()) - EVENT_RANGE_DB / 20)
        stfts = stft_distance(window[:1], window[1:], range_db=EVENT_RANGE_DB)
        distances.append((float((mels[0] - mels[1]).abs().mean()), float(stfts)))
    return distances


def _dbfs(wave: np.ndarray, start: float, end: float) -> float:
    """RMS level of a part of a wave, dBFS; -120 for silence."""
    part = wave[max(0, round(start * RATE)) : round(end * RATE)]
    power = float(np.mean(np.square(part, dtype=np.float64))) if len(part) else 0.0
    return 10 * float(np.log10(max(power, 1e-12)))
