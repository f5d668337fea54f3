"""VTA-LDM: sizes, tokens, the one mask and the one null, texts, flow, samplers, what is trained, lengths, weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from action2sound_parts import SMALL_AUTOENCODER
from system_parts import Eyes, check_damaged, check_named_parts, check_same, clip_of, seeded
from vta_parts import SMALL, small_system

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import as_shipped
from v2a_nb.models.attention import cross_attentions, watch_attention
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.optical_flow import flow_clip, motion_vectors
from v2a_nb.models.text_encoders import StrikeText
from v2a_nb.models.video_encoders.registry import ENCODERS, small
from v2a_nb.models.vocoder import PRESETS as VOCODERS
from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder
from v2a_nb.sampling.diffusion import make_scheduler
from v2a_nb.systems.registry import load, with_weights
from v2a_nb.systems.vta_ldm.model import ConditionTokens, attended, make_unet, sinusoids
from v2a_nb.systems.vta_ldm.system import PRESETS, VtaLdm

WINDOW = 49152
"""Samples of 24 latent columns."""


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


def example(b: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of a window, and frame vectors of 3.08 s."""
    return torch.randn(b, 4, 16, 24, generator=seeded(1)), torch.randn(b, 154, 12, generator=seeded(2))


# --- sizes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paper() -> VtaLdm:
    with torch.device("meta"):
        return VtaLdm(PRESETS["paper"])


def test_paper_preset_has_the_published_parameters(paper):
    assert count(paper.unet) == 578_052_168  # of the released diffusion_model_config_large_2048.json
    assert count(paper.tokens) == 768 * 2048 + 2048
    assert [attn.heads for _, attn in cross_attentions(paper.unet).values()][:6] == [5, 5, 10, 10, 20, 20]
    assert paper.unet.config.block_out_channels == (320, 640, 640, 1280)
    assert paper.autoencoder.scaling_factor == 0.9227914214134216
    with torch.device("meta"):
        VtaLdm(PRESETS["paper"], vocoder=Vocoder(VOCODERS["paper-audioldm"]))  # fits


def test_paper_preset_runs_on_ten_seconds(paper):
    c = PRESETS["paper"]
    assert c.latents_shape(163840) == (8, 16, 256) and c.latents_shape(160000) == (8, 16, 256)
    assert (c.window_s, c.guidance, c.sampler_steps, c.prediction) == (10.24, 3.0, 300, "v_prediction")
    with torch.device("meta"):
        latents = torch.zeros(1, 8, 16, 256)
        conditions = paper.context(torch.zeros(1, 20, 768))
        made = paper.unet(latents, torch.zeros(1), conditions["context"], return_dict=False)[0]
        assert made.shape == latents.shape and paper.autoencoder.decode(made).shape == (1, 1, 64, 1024)


def test_paper_preset_samples_as_released():
    scheduler = make_scheduler(PRESETS["paper"].schedule)
    assert type(scheduler).__name__ == "DDPMScheduler" and len(scheduler.timesteps) == 300
    wanted = {
        "prediction_type": "v_prediction", "timestep_spacing": "leading", "variance_type": "fixed_small",
        "clip_sample": False, "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
        "steps_offset": 1,
    }  # fmt: skip
    assert {k: scheduler.config[k] for k in wanted} == wanted


def test_tiny_preset_is_small_and_reads_every_frame_vector():
    c = PRESETS["tiny"]
    system = VtaLdm(c)
    assert 3_000_000 < count(system.unet) < 4_000_000 and count(system.tokens) < 250_000
    assert c.video_tokens * c.token_s == pytest.approx(c.window_s) and c.stack >= c.token_s * c.video_rate
    assert c.latents_shape(4800) == (16, 16, 24)  # never less than a window
    with torch.device("meta"):
        assert count(VtaLdm(PRESETS["small"]).unet) == 55_121_748


@pytest.mark.parametrize(
    "wrong",
    [
        {"picture": "wide"}, {"flow": "lines"}, {"heads": (1, 2, 3)}, {"widths": (8,) * 4, "heads": (2,) * 4},
        {"context": 22}, {"sampler": "x"}, {"snr_form": "x"}, {"free_heads": 2}, {"vision": False},
        {"vision": False, "text": False, "time_bias": False}, {"shared_projection": True},
    ],
)  # fmt: skip
def test_configurations_that_do_not_fit_are_refused(wrong: dict):
    with pytest.raises(UsageError):
        make_unet(replace(SMALL, **wrong))


def test_parts_that_do_not_fit_are_refused():
    class Wide(Eyes):
        dim = 13

    fits = ImageAutoencoder(SMALL_AUTOENCODER)
    with pytest.raises(WeightsError, match="numbers in a frame vector"):
        VtaLdm(SMALL, Wide(), fits)
    with pytest.raises(WeightsError, match="numbers in a text's vector"):
        VtaLdm(SMALL, Eyes(), fits, None, StrikeText(9))
    with pytest.raises(WeightsError, match="channels of the latents"):
        VtaLdm(SMALL)


# --- tokens ---------------------------------------------------------------------------------------------


def test_tokens_of_the_paper_are_the_released_arithmetic():
    torch.manual_seed(0)
    c = replace(PRESETS["paper"], text=True, position=True)
    tokens, vectors, text = ConditionTokens(c), torch.randn(1, 21, 768), torch.randn(1, 768)
    made = tokens(vectors, text=text)
    linear, place = tokens.video, torch.arange(21)[:, None].double()
    angle = place / 10000 ** (torch.arange(0, 768, 2) / 768)
    table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).float()
    assert torch.allclose(sinusoids(21, 768), table, atol=1e-5)
    assert torch.allclose(made[:, :21], F.linear(vectors + table, linear.weight, linear.bias), atol=1e-5)
    repeated = F.linear(text, linear.weight, linear.bias)  # one projection for both, repeated for each frame
    assert torch.allclose(made[:, 21:], repeated[:, None].expand(-1, 21, -1), atol=1e-5) and tokens.text is None


def test_pictures_and_flow_of_one_time_are_one_token():
    torch.manual_seed(0)
    tokens = ConditionTokens(replace(SMALL, flow="vectors", text=False))
    vectors, flow = torch.randn(1, 154, 12), torch.randn(1, 154, 192)
    only = tokens(vectors, torch.zeros_like(flow)) - tokens.flow.bias
    both = tokens(vectors, flow)
    assert both.shape == (1, 24, 16)
    assert torch.allclose(both - only, tokens(torch.zeros_like(vectors), flow) - tokens.video.bias, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in ENCODERS if n != "pe_av"])
def test_any_registered_encoder_can_be_read(name):
    encoder = small(name)
    config = replace(SMALL, video_dim=encoder.dim, video_rate=float(encoder.rate), text=False)
    vocoder = GriffinLimVocoder(iterations=2, method="pinv")
    system = VtaLdm(config, encoder, ImageAutoencoder(SMALL_AUTOENCODER), vocoder)
    frames = np.random.default_rng(0).integers(0, 255, (20, 40, 40, 3), dtype=np.uint8)
    clip = replace(clip_of(0.8), frames=frames)
    assert system.generate(clip, steps=1).n == 12800


# --- the one mask and the one null ----------------------------------------------------------------------


def test_the_mask_ends_with_the_video():
    mask = attended(SMALL, torch.tensor([0.0, 1.28]), torch.tensor([1.0, 2.0]))
    assert mask.shape == (2, 25) and mask[:, -1].all()  # the text stays
    assert mask[0, :24].sum() == 8 and mask[1, :24].sum() == 6  # 7.8 and 5.6 tokens of 0.128 s
    assert attended(SMALL, torch.tensor([2.0]), torch.tensor([1.0]))[0, 0]
    repeated = attended(replace(SMALL, text_tokens=24), torch.tensor([0.0]), torch.tensor([1.0]))
    assert torch.equal(repeated[:, :24], repeated[:, 24:])


@pytest.mark.parametrize("lean", [False, True])
@pytest.mark.parametrize("time_bias", [False, True])
def test_tokens_that_are_masked_change_nothing(lean, time_bias):
    system = small_system(time_bias=time_bias, row_values=8)
    if lean:
        unet = make_unet(system.config, lean=True)
        unet.load_state_dict(system.unet.state_dict())
        system.unet = unet
    latents, vectors = example()
    t, seconds = torch.tensor([500, 700]), torch.tensor([1.28, 2.56])
    conditions = system.context(vectors, seconds=seconds)
    assert (~conditions["mask"]).any(dim=1).all()
    with torch.no_grad():
        made = system.denoise(latents, t, conditions)
        other = conditions["context"].masked_fill(~conditions["mask"][..., None], 7.0)
        assert torch.allclose(system.denoise(latents, t, {**conditions, "context": other}), made, atol=1e-5)
        assert not torch.allclose(system.denoise(latents, t, system.context(vectors)), made, atol=1e-2)
        with watch_attention(system.unet) as seen:
            system.denoise(latents, t, conditions)
    for shares in seen.values():
        assert shares[0, ..., 10:24].abs().max() < 1e-6 and shares.sum(-1).allclose(torch.ones(()), atol=1e-5)


def test_without_a_time_bias_masked_tokens_might_as_well_not_be_there():
    """The released code pads the tokens of shorter videos, and masks the padding."""
    system = small_system(time_bias=False, text=False)
    latents, vectors = example(1)
    conditions = system.context(vectors, seconds=torch.tensor([1.28]))
    with torch.no_grad():
        fewer = system.unet(latents, torch.tensor([500]), conditions["context"][:, :10], return_dict=False)[0]
        assert torch.allclose(system.denoise(latents, torch.tensor([500]), conditions), fewer, atol=1e-5)


def test_the_null_of_guidance_is_what_training_drops_to():
    system = small_system()
    _, vectors = example()
    text, seconds = system.encode_texts("a metal bowl", 2), torch.tensor([1.0, 3.0])
    null = system.null(vectors, seconds=seconds)
    assert not null["context"].any() and null["mask"].all()  # zeros, all attended to (section 3.3)
    no = {"video": torch.tensor([False, True]), "text": torch.tensor([False, True])}
    dropped = system.context(vectors, text=text, seconds=seconds, given=no)
    whole = system.context(vectors, text=text, seconds=seconds)
    for name in ("context", "mask"):
        assert torch.equal(dropped[name][0], null[name][0]) and torch.equal(dropped[name][1], whole[name][1])
    negative = system.null(vectors, text=text, seconds=seconds)
    assert torch.equal(negative["context"][:, 24:], whole["context"][:, 24:])
    assert not negative["context"][:, :24].any() and negative["mask"].all()


def test_no_text_is_the_null_of_the_text():
    system = small_system()
    _, vectors = example()
    without = system.context(vectors)
    assert not without["context"][:, 24:].any() and without["mask"].all()
    assert system.encode_texts("  ", 2) is None and system.encode_texts([None, ""], 2) is None
    some = system.context(vectors, text=system.encode_texts(["glass", ""], 2))
    assert some["context"][0, 24:].any() and not some["context"][1, 24:].any()


# --- generation -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def system() -> VtaLdm:
    return small_system()


@pytest.mark.parametrize("seconds", [0.3, 1.0, 3.3])
def test_a_sound_is_as_long_as_its_clip(system, seconds):
    sound = system.generate(clip_of(seconds))
    assert sound.n == round(16000 * seconds) and sound.rms_dbfs > -90


def test_the_same_seed_gives_the_same_bytes_alone_and_in_a_batch(system):
    clips = [clip_of(0.8, seed=s) for s in (1, 2)]
    alone = system.generate(clips[1], seed=5, prompt="wood")
    assert system.generate(clips[1], seed=5, prompt="wood").samples.tobytes() == alone.samples.tobytes()
    both = system.generate_batch(clips, seeds=[4, 5], prompt=["glass", "wood"])
    assert np.allclose(both[1].samples, alone.samples, atol=1e-4)
    assert not np.allclose(system.generate(clips[1], seed=6, prompt="wood").samples, alone.samples, atol=1e-3)


def test_prompts_are_heard(system):
    clip = clip_of(0.8)
    plain = system.generate(clip).samples
    metal, wood = (system.generate(clip, prompt=p).samples for p in ("a metal bowl", "a wood block"))
    assert not np.allclose(metal, wood, atol=1e-4) and not np.allclose(metal, plain, atol=1e-4)
    assert not np.allclose(system.generate(clip, negative_prompt="glass").samples, plain, atol=1e-4)
    same = system.generate(clip, negative_prompt="glass", guidance=1.0).samples  # then there is no other half
    assert np.array_equal(same, system.generate(clip, guidance=1.0).samples)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"prompt": "a gnome"}, "no word of 'a gnome' is known"), ({"prompt": ["a", "b"]}, "1 clips need one text"),
        ({"sampler": "x"}, "sampler must be one of"), ({"sampler": "NoScheduler"}, "diffusers has no scheduler"),
        ({"steps": 0}, "steps"), ({"guidance": -1}, "guidance"), ({"ambient": "low"}, "unknown options"),
        ({"vocoder": "x"}, "not known"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said_in_one_line(system, how, words):
    with pytest.raises(UsageError) as error:
        system.generate(clip_of(0.4), **how)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_system_without_text_says_so():
    with pytest.raises(UsageError, match="reads no text"):
        small_system(text=False).generate(clip_of(0.4), prompt="wood")


@pytest.mark.parametrize("sampler", ["ddpm", "UniPCMultistepScheduler", "EulerDiscreteScheduler"])
def test_any_sampler_of_diffusers_can_be_named(system, sampler):
    clips = [clip_of(0.4, seed=s) for s in (1, 2)]
    alone = system.generate(clips[1], seed=5, sampler=sampler)
    assert np.allclose(system.generate(clips, seed=[4, 5], sampler=sampler)[1].samples, alone.samples, atol=1e-4)
    assert not np.allclose(alone.samples, system.generate(clips[1], seed=5).samples, atol=1e-4)


def test_many_steps_of_any_sampler_without_noise_come_to_the_same(system):
    """Only the way differs from the fast setting to the slow ones: the model is the same."""
    _, vectors = example(1)
    made = []
    for sampler, steps in (("dpm++", 100), ("ddim", 400), ("DPMSolverSinglestepScheduler", 100)):
        system.config = replace(SMALL, sampler=sampler)
        conditions = system.window_conditions(vectors)
        made.append(system.sample_latents(conditions, WINDOW, seeds=[0], steps=steps, guidance=1.0))
    system.config = SMALL
    scale = made[0].std()
    assert all((other - made[0]).abs().mean() < 0.1 * scale for other in made[1:])


@pytest.mark.parametrize("flow", ["color", "vectors"])
def test_flow_is_seen(flow):
    system = small_system(flow=flow, text=False)
    frames = np.zeros((20, 32, 32, 3), np.uint8)
    for i in range(20):
        frames[i, 8:20, i : i + 8] = np.random.default_rng(0).integers(0, 255, (12, 8, 3))
    clip = replace(clip_of(0.8), frames=frames)
    made = system.encode_flows([clip])[0]
    wanted = (
        Eyes().eval().features(flow_clip(clip)) if flow == "color" else torch.from_numpy(motion_vectors(clip, 50.0))
    )
    assert torch.allclose(made, wanted.float()) and made.shape[1] == system.config.flow_dim
    still = replace(clip, frames=np.repeat(frames[:1], 20, axis=0))
    assert not np.allclose(system.generate(clip).samples, system.generate(still).samples, atol=1e-4)
    with pytest.raises(UsageError, match="vectors of the flow"):
        system.context(torch.zeros(1, 40, 12))


def test_text_alone_reads_no_picture():
    system = small_system(vision=False, time_bias=False)
    assert system.context(text=torch.ones(2, 8))["context"].shape == (2, 1, 16)
    a, b = (system.generate(clip_of(0.8, seed=s), prompt="glass").samples for s in (1, 2))
    assert np.array_equal(a, b)
    assert not np.allclose(a, system.generate(clip_of(0.8), prompt="wood").samples, atol=1e-4)
    assert system.generate(clip_of(0.8)).n == 12800


# --- training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"flow": "color"}, {"time_bias": False}, {"text": False}])
def test_a_step_moves_all_that_is_trained_and_nothing_else(changes):
    system = small_system(**changes)
    trained = set(system.train().trained())
    before = {k: v.clone() for k, v in system.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in system.parameters() if p.requires_grad], lr=1.0)
    latents, vectors = example()
    flow = vectors if "flow" in changes else None
    for _ in range(2):
        words = ["glass", "a hand taps wood"]
        text = None if system.text_encoder is None else system.text_encoder.encode(words)
        conditions = system.context(vectors, flow, text, seconds=torch.full((2,), 2.0))
        system.loss(latents, conditions, seeded(3))["loss"].backward()
        optimizer.step()
    moved = {k for k, v in system.state_dict().items() if not torch.equal(v, before[k])}
    assert moved == trained and {"tokens.video.weight", "tokens.video.bias"} <= moved
    assert ("text_encoder.out.weight" in moved) == (text is not None)


def test_hits_and_long_clips_go_through(system):
    with pytest.raises(UsageError, match="knows no hits"):
        system.hits(clip_of(0.5))
    long = system.generate(clip_of(7.0), steps=1)
    assert long.n == 112000


# --- weights --------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_generates_the_same(tmp_path):
    torch.manual_seed(0)
    encoder = small("strike")
    config = replace(SMALL, video_dim=384)
    parts = ImageAutoencoder(SMALL_AUTOENCODER), GriffinLimVocoder(), StrikeText(8)
    made = as_shipped(VtaLdm(config, encoder, *parts).eval())
    folder = made.save_pretrained(tmp_path / "weights")
    loaded = load(folder)
    check_same(made, loaded)
    one, two = (s.generate(clip_of(0.4), prompt="glass").samples for s in (made, loaded))
    assert np.array_equal(one, two)
    check_named_parts(made, folder, tmp_path / "lean", ("vision", "autoencoder", "text"))
    cases = [({"picture": "wide"}, "unknown picture"), ({"widths": [16, 48]}, "tensors differ")]
    check_damaged(VtaLdm, folder, tmp_path / "broken", cases)


def test_where_no_weights_are_shipped_that_is_said_in_one_line(monkeypatch, tmp_path):
    assert "vaura" in with_weights()
    monkeypatch.setattr("v2a_nb.hub.SHIPPED", tmp_path)
    assert with_weights() == ()
    with pytest.raises(WeightsError) as error:
        load("vta_ldm")
    assert "v2a-nb train vta_ldm" in str(error.value) and "\n" not in str(error.value)
