"""Recipe of the material classifier: ``v2a-nb train material --out runs/material``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from v2a_nb.audio.onsets import BANDS
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.recordings import Recordings, StrikeRecordings, need_strike_world
from v2a_nb.errors import UsageError
from v2a_nb.metrics.material.metric import CLASSES, LAGS, MaterialClassifier, describe
from v2a_nb.training.recipe import Recipe, Stages, TrainConfig
from v2a_nb.world import VERSION, strike_world

TRAIN_SEED, TEST_SEED = 3000, 2000
FEATURES = len(LAGS) * BANDS


@dataclass(frozen=True)
class MaterialTrainConfig(TrainConfig):
    """How much of everything: ``clips`` of the world. The classifier is solved in one step."""

    steps: int = 1
    clips: int = 1200


class MaterialRecipe(Recipe):
    """The material classifier from nothing, in about 20 s. The world's seed is that of ``--data`` plus ``--seed``."""

    name = "material"
    TrainConfig = MaterialTrainConfig
    config: MaterialTrainConfig
    source = f"strike:seed={TRAIN_SEED}"

    def features(self, recordings: Recordings, store: FeatureStore) -> StrikeRecordings:
        """The world; nothing of it is kept."""
        return need_strike_world(recordings, "material learns from stems and from what was struck")

    def stages(self, features: StrikeRecordings, store: FeatureStore, out: Path) -> Stages:
        yield from ()
        seed, clips = features.seed + self.seed, features.limit or self.config.clips
        return train_material(seed, clips, variety=features.variety, version=features.version)


def hits_of(
    seed: int, clips: int, stem: str = "action", variety: str = "wide", version: int = VERSION
) -> tuple[np.ndarray, np.ndarray]:
    """Features [N, 160] and class indices [N] of every strike and bounce in a world.

    Args:
        seed, clips, variety, version: of the world.
        stem: the sound that is listened to: ``"action"``, or ``"mix"`` with ambience and off-screen sounds.
    """
    features, labels = [], []
    for item in strike_world(seed, clips, size=16, variety=variety, version=version):
        wave = item.stems[stem].samples[0]
        for event in item.truth["events"]:
            if event["sounding"] and event["kind"] != "scrape" and event["time_s"] < item.clip.duration - 0.1:
                features.append(describe(wave, event["time_s"]))
                labels.append(CLASSES.index(event["material"]))
    return np.reshape(features, (-1, FEATURES)), np.array(labels, int)


def train_material(
    seed: int = TRAIN_SEED, clips: int = 1200, shrink: float = 0.1, variety: str = "wide", version: int = VERSION
) -> MaterialClassifier:
    """Fit the classifier on the clean action stems of a world that nothing else uses.

    It is solved in one go, in about 20 s; the same seed gives the same weights.

    Args:
        seed, clips, variety, version: of the world.
        shrink: 0 to 1, how far the covariance within classes is drawn towards a multiple of the identity.

    Raises:
        UsageError: the clips do not hold hits of every material.
    """
    x, y = hits_of(seed, clips, variety=variety, version=version)
    missing = [name for k, name in enumerate(CLASSES) if k not in y]
    if missing:
        raise UsageError(f"no hit on {', '.join(missing)} in {clips} clips: give more clips")
    mean, scale = x.mean(axis=0), x.std(axis=0) + 1e-3
    z = (x - mean) / scale
    centres = np.stack([z[y == c].mean(axis=0) for c in range(len(CLASSES))])
    within = np.cov((z - centres[y]).T)
    within = (1 - shrink) * within + shrink * np.eye(len(within)) * np.trace(within) / len(within)
    weight = np.linalg.solve(within, centres.T).T
    bias = -0.5 * (weight * centres).sum(axis=1)
    return MaterialClassifier(*(a.astype(np.float32) for a in (mean, scale, weight, bias)))
