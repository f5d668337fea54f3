"""CLAP against transformers' own, with small random weights in the published layout."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from clap_parts import small_clap
from transformers import ClapProcessor

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.models.clap import Clap

TEXTS = ["a stick hits metal", "rain", "words " * 30]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clap")


@pytest.fixture(scope="module")
def model(folder):
    return small_clap(folder)


def sound(seconds: float, rate: int = 48000, seed: int = 0) -> Sound:
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal(round(seconds * rate)) * np.linspace(1, 0, round(seconds * rate)) ** 2
    return Sound(0.1 * wave, rate)


def test_similarity_is_that_of_transformers(folder, model):
    clap, processor = Clap(folder), ClapProcessor.from_pretrained(folder)
    for seed in range(2):
        one = sound(1.3, seed=seed)
        inputs = processor(
            text=TEXTS[:2], audio=[one.samples[0]], sampling_rate=48000, return_tensors="pt", padding=True
        )
        with torch.no_grad():
            made = model(**inputs)
        cosines = (made.logits_per_audio / model.logit_scale_a.exp())[0]
        for text, cosine in zip(TEXTS, cosines.tolist(), strict=False):
            assert clap.similarity(one, text) == pytest.approx(cosine, abs=1e-5)
    assert clap.dim == 24 and clap.encode_texts(TEXTS).shape == (3, 24)  # the last is longer than its positions
    torch.testing.assert_close(clap.encode_texts(TEXTS).norm(dim=-1), torch.ones(3))


def test_a_long_sound_is_heard_whole_and_always_the_same(folder, model):
    clap, long = Clap(folder), sound(5.0)
    vector = clap.encode_sound(long)
    np.random.seed(1)
    torch.testing.assert_close(clap.encode_sound(long), vector, rtol=0, atol=0)
    parts = [clap.encode_sound(Sound(part, 48000)) for part in np.array_split(long.samples[0], 3)]
    torch.testing.assert_close(vector, torch.nn.functional.normalize(torch.stack(parts).mean(0), dim=0))
    stereo = Sound(np.repeat(long.samples, 2, axis=0), 48000)
    torch.testing.assert_close(clap.encode_sound(stereo), vector)


def test_what_cannot_be_had_is_one_clear_line(folder, model, tmp_path):
    with pytest.raises(WeightsError, match="no CLAP there"):
        Clap(tmp_path)
    with pytest.raises(UsageError, match="an empty sound"):
        Clap(folder).encode_sound(Sound(np.zeros((1, 0)), 48000))
