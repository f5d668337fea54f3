"""CLAP: sounds and texts as vectors of one space, in which a text lies near the sounds that it describes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import reason

CLAP_ID = "laion/clap-htsat-unfused"
"""Apache-2.0, 0.6 GB."""


class Clap:
    """A published CLAP (Wu et al. 2023), with its spectrograms and its tokenizer; frozen.

    A sound that is longer than CLAP's window (10 s) is cut into equal parts, whose vectors are averaged: the published
    processor takes a random part instead.

    Args:
        weights: Hub id, downloaded once, or a folder in transformers' layout.

    Raises:
        WeightsError: there are none.

    Examples:
        >>> clap = Clap()                                            # doctest: +SKIP
        >>> clap.similarity(sound, "a stick hits metal") > 0.3       # doctest: +SKIP
    """

    def __init__(self, weights: str | Path = CLAP_ID, revision: str | None = None) -> None:
        from transformers import ClapConfig, ClapModel, ClapProcessor

        where: dict[str, Any] = {"revision": revision}
        try:
            ClapConfig.from_pretrained(str(weights), **where)  # one file: without a network only this one is waited for
            processor: Any = ClapProcessor.from_pretrained(str(weights), **where)
            model: Any = ClapModel.from_pretrained(str(weights), use_safetensors=True, **where)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{weights}: no CLAP there: {reason(error)}") from error
        self.reader, self.tokenizer = processor.feature_extractor, processor.tokenizer
        self.model = model.eval().requires_grad_(False)

    @property
    def dim(self) -> int:
        """Numbers in a vector."""
        return self.model.config.projection_dim

    @torch.no_grad()
    def encode_sound(self, sound: Sound) -> Tensor:
        """The unit vector of a sound, float32 [dim].

        Raises:
            UsageError: a sound without samples.
        """
        wave = sound.mono().resample(self.reader.sampling_rate).samples[0]
        if not len(wave):
            raise UsageError("an empty sound has no CLAP vector")
        parts = np.array_split(wave, -(-len(wave) // self.reader.nb_max_samples))
        vectors = []
        for part in parts:  # one by one: of several, the processor of a fused CLAP picks one at random
            read = self.reader(part, sampling_rate=self.reader.sampling_rate, return_tensors="pt")
            vectors.append(_vector(self.model.get_audio_features(**read))[0])
        return F.normalize(torch.stack(vectors).mean(0), dim=0)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """The unit vectors of texts, float32 [B, dim]."""
        read = self.tokenizer(list(texts), padding=True, truncation=True, max_length=self._longest, return_tensors="pt")
        features = self.model.get_text_features(input_ids=read["input_ids"], attention_mask=read["attention_mask"])
        return F.normalize(_vector(features), dim=-1)

    def similarity(self, sound: Sound, text: str) -> float:
        """The cosine of both vectors, -1 to 1."""
        return float(self.encode_sound(sound) @ self.encode_texts([text])[0])

    @property
    def _longest(self) -> int:
        """Tokens of a text; RoBERTa's positions begin after that of padding."""
        config = self.model.config.text_config
        return config.max_position_embeddings - config.pad_token_id - 1


def _vector(features: Any) -> Tensor:
    """What a CLAP returns, as a tensor: transformers 5 wraps it."""
    return (features if isinstance(features, Tensor) else features.pooler_output).float()
