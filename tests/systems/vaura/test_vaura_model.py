"""V-AURA's language model: the facts of the paper and of its code."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from vaura_parts import DAC_RATES, SMALL, seeded, small_decoder

from v2a_nb.errors import UsageError
from v2a_nb.hub import config_to_json
from v2a_nb.sampling.autoregressive import Sampling, generate_codes
from v2a_nb.systems.vaura.model import levels_of
from v2a_nb.systems.vaura.system import PRESETS, VAuraDecoder


def example(b: int = 2, frames: int = 20, tokens: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    codes = torch.randint(16, (b, 3, frames), generator=seeded(1))
    return codes, torch.randn(b, tokens, 12, generator=seeded(2))


# --- sizes and the first loss ---------------------------------------------------------------------------


def test_paper_preset_has_the_released_parameters():
    with torch.device("meta"):
        decoder = VAuraDecoder(PRESETS["paper"])

    def count(module) -> int:
        return sum(p.numel() for p in module.parameters())

    assert count(decoder.backbone) == 679_552_512  # 24 layers of 28,314,624 and the final norm
    assert count(decoder.heads) == 14_155_776
    assert count(decoder.visual) == 655_360
    assert decoder.after.numel() == 512
    # released: 694,530,120, with 9 x 1024 weight-norm gains and with a null that is no parameter
    assert count(decoder) == 694_530_120 - 9 * 1024 + 768
    with torch.device("meta"):
        released = VAuraDecoder(replace(PRESETS["paper"], null="released"))
    assert count(released) == 694_530_120 - 9 * 1024
    assert dict(released.named_buffers())["null"].shape == (32, 768)
    config = decoder.backbone.config
    assert (config.rms_norm_eps, config.rope_parameters["rope_theta"]) == (1e-5, 10000.0)
    assert decoder.backbone.layers[0].self_attn.head_dim == 96


@pytest.mark.parametrize("layerwise", [False, True])
def test_a_lean_decoder_decodes_the_same_and_becomes_a_llama_of_its_own_parameters(layerwise: bool):
    whole = small_decoder(layerwise_conditioning=layerwise, residual_dropout=0.1)
    lean = VAuraDecoder(whole.config, lean=True).eval()
    lean.load_state_dict(whole.state_dict())
    assert torch.equal(lean.backbone.rotary_emb.inv_freq, whole.backbone.rotary_emb.inv_freq)
    codes, visual = example()
    how = Sampling(guidance=2.0, temperature=1.0, top_k=0)
    drawn = [generate_codes(each, visual, how, seeded(3)) for each in (whole, lean)]
    assert torch.equal(*drawn)
    assert not hasattr(lean.backbone, "config"), "decoding needs no LlamaModel"

    lean.backbone.norm.requires_grad_(False)
    before, state = dict(lean.named_parameters()), torch.get_rng_state()
    logits = lean(codes, visual)
    assert torch.equal(torch.get_rng_state(), state)
    after = dict(lean.named_parameters())
    assert after.keys() == before.keys() and all(after[name] is before[name] for name in before)
    assert not after["backbone.norm.weight"].requires_grad and after["heads.weight"].requires_grad
    assert torch.equal(logits, whole(codes, visual))
    assert not lean.backbone.training and lean.train().backbone.training
    assert not torch.equal(lean(codes, visual), logits), "dropout of the residual"


@pytest.mark.parametrize(("codebooks", "size"), [(4, 256), (9, 1024), (1, 16)])
@pytest.mark.parametrize("layerwise", [False, True])
def test_the_first_loss_is_ln_v(codebooks: int, size: int, layerwise: bool):
    decoder = small_decoder(
        speaking=False, num_codebooks=codebooks, codebook_size=size, layerwise_conditioning=layerwise
    )
    codes = torch.randint(size, (2, codebooks, 10), generator=seeded())
    visual = torch.randn(2, 10, 12, generator=seeded())
    for drop in (None, torch.tensor([True, False])):
        loss = decoder.loss(codes, visual, drop=drop)["loss"]
        assert loss.item() == pytest.approx(math.log(size), abs=1e-5)


def test_every_trainable_parameter_is_reached():
    decoder = small_decoder(layerwise_conditioning=True, code_width=4)
    for layer in decoder.layerwise:
        torch.nn.init.normal_(layer.weight, std=0.1)
    codes, visual = example()
    decoder.train().loss(codes, visual, drop=torch.tensor([True, False]))["loss"].backward()
    unreached = [n for n, p in decoder.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert unreached == []


def test_weights_of_the_loss():
    decoder = small_decoder()
    codes, visual = example()
    each = -decoder(codes, visual).log_softmax(-1).gather(-1, codes[..., None])[..., 0]  # [B, K, T]
    frames = torch.rand(2, 20, generator=seeded(3)) + 0.5
    books = (2.0, 1.0, 0.5)
    weights = frames[:, None] * torch.tensor(books)[:, None]
    made = decoder.loss(codes, visual, frame_weights=frames, codebook_weights=books)
    assert torch.allclose(made["loss"], (each * weights).sum() / weights.sum())
    assert torch.allclose(made["ce"], each.mean())
    assert torch.allclose(made["ce0"], each[:, 0].mean())


# --- causality ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layerwise", [False, True])
def test_later_codes_do_not_reach_back(layerwise: bool):
    """Position s reads steps up to s; it predicts frame s - q of codebook q."""
    decoder = small_decoder(layerwise_conditioning=layerwise)
    codes, visual = example(b=1)
    before = decoder(codes, visual)
    for book, frame in [(0, 9), (1, 9), (2, 0), (0, 19), (2, 17)]:
        changed = codes.clone()
        changed[:, book, frame] = (changed[:, book, frame] + 1) % 16
        moved = (decoder(changed, visual) - before).abs().amax(-1)[0] > 1e-6  # [K, T]
        q, t = torch.meshgrid(torch.arange(3), torch.arange(20), indexing="ij")
        position, step = q + t, frame + book + 1
        assert not moved[position < step].any()
        assert moved[position == step].all()


@pytest.mark.parametrize("layerwise", [False, True])
def test_later_pictures_do_not_reach_back_and_the_present_one_is_seen(layerwise: bool):
    decoder = small_decoder(layerwise_conditioning=layerwise)
    for layer in decoder.layerwise:
        torch.nn.init.normal_(layer.weight, std=0.3)
    codes, visual = example(b=1)
    before = decoder(codes, visual)
    q, t = torch.meshgrid(torch.arange(3), torch.arange(20), indexing="ij")
    for token in (0, 7, 19):
        changed = visual.clone()
        changed[:, token] += 1
        moved = (decoder(codes, changed) - before).abs().amax(-1)[0] > 1e-6
        assert not moved[q + t < token].any()
        assert moved[0, token]  # the picture of a frame is known when its first code is predicted
        assert moved[q + t == token].all()


def test_without_the_video_nothing_of_it_remains():
    decoder = small_decoder()
    codes, visual = example()
    drop = torch.tensor([True, False])
    first, second = decoder(codes, visual, drop), decoder(codes, visual + 1, drop)
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1])


# --- time -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frame_rate", "visual_rate"), [("50", "50"), ("44100/512", "25/2"), ("50", "25/2")])
def test_time_map_is_exact_at_any_length(frame_rate: str, visual_rate: str):
    decoder = small_decoder(frame_rate=frame_rate, visual_rate=visual_rate)
    frames = 5000
    made = decoder.token_of_position(frames, tokens=10**6)[:frames].tolist()
    for frame in range(0, frames, 13):
        seconds = Fraction(frame) / Fraction(frame_rate)
        token_begins = Fraction(made[frame]) / Fraction(visual_rate)
        assert token_begins <= seconds < token_begins + 1 / Fraction(visual_rate)
    # a window in the middle reads the same tokens
    assert decoder.token_of_position(200, 10**6, first=1234)[:200].tolist() == made[1234:1434]


@pytest.mark.parametrize("frames", [220, 221])
def test_repeat7_is_the_released_map(frames: int):
    decoder = small_decoder(num_codebooks=9, visual_map="repeat7", **DAC_RATES)
    made = decoder.token_of_position(frames, tokens=32).tolist()
    released = [s // 7 if s < 224 else 32 for s in range(frames + 8)]  # from 224 on the learned pad
    assert made == released
    late = 31 * 7 * 512 / 44100 - 31 * 0.08  # the last token comes 39 ms after its time
    assert late == pytest.approx(0.039, abs=0.001)
    exact = small_decoder(num_codebooks=9, **DAC_RATES).token_of_position(frames, tokens=32)
    assert exact.tolist().index(31) / (44100 / 512) - 31 * 0.08 < 512 / 44100


def test_repeat7_in_a_window_uses_the_tokens_of_that_window():
    decoder = small_decoder(num_codebooks=9, visual_map="repeat7", **DAC_RATES)
    for first, token in ((110, 16), (55, 8)):  # 15.96 and 7.98 tokens into the clip: the released windows step by 55
        made = decoder.token_of_position(221, tokens=100, first=first).tolist()
        assert made == [token + s // 7 if s < 224 else 100 for s in range(229)]


def test_the_pad_after_the_end_is_learned():
    decoder = small_decoder()
    visual = torch.randn(1, 20, 12)
    with torch.no_grad():
        decoder.after += 3.0
    made = decoder.condition(visual, 20)
    assert made.shape == (1, 22, 16)
    assert torch.equal(made[0, :20], decoder.visual(visual)[0])
    assert torch.equal(made[0, 20:], decoder.after.expand(2, -1))


def test_visual_tokens_that_do_not_fit_are_refused():
    decoder = small_decoder()
    codes, visual = example()
    with pytest.raises(UsageError, match="19 visual tokens end before 20"):
        decoder(codes, visual[:, :19])
    with pytest.raises(UsageError, match="visual tokens"):
        decoder(codes, visual[..., :5])


# --- the null -------------------------------------------------------------------------------------------


def test_the_learned_null_is_trained_and_has_no_length():
    decoder = small_decoder()
    assert "null" in dict(decoder.named_parameters())
    codes, visual = example()
    decoder.loss(codes, visual, drop=torch.tensor([True, False]))["loss"].backward()
    assert decoder.null.grad.abs().sum() > 0
    for tokens in (1, 24, 32, 700):
        assert decoder.null_tokens(tokens).shape == (1, tokens, 12)


def test_the_released_null_is_a_buffer_and_fits_shorter_clips():
    decoder = small_decoder(null="released", num_codebooks=3, **DAC_RATES)
    assert "null" not in dict(decoder.named_parameters())
    codes = torch.randint(16, (1, 3, 221), generator=seeded())
    visual = torch.randn(1, 32, 12, generator=seeded())
    dropped = decoder(codes, visual, torch.tensor([True]))
    assert torch.equal(dropped, decoder(codes, decoder.null[None]))
    # 24 tokens instead of 32, where the released code fails: V-AURA's first reported issue
    shorter = decoder(codes[..., :165], visual[:, :24], torch.tensor([True]))
    assert torch.equal(shorter, decoder(codes[..., :165], decoder.null[None, :24]))
    assert decoder.null_condition(100, 221, first=55).shape == (1, 223, 16)
    assert torch.equal(decoder.null_condition(100, 165), decoder.condition(decoder.null[None, :24], 165))
    with pytest.raises(UsageError, match="32 tokens and 33 are needed"):
        decoder.null_tokens(33)


# --- what the released code does otherwise ------------------------------------------------------------


def test_a_hidden_last_frame_is_a_target_and_no_input():
    """Codes of the last frame are read only where finer codes are predicted after them."""
    codes, visual = example()
    other = codes.clone()
    other[..., -1] = (other[..., -1] + 1) % 16
    fed, hidden = small_decoder(), small_decoder(last_frame="hidden")
    assert not torch.equal(fed(codes, visual), fed(other, visual))
    assert torch.equal(hidden(codes, visual), hidden(other, visual))
    for q in range(3):
        assert torch.equal(hidden(codes, visual)[:, q, : 20 - q], fed(codes, visual)[:, q, : 20 - q])


@pytest.mark.parametrize("field", ["residual_dropout", "feed_forward_dropout"])
def test_dropout_of_what_is_added_to_the_residual(field):
    codes, visual = example()
    plain, dropped = small_decoder(dropout=0.0), small_decoder(dropout=0.0, **{field: 0.5})
    assert dropped.state_dict().keys() == plain.state_dict().keys()
    assert torch.equal(dropped(codes, visual), plain(codes, visual))  # in evaluation nothing is dropped
    assert torch.equal(plain.train()(codes, visual), plain(codes, visual))
    assert not torch.equal(dropped.train()(codes, visual), plain(codes, visual))
    c = PRESETS["paper"]
    assert (c.dropout, c.residual_dropout, c.feed_forward_dropout) == (0.1, 0.1, 0.1)  # as released


@pytest.mark.parametrize(("how", "tables", "weights"), [("random", 0, 0), ("codec", 1, 1), ("released", 1, 0)])
def test_code_embeddings_can_start_as_those_of_the_codec(how, tables, weights):
    from transformers import DacConfig, DacModel

    torch.manual_seed(1)
    dac = DacModel(DacConfig(
        encoder_hidden_size=2, downsampling_ratios=[2, 2, 2], decoder_hidden_size=16, n_codebooks=3,
        codebook_size=16, codebook_dim=8,
    ))  # fmt: skip
    quantizers = dac.quantizer.quantizers
    decoder = small_decoder(code_width=8, code_init=how)
    before = {k: v.clone() for k, v in decoder.state_dict().items()}
    decoder.init_codes(quantizers)
    for q, theirs in enumerate(quantizers):
        assert torch.equal(decoder.embed[q].weight[:16], theirs.codebook.weight) == bool(tables)
        assert torch.equal(decoder.embed[q].weight[16], before[f"embed.{q}.weight"][16])  # the special token
        assert torch.equal(decoder.project[q].bias, theirs.out_proj.bias) == bool(tables)
        assert torch.equal(decoder.project[q].weight, theirs.out_proj.weight[..., 0]) == bool(weights)
    for changes in ({"code_width": 4}, {"code_width": 0}):
        with pytest.raises(UsageError, match="code"):
            small_decoder(code_init="codec", **changes).init_codes(quantizers)


# --- layer-wise conditioning ----------------------------------------------------------------------------


def test_layerwise_conditioning_begins_as_nothing_and_then_acts():
    with_it, without = small_decoder(layerwise_conditioning=True), small_decoder()
    missing, unexpected = with_it.load_state_dict(without.state_dict(), strict=False)
    assert not unexpected
    assert all(name.startswith("layerwise.") for name in missing)
    codes, visual = example()
    assert torch.equal(with_it(codes, visual), without(codes, visual))
    torch.nn.init.normal_(with_it.layerwise[1].weight, std=0.3)
    assert not torch.allclose(with_it(codes, visual), without(codes, visual), atol=1e-3)
    assert not any(layer._forward_pre_hooks for layer in with_it.backbone.layers)


def test_levels_fall_with_a_ring_and_stay_within_their_range():
    time = torch.arange(16000) / 16000
    ring = 0.5 * torch.sin(2 * torch.pi * 1000 * time) * 10 ** (-50 * time / 20)  # 1 dB a frame of 20 ms
    levels = levels_of(torch.stack([ring, 0.1 * ring]), 320, 64)  # steps of 1 dB
    assert levels.shape == (2, 50) and levels.dtype == torch.long
    assert (levels[0].diff() == -1).float().mean() > 0.9 and int(levels[0].diff().max()) <= 0  # no two are alike
    assert set((levels[0] - levels[1])[:40].tolist()) <= {19, 20, 21}
    assert len(levels_of(ring[None], 320, 8).unique()) == 7  # steps of 8 dB hold for long
    both = levels_of(torch.stack([torch.zeros(330), torch.ones(330)]), 320, 64)
    assert both.tolist() == [[0, 0], [63, 56]]  # the last frame is filled with silence


def test_the_level_is_a_codebook_before_those_of_the_codec():
    decoder = small_decoder(num_codebooks=4, level_bins=8)
    assert decoder.config.first_code == 1 and small_decoder().config.first_code == 0
    codes, visual = example()
    codes = torch.cat([codes[:, :1] % 8, codes], dim=1)
    with torch.no_grad():
        logits = decoder(codes, visual)
        louder = codes.clone()
        louder[:, 0, 7] = (codes[:, 0, 7] + 3) % 8
        moved = (decoder(louder, visual) - logits).abs().amax((0, 3)) > 1e-6
    assert not moved[0, :8].any() and moved[0, 8]
    assert not moved[1, :7].any() and moved[1, 7]  # the frame's own code is predicted after its level
    for wrong in ({"level_bins": -1}, {"level_bins": 17}, {"level_bins": 8, "num_codebooks": 1}):
        with pytest.raises(UsageError, match="level_bins"):
            replace(SMALL, **wrong)


def test_unknown_switches_are_refused():
    for wrong in ({"visual_map": "repeat8"}, {"null": "random"}, {"visual_width": 5}, {"last_frame": "x"}):
        with pytest.raises(UsageError):
            replace(SMALL, **wrong)


# --- prepended visual tokens (table III) ------------------------------------------------------------------


@pytest.mark.parametrize("rates", [{}, {"frame_rate": "44100/512", "visual_rate": "25/2"}])
def test_prepended_tokens_are_read_by_all_codes_and_cached_as_uncached(rates: dict):
    decoder = small_decoder(conditioning="prepend", **rates)
    codes = torch.randint(16, (1, 3, 20), generator=seeded(1))
    visual = torch.randn(1, 20, 12, generator=seeded(2))
    prefix = decoder.prefix_of(20)
    assert prefix == decoder.tokens_of(20) and decoder.condition(visual, 20).shape == (1, prefix + 22, 16)
    before = decoder(codes, visual)
    assert before.shape == (1, 3, 20, 16)
    changed = visual.clone()
    changed[:, prefix - 1] += 1  # the last token of the window reaches the first code, which fusion would not let it
    assert ((decoder(codes, changed) - before).abs().amax(-1) > 1e-6).all()
    changed[:, prefix - 1] -= 1
    changed[:, prefix:] += 1
    assert torch.allclose(decoder(codes, changed), before, atol=1e-6)
    for how in (Sampling(1.0, 0.0), Sampling(2.0, 0.0), Sampling(2.0, 1.0, 4)):
        drawn = [generate_codes(decoder, visual, how, seeded(3), frames=20, use_cache=use) for use in (True, False)]
        assert torch.equal(*drawn)
    prompt = drawn[0][..., :7]
    later = [
        generate_codes(decoder, visual, how, seeded(3), frames=13, first=3, prompt=prompt, use_cache=use)
        for use in (True, False)
    ]
    assert torch.equal(*later) and torch.equal(later[0][..., :7], prompt)


def test_prepending_has_the_same_weights_as_fusion():
    fused, prepended = small_decoder(), small_decoder(conditioning="prepend")
    assert {n: p.shape for n, p in fused.named_parameters()} == {n: p.shape for n, p in prepended.named_parameters()}
    assert config_to_json(prepended.config)["conditioning"] == "prepend"
    with pytest.raises(UsageError, match="conditioning must be one of fusion, prepend"):
        small_decoder(conditioning="beside")
