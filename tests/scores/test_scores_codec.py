"""What the shipped codec keeps of a sound, as ``v2a-nb score codec`` measures it."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.scores.base import Job
from v2a_nb.scores.codec import TITLE, TRUE, codec, measure

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def rows():
    found = measure(TinyCodec.from_pretrained("codec"), count=48, seed=2001)
    return {name: {(row.metric, row.subject): row.value for row in some} for name, some in found.items()}


def test_onsets_stay_where_they_were(rows):
    assert rows["scores"]["onset_f1_50ms", TITLE] >= 0.95
    assert rows["scores"]["onset_f1_50ms", TRUE] >= 0.95
    assert rows["scores"]["onset_jitter_ms", TITLE] < 5


def test_codebooks_are_used_and_each_lowers_the_distance(rows):
    books = rows["codebooks"]
    distances = [books["mel_distance_with_those_before", str(k)] for k in (1, 2, 3, 4)]
    assert distances == sorted(distances, reverse=True), distances
    assert all(books["perplexity", str(k)] > 20 for k in (1, 2, 3, 4))
    assert distances[-1] == rows["scores"]["mel_distance", TITLE]


def test_ambience_keeps_its_level(rows):
    assert rows["ambience_bias"] and all(abs(bias) < 2 for bias in rows["ambience_bias"].values())


def test_decoding_computes_little(rows):
    model = TinyCodec.from_pretrained("codec")
    codes = model.encode(torch.zeros(1, 40960))  # 2.56 s
    with FlopCounterMode(display=False) as counted:
        model.decode(codes)
    assert counted.get_total_flops() < 0.45e9 and rows["scores"]["cpu_s", TITLE] > 0


def test_tables_name_their_clips():
    tables = {table.name: table for table in codec(Job("codec", "codec", clips=2, say=lambda _: None))}
    assert set(tables) == {"scores", "codebooks", "ambience_bias"}
    assert tables["scores"].about["clips"] == 2 and tables["scores"].subjects == [TITLE, TRUE]
