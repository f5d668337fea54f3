"""Which kind of ambience a sound has: hum, hiss, rain or traffic. A small classifier trained on Strike World.

Ridge regression on the spectrum of what is always there: of each mel band its tenth percentile over time, and how far
the thirtieth lies above it. Hits, tails and passing sounds fill a band some of the time and leave its low percentiles
alone, so that no event need be known. It is a metric's extractor: deterministic, shipped, named in every result.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.audio.onsets import SAMPLE_RATE
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, read_tensors
from v2a_nb.metrics.statistics import bootstrap
from v2a_nb.world.recording import AMBIENCES

NOTHING = "nothing"
BANDS, LOWEST_HZ, HIGHEST_HZ = 32, 125.0, 7600.0
"""What the mel spectrogram of Action2Sound holds: under it a made sound has nothing to be judged by."""
N_FFT, HOP = 1024, 256
FLOOR = 1e-13
"""Power, -130 dBFS: what all bands are over."""
FURTHEST = 4.0
"""Standardised features are cut there: an empty band is far away from all that was learned."""
FEATURES = 2 * BANDS
TRAIN_SEED, TEST_SEED, TEST_FIRST = 3500, 9300, 1000
"""The features were chosen on the first recordings of the test seed: scores are of those from the thousandth on."""


@lru_cache(maxsize=1)
def _basis() -> tuple[np.ndarray, np.ndarray]:
    """Triangles [BANDS, N_FFT / 2 + 1] that add up to 1 between the outer ones' tips, and a Hann window [N_FFT]."""
    import librosa

    basis = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=BANDS, fmin=LOWEST_HZ, fmax=HIGHEST_HZ, norm=None)
    return basis, (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(N_FFT) / N_FFT)).astype(np.float32)


def band_powers(wave: np.ndarray) -> np.ndarray:
    """Power in mel bands of a 16 kHz wave [n]: float [T, 32], windows of 64 ms every 16 ms.

    Scaled so that the bands of a window add up to the mean square of what it holds between 125 and 7600 Hz.
    """
    basis, window = _basis()
    wave = np.asarray(wave, np.float32)
    wave = np.pad(wave, (0, max(0, N_FFT - len(wave))))
    frames = np.lib.stride_tricks.sliding_window_view(wave, N_FFT)[::HOP]
    spectrum = np.fft.rfft(frames * window, axis=1)
    power = (spectrum.real**2 + spectrum.imag**2) * (2 / (N_FFT * float(np.square(window).sum())))
    return power @ basis.T


def describe(wave: np.ndarray) -> np.ndarray:
    """What a 16 kHz wave steadily holds: float32 [64], independent of level; all zero for digital silence.

    Each band's tenth percentile over time, nepers of power, less the largest one; then the thirtieth less the tenth.
    """
    level = np.log(band_powers(wave) + FLOOR)
    low, high = np.quantile(level, (0.1, 0.3), axis=0)
    if low.max() < np.log(2 * FLOOR):
        return np.zeros(FEATURES, np.float32)
    return np.concatenate([low - low.max(), high - low]).astype(np.float32)


@dataclass(eq=False)
class AmbienceKind(Pretrained):
    """Ridge regression onto one number a kind, of features and their squares.

    Examples:
        >>> judge = AmbienceKind.from_pretrained("ambience")                       # doctest: +SKIP
        >>> judge.classify(sound)                                                  # doctest: +SKIP
        'rain'
    """

    kind, title, default = "strike-ambience", "a classifier of ambiences", "ambience"

    mean: np.ndarray  # [D]
    scale: np.ndarray  # [D]
    weight: np.ndarray  # [2 D + 1, C]

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Features [N, D] to indices of :data:`~v2a_nb.world.AMBIENCES` [N]."""
        return (_expand(features, self.mean, self.scale) @ self.weight).argmax(axis=1)

    def classify(self, sound: Sound | np.ndarray) -> str:
        """``"hum"``, ``"hiss"``, ``"rain"`` or ``"traffic"``; ``"nothing"`` for a silent sound.

        Args:
            sound: a :class:`~v2a_nb.clip.Sound`, or a wave [n] at 16 kHz.
        """
        wave = sound.mono().resample(SAMPLE_RATE).samples[0] if isinstance(sound, Sound) else sound
        features = describe(wave)
        return AMBIENCES[int(self.predict(features[None])[0])] if features.any() else NOTHING

    @property
    def tag(self) -> str:
        """``strike-ambience@`` and four hexadecimal digits of its weights."""
        digest = hashlib.sha256(np.ascontiguousarray(self.weight, np.float16).tobytes()).hexdigest()
        return f"strike-ambience@{digest[:4]}"

    def _tensors(self) -> dict:
        import torch

        return {k: torch.from_numpy(np.asarray(getattr(self, k))) for k in ("mean", "scale", "weight")}

    def _told(self) -> dict[str, Any]:
        return {"classes": AMBIENCES}

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> AmbienceKind:
        state = {k: v.float().numpy() for k, v in read_tensors(path).items()}
        shapes = {"mean": (FEATURES,), "scale": (FEATURES,), "weight": (2 * FEATURES + 1, len(AMBIENCES))}
        has = {k: v.shape for k, v in state.items()}
        if has != shapes or tuple(saved.get("classes", ())) != AMBIENCES:
            raise WeightsError(f"{path}: {saved.get('classes')} over {has} do not fit a classifier of {AMBIENCES}")
        return cls(**state)


def _expand(features: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standardised features, their squares and a one: [N, D] to [N, 2 D + 1]."""
    z = np.clip((features - mean) / scale, -FURTHEST, FURTHEST)
    return np.concatenate([z, z**2, np.ones((len(z), 1), z.dtype)], axis=1)


def ambience_kind_accuracy(
    sounds: Sequence[Sound],
    kinds: Sequence[str],
    names: Sequence[str] | None = None,
    judge: AmbienceKind | None = None,
) -> dict:
    """Share of sounds whose ambience is heard as the right kind; guessing one kind scores about 0.25.

    Args:
        sounds: any rate and length; from about a second on there is enough to hear.
        kinds: the right ones, as ``truth["ambient"]["kind"]``.
        names: of the recordings, for the interval; left out, each sound is on its own.
        judge: left out, the shipped one.

    Returns:
        ``{"name", "extractor", "value", "low", "high", "n"}``, a row of a report.

    Raises:
        UsageError: not one kind for each sound, or a kind that does not exist.
    """
    if len(sounds) != len(kinds) or not len(sounds):
        raise UsageError(f"{len(sounds)} sounds and {len(kinds)} kinds: one each is needed")
    unknown = sorted(set(kinds) - set(AMBIENCES))
    if unknown:
        raise UsageError(f"ambience {unknown[0]!r} is unknown; there are {', '.join(AMBIENCES)}")
    judge = judge or AmbienceKind.from_pretrained()
    right = [judge.classify(sound) == kind for sound, kind in zip(sounds, kinds, strict=True)]
    low, high = bootstrap(right, lambda rows: float(np.mean(rows)), names)
    value = float(np.mean(right))
    return {
        "name": "ambience_kind_accuracy", "extractor": judge.tag, "value": value, "low": low, "high": high,
        "n": len(right),
    }  # fmt: skip


# --- training ---------------------------------------------------------------------------------------

SECONDS = 3.0
_WHOLE_S = 6.0
LEVELS = (-70.0, -38.0)
"""dBFS of the ambiences that are learned from: wider than the world's own."""


def mixes(
    seed: int, n: int, *, first: int = 0, levels: tuple[float, float] | None = None
) -> Iterator[tuple[np.ndarray, str, float]]:
    """3 s of each of ``n`` short recordings: the mix [48000] at 16 kHz, its kind and its level, dBFS.

    Args:
        seed: of the world.
        n, first: recordings, from which on.
        levels: between which the ambience's is drawn; left out, it is the world's.
    """
    from v2a_nb.world import sound as world_sound
    from v2a_nb.world.recording import draw

    for index in range(first, first + n):
        recording = draw(seed, index, duration_s=_WHOLE_S)
        if levels is not None:
            level = float(recording.rng("ambience-level").uniform(*levels))
            recording = recording.changed(ambience_dbfs=level)
        mix = world_sound.render(recording, SAMPLE_RATE)["mix"]
        start = int(recording.rng("ambience-cut").integers(0, round((_WHOLE_S - SECONDS) * SAMPLE_RATE)))
        yield mix[start : start + round(SECONDS * SAMPLE_RATE)], recording.ambience, recording.ambience_dbfs


def through_mel(waves: Sequence[np.ndarray], iterations: int = 60, method: str = "nnls", batch: int = 16) -> list:
    """Waves [n] as they come back from the mel spectrogram of Action2Sound by Griffin-Lim: what made sounds are like.

    What is too soft for the spectrogram's range is gone, and so are phases and what lies under 125 Hz.
    """
    import torch

    from v2a_nb.models.vocoder import GriffinLimVocoder

    vocoder, made = GriffinLimVocoder("action2sound", iterations=iterations, method=method), []
    for k in range(0, len(waves), batch):
        part = torch.from_numpy(np.stack(waves[k : k + batch]))
        made += list(vocoder.decode(vocoder.spectrogram(part), part.shape[1]).numpy())
    return made


def train_ambience(seed: int = TRAIN_SEED, recordings: int = 1600, ridge: float = 10.0) -> AmbienceKind:
    """Fit on mixes of a world seed that nothing else uses, a quarter more of which have come back from mels.

    Solved in one go; the same seed gives the same weights. About half a minute.

    Args:
        seed: of the world.
        recordings: of each 3 s are learned from.
        ridge: how strongly weights are drawn to zero.
    """
    rows = [(describe(wave), kind) for wave, kind, _ in mixes(seed, recordings, levels=LEVELS)]
    softer = list(mixes(seed, recordings // 4, first=recordings, levels=LEVELS))
    # few iterations and the rougher inverse: quick, and what a network makes is no better
    rough = through_mel([wave for wave, _, _ in softer], iterations=8, method="pinv")
    rows += [(describe(wave), kind) for wave, (_, kind, _) in zip(rough, softer, strict=True)]
    x = np.stack([features for features, _ in rows]).astype(np.float64)
    y = np.array([AMBIENCES.index(kind) for _, kind in rows])
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    z = _expand(x, mean, scale)
    target = 2 * np.eye(len(AMBIENCES))[y] - 1
    weight = np.linalg.solve(z.T @ z + ridge * np.eye(z.shape[1]), z.T @ target)
    return AmbienceKind(*(a.astype(np.float32) for a in (mean, scale, weight)))


def write_ambience(folder: str | Path, seed: int = TRAIN_SEED, recordings: int = 1600, test: int = 400) -> AmbienceKind:
    """Train, score on a world that training never saw, and write weights with their card.

    The scores are those of the weights as they are shipped: on ``test`` true mixes, and on a quarter of them as they
    come back from the mel spectrogram of Action2Sound by Griffin-Lim.
    """
    train_ambience(seed, recordings).save_pretrained(folder)
    made = AmbienceKind.from_pretrained(folder)
    heard = list(mixes(TEST_SEED, test, first=TEST_FIRST))
    back = heard[: max(1, test // 4)]
    sounds = {
        "mixes": [wave for wave, _, _ in heard],
        "through_mel": through_mel([wave for wave, _, _ in back]),
    }
    scores = {}
    for name, waves in sounds.items():
        kinds = [kind for _, kind, _ in heard[: len(waves)]]
        row = ambience_kind_accuracy([Sound(w, SAMPLE_RATE) for w in waves], kinds, judge=made)
        scores[name] = {k: round(row[k], 4) for k in ("value", "low", "high", "n")}
    made.save_pretrained(
        folder, preset="tiny", data_seed=seed, recordings=recordings, test_seed=TEST_SEED, accuracy=scores,
        versions={"numpy": np.__version__},
    )  # fmt: skip
    told = {
        k: f"{v['value']:.1%} [{v['low']:.1%}, {v['high']:.1%}] of {v['n']}" if v["value"] < 1 else f"all {v['n']}"
        for k, v in scores.items()
    }
    (Path(folder) / "README.md").write_text(
        f"""# {made.tag}

Says which of {", ".join(AMBIENCES)} the ambience of a sound is: ridge regression
over the low percentiles of {BANDS} mel bands, independent of level; hits need not be cut out. It is the
extractor of the metric `ambience_kind_accuracy` and knows only Strike World's four ambiences; on
recordings of real places its answers mean nothing.

- Trained on {recordings} recordings of Strike World seed {seed}, their ambience at {LEVELS[0]:g} to {LEVELS[1]:g} dBFS,
  and {recordings // 4} more as they come back from mel spectrograms, by `v2a-nb train ambience`.
- Right on seed {TEST_SEED}, never trained on, 3 s of each recording, 95 % intervals over recordings:
  {told["mixes"]} true mixes;
  {told["through_mel"]} that came back from Action2Sound's mel spectrogram by Griffin-Lim.
"""
    )
    return made
