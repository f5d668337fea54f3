"""Token decoding: the delay pattern, a cache that changes nothing, windows that fit, draws from the right codes."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from v2a_nb.errors import UsageError
from v2a_nb.sampling.autoregressive import (
    Sampling,
    delay,
    generate_codes,
    sample,
    steps_of,
    stream_codes,
    undelay,
    undelay_predictions,
    windows,
)
from v2a_nb.systems.vaura.model import VAuraConfig, VAuraDecoder

GREEDY = Sampling(guidance=1.0, temperature=0.0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_decoder(seed: int = 0, **changes) -> VAuraDecoder:
    """A decoder with random heads (the real ones begin at zero, and every code would tie)."""
    sizes = {
        "hidden": 32, "layers": 2, "heads": 2, "intermediate": 48, "num_codebooks": 3, "codebook_size": 16,
        "visual_dim": 12, "visual_width": 16, "audio_width": 16, "context_frames": 24,
    }  # fmt: skip
    torch.manual_seed(seed)
    decoder = VAuraDecoder(VAuraConfig(**(sizes | changes))).eval()
    torch.nn.init.normal_(decoder.heads.weight, std=1.0)
    return decoder


def all_codes(*args, **how) -> torch.Tensor:
    return torch.cat(list(stream_codes(*args, **how)), dim=-1)


def pictures(b: int, tokens: int, dim: int = 12, seed: int = 1) -> torch.Tensor:
    return torch.randn(b, tokens, dim, generator=seeded(seed))


# --- the cache ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("guidance", [1.0, 2.0, 0.0])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_codebooks": 1},
        {"code_width": 4, "visual_rate": "25/2"},
        {"visual_map": "repeat7", "visual_rate": "50/7"},
        {"layerwise_conditioning": True},
    ],
    ids=["plain", "one-codebook", "factorised", "repeat7", "layerwise"],
)
def test_greedy_codes_are_the_same_without_the_cache(changes: dict, guidance: float):
    decoder = small_decoder(**changes)
    for layer in decoder.layerwise:
        torch.nn.init.normal_(layer.weight, std=0.3)
    visual = pictures(2, 24)
    how = Sampling(guidance, temperature=0.0)
    cached = generate_codes(decoder, visual, how, seeded(), frames=20)
    plain = generate_codes(decoder, visual, how, seeded(), frames=20, use_cache=False)
    assert cached.shape == (2, decoder.config.num_codebooks, 20)
    assert guidance == 0 or cached.unique().numel() > 3  # not a constant, which any bug would reproduce
    assert torch.equal(cached, plain)
    assert not cached.is_inference(), "what follows may need gradients beside the codes"


def test_large_matrices_are_streamed_to_the_same_codes(monkeypatch):
    decoder, visual, how = small_decoder(), pictures(2, 24), Sampling(2.0, temperature=0.0)
    plain = generate_codes(decoder, visual, how, seeded())
    kept = decoder.cached(torch.zeros(1, 10, 16))
    assert isinstance(kept.heads, torch.Tensor), "small ones are as they are"
    monkeypatch.setattr("v2a_nb.systems.vaura.model.LARGE", 1)
    streamed = decoder.cached(torch.zeros(1, 10, 16))
    if isinstance(streamed.heads, torch.Tensor):
        pytest.skip("this build of torch has no oneDNN")
    assert not any(isinstance(matrix, torch.Tensor) for matrix in vars(streamed.layers[0]).values())
    given = plain[..., :5]
    assert torch.equal(plain, generate_codes(decoder, visual, how, seeded()))
    assert torch.equal(plain, generate_codes(decoder, visual, how, seeded(), prompt=given))
    half = decoder.bfloat16().cached(torch.zeros(1, 10, 16, dtype=torch.bfloat16))
    assert isinstance(half.heads, torch.Tensor), "only float32 is streamed"


def test_drawn_codes_are_the_same_without_the_cache():
    decoder, visual, how = small_decoder(), pictures(1, 20), Sampling(2.0, 0.8, 8)
    cached = generate_codes(decoder, visual, how, seeded(5))
    assert torch.equal(cached, generate_codes(decoder, visual, how, seeded(5), use_cache=False))


@pytest.mark.parametrize("prompt", [1, 2, 9, 19])
def test_with_a_prompt_too(prompt: int):
    decoder, visual = small_decoder(), pictures(1, 20)
    given = torch.randint(16, (1, 3, prompt), generator=seeded(2))
    how = Sampling(2.0, 0.0)
    cached = generate_codes(decoder, visual, how, seeded(), prompt=given)
    assert torch.equal(cached[..., :prompt], given)
    assert torch.equal(cached, generate_codes(decoder, visual, how, seeded(), prompt=given, use_cache=False))


def test_a_greedy_beginning_as_prompt_gives_the_same_end():
    decoder, visual, how = small_decoder(), pictures(1, 20), Sampling(1.5, 0.0)
    whole = generate_codes(decoder, visual, how, seeded())
    assert torch.equal(whole, generate_codes(decoder, visual, how, seeded(), prompt=whole[..., :11]))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_greedy_codes_are_what_teacher_forcing_predicts(guidance: float):
    """Decoding and training must read steps, pictures and delays in the same way."""
    decoder, visual = small_decoder(), pictures(2, 20)
    codes = generate_codes(decoder, visual, Sampling(guidance, 0.0), seeded())
    with torch.no_grad():
        seen = decoder(codes, visual)
        null = decoder(codes, visual, torch.tensor([True, True]))
    assert torch.equal((null + guidance * (seen - null)).argmax(-1), codes)


def test_both_halves_run_as_one_batch_and_the_null_only_under_guidance():
    decoder, visual = small_decoder(), pictures(2, 10)
    shapes: list[tuple[int, int]] = []
    cached = decoder.cached

    def spy(condition, prefix):
        step = cached(condition, prefix)
        return lambda steps: shapes.append((len(condition), steps.shape[-1])) or step(steps)

    decoder.cached = spy
    generate_codes(decoder, visual, Sampling(2.0, 0.0), seeded())
    assert shapes == [(4, 1)] * 12  # T + K - 1 steps of one position each
    shapes.clear()
    generate_codes(decoder, visual, Sampling(1.0, 0.0), seeded(), prompt=torch.zeros(2, 3, 4, dtype=torch.long))
    assert shapes == [(2, 5)] + [(2, 1)] * 7  # the prompt is read at once


def test_cached_steps_predict_what_the_llama_predicts():
    """In fp32 to rounding, and in bf16 as nearly as its eight bits allow; whatever was fed at once."""
    decoder, codes = small_decoder(layers=3), torch.randint(16, (2, 3, 20), generator=seeded(4))
    condition = torch.randn(2, 20, 16, generator=seeded(5))
    with torch.no_grad():
        wanted = decoder.predict(decoder.run(decoder.fuse(codes, condition)))  # [B, S, K, V]
        for first in (1, 7):
            cached = decoder.cached(condition)
            logits = [cached(codes[..., :first]), *(cached(codes[..., s : s + 1]) for s in range(first, 20))]
            assert torch.allclose(torch.stack(logits, dim=1), wanted[:, first - 1 :], atol=1e-5)
        half = decoder.bfloat16().cached(condition.bfloat16())
        error = (half(codes).float() - wanted[:, -1]).abs().max() / wanted.abs().max()
    assert half.keys[0].dtype == torch.bfloat16 and error < 0.05


def test_steps_in_the_middle_are_fed_one_by_one():
    decoder = small_decoder()
    cached = decoder.cached(torch.zeros(1, 10, 16))
    steps = torch.zeros(1, 3, 4, dtype=torch.long)
    with torch.no_grad():
        cached(steps)
    with pytest.raises(UsageError, match="4 steps at once can only be the first ones, and 4 were fed"):
        cached(steps)


# --- draws -------------------------------------------------------------------------------------------


def test_a_seed_decides():
    decoder, visual, how = small_decoder(), pictures(1, 20), Sampling(1.0, 1.0, 0)
    first = generate_codes(decoder, visual, how, seeded(3))
    assert torch.equal(first, generate_codes(decoder, visual, how, seeded(3)))
    assert not torch.equal(first, generate_codes(decoder, visual, how, seeded(4)))


def test_a_clip_draws_the_same_alone_and_in_a_batch():
    decoder, visual, how = small_decoder(), pictures(3, 40), Sampling(2.0, 0.8, 8)
    together = all_codes(decoder, visual, how, [seeded(s) for s in (7, 8, 9)])
    for row, seed in enumerate((7, 8, 9)):
        alone = all_codes(decoder, visual[row : row + 1], how, seeded(seed))
        assert torch.equal(together[row : row + 1], alone)


def test_temperature_zero_and_top_one_take_the_likeliest():
    logits = torch.randn(2, 4, 32, generator=seeded())
    likeliest = logits.argmax(-1)
    assert torch.equal(sample(logits, Sampling(1, 0, 5), seeded()), likeliest)
    assert torch.equal(sample(logits, Sampling(1, 1, 1), seeded()), likeliest)


def test_draws_follow_the_softmax_at_the_temperature():
    logits = torch.tensor([1.5, 0.0, -0.5, 1.0, -30.0])
    drawn = sample(logits.expand(40000, 1, 5), Sampling(1, 0.7, 0), seeded())
    share = torch.bincount(drawn.flatten(), minlength=5) / 40000
    assert torch.allclose(share, (logits / 0.7).softmax(-1), atol=0.01)


def test_nothing_outside_of_the_top_k_is_drawn():
    logits = torch.randn(1, 1, 64, generator=seeded()).expand(5000, 1, 64)
    drawn = sample(logits, Sampling(1, 5.0, 6), seeded())
    assert set(drawn.unique().tolist()) == set(logits[0, 0].topk(6).indices.tolist())


def test_a_draw_of_zero_noise_stays_in_the_top_k(monkeypatch):
    """0 / 0 is NaN, and argmax takes NaN for the largest: a code of probability 0 would come out."""
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, generator=None: self.zero_())
    logits = torch.tensor([[[0.0, 5.0, 1.0, 2.0]]])
    assert sample(logits, Sampling(1, 1, 2), seeded()).item() == 1


@pytest.mark.parametrize(
    "how",
    [
        Sampling(guidance=-1),
        Sampling(guidance=float("nan")),
        Sampling(temperature=-0.1),
        Sampling(temperature=float("nan")),
        Sampling(temperature=float("inf")),
        Sampling(top_k=-1),
    ],
)
def test_sampling_that_cannot_be_meant_is_refused(how: Sampling):
    with pytest.raises(UsageError):
        generate_codes(small_decoder(), pictures(1, 20), how, seeded())


def test_a_prompt_that_does_not_fit_is_refused():
    decoder, visual = small_decoder(), pictures(1, 20)
    for shape in [(1, 3, 20), (1, 2, 5), (2, 3, 5)]:
        with pytest.raises(UsageError, match="prompt"):
            generate_codes(decoder, visual, GREEDY, seeded(), prompt=torch.zeros(shape, dtype=torch.long))


# --- windows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("context", "keep"), [(128, 64), (128, 32), (24, 1), (24, 23), (221, 110)])
def test_windows_cover_every_frame_once(context: int, keep: int):
    for frames in range(1, 701, 7):
        made = [t for start, stop, known in windows(frames, context, keep) for t in range(start + known, stop)]
        assert made == list(range(frames))
        for start, stop, known in windows(frames, context, keep):
            assert 0 < stop - start <= context
            assert known == (keep if start else 0)


def test_windows_that_cannot_be_are_refused():
    for frames, context, keep in [(0, 24, 12), (30, 24, 24), (30, 24, 0)]:
        with pytest.raises(UsageError):
            windows(frames, context, keep)


class Counting:
    """A stand-in for a decoder whose picture at frame t says t, and which says what it sees.

    Codebook ``q`` of frame ``t`` becomes ``(t + q) mod 31``, if and only if windows, prompts, delays and the time
    of the pictures fit.
    """

    def __init__(self) -> None:
        self.config = SimpleNamespace(num_codebooks=4, special=31, context_frames=128)
        self.prompts: list[int] = []

    def frames_of(self, tokens: int) -> int:
        return tokens

    def condition(self, visual, frames, first):
        last = visual[:, first : first + frames]
        tail = last[:, -1:] + torch.arange(1, 4)[:, None]
        return torch.cat([last, tail], dim=1)

    def cached(self, condition, prefix):
        fed = 0

        def step(steps):
            nonlocal fed
            if steps.shape[-1] > 1:
                self.prompts.append(steps.shape[-1] - 1)
            fed += steps.shape[-1]
            return self.predict(condition[:, fed - 1])

        return step

    def predict(self, hidden):
        frame = hidden[:, 0].round().long()[:, None] - torch.arange(4)  # position s predicts frame s - q
        return torch.nn.functional.one_hot((frame + torch.arange(4)) % 31, 31).float()


@pytest.mark.parametrize("frames", [15, 16, 127, 128, 129, 191, 192, 193, 256, 300, 511, 700])
@pytest.mark.parametrize("keep", [None, 36, 127])
def test_long_codes_have_the_exact_length_and_no_shift(frames: int, keep: int | None):
    decoder = Counting()
    visual = torch.arange(frames, dtype=torch.float32)[None, :, None].repeat(2, 1, 1)
    codes = all_codes(decoder, visual, GREEDY, seeded(), frames=frames, keep=keep)
    expected = (torch.arange(frames) + torch.arange(4)[:, None]) % 31
    assert torch.equal(codes, expected.expand(2, -1, -1))
    assert set(decoder.prompts) <= {keep or 64}


@pytest.mark.parametrize("frames", [5, 24, 25, 61])
def test_long_windows_leave_the_past_untouched(frames: int, monkeypatch):
    """Each window begins with exactly the codes that were made before, and hands them on unchanged."""
    from v2a_nb.sampling import autoregressive as decoding

    decoder, visual, parts = small_decoder(), pictures(1, frames), []
    inner = decoding.generate_codes

    def spy(*args, **kwargs):
        parts.append((kwargs["first"], kwargs["prompt"], inner(*args, **kwargs)))
        return parts[-1][2]

    monkeypatch.setattr(decoding, "generate_codes", spy)
    codes = all_codes(decoder, visual, Sampling(2.0, 0.9, 8), seeded(), frames=frames)
    assert codes.shape == (1, 3, frames)
    assert len(parts) == len(windows(frames, 24, 12))
    for first, prompt, made in parts:
        assert torch.equal(codes[..., first : first + made.shape[-1]], made)
        assert prompt is None or torch.equal(made[..., : prompt.shape[-1]], prompt)


@pytest.mark.parametrize("frames", [20, 24, 25, 60])
def test_progress_counts_every_step(frames: int):
    done: list[int] = []
    all_codes(small_decoder(), pictures(1, frames), GREEDY, seeded(), progress=done.append)
    assert sum(done) == steps_of(frames, context=24, keep=12, num_codebooks=3)


# --- the delay pattern -------------------------------------------------------------------------------

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
