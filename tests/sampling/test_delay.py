"""The delay pattern: its layout, its inverse, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from v2a_nb.errors import UsageError
from v2a_nb.sampling.delay import delay, undelay, undelay_predictions

SIZES = [(1, 1, 1), (1, 4, 128), (2, 4, 15), (2, 9, 220), (3, 9, 2), (2, 3, 7)]


def codes_of(b: int, k: int, t: int, size: int = 64) -> torch.Tensor:
    return torch.randint(size, (b, k, t), generator=torch.Generator().manual_seed(b * 100 + k * 10 + t))


def test_each_codebook_is_one_step_later_than_the_last():
    codes = torch.tensor([[[1, 2, 3], [4, 5, 6], [7, 8, 1]]])
    expected = [[9, 1, 2, 3, 9, 9], [9, 9, 4, 5, 6, 9], [9, 9, 9, 7, 8, 1]]
    assert delay(codes, special=9)[0].tolist() == expected


@pytest.mark.parametrize(("k", "t"), [(9, 220), (9, 221), (4, 128), (4, 15)])
def test_layout_is_that_of_musicgen(k: int, t: int):
    from transformers import MusicgenDecoderConfig, MusicgenForCausalLM

    special = 64
    config = MusicgenDecoderConfig(
        vocab_size=special, num_hidden_layers=1, hidden_size=8, num_attention_heads=1, ffn_dim=8, num_codebooks=k,
        pad_token_id=special, bos_token_id=special,
    )  # fmt: skip
    peer = MusicgenForCausalLM(config)
    codes = codes_of(2, k, t)
    begun = torch.cat([torch.full((2, k, 1), special), codes], dim=-1)
    _, mask = peer.build_delay_pattern_mask(begun.reshape(2 * k, t + 1), special, max_length=t + k)
    assert torch.equal(delay(codes, special), mask.reshape(2, k, t + k))


@pytest.mark.parametrize(("b", "k", "t"), SIZES)
def test_round_trip(b: int, k: int, t: int):
    codes = codes_of(b, k, t)
    steps = delay(codes, special=64)
    assert steps.shape == (b, k, t + k)
    assert torch.equal(undelay(steps), codes)
    assert int((steps == 64).sum()) == b * k * k  # q + 1 before and k - 1 - q after, for each codebook


def test_further_dimensions_ride_along():
    codes = codes_of(2, 4, 11)
    steps = delay(codes, special=64)
    wide = torch.stack([steps, steps + 1], dim=-1)  # [B, K, S, 2]
    assert torch.equal(undelay(wide), torch.stack([codes, codes + 1], dim=-1))


@pytest.mark.parametrize(("b", "k", "t"), SIZES)
def test_predictions_come_back_to_their_frames(b: int, k: int, t: int):
    """A perfect predictor, which at every position names the next step, gives the codes."""
    codes = codes_of(b, k, t)
    following = delay(codes, special=64)[:, :, 1:].transpose(1, 2)  # [B, T + K - 1, K]
    logits = torch.nn.functional.one_hot(following, 65)
    assert torch.equal(undelay_predictions(logits).argmax(-1), codes)


def test_wrong_shapes_are_refused():
    with pytest.raises(UsageError, match=r"\[B, K, T\]"):
        delay(torch.zeros(4, 10, dtype=torch.long), special=9)
    with pytest.raises(UsageError, match="no frame"):
        undelay(torch.zeros(1, 4, 4, dtype=torch.long))
