"""Targets: the system's own numbers, differentiable down to the pixels, and nothing of the system is changed."""

from __future__ import annotations

import math

import pytest
import torch
from saliency_parts import WINDOW, small_system, the_clip
from system_parts import Eyes, clip_of
from vaura_parts import fake_system

from v2a_nb.errors import UsageError
from v2a_nb.saliency.targets import ControlEnergy, DenoisingLoss, LogLikelihood, longest_s, span_of, target_of
from v2a_nb.sampling.diffusion import add_noise

SYSTEMS = ("vaura", "egosonics", "action2sound", "vta_ldm")


@pytest.fixture(scope="module", params=SYSTEMS)
def target(request):
    return target_of(small_system(request.param), *the_clip(), WINDOW)


def test_tokens_are_the_systems_own(target):
    clip, _ = the_clip()
    assert torch.allclose(target.tokens, target.system.encode_video(clip), atol=1e-5)
    assert float(target.of_tokens(target.tokens)[0]) == pytest.approx(target.value, rel=1e-4)


def test_gradients_reach_pixels_and_leave_the_weights_alone(target):
    learned = [p.requires_grad for p in target.system.parameters()]
    frames = target.frames.clone().requires_grad_()
    target(frames).sum().backward()
    assert frames.grad is not None and torch.isfinite(frames.grad).all() and frames.grad.abs().sum() > 0
    assert [p.requires_grad for p in target.system.parameters()] == learned
    assert all(p.grad is None for p in target.system.parameters())
    assert any("without a gradient" in note for note in target.notes)


def test_a_batch_is_its_clips(target):
    other = target.frames.flip(1)
    with torch.no_grad():
        both = target(torch.cat([target.frames, other]))
        assert torch.allclose(both, torch.cat([target(target.frames), target(other)]), rtol=1e-3, atol=1e-4)


def test_log_likelihood_is_what_the_system_says():
    system, (clip, sound) = small_system("vaura"), the_clip()
    target = LogLikelihood(system, clip, sound, WINDOW, codebooks=(0, 2))
    with torch.no_grad():
        whole = system.log_likelihood(clip, target.codes)
    first, last = span_of(WINDOW, 50, target.codes.shape[-1])
    assert (first, last) == (10, 25)
    assert target.value == pytest.approx(float(whole[[0, 2], first:last].sum()), rel=1e-4)
    with torch.no_grad():
        null = system.log_likelihood(clip, target.codes, null=True)
    gain = LogLikelihood(system, clip, sound, WINDOW, minus="null")
    assert gain.value == pytest.approx(float((whole - null)[:, first:last].sum()), abs=1e-2)
    same = LogLikelihood(system, clip, sound, WINDOW, minus=clip)
    assert same.value == pytest.approx(0, abs=1e-2)


def test_denoising_loss_is_the_training_loss_in_the_window():
    system, (clip, sound) = small_system("egosonics"), the_clip()
    target = DenoisingLoss(system, clip, sound, WINDOW, steps=(700,), seed=5)
    latents = system.encode_sound(sound)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(5))
    noisy, wanted = add_noise(latents, noise, torch.tensor([700]), system.config.schedule)
    with torch.no_grad():
        conditions = system.conditions(system.encode_video(clip), latents.shape[-1])
        error = (system.denoise(noisy, torch.tensor([700]), conditions) - wanted).square().mean((1, 2))[0]
    first, last = span_of(WINDOW, 1 / system.config.column_s, len(error))
    assert target.value == pytest.approx(-float(error[first:last].mean()), rel=1e-4)
    for name in ("egosonics", "action2sound", "vta_ldm"):
        gain = DenoisingLoss(small_system(name), clip, sound, WINDOW, minus="null")
        assert gain.reference < 0 and gain.value != pytest.approx(gain.reference)


def test_a_text_beside_the_video_changes_what_is_explained():
    """Figure 3 of VTA-LDM's paper: the same sound with and without its text."""
    system, (clip, sound) = small_system("vta_ldm"), the_clip()
    without, with_text = (target_of(system, clip, sound, WINDOW, prompt=p) for p in (None, "a stick strikes the drum"))
    assert with_text.title.endswith('with the text "a stick strikes the drum"') and without.title in with_text.title
    assert without.value == target_of(system, clip, sound, WINDOW, prompt="").value != with_text.value
    latents, at = system.encode_sound(sound), torch.tensor([700])
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(0))
    noisy, wanted = add_noise(latents, noise, at, system.config.schedule)
    with torch.no_grad():
        text = system.encode_texts("a stick strikes the drum", 1)
        conditions = system.context(system.encode_video(clip), text=text, seconds=torch.tensor([clip.duration]))
        error = (system.denoise(noisy, at, conditions) - wanted).square().mean((1, 2))[0]
    one = DenoisingLoss(system, clip, sound, WINDOW, steps=(700,), prompt="a stick strikes the drum")
    assert one.value == pytest.approx(-float(error[one.first : one.last].mean()), rel=1e-4)


def test_control_energy_is_what_syncronet_adds_in_the_window():
    system, (clip, sound) = small_system("egosonics"), the_clip()
    whole = target_of(system, clip, sound, target="control_energy", steps=(700,))
    assert isinstance(whole, ControlEnergy) and whole.value > 0
    seen = []
    hook = system.syncronet.register_forward_hook(lambda _, __, out: seen.extend([*out[0], out[1]]))
    with torch.no_grad():
        conditions = system.conditions(system.encode_video(clip), whole.columns)
        system.denoise(whole.noisy, whole.steps, conditions)
    hook.remove()
    total_s = whole.columns * system.config.column_s  # the last column reaches beyond the clip
    ends = [math.ceil(clip.duration / total_s * s.shape[-1] - 1e-6) for s in seen]
    energy = sum(float(s[..., :end].square().mean()) for s, end in zip(seen, ends, strict=True))
    assert whole.value == pytest.approx(energy, rel=1e-4)
    parts = [ControlEnergy(system, clip, sound, window, steps=(700,)).value for window in ((0.0, 0.4), (0.4, 0.8))]
    assert parts[0] != pytest.approx(parts[1]) and min(parts) > 0
    assert ControlEnergy(system, clip, sound, WINDOW, minus="null").reference == 0
    frames = whole.frames.clone().requires_grad_()
    whole(frames).sum().backward()
    assert frames.grad is not None and frames.grad.abs().sum() > 0


def test_what_makes_no_sense_is_refused():
    system, (clip, sound) = small_system("vaura"), the_clip()
    for words, how in {
        "no window": {"window": (0.5, 3.0)}, "codebooks": {"codebooks": (9,)}, "minus": {"minus": "nothing"},
    }.items():  # fmt: skip
        with pytest.raises(UsageError, match=words):
            LogLikelihood(system, clip, sound, **how)
    with pytest.raises(UsageError, match="spans at most 0"):
        LogLikelihood(system, clip_of(2.0), sound)
    assert longest_s(system) == pytest.approx(0.96)
    assert isinstance(fake_system().encoder, Eyes)
    with pytest.raises(UsageError, match="gives no gradients to pixels"):
        target_of(fake_system(), clip, sound)
    with pytest.raises(UsageError, match="timesteps are 0 to 999"):
        DenoisingLoss(small_system("egosonics"), clip, sound, steps=(1000,))
    for words, how in {
        "has not the target denoising_loss": {"target": "denoising_loss"}, "unknown target 'x'": {"target": "x"},
        "log_likelihood has no prompt": {"prompt": "a stick"},
    }.items():  # fmt: skip
        with pytest.raises(UsageError, match=words):
            target_of(system, clip, sound, **how)
    with pytest.raises(UsageError, match="reads no prompt"):
        target_of(small_system("egosonics"), clip, sound, prompt="a stick")
