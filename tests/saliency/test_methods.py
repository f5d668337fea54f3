"""Methods: a planted cause is found, captum's axioms hold, every system gives every map, the same twice."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from saliency_parts import WINDOW, planted, small_system, the_clip

from v2a_nb.errors import UsageError
from v2a_nb.saliency.attention import record_attention, rollout
from v2a_nb.saliency.methods import (
    BASELINES,
    METHODS,
    SMOOTH_S,
    Ask,
    _events,
    attribute,
    blurred,
    decoder_attention,
    held_choices,
)
from v2a_nb.saliency.targets import target_of

OF_PIXELS = ("gradient", "integrated_gradients", "smoothgrad", "occlusion")
IN_TIME = "token_ablation"


@pytest.mark.parametrize("method", OF_PIXELS)
def test_a_planted_cause_is_found(method):
    """All of the map of gradients lies in the tubelet; of occlusion as much as its own tubelets touch it."""
    made = attribute(planted(), method, baseline="black")
    cause = np.zeros((16, 16, 16), bool)
    cause[6:8, 4:8, 8:12] = True  # cells of two pixels
    assert made.map.shape == (16, 16, 16)
    share = made.map[cause].sum() / made.map.sum()
    assert share > (0.999 if method != "occlusion" else 0.1)
    if method == "occlusion":
        assert np.unravel_index(made.map.argmax(), made.map.shape)[1:] == (4, 8)
    else:
        assert (made.map[cause] > 0).all()


def test_integrated_gradients_are_complete():
    made = attribute(planted(), "integrated_gradients", baseline="blur")
    assert made.completeness_error < 1e-3 and made.baseline == "blur"
    assert attribute(planted(), "gradient").completeness_error is None


def test_integrated_gradients_of_a_system_are_complete_because_its_choices_are_held(monkeypatch):
    monkeypatch.setattr("v2a_nb.saliency.methods.IG_STEPS", (96,))
    target = target_of(small_system("vaura"), *the_clip(), WINDOW)
    crops, value = target.encoder.event_crop, target.value
    with held_choices(target):
        assert target.value == pytest.approx(value, rel=1e-5)  # of the clip itself nothing changes
        base = blurred(target.frames)
        chosen = crops.peaks(target.encoder.flux(target.encoder.timing_and_content(torch.cat([base, base]))[0]))
        own = _events(target).steps
        assert chosen.tolist() == [[clip, step] for clip in (0, 1) for step in own.tolist()]
    assert "peaks" not in vars(crops) and "places" not in vars(crops)
    made = attribute(target, "integrated_gradients")
    assert made.completeness_error < 0.02 and any("are held" in note for note in made.notes)


def test_place_and_time_is_where_by_attention_and_when_by_ablation():
    target = target_of(small_system("vaura"), *the_clip(), WINDOW)
    made, place, when = (attribute(target, m).map for m in ("place_and_time", "gradient_attention", "token_ablation"))
    frames, middle = np.arange(len(made)), int(when.argmax())
    reach = min(round(3 * SMOOTH_S * 25), len(made) - 1)
    away = np.arange(-reach, reach + 1)
    around = place[np.clip(middle + away, 0, frames[-1])]  # the first and the last frame are repeated
    expected = np.tensordot(np.exp(-0.5 * (away / (SMOOTH_S * 25)) ** 2), around, 1) * when[middle]
    assert when.any() and np.allclose(made[middle], expected, rtol=1e-3)
    assert not made[when[:, 0, 0] == 0].any()


def test_gradient_times_input_is_measured_from_the_baseline():
    """Of a linear target it is exact: positive and negative parts included, it adds up to the change."""
    target = planted()
    x, b = target.frames.requires_grad_(), BASELINES["mean"](target.frames).detach()
    (gradient,) = torch.autograd.grad(target(x)[0], x)
    x = x.detach()
    change = float((target(x) - target(b)).detach()[0])
    assert float((gradient * (x - b)).sum()) == pytest.approx(change, rel=1e-3)


SLOWER = [pytest.param(name, marks=pytest.mark.golden) for name in ("egosonics", "action2sound")]


@pytest.mark.parametrize("name", ["vaura", "vta_ldm", *SLOWER])
def test_every_method_of_every_system(name, monkeypatch):
    monkeypatch.setattr("v2a_nb.saliency.methods.TUBELET", (10, 32, 32))
    monkeypatch.setattr("v2a_nb.saliency.methods.STRIDE", (10, 32, 32))
    target = target_of(small_system(name), *the_clip(), WINDOW)
    for method in METHODS:
        passes = []
        made = attribute(target, method, progress=passes.append)
        assert len(made.map) == 20 and made.fps == 25 and made.map.any(), method
        assert made.map.shape[1:] == ((1, 1) if method == IN_TIME else (made.map.shape[1],) * 2)
        assert bool(passes) == (method in METHODS and "attention" not in method and "rollout" not in method) or passes
        if method in ("smoothgrad", "gradient_attention", "attention"):
            assert attribute(target, method).map.tobytes() == made.map.tobytes()


def test_noise_has_a_seed_and_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    maps = [attribute(planted(), "smoothgrad", seed=seed).map for seed in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), before) and np.array_equal(maps[0], maps[1])


def test_attention_looks_only_into_the_window():
    target = target_of(small_system("vaura"), *the_clip(), WINDOW)
    curve = attribute(target, "attention").curve
    times = (np.arange(len(curve)) + 0.5) / 25
    reach = 0.06 + 3 / 25  # an event reads two frames to either side
    assert curve[(times > WINDOW[0]) & (times < WINDOW[1])].sum() > 0
    assert not curve[(times < WINDOW[0] - reach) | (times > WINDOW[1] + reach)].any()


def test_attention_of_an_event_is_shared_out_to_its_frames():
    target = target_of(small_system("vaura"), *the_clip(), WINDOW)
    found = _events(target)
    maps = torch.rand(len(found.steps), 16, 16)
    total = found.on_frames(maps)
    middles = found.steps * found.step_frames
    whole = (middles > 2) & (middles < 17)  # whose five frames are all there
    assert total.sum() <= maps.sum() + 1e-3 and whole.any()
    alone = int(whole.nonzero()[0, 0])
    one = torch.zeros_like(maps)
    one[alone] = maps[alone]
    shared = found.on_frames(one)
    assert float(shared.sum()) == pytest.approx(float(one.sum()), rel=1e-4)
    assert int(shared.sum((1, 2)).argmax()) == round(float(middles[alone]))


def test_recorded_attention_is_that_of_the_network_and_changes_nothing():
    target = target_of(small_system("vaura"), *the_clip(), WINDOW)
    value, tokens = target.value, target.tokens
    with torch.no_grad(), record_attention(target.system) as shares:
        recorded = float(target(target.frames)[0])
    assert recorded == pytest.approx(value, rel=1e-4)
    layers = [shares[f"decoder.backbone.layers.{k}.self_attn"] for k in range(2)]
    steps = target.codes.shape[-1] + 2
    for (each,) in layers:  # [B, heads, queries, keys], causal
        assert each.shape == (1, 2, steps, steps) and torch.allclose(each.sum(-1), torch.ones(1, 2, steps))
        assert not each[0, 0].triu(1).any()
    assert shares["encoder.event_crop.frame"][0].shape[1:] == (4, 256)
    assert shares["encoder"][0].shape == (20, 4, 64)
    assert torch.allclose(rollout([each for (each,) in layers]).sum(-1), torch.ones(1, steps), atol=1e-5)
    assert torch.equal(target.tokens, tokens)
    curve = decoder_attention(target)  # causal: nothing is read after the window and the delay of its codebooks
    assert curve.shape == (40,) and curve[:25].sum() > 0 and not curve[28:].any()


def test_recorded_attention_of_a_sampler_has_its_steps():
    system, (clip, _) = small_system("egosonics"), the_clip()
    with record_attention(system) as shares:
        system.generate(clip, steps=3)
    names = [name for name in shares if name.startswith("syncronet") and name.endswith(".attn2")]
    assert names and all(len([s for s in shares[name] if s.ndim == 4]) == 3 for name in names)


@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_products_are_those_of_torch(mask):
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 5, 4, generator=generator) for _ in range(3))
    given = {"bool": torch.ones(5, 5, dtype=torch.bool).tril(), "float": torch.randn(5, 5, generator=generator)}.get(
        mask
    )
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=given)
    with record_attention(torch.nn.Identity()) as shares:
        made = F.scaled_dot_product_attention(q, k, v, attn_mask=given)
    assert torch.allclose(made, expected, atol=1e-6) and shares[""][0].shape == (2, 3, 5, 5)


def test_blur_keeps_the_mean_and_an_even_picture():
    even = torch.full((1, 2, 3, 16, 16), 0.25)
    assert torch.allclose(blurred(even), even, atol=1e-6)
    noise = torch.rand(1, 2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert float(blurred(noise).std()) < 0.2 * float(noise.std())


def test_unknown_words_and_methods_without_an_encoder_are_refused():
    for how in ({"method": "guess"}, {"baseline": "white"}):
        with pytest.raises(UsageError, match="unknown"):
            attribute(planted(), **{"method": "gradient", **how})
    with pytest.raises(UsageError, match="has no encoder of a system"):
        attribute(planted(), "attention")
    assert Ask(planted(), planted().frames).progress is None
