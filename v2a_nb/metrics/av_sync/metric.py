"""AV-Sync, the synchrony score of Action2Sound (section 5.1, supplement 7.4, after Diff-Foley).

A classifier reads a video and a sound and says how likely it is that they are synchronous
(:mod:`v2a_nb.metrics.av_sync.model`); the score is the share of generated sounds that it calls synchronous.

The score is no percentage of anything outside of its classifier: the paper's is right for 70.6 % of its validation
pairs and calls 77.7 % of the *true* sounds synchronous. Read every score beside what the same classifier says of the
true sounds, which is its upper bound, and of another video's sounds, which is its floor. The curve on its card says how
far off a sound may be before it notices.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.hub import Pretrained, tag_of
from v2a_nb.metrics.av_sync.model import RULES, AvSyncConfig, AvSyncNet
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.statistics import accuracy_with_interval, share_interval
from v2a_nb.models.audio_spectrogram_transformer import SAMPLE_RATE
from v2a_nb.models.video_encoders.strike import StrikeVision

SHORTEST_S = 1.0
"""A shorter clip is refused: hits are about a second apart, so that it may have none."""


@check_types
def synchronous(windows: Sequence[float] | np.ndarray, halves: str = "mean") -> bool:
    """Whether a clip whose windows have these probabilities counts as synchronous: from one half on.

    Examples:
        >>> [synchronous([0.2, 0.7], rule) for rule in RULES]
        [False, True]
    """
    if halves not in RULES:
        raise UsageError(f"unknown rule {halves!r}; there is {' and '.join(RULES)}")
    values = np.asarray(windows, float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise UsageError("AV-Sync needs the probability of at least one window, and each must be a number")
    return bool((values.mean() if halves == "mean" else values.max()) >= 0.5)


@check_types
def share_synchronous(
    clips: Sequence[Sequence[float]], clusters: Sequence[str] | None = None, halves: str = "mean"
) -> dict:
    """The share of clips that count as synchronous, percent, with its interval.

    Every clip weighs the same (the released code averages the means of batches, the last of which is smaller).

    Args:
        clips: for each clip the probabilities of its windows.
        clusters: one recording per clip, for the interval.
        halves: how windows make a clip.

    Returns:
        ``{"value", "low", "high", "n"}``.

    Raises:
        UsageError: no clips, or probabilities that are no numbers.
    """
    if not len(clips):
        raise UsageError("AV-Sync needs at least one clip")
    return accuracy_with_interval([synchronous(windows, halves) for windows in clips], clusters, scale=100.0)


class AvSyncMetric(Metric):
    """Percent of clips that AV-Sync calls synchronous.

    Args:
        model: an :class:`AvSync`; left out, the shipped one.
    """

    def load_model(self) -> AvSync:
        return AvSync.from_pretrained()

    def score(self, clip: ScoredClip) -> float:
        video = clip.feature("video", f"windows of {self.extractor}", lambda: self.model.look(clip.video).numpy())
        windows = self.model.windows(torch.from_numpy(video), clip.fitted_sound)
        return 100.0 * synchronous(windows, self.model.config.halves)

    def interval(self, rows: Sequence[float], recordings: Sequence[str], name: str) -> tuple[float, float]:
        return share_interval([(row / 100, 1) for row in rows], recordings, scale=100.0)


class AvSync(Pretrained):
    """A trained classifier, ready to judge clips.

    Examples:
        >>> judge = AvSync.from_pretrained("av_sync")
        >>> judge.score(clip.silent(), sound) > 0.5
        True
        >>> share_synchronous([judge.windows(clip, sound)])["n"]
        1
    """

    kind, title, default = "av-sync", "an AV-Sync classifier", "av_sync"
    config_class, optional_parts = AvSyncConfig, ("vision",)

    def __init__(self, net: AvSyncNet, card: dict | None = None) -> None:
        self.net, self.card = net.eval(), dict(card or {})

    @property
    def config(self) -> AvSyncConfig:
        return self.net.config

    @property
    def tag(self) -> str:
        """``av-sync-tiny@`` and four digits of its weights, which a published score must name."""
        return tag_of(self.net, f"av-sync-{self.config.preset}")

    def __repr__(self) -> str:
        return f"AvSync({self.tag}, windows of {self.config.seconds:g} s, {self.config.halves})"

    @check_types
    @torch.no_grad()
    def look(self, clip: Clip) -> Tensor:
        """Vectors of the windows of a clip's pictures, [W, 256]; see :meth:`windows`.

        Raises:
            UsageError: the clip is shorter than :data:`SHORTEST_S`.
        """
        if clip.duration < SHORTEST_S - 1e-6:
            raise UsageError(f"{clip.duration:.2f} s are too short for AV-Sync; it needs {SHORTEST_S:g} s")
        parts = zip(*(part.split(32) for part in self.net.encoders.windows(clip)), strict=True)
        return torch.cat([self.net.see(*part) for part in parts])

    @check_types
    @torch.no_grad()
    def windows(self, video: Clip | Tensor, sound: Sound) -> np.ndarray:
        """Probabilities of consecutive windows, float64 [W]; the last window ends where the clip ends.

        Args:
            video: a clip, or the vectors [W, 256] that :meth:`look` gives of it.
            sound: as long as the clip, to a tenth of a second; any rate.

        Raises:
            UsageError: less than :data:`SHORTEST_S`, or picture and sound of different length.
        """
        if isinstance(video, Clip):
            if abs(video.duration - sound.duration) > 0.1:
                raise UsageError(
                    f"{video.duration:.2f} s of picture and {sound.duration:.2f} s of sound: they must be equally long"
                )
            video, sound = self.look(video), sound.fit(video.duration)
        n, size, last = len(video), self.config.seconds, sound.duration - self.config.seconds
        if not (n - 2) * size - 0.1 <= last <= (n - 1) * size + 0.1:
            raise UsageError(f"{n} windows of picture and {sound.duration:.2f} s of sound: they must be equally long")
        sound = sound.mono().resample(SAMPLE_RATE)
        starts = [*(k * size for k in range(n - 1)), max(0.0, last)]
        banks = torch.cat([self.net.encoders.audio.listen(sound.slice(start, start + size)) for start in starts])
        vectors = torch.cat([self.net.hear(part) for part in banks.split(32)])
        return self.net.judge(video, vectors).sigmoid().double().cpu().numpy()

    def score(self, video: Clip | Tensor, sound: Sound) -> float:
        """Probability of a clip, 0 to 1: the mean over :meth:`windows`, or their maximum where ``halves`` is "any"."""
        windows = self.windows(video, sound)
        return float(windows.mean() if self.config.halves == "mean" else windows.max())

    def _network(self) -> nn.Module:
        return self.net

    def _parts(self) -> dict[str, Pretrained | None]:
        return {"vision": self.net.encoders.frame_encoder}

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        return {"frame_encoder": StrikeVision.from_pretrained(where["vision"]) if "vision" in where else None}

    @classmethod
    def _build(cls, config: AvSyncConfig, **parts: Any) -> AvSync:
        return cls(AvSyncNet(config, **parts))
