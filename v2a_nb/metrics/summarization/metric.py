"""Video summarization with sound: does a generated sound help to say what happens? (EgoSonics, section 4.2)

A small network (:mod:`v2a_nb.metrics.summarization.model`) reads frame vectors, and beside them the vectors of a sound
or zeros in its place (the paper's switch, supplement F, figure 7). It predicts the embedding of the one-line narration;
the score is the cosine of the two. It is given for no sound, for the true one and for generated ones, always from the
same trained network.

A cosine alone says little: a network trained on a squared error can always predict the mean narration, and narrations
resemble each other. So two controls stand beside it: the *mean predictor*, which reads nothing, and *shuffled* sound,
the true sound of another recording. What counts is the gain over no sound, clip by clip, with its interval.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from v2a_nb.errors import UsageError, WeightsError, check_types
from v2a_nb.hub import SHIPPED, tag_of
from v2a_nb.metrics.base import Metric, ScoredClip
from v2a_nb.metrics.pairing import shuffled
from v2a_nb.metrics.statistics import mean_with_interval
from v2a_nb.metrics.summarization.model import NarrationText, Summarizer, codec_vectors
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.models.video_encoders.strike import StrikeVision


def cosine(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Cosine of each row: [N, D] and [N, D] (or [D]) to [N]; a zero vector agrees with nothing (0)."""
    predicted, target = np.asarray(predicted, float), np.asarray(target, float)
    dot = (predicted * target).sum(-1)
    size = np.linalg.norm(predicted, axis=-1) * np.linalg.norm(target, axis=-1)
    return np.divide(dot, size, out=np.zeros_like(dot), where=size > 0)


@torch.no_grad()
@check_types
def predict(model: Summarizer, vectors: Sequence, sounds: Sequence | None = None) -> np.ndarray:
    """Predicted embeddings float32 [N, text_dim] of clips of any length.

    Args:
        model: trained.
        vectors: N arrays [T, vector_dim].
        sounds: N arrays [S, sound_dim], or None for the switch off.

    Raises:
        UsageError: not as many sounds as clips, or channels that do not fit.
    """
    if sounds is not None and len(sounds) != len(vectors):
        raise UsageError(f"{len(sounds)} sounds for {len(vectors)} clips")
    model.eval()
    predictions = []
    for i, v in enumerate(vectors):
        video = torch.from_numpy(np.array(v, np.float32))[None]
        sound = None if sounds is None else torch.from_numpy(np.array(sounds[i], np.float32))[None]
        predictions.append(model(video, sound)[0].numpy())
    return np.stack(predictions)


def nearest(
    model: Summarizer, text: NarrationText, vectors: Sequence, sounds: Sequence | None, narrations: Sequence[str]
) -> list[str]:
    """The narration, of those given, whose embedding is nearest to each prediction of :func:`predict`."""
    known = list(dict.fromkeys(narrations))
    predictions = predict(model, vectors, sounds)
    return [known[i] for i in (predictions @ text.encode(known).T).argmax(1)]


@check_types
def score_summaries(
    model: Summarizer,
    vectors: Sequence,
    sounds: Mapping[str, Sequence],
    targets: np.ndarray,
    recordings: Sequence,
) -> list[dict]:
    """The table of the paper's section 4.2, with controls and intervals.

    Args:
        model: trained.
        vectors: N arrays [T, vector_dim].
        sounds: by name, N arrays [S, sound_dim] each: ``"true"`` and any generated ones. Where ``"true"`` is given,
            so is the control ``"shuffled"``.
        targets: embeddings of the narrations [N, text_dim].
        recordings: one per clip; intervals are over recordings.

    Returns:
        rows ``{"sound", "cosine", "low", "high", "gain", "gain_low", "gain_high", "n"}`` for ``"mean predictor"``,
        ``"none"``, ``"shuffled"`` and each of ``sounds``. The gain is over ``"none"``, clip by clip.

    Raises:
        UsageError: no clips, numbers of things that do not agree, or nothing to shuffle because one recording has more
            than half of the clips.
    """
    n = len(vectors)
    if not n or len(targets) != n or len(recordings) != n:
        raise UsageError(f"{n} clips with {len(targets)} narrations of {len(recordings)} recordings cannot be scored")
    names = [str(r) for r in recordings]
    predictions = {"mean predictor": np.tile(model.mean.numpy(), (n, 1)), "none": predict(model, vectors)}
    if "true" in sounds:
        order = shuffled(names)
        if order is None:
            raise UsageError("shuffled sound needs clips of other recordings: one has more than half of them")
        predictions["shuffled"] = predict(model, vectors, [sounds["true"][i] for i in order])
    predictions |= {name: predict(model, vectors, arrays) for name, arrays in sounds.items()}
    cosines = {name: cosine(p, targets) for name, p in predictions.items()}
    rows = []
    for name, values in cosines.items():
        score = mean_with_interval(values, names)
        gain = mean_with_interval(values - cosines["none"], names)
        row = {"sound": name, "cosine": score["value"], "low": score["low"], "high": score["high"]}
        row |= {"gain": gain["value"], "gain_low": gain["low"], "gain_high": gain["high"], "n": n}
        rows.append(row)
    return rows


class Narrator(NamedTuple):
    """A trained summarizer with the encoders that it was trained on.

    Attributes:
        summarizer: the network, with its encoder of narrations.
        vision: the frozen encoder of pictures.
        codec: whose latents are the sound vectors.
    """

    summarizer: Summarizer
    vision: StrikeVision
    codec: nn.Module

    @property
    def tag(self) -> str:
        """``summary@`` and four digits of its weights."""
        return tag_of(self.summarizer, "summary")

    @classmethod
    def shipped(cls) -> Narrator:
        """The shipped one.

        Raises:
            WeightsError: the shipped encoders are not those that it was trained on.
        """
        summarizer, codec = Summarizer.from_pretrained(), TinyCodec.from_pretrained()
        vision = StrikeVision.from_pretrained(SHIPPED / "strike_vision")
        for name, found in (("encoder", tag_of(vision, "vision")), ("codec", tag_of(codec, "codec"))):
            if summarizer.card.get(name) != found:
                raise WeightsError(f"the summarizer is of {name} {summarizer.card.get(name)}; {found} is shipped")
        return cls(summarizer, vision, codec)


class SummaryMetric(Metric):
    """Cosine of the predicted narration with the true one, and its gain over the prediction without sound.

    Args:
        model: a :class:`Narrator`; left out, the shipped one.
    """

    def load_model(self) -> Narrator:
        return Narrator.shipped()

    def score(self, clip: ScoredClip) -> dict[str, float]:
        summarizer, vision, codec = self.model
        vectors = clip.feature("video", f"frames of {self.extractor}", lambda: vision.features(clip.video).numpy())
        target = summarizer.text.encode([clip.text])
        sound, silent = (
            float(cosine(predict(summarizer, [vectors], sounds), target)[0])
            for sounds in ([codec_vectors(codec, clip.fitted_sound)], None)
        )
        return {"summary_cosine": sound, "summary_gain": sound - silent}
