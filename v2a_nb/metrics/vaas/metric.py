"""VAAS, the Video-Audio Alignment Score of EgoSonics (section 3.5, supplement H).

A classifier reads two pictures, the frame vectors side by side and the spectrogram, and says whether they belong
together: 1 for the same moment of the same video, 0 for another video or for a shifted sound. One encoder with shared
weights reads both; five linear layers, each followed by a ReLU, compare. Its two presets, the paper's and our small
one, are in :mod:`v2a_nb.metrics.vaas.model`.

The score ends in a ReLU and is trained on a squared error, so it has no upper end. The paper can be read in two ways,
and both are given in percent: ``vaas_acc``, the share of clips over one half (its "average accuracy"), and
``vaas_score``, the mean of the score clipped to 0 to 1 ("anything close to 1").

What it cannot see: it reads pictures with the frozen encoder that it was trained on. What that encoder overlooks does
not count, and a generator that reads the same vectors shares its mistakes. The card of the weights says how far off a
sound may be before the score notices (:func:`v2a_nb.metrics.vaas.train.shift_curve`): publish it with the score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, WeightsError, check_types, check_value
from v2a_nb.hub import Pretrained, tag_of
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.statistics import accuracy_with_interval, mean_with_interval, share_interval
from v2a_nb.metrics.vaas.model import SHORTEST_S, PaperVaas, TinyVaas, VaasConfig, build
from v2a_nb.models.video_encoders.strike import StrikeVision

READINGS = {"vaas_acc": lambda scores: 100.0 * (scores > 0.5), "vaas_score": lambda scores: 100 * scores.clip(0, 1)}
"""Both readings of the paper: from scores of clips [N] to the percentages that are averaged."""


@check_types
def conventions(scores: Sequence[float], clusters: Sequence[str] | None = None, **options: Any) -> dict:
    """Both readings of the paper over clips, with 95 % intervals.

    Args:
        scores: one score per clip, 0 and up.
        clusters: one recording per clip, for the intervals.
        options: ``rounds``, ``seed`` and ``level`` of :func:`~v2a_nb.metrics.statistics.bootstrap`, for ``vaas_score``;
            the interval of ``vaas_acc`` is :func:`~v2a_nb.metrics.statistics.share_interval`.

    Returns:
        ``vaas_acc`` (primary) and ``vaas_score``, each ``{"value", "low", "high", "n"}`` in percent. A score of
        exactly one half is not aligned.

    Raises:
        UsageError: no scores, or scores that are NaN.

    Examples:
        >>> both = conventions([0.49, 0.51, 3.0, 0.0])
        >>> both["vaas_acc"]["value"], both["vaas_score"]["value"]
        (50.0, 50.0)
    """
    values = np.asarray(scores, float)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise UsageError("VAAS needs at least one score, and every score must be a number")
    return {
        "vaas_acc": accuracy_with_interval(values > 0.5, clusters, scale=100.0),
        "vaas_score": mean_with_interval(READINGS["vaas_score"](values), clusters, **options),
    }


class VaasMetric(Metric):
    """Both readings of VAAS over clips.

    Args:
        model: a :class:`Vaas`; left out, the shipped one.
    """

    def load_model(self) -> Vaas:
        return Vaas.from_pretrained()

    def score(self, clip: ScoredClip) -> dict[str, float]:
        vectors = clip.feature("video", f"frames of {self.extractor}", lambda: self.model.vectors(clip.video).numpy())
        seconds = clip.feature("video", "duration", lambda: clip.video.duration)
        assert clip.sound is not None
        score = np.array(self.model.score(vectors, clip.sound.fit(seconds)))  # a sound may end before the pictures
        return {name: float(reading(score)) for name, reading in READINGS.items()}

    def interval(
        self, rows: Sequence[Mapping[str, float]], recordings: Sequence[str], name: str
    ) -> tuple[float, float]:
        if name != "vaas_acc":
            return super().interval(rows, recordings, name)
        return share_interval([(row[name] / 100, 1) for row in rows], recordings, scale=100.0)


class Vaas(Pretrained):
    """A trained classifier with its encoder, ready to score clips.

    Examples:
        >>> vaas = Vaas.from_pretrained("vaas")
        >>> vaas.score(clip.silent(), sound) > 0.5
        True
        >>> sorted(conventions([vaas.score(clip, sound)]))
        ['vaas_acc', 'vaas_score']
    """

    kind, title, config_class, default = "vaas", "a VAAS classifier", VaasConfig, "vaas"
    # the encoder is part of the metric: were it the generator's own, scores would change when that is trained again
    optional_parts = ("vision",)

    def __init__(self, net: TinyVaas | PaperVaas, encoder: StrikeVision | None = None, card: dict | None = None):
        """Put a classifier and its encoder together.

        Args:
            net: the classifier.
            encoder: what turns clips into frame vectors; without it, give vectors instead of clips.
            card: facts about its training, from ``config.json``.

        Raises:
            WeightsError: the encoder gives other vectors than the classifier reads.
        """
        check_value("Vaas", "net", net, TinyVaas, PaperVaas)
        check_value("Vaas", "card", card, Mapping, type(None))
        if encoder is not None and not hasattr(encoder, "features"):
            raise UsageError(f"Vaas: encoder must have features(clip), a {type(encoder).__name__} has not")
        self.net, self.encoder, self.card = net.eval(), encoder, dict(card or {})
        if encoder is not None and (encoder.dim, encoder.rate) != (self.config.vector_dim, self.config.vector_rate):
            raise WeightsError(
                f"the encoder gives {encoder.dim} channels at {encoder.rate:g} Hz, the classifier reads "
                f"{self.config.vector_dim} at {self.config.vector_rate:g} Hz"
            )

    @property
    def config(self) -> VaasConfig:
        return self.net.config

    @property
    def tag(self) -> str:
        """``vaas-tiny@`` and four digits of its weights, which a published score must name."""
        return tag_of(self.net, f"vaas-{self.config.preset}")

    def __repr__(self) -> str:
        c = self.config
        return f"Vaas({self.tag}, windows of {c.seconds:g} s, [{c.vector_rate:g} Hz, {c.vector_dim}] vectors)"

    def vectors(self, video: Clip | np.ndarray | Tensor) -> Tensor:
        """Frame vectors [T, D] of a clip; vectors are checked and returned.

        Raises:
            UsageError: a clip where there is no encoder, or an array of the wrong shape.
            MediaError: vectors that are NaN or infinite.
        """
        if isinstance(video, Clip):
            if self.encoder is None:
                raise UsageError(f"this classifier has no encoder: give frame vectors [T, {self.config.vector_dim}]")
            return self.encoder.features(video)
        vectors = torch.as_tensor(np.asarray(video), dtype=torch.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.config.vector_dim or not len(vectors):
            raise UsageError(f"frame vectors must be [T, {self.config.vector_dim}], not {tuple(vectors.shape)}")
        if not bool(torch.isfinite(vectors).all()):
            raise MediaError("frame vectors hold NaN or infinite numbers")
        return vectors

    @check_types
    @torch.no_grad()
    def windows(self, video: Clip | np.ndarray | Tensor, sound: Sound) -> np.ndarray:
        """Scores of consecutive windows, float64 [W]; the last window ends where the clip ends.

        A clip that is shorter than a window is one window.

        Args:
            video: a clip, or frame vectors [T, D] at ``config.vector_rate``.
            sound: as long as the clip, to a tenth of a second; any rate.

        Raises:
            UsageError: less than :data:`SHORTEST_S`, or picture and sound of different length.
            MediaError: vectors that are NaN or infinite.
        """
        c = self.config
        vectors = self.vectors(video)
        seconds = len(vectors) / c.vector_rate
        if abs(seconds - sound.duration) > 0.1:
            raise UsageError(
                f"{seconds:.2f} s of picture and {sound.duration:.2f} s of sound: they must be equally long"
            )
        if seconds < SHORTEST_S - 1e-6:
            raise UsageError(f"{seconds:.2f} s are too short for VAAS; it needs {SHORTEST_S:g} s")
        size = min(len(vectors), round(c.seconds * c.vector_rate))
        last = len(vectors) - size
        starts = [*range(0, last, size), last] if last else [0]
        ratio = self.net.audio_rate / c.vector_rate
        columns = round(size * ratio)
        # columns that rounding may ask for after the end are those of silence
        audio = self.net.listen(sound.fit(seconds + 0.1))
        pairs = [(vectors[s : s + size], audio[:, round(s * ratio) : round(s * ratio) + columns]) for s in starts]
        scores = [self.net(torch.stack(v), torch.stack(a)) for v, a in (zip(*p, strict=True) for p in _by(pairs, 32))]
        return torch.cat(scores).double().numpy()

    def score(self, video: Clip | np.ndarray | Tensor, sound: Sound) -> float:
        """Score of a clip, 0 to 1: the mean over :meth:`windows`, each clipped to this range. Errors as there."""
        return float(np.clip(self.windows(video, sound), 0, 1).mean())

    def _network(self) -> nn.Module:
        return self.net

    def _stored(self, name: str) -> bool:
        return not name.startswith("vit.")  # in ``paper`` the ViT is loaded by its own id

    def _parts(self) -> dict[str, Pretrained | None]:
        return {"vision": self.encoder}

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        return {"encoder": StrikeVision.from_pretrained(where["vision"]) if "vision" in where else None}

    @classmethod
    def _build(cls, config: VaasConfig, **parts: Any) -> Vaas:
        return cls(PaperVaas.from_pretrained(config=config) if config.preset == "paper" else build(config), **parts)


def _by(items: list, size: int) -> list[list]:
    return [items[i : i + size] for i in range(0, len(items), size)]
