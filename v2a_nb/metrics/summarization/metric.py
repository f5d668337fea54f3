"""Video summarization with sound: does a generated sound help to say what happens? (EgoSonics, section 4.2)

A small network reads frame vectors, and beside them the vectors of a sound or zeros in its place (the
paper's switch, supplement F, figure 7), and predicts the embedding of the one-line narration. The score is
the cosine between the two. It is given for no sound, for the true one and for generated ones, always from
the same trained network.

A cosine alone says little: a network trained on a squared error can always say the mean narration, and
narrations resemble each other. So two controls stand beside it: the *mean predictor*, which looks at nothing,
and *shuffled* sound, the true sound of another recording. What counts is the gain over no sound, clip by clip,
with its interval.

In ``paper`` the text embedding is CLIP's and the sound's vectors are EnCodec's, both through transformers
(:class:`ClipText`, :class:`EncodecSound`). In ``tiny`` the sound's vectors are the latents of our own codec,
and the text embedding is :class:`NarrationText`, learned from the narrations themselves.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, config_from_json, load_weights, read_tensors, reason
from v2a_nb.metrics.statistics import bootstrap


class TextEncoder(Protocol):
    """What summarization needs of a text encoder."""

    @property
    def dim(self) -> int:
        """Channels of an embedding."""

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [N, dim]."""


LEAST = 1e-9
"""Length under which a vector has no direction."""


class NarrationText:
    """Latent semantic analysis of narrations: words and pairs of words, weighted, then their main directions.

    Counts of a text's words and of its neighbouring pairs ("strikes metal" is not "strikes drum") are weighted
    by how rare they are, and projected on the greatest singular vectors of the training narrations
    (Deerwester et al. 1990). No chance is involved: the same narrations, the same embedding.

    Examples:
        >>> text = NarrationText.learn(["a mallet strikes the drum", "a hand misses the drum"], dim=2)
        >>> made = text.encode(["a mallet strikes the drum", "a hand misses the drum"])
        >>> np.linalg.norm(made, axis=1).round(3).tolist()
        [1.0, 1.0]
    """

    def __init__(self, terms: Sequence[str], projection: np.ndarray) -> None:
        """Take what :meth:`learn` learned.

        Args:
            terms: words and pairs of words, one for each row of the projection.
            projection: float32 [terms, dim], the weights of rarity multiplied in.

        Raises:
            WeightsError: not one row per term.
        """
        if projection.ndim != 2 or len(terms) != len(projection):
            raise WeightsError(f"{len(terms)} terms do not fit a projection {projection.shape}")
        self.terms, self.projection = tuple(terms), np.asarray(projection, np.float32)
        self._place = {term: i for i, term in enumerate(self.terms)}

    @property
    def dim(self) -> int:
        return self.projection.shape[1]

    @staticmethod
    def split(text: str) -> list[str]:
        """The words of a text, without articles, and its neighbouring pairs."""
        words = [w for w in re.findall(r"[a-z0-9']+", text.lower()) if w not in ("a", "an", "the")]
        return words + [f"{a} {b}" for a, b in pairwise(words)]

    @classmethod
    def learn(cls, narrations: Sequence[str], dim: int = 64) -> NarrationText:
        """From training narrations.

        Args:
            narrations: at least two.
            dim: channels; fewer where the narrations have fewer terms.

        Raises:
            UsageError: fewer than two narrations, or none with a word.
        """
        terms = sorted({term for text in narrations for term in cls.split(text)})
        if len(narrations) < 2 or not terms or dim < 1:
            raise UsageError(f"{len(narrations)} narrations with {len(terms)} terms teach no embedding")
        plain = cls(terms, np.eye(len(terms), dtype=np.float32))
        counts = np.stack([plain._counts(text) for text in narrations])  # [N, terms]
        rarity = np.log((1 + len(counts)) / (1 + (counts > 0).sum(0))) + 1
        weighted = counts * rarity
        weighted /= np.linalg.norm(weighted, axis=1, keepdims=True).clip(1e-12)
        _, vectors = np.linalg.eigh(weighted.T @ weighted)  # [terms, terms], the greatest last
        main = vectors[:, ::-1][:, :dim]
        # a direction and its opposite are equally good: the largest entry is made positive
        main = main * np.sign(main[np.abs(main).argmax(0), np.arange(main.shape[1])])
        return cls(terms, (rarity[:, None] * main).astype(np.float32))

    def _counts(self, text: str) -> np.ndarray:
        row = np.zeros(len(self.terms))
        for term in self.split(text):
            if term in self._place:
                row[self._place[term]] += 1
        return row

    def knows(self, text: str) -> bool:
        """Whether a text has a direction: one that shares no word with others may have none."""
        return bool(np.linalg.norm(self._counts(text) @ self.projection) >= LEAST)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [N, dim].

        Raises:
            UsageError: a text without a single known word, which has no direction.
        """
        made = np.stack([self._counts(text) for text in texts]) @ self.projection if len(texts) else np.zeros((0, 1))
        norms = np.linalg.norm(made, axis=1, keepdims=True)
        for text, norm in zip(texts, norms[:, 0], strict=True):
            if norm < LEAST:
                raise UsageError(f"no word of {text!r} is known to this text encoder")
        return (made / norms).astype(np.float32)


class ClipText:
    """CLIP's text encoder through transformers (supplement F): unit vectors of its projection."""

    def __init__(self, model: nn.Module, tokenizer) -> None:
        """Wrap a ``transformers.CLIPTextModelWithProjection`` and its tokenizer; the model is frozen."""
        self.model, self.tokenizer = model.eval().requires_grad_(False), tokenizer

    @property
    def dim(self) -> int:
        return self.model.config.projection_dim

    @classmethod
    def from_pretrained(cls, name: str = "openai/clip-vit-base-patch32") -> ClipText:
        """By Hub id or folder; raises :class:`WeightsError` where it cannot be loaded."""
        from transformers import AutoTokenizer, CLIPTextModelWithProjection

        model = _published(CLIPTextModelWithProjection, name)
        try:
            return cls(model, AutoTokenizer.from_pretrained(name))
        except Exception as error:  # transformers and the Hub's client raise many kinds
            raise WeightsError(f"the tokenizer of {name} cannot be loaded: {reason(error)}") from error

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [N, dim]; texts are cut at the model's longest."""
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        return F.normalize(self.model(**tokens).text_embeds, dim=-1).float().numpy()


class EncodecSound:
    """EnCodec's vectors of a sound through transformers: what its encoder gives before quantization, 75 Hz."""

    def __init__(self, model: nn.Module) -> None:
        """Wrap a ``transformers.EncodecModel`` for mono; it is frozen."""
        self.model = model.eval().requires_grad_(False)

    @property
    def dim(self) -> int:
        """Channels of a vector: 128 at 24 kHz."""
        return self.model.config.hidden_size

    @classmethod
    def from_pretrained(cls, name: str = "facebook/encodec_24khz") -> EncodecSound:
        """By Hub id or folder; raises :class:`WeightsError` where it cannot be loaded."""
        from transformers import EncodecModel

        return cls(_published(EncodecModel, name))

    @torch.no_grad()
    def vectors(self, sound: Sound) -> np.ndarray:
        """float32 [T', dim]."""
        wave = sound.mono().resample(self.model.config.sampling_rate).samples
        return self.model.encoder(torch.tensor(wave)[None])[0].T.float().numpy()


def codec_vectors(codec: nn.Module, sound: Sound) -> np.ndarray:
    """The ``tiny`` sound vectors: latents of a :class:`~v2a_nb.models.tiny_codec.TinyCodec`, float32 [T', 32], 50 Hz."""
    wave = torch.tensor(sound.mono().resample(codec.sample_rate).samples)
    with torch.no_grad():
        return codec.latents(wave)[0].T.numpy()


@dataclass(frozen=True)
class SummaryConfig:
    """Sizes of a :class:`Summarizer`.

    Attributes:
        preset: ``"tiny"`` or ``"paper"``; layers and sizes are lost from the paper.
        vector_dim: channels of a frame vector.
        sound_dim: channels of a sound's vector.
        text_dim: channels of the text embedding.
        widths: of the convolutions, each of which halves the time.
    """

    preset: str = "tiny"
    vector_dim: int = 384
    sound_dim: int = 32
    text_dim: int = 64
    widths: tuple[int, ...] = (96, 96, 96)


PRESETS = {
    "tiny": SummaryConfig(),
    # frames by CLIP ViT-L/14, sound by EnCodec at 24 kHz, text by the ViT-B/32's encoder
    "paper": SummaryConfig("paper", 768, 128, 512, (512, 512, 512)),
}


class Summarizer(Pretrained, nn.Module):
    """Frame vectors, and a sound's or zeros, to the embedding of what happens (supplement F, figure 7).

    Args:
        config: sizes; left out, ``tiny``.
        text: the encoder of narrations whose embeddings are predicted; it is saved along.
    """

    kind, title, config_class, default = "summary", "a summarization network", SummaryConfig, "summary"

    def __init__(self, config: SummaryConfig | None = None, text: NarrationText | None = None) -> None:
        super().__init__()
        self.text = text
        self.config = c = config or SummaryConfig()
        if c.preset not in PRESETS or not c.widths:
            raise UsageError(f"unknown preset {c.preset!r} of summarization; known are {', '.join(PRESETS)}")
        self.norm = nn.LayerNorm(c.vector_dim)
        layers: list[nn.Module] = []
        before = c.vector_dim + c.sound_dim
        for width in c.widths:
            layers += [nn.Conv1d(before, width, 5, stride=2, padding=2), nn.BatchNorm1d(width), nn.GELU()]
            layers += [nn.Dropout(0.1)]
            before = width
        self.layers = nn.Sequential(*layers)
        # the mean over time says how much there is of something, which counts hits; the greatest value, whether
        self.out = nn.Linear(2 * before, c.text_dim)
        self.register_buffer("mean", torch.zeros(c.text_dim))
        """Mean embedding of the training narrations: the first control."""
        # a codec's latents have a scale of their own, and beside vectors of norm one it decides what is learned
        self.register_buffer("sound_mean", torch.zeros(c.sound_dim))
        self.register_buffer("sound_deviation", torch.ones(c.sound_dim))

    def forward(self, vectors: Tensor, sound: Tensor | None = None, on: Tensor | None = None) -> Tensor:
        """Predict.

        Args:
            vectors: [B, T, vector_dim], any rate.
            sound: [B, S, sound_dim], any rate, over the same time; left out, the switch is off: zeros stand
                where the standardised sound would.
            on: the switch of each clip, [B] of 0 and 1; left out, all on.

        Returns:
            [B, text_dim].

        Raises:
            UsageError: channels that do not fit.
        """
        c = self.config
        if vectors.ndim != 3 or vectors.shape[2] != c.vector_dim:
            raise UsageError(f"frame vectors must be [B, T, {c.vector_dim}], not {tuple(vectors.shape)}")
        seen = self.norm(vectors).transpose(1, 2)  # [B, D, T]
        if sound is None:
            heard = seen.new_zeros(len(seen), c.sound_dim, seen.shape[2])
        elif sound.ndim != 3 or sound.shape[2] != c.sound_dim or len(sound) != len(vectors):
            raise UsageError(f"sound vectors must be [{len(vectors)}, S, {c.sound_dim}], not {tuple(sound.shape)}")
        else:
            heard = ((sound - self.sound_mean) / self.sound_deviation).transpose(1, 2)  # [B, Ds, S]
            heard = heard if on is None else heard * on[:, None, None]
            heard = F.interpolate(heard, seen.shape[2], mode="linear", align_corners=False)
        x = self.layers(torch.cat([seen, heard], dim=1))
        return self.out(torch.cat([x.mean(-1), x.amax(-1)], dim=1))

    def _tensors(self) -> dict[str, Tensor]:
        state = {f"model.{k}": v for k, v in self.state_dict().items()}
        return state | {"text.projection": torch.from_numpy(self.text.projection.copy())}

    def _told(self) -> dict[str, Any]:
        return {"terms": self.text.terms}

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> Summarizer:
        state = read_tensors(path)
        try:
            text = NarrationText(saved["terms"], state.pop("text.projection").float().numpy())
        except (KeyError, ValueError) as error:
            raise WeightsError(f"{path} holds no text encoder that fits: {reason(error)}") from error
        model = cls(config_from_json(SummaryConfig, saved), text)
        load_weights(model, path, state={k.removeprefix("model."): v for k, v in state.items()})
        return model


def cosine(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Cosine of each row: [N, D] and [N, D] (or [D]) to [N]; a zero vector agrees with nothing (0)."""
    predicted, target = np.asarray(predicted, float), np.asarray(target, float)
    dot = (predicted * target).sum(-1)
    size = np.linalg.norm(predicted, axis=-1) * np.linalg.norm(target, axis=-1)
    return np.divide(dot, size, out=np.zeros_like(dot), where=size > 0)


def unrelated(recordings: Sequence) -> np.ndarray:
    """For each clip the index of one of another recording, each used once where that can be: int64 [N].

    Raises:
        UsageError: one recording has more than half of the clips.
    """
    names = np.asarray(recordings)
    order = np.argsort(names, kind="stable")
    _, counts = np.unique(names, return_counts=True)
    if 2 * counts.max() > len(names):
        raise UsageError("shuffled sound needs clips of other recordings: one has more than half of them")
    # turned by the largest group, the sorted order never meets its own recording
    partner = np.empty(len(names), np.int64)
    partner[order] = np.roll(order, -counts.max())
    return partner


@torch.no_grad()
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
    made = []
    for i, v in enumerate(vectors):
        seen = torch.from_numpy(np.array(v, np.float32))[None]
        heard = None if sounds is None else torch.from_numpy(np.array(sounds[i], np.float32))[None]
        made.append(model(seen, heard)[0].numpy())
    return np.stack(made)


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
        sounds: by name, N arrays [S, sound_dim] each: ``"true"`` and any generated ones. Of the true sound,
            the control ``"shuffled"`` is made.
        targets: embeddings of the narrations [N, text_dim].
        recordings: one per clip; intervals are over recordings.

    Returns:
        rows ``{"sound", "cosine", "low", "high", "gain", "gain_low", "gain_high", "n"}`` for ``"mean predictor"``,
        ``"none"``, ``"shuffled"`` and each of ``sounds``. The gain is over ``"none"``, clip by clip.

    Raises:
        UsageError: no clips, or numbers of things that do not agree.
    """
    n = len(vectors)
    if not n or len(targets) != n or len(recordings) != n:
        raise UsageError(f"{n} clips with {len(targets)} narrations of {len(recordings)} recordings cannot be scored")
    names = [str(r) for r in recordings]
    made = {"mean predictor": np.tile(model.mean.numpy(), (n, 1)), "none": predict(model, vectors)}
    if "true" in sounds:
        made["shuffled"] = predict(model, vectors, [sounds["true"][i] for i in unrelated(names)])
    made |= {name: predict(model, vectors, arrays) for name, arrays in sounds.items()}
    cosines = {name: cosine(p, targets) for name, p in made.items()}
    rows = []
    for name, values in cosines.items():
        gain = values - cosines["none"]
        low, high = bootstrap(list(values), _mean, names)
        gain_low, gain_high = bootstrap(list(gain), _mean, names)
        row = {"sound": name, "cosine": float(values.mean()), "low": low, "high": high, "gain": float(gain.mean())}
        rows.append({**row, "gain_low": gain_low, "gain_high": gain_high, "n": n})
    return rows


def _published(kind: type, name: str) -> nn.Module:
    """A transformers model by id, with every tensor it should have."""
    try:
        model, info = kind.from_pretrained(name, use_safetensors=True, output_loading_info=True)
    except Exception as error:  # transformers and the Hub's client raise many kinds
        raise WeightsError(f"{name} cannot be loaded: {reason(error)}") from error
    if info["missing_keys"]:
        raise WeightsError(f"{name} lacks {len(info['missing_keys'])} tensors of {kind.__name__}")
    return model


def _mean(rows: list) -> float:
    return float(np.mean(rows))
