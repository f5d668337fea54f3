"""The networks of video summarization: text embedding, sound vectors, and the summarizer (EgoSonics, supplement F).

In ``paper`` the text embedding is CLIP's and the sound's vectors are EnCodec's, both through transformers
(:class:`ClipText`, :class:`EncodecSound`). In ``tiny`` the sound's vectors are the latents of our own codec, and the
text embedding is :class:`NarrationText`, which is learned from the narrations themselves.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, config_from_json, load_weights, read_tensors, reason

LEAST = 1e-9
"""A vector shorter than this has no direction."""


class NarrationText:
    """Latent semantic analysis of narrations: words and pairs of words, weighted, then their main directions.

    Counts of a text's words and of pairs of neighbouring words ("strikes metal" is not "strikes drum") are weighted by
    how rare they are, and projected on the largest singular vectors of the training narrations (Deerwester et al.
    1990). Nothing is random: the same narrations give the same embedding.

    Examples:
        >>> text = NarrationText.learn(["a mallet strikes the drum", "a hand misses the drum"], dim=2)
        >>> vectors = text.encode(["a mallet strikes the drum", "a hand misses the drum"])
        >>> np.linalg.norm(vectors, axis=1).round(3).tolist()
        [1.0, 1.0]
    """

    def __init__(self, terms: Sequence[str], projection: np.ndarray) -> None:
        """An encoder with the given terms; see :meth:`learn`.

        Args:
            terms: words and pairs of words, one for each row of the projection.
            projection: float32 [terms, dim], multiplied by the weights of rarity.

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
        """The words of a text without articles, and the pairs of neighbouring words."""
        words = [w for w in re.findall(r"[a-z0-9']+", text.lower()) if w not in ("a", "an", "the")]
        return words + [f"{a} {b}" for a, b in pairwise(words)]

    @classmethod
    def learn(cls, narrations: Sequence[str], dim: int = 64) -> NarrationText:
        """Learn an encoder from training narrations.

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
        _, vectors = np.linalg.eigh(weighted.T @ weighted)  # [terms, terms], the largest last
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
        """Whether a text has a direction: one that shares no word with the training narrations has none."""
        return bool(np.linalg.norm(self._counts(text) @ self.projection) >= LEAST)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors float32 [N, dim].

        Raises:
            UsageError: a text without a single known word, which has no direction.
        """
        vectors = (
            np.stack([self._counts(t) for t in texts]) @ self.projection if len(texts) else np.zeros((0, self.dim))
        )
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        for text, norm in zip(texts, norms[:, 0], strict=True):
            if norm < LEAST:
                raise UsageError(f"no word of {text!r} is known to this text encoder")
        return (vectors / norms).astype(np.float32)


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
    """EnCodec's vectors of a sound through transformers: the output of its encoder, before quantization, at 75 Hz."""

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
    """Sound vectors of ``tiny``: latents of a :class:`~v2a_nb.models.tiny_codec.TinyCodec`, float32 [T', 32], 50 Hz."""
    wave = torch.tensor(sound.mono().resample(codec.sample_rate).samples)
    with torch.no_grad():
        return codec.latents(wave)[0].T.numpy()


@dataclass(frozen=True)
class SummaryConfig:
    """Sizes of a :class:`Summarizer`.

    Attributes:
        preset: ``"tiny"`` or ``"paper"``; layers and sizes are missing from our copy of the paper.
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
    """Embedding of the narration, from frame vectors and sound vectors or zeros (supplement F, figure 7).

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
        # the mean over time says how often something happens; the maximum says whether it happens
        self.out = nn.Linear(2 * before, c.text_dim)
        self.register_buffer("mean", torch.zeros(c.text_dim))
        """Mean embedding of the training narrations: the first control."""
        # latents are standardised: beside frame vectors of norm 1, their own scale would decide what is learned
        self.register_buffer("sound_mean", torch.zeros(c.sound_dim))
        self.register_buffer("sound_deviation", torch.ones(c.sound_dim))

    def forward(self, vectors: Tensor, sound: Tensor | None = None, on: Tensor | None = None) -> Tensor:
        """Predict the embedding of the narration.

        Args:
            vectors: frame vectors [B, T, vector_dim], any rate.
            sound: sound vectors [B, S, sound_dim], any rate, over the same time; left out, the switch is off: zeros
                take the place of the standardised sound.
            on: the switch of each clip, [B] of 0 and 1; left out, all on.

        Returns:
            [B, text_dim].

        Raises:
            UsageError: channels that do not fit.
        """
        c = self.config
        if vectors.ndim != 3 or vectors.shape[2] != c.vector_dim:
            raise UsageError(f"frame vectors must be [B, T, {c.vector_dim}], not {tuple(vectors.shape)}")
        video = self.norm(vectors).transpose(1, 2)  # [B, D, T]
        if sound is None:
            audio = video.new_zeros(len(video), c.sound_dim, video.shape[2])
        elif sound.ndim != 3 or sound.shape[2] != c.sound_dim or len(sound) != len(vectors):
            raise UsageError(f"sound vectors must be [{len(vectors)}, S, {c.sound_dim}], not {tuple(sound.shape)}")
        else:
            audio = ((sound - self.sound_mean) / self.sound_deviation).transpose(1, 2)  # [B, Ds, S]
            audio = audio if on is None else audio * on[:, None, None]
            audio = F.interpolate(audio, video.shape[2], mode="linear", align_corners=False)
        x = self.layers(torch.cat([video, audio], dim=1))
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


def _published(kind: type, name: str) -> nn.Module:
    """A transformers model by id, with every tensor it should have."""
    try:
        model, info = kind.from_pretrained(name, use_safetensors=True, output_loading_info=True)
    except Exception as error:  # transformers and the Hub's client raise many kinds
        raise WeightsError(f"{name} cannot be loaded: {reason(error)}") from error
    if info["missing_keys"]:
        raise WeightsError(f"{name} lacks {len(info['missing_keys'])} tensors of {kind.__name__}")
    return model
