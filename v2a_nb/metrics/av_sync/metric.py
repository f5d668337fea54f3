"""AV-Sync, the synchrony score of Action2Sound (section 5.1, supplement 7.4, after Diff-Foley).

A classifier looks at a video and a sound and says how likely it is that they are synchronous; the score is the share
of generated sounds that it takes for synchronous. Video encoder and audio encoder are those of AV-Sim; their two
vectors side by side go through three linear layers.

The score is no percentage of anything outside of its classifier: the paper's is right for 70.6 % of its validation
pairs and takes 77.7 % of the *true* sounds for synchronous. Read every score beside what the same classifier says of
the truth, which is its upper bound, and of another video's sound, which is its floor
(``curve`` says how far off a sound may be).

- ``paper``: windows of 1.5 s, 16 pictures each; a clip of 3 s has two.
- ``tiny``: windows of 2.56 s, what AV-Sim's ``tiny`` encoders see at once.

The paper does not say how windows make a clip; its code counts a clip as synchronous where *any* window is
(``halves="any"``), which squares the chance of turning down a wrong one. Ours is the mean over windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.hub import Pretrained, tag_of
from v2a_nb.metrics.statistics import bootstrap
from v2a_nb.models import av_embedding as av_sim
from v2a_nb.models.audio_spectrogram_transformer import SAMPLE_RATE
from v2a_nb.models.av_embedding import AudioVisualEmbedding, AudioVisualEmbeddingConfig
from v2a_nb.models.video_encoders.divided_space_time import windows_of
from v2a_nb.models.video_encoders.strike import StrikeVision

SHORTEST_S = 1.0
"""Less than this says nothing about synchrony: hits are about a second apart."""
RULES = ("mean", "any")
RELEASED_CROP_S = 1.0
"""The released code cuts 1.0 s to 2.5 s out of every half of 1.5 s once more: 0.5 s are left, and zeros."""


@dataclass(frozen=True)
class AvSyncConfig:
    """Sizes and conventions of a classifier.

    Attributes:
        preset: ``"tiny"`` or ``"paper"``.
        encoders: of AV-Sim, whose ``video.seconds`` is a window.
        layers: outputs of the first two linear layers; the third has one.
        halves: how windows make a clip: ``"mean"`` of their probabilities, or ``"any"``, as released.
        crop: ``"whole"`` windows are heard, or ``"released"``, their last half second.
    """

    preset: str = "tiny"
    encoders: AudioVisualEmbeddingConfig = field(default_factory=lambda: av_sim.PRESETS["tiny"])
    layers: tuple[int, int] = (1024, 512)
    halves: str = "mean"
    crop: str = "whole"

    def check(self) -> None:
        """Raise :class:`UsageError` for settings that fit no classifier."""
        if len(self.layers) != 2:
            raise UsageError(f"AV-Sync has three linear layers: give two widths, not {len(self.layers)}")
        for value, known in ((self.halves, RULES), (self.crop, ("whole", "released"))):
            if value not in known:
                raise UsageError(f"unknown {value!r}; there is {' and '.join(known)}")
        if self.encoders.audio.seconds > self.encoders.video.seconds + 1e-6:
            raise UsageError(
                f"{self.encoders.audio.seconds} s of sound do not belong to {self.encoders.video.seconds} s of pictures"
            )
        if self.crop == "released" and self.seconds <= RELEASED_CROP_S:
            raise UsageError(f"nothing of a window of {self.seconds} s is left after {RELEASED_CROP_S} s")

    @property
    def seconds(self) -> float:
        """Of a window."""
        return self.encoders.video.seconds


_PAPER = av_sim.PRESETS["paper"]
PRESETS = {
    "tiny": AvSyncConfig(),
    "paper": AvSyncConfig("paper", replace(_PAPER, video=replace(_PAPER.video, fps=10.0))),
}


class AvSyncNet(nn.Module):
    """What is seen and a filter bank to one logit; over 0 is synchronous."""

    def __init__(
        self,
        config: AvSyncConfig | None = None,
        encoders: AudioVisualEmbedding | None = None,
        eyes: StrikeVision | None = None,
    ) -> None:
        """Build it.

        Args:
            config: sizes; left out, ``tiny``.
            encoders: to start from; left out, they know nothing yet.
            eyes: of the encoders, where these are left out; see :class:`AudioVisualEmbedding`.

        Raises:
            UsageError: settings that fit no classifier, or encoders of other sizes.
        """
        super().__init__()
        self.config = c = config or PRESETS["tiny"]
        c.check()
        if encoders is not None and encoders.config != c.encoders:
            raise UsageError("the encoders have other sizes than the classifier is to have")
        self.encoders = AudioVisualEmbedding(c.encoders, encoders.eyes if encoders is not None else eyes)
        if encoders is not None:
            self.encoders.load_state_dict(encoders.state_dict())
        first, second = c.layers
        self.head = nn.Sequential(
            nn.Linear(2 * c.encoders.dim, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 1)
        )

    def see(self, *seen: Tensor) -> Tensor:
        """[B, 256] of what :meth:`AudioVisualEmbedding.windows` gives; not of unit length."""
        return self.encoders.vid_proj(self.encoders.video(*seen))

    def hear(self, bank: Tensor) -> Tensor:
        """[B, 256] of filter banks [B, T, bands] of whole windows; not of unit length."""
        if self.config.crop == "released":
            bank = bank[:, round(RELEASED_CROP_S * SAMPLE_RATE / self.config.encoders.audio.hop) :]
        return self.encoders.aud_proj(self.encoders.audio(bank))

    def judge(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Logits [B] of pairs of vectors [B, 256]."""
        return self.head(torch.cat([heard, seen], dim=-1))[..., 0]

    def forward(self, seen: Sequence[Tensor], bank: Tensor) -> Tensor:
        """Logits [B] of pairs; see :meth:`see` and :meth:`hear`."""
        return self.judge(self.see(*seen), self.hear(bank))


def synchronous(windows: Sequence[float] | np.ndarray, halves: str = "mean") -> bool:
    """Whether a clip with these probabilities counts as synchronous; one half does.

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


def share_synchronous(
    clips: Sequence[Sequence[float]], clusters: Sequence[str] | None = None, halves: str = "mean", **options: object
) -> dict:
    """The score: how many clips count as synchronous, percent, with its interval.

    Every clip weighs the same (the released code averages the means of batches, the last of which is smaller).

    Args:
        clips: for each its windows' probabilities.
        clusters: one recording per clip, for the interval.
        halves: how windows make a clip.
        options: ``rounds``, ``seed`` and ``level`` of :func:`~v2a_nb.metrics.statistics.bootstrap`.

    Returns:
        ``{"value", "low", "high", "n"}``.

    Raises:
        UsageError: no clips, or probabilities that are no numbers.
    """
    if not len(clips):
        raise UsageError("AV-Sync needs at least one clip")
    rows = [100.0 * synchronous(windows, halves) for windows in clips]
    low, high = bootstrap(rows, lambda part: float(np.mean(part)), clusters, **options)
    return {"value": float(np.mean(rows)), "low": low, "high": high, "n": len(rows)}


class AvSync(Pretrained):
    """A trained classifier, ready to judge clips.

    Examples:
        >>> judge = AvSync.from_pretrained("av_sync")                 # doctest: +SKIP
        >>> judge.score(clip.silent(), sound)                         # doctest: +SKIP
        0.81
        >>> share_synchronous([judge.windows(c, s) for c, s in made])  # doctest: +SKIP
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
        """``av-sync-tiny@`` and four digits of its weights: what a published score must name."""
        return tag_of(self.net, f"av-sync-{self.config.preset}")

    def __repr__(self) -> str:
        return f"AvSync({self.tag}, windows of {self.config.seconds:g} s, {self.config.halves})"

    @torch.no_grad()
    def windows(self, clip: Clip, sound: Sound) -> np.ndarray:
        """Probabilities of all windows, float64 [W]: side by side, the last one ending where the clip ends.

        Args:
            clip: its own sound is not looked at.
            sound: as long as the clip, to a tenth of a second; any rate.

        Raises:
            UsageError: less than :data:`SHORTEST_S`, or picture and sound of different length.
        """
        if abs(clip.duration - sound.duration) > 0.1:
            raise UsageError(f"{clip.duration:.2f} s of picture and {sound.duration:.2f} s of sound are no pair")
        if clip.duration < SHORTEST_S - 1e-6:
            raise UsageError(f"{clip.duration:.2f} s are too short for AV-Sync; it needs {SHORTEST_S:g} s")
        encoders = self.net.encoders
        seen = encoders.windows(clip)
        parts = windows_of(clip.duration, self.config.seconds)
        heard = sound.mono().resample(SAMPLE_RATE).fit(clip.duration)
        banks = torch.cat([encoders.audio.listen(heard.slice(start, stop)) for start, stop in parts])
        many = zip(*(part.split(32) for part in (*seen, banks)), strict=True)
        made = [self.net(pair[:-1], pair[-1]) for pair in many]
        return torch.cat(made).sigmoid().double().cpu().numpy()

    def score(self, clip: Clip, sound: Sound) -> float:
        """One clip, 0 to 1: the mean over :meth:`windows`, or the greatest of them where ``halves`` is "any"."""
        made = self.windows(clip, sound)
        return float(made.mean() if self.config.halves == "mean" else made.max())

    def evaluate(
        self, pairs: Sequence[tuple[Clip, Sound]], clusters: Sequence[str] | None = None, **options: object
    ) -> dict:
        """The score of clips with their sounds as a row of a report: ``name``, ``extractor``, percent and interval."""
        rows = [self.windows(clip, sound) for clip, sound in pairs]
        made = share_synchronous(rows, clusters, self.config.halves, **options)
        return {"name": "av_sync", "extractor": self.tag, **made}

    def _network(self) -> nn.Module:
        return self.net

    def _parts(self) -> dict[str, Pretrained | None]:
        return {"vision": self.net.encoders.eyes}

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        return {"eyes": StrikeVision.from_pretrained(where["vision"]) if "vision" in where else None}

    @classmethod
    def _build(cls, config: AvSyncConfig, **parts: Any) -> AvSync:
        return cls(AvSyncNet(config, **parts))


def loss_of(logits: Tensor, label: Tensor, positive_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy of logits [B] to labels [B] of 0 and 1; the released one weighs matched pairs double."""
    weight = logits.new_tensor(positive_weight)
    return F.binary_cross_entropy_with_logits(logits.float(), label.float(), pos_weight=weight)
