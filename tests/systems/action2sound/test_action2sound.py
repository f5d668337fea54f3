"""Action2Sound: sizes, tokens, nulls and switches, what is trained, lengths, seeds, windows, ambience."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from action2sound_parts import RATE, SMALL, SMALL_AUTOENCODER, Finder, noise, small_system
from system_parts import Eyes, clip_of, seeded

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import SHIPPED, config_from_json, read_config
from v2a_nb.models.attention import cross_attentions, watch_attention
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder
from v2a_nb.sampling.diffusion import make_scheduler, windows
from v2a_nb.systems.action2sound.ambient import Ambients, fitting
from v2a_nb.systems.action2sound.model import Action2SoundConfig, AudioTokens, VideoTokens, make_unet
from v2a_nb.systems.action2sound.system import PRESETS, Action2Sound

WINDOW = 49152
"""Samples of 24 latent columns."""
QUICK = GriffinLimVocoder(iterations=2, method="pinv")


def example(b: int = 2, frames: int = 154) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Latents, frame vectors and a neighbour's latents of a window."""
    latents, near = torch.randn(2, b, 4, 16, 24, generator=seeded(1))
    return latents, torch.randn(b, frames, 12, generator=seeded(2)), near


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


# --- sizes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def paper() -> Action2Sound:
    with torch.device("meta"):
        return Action2Sound(PRESETS["paper"])


def test_paper_preset_has_the_published_parameters(paper):
    assert count(paper.unet) == 859_520_964  # Stable Diffusion 1.4's UNet
    assert count(paper.autoencoder) == 83_653_863
    assert count(paper.audio_tokens) == 445_696
    assert count(paper.video_tokens) == 602_880 == 768 * 768 + 768 + 16 * 768
    assert {attn.heads for _, attn in cross_attentions(paper.unet).values()} == {8}
    assert len(cross_attentions(paper.unet)) == 16
    assert paper.autoencoder.scaling_factor == 0.18215


def test_paper_preset_runs_on_three_seconds(paper):
    c = PRESETS["paper"]
    shape = c.latents_shape(3 * RATE)
    assert shape == (4, 16, 24) and c.stft.columns(3 * RATE) == 192 and c.stft.height == 128
    assert (c.window_s, c.rows, c.guidance, c.null) == (3.072, 16, 6.5, "trained")
    latents = torch.zeros(1, *shape, device="meta")
    context = torch.cat(
        [
            torch.zeros(1, 16, 768, device="meta") + paper.video_tokens.position.weight,
            paper.audio_tokens(latents),
        ],
        dim=1,
    )
    assert context.shape == (1, 40, 768)
    made = paper.denoise(latents, torch.zeros(1, device="meta"), {"context": context})
    assert made.shape == (1, *shape)
    assert paper.autoencoder.decode(made).shape == (1, 3, 128, 192)


def test_paper_preset_samples_as_released():
    schedule = PRESETS["paper"].schedule
    scheduler, c = make_scheduler(schedule), make_scheduler(schedule).config
    assert type(scheduler).__name__ == "DPMSolverMultistepScheduler"
    wanted = {
        "algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint", "timestep_spacing": "linspace",
        "final_sigmas_type": "sigma_min", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012,
        "num_train_timesteps": 1000, "prediction_type": "epsilon", "thresholding": False,
    }  # fmt: skip
    assert {k: c[k] for k in wanted} == wanted
    assert len(scheduler.timesteps) == 25 and scheduler.timesteps[0] == 999
    assert scheduler.sigmas[-1] == pytest.approx(((1 - 0.99915) / 0.99915) ** 0.5, rel=1e-3)


def test_without_a_time_bias_the_unet_is_stable_diffusions(paper):
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        plain = UNet2DConditionModel(
            sample_size=64, block_out_channels=(320, 640, 1280, 1280), cross_attention_dim=768, attention_head_dim=8,
            use_linear_projection=False,
        )  # fmt: skip
    shapes = {k: v.shape for k, v in plain.state_dict().items()}
    assert {k: v.shape for k, v in paper.unet.state_dict().items()} == shapes
    small, biased = make_unet(replace(SMALL, time_bias=False)), make_unet(replace(SMALL, row_values=0))
    more = biased.state_dict().keys() - small.state_dict().keys()
    assert small.state_dict().keys() <= biased.state_dict().keys()
    assert {k.rpartition(".processor.")[2] for k in more} == {"cos", "sin", "others"}
    assert len(more) == 3 * len(cross_attentions(biased))
    whole = make_unet(SMALL).state_dict().keys() - biased.state_dict().keys()
    assert {k.rpartition(".by_row.")[2] for k in whole} == {"read.weight", "write.weight", "write.bias"}
    assert paper.config.row_values == 0


def test_tiny_preset_is_small():
    c = PRESETS["tiny"]
    system = Action2Sound(c)
    assert 3_000_000 < count(system.unet) < 4_000_000
    assert count(system.video_tokens) + count(system.audio_tokens) < 250_000
    assert c.latents_shape(WINDOW) == (16, 16, 24) and c.latents_shape(WINDOW + 1) == (16, 16, 28)
    assert (c.column_s, c.token_s, c.window_s) == (0.128, 0.192, 3.072)
    assert c.latents_shape(4800) == (16, 16, 24)  # never less than a window
    assert system.vocoder.hop == 256 and isinstance(system.vocoder, GriffinLimVocoder)


def test_shipped_weights_have_the_settings_that_the_recipe_writes():
    assert config_from_json(Action2SoundConfig, read_config(SHIPPED / "action2sound")) == PRESETS["tiny"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"picture": "wide"}, {"null": "none"}, {"neighbour_latents": "mode"}, {"heads": (1, 2, 3)},
        {"widths": (8,) * 4, "heads": (2,) * 4}, {"context": 22}, {"prediction": "x"}, {"free_heads": 2},
    ],
)  # fmt: skip
def test_configurations_that_do_not_fit_are_refused(wrong: dict):
    with pytest.raises(UsageError):
        c = replace(SMALL, **wrong)
        _ = c.schedule, make_unet(c)


def test_parts_that_do_not_fit_are_refused():
    class Wide(Eyes):
        dim = 13

    class Slow(Eyes):
        rate = 30.0

    fits = ImageAutoencoder(SMALL_AUTOENCODER)
    for eyes, what in [(Wide(), "numbers in a frame vector"), (Slow(), "frame vectors a second")]:
        with pytest.raises(WeightsError, match=what):
            Action2Sound(SMALL, eyes, fits)
    with pytest.raises(WeightsError, match="channels of the latents"):
        Action2Sound(SMALL)
    with pytest.raises(WeightsError, match="mels"):
        Action2Sound(SMALL, None, fits, GriffinLimVocoder("vta_ldm"))
    half = ImageAutoencoder(replace(SMALL_AUTOENCODER, widths=(8, 16)))
    with pytest.raises(WeightsError, match="pixels in a latent"):
        Action2Sound(SMALL, None, half)


# --- tokens ---------------------------------------------------------------------------------------------


def test_audio_tokens_are_the_released_arithmetic():
    torch.manual_seed(0)
    tokens, latents = AudioTokens(PRESETS["paper"]), torch.randn(2, 4, 16, 24)
    first, _, second = tokens.project
    assert (first.in_features, first.out_features, second.out_features) == (64, 512, 768)
    columns = latents.reshape(2, 64, 24).transpose(1, 2)
    wanted = F.linear(F.gelu(F.linear(columns, first.weight, first.bias)), second.weight, second.bias)
    assert torch.equal(tokens(latents), wanted + tokens.position.weight)
    one = latents.clone()
    one[0, :, :, 7] += 1  # a column is a token
    assert (tokens(one) != tokens(latents)).any(-1).nonzero().tolist() == [[0, 7]]


def test_video_tokens_of_16_vectors_are_the_released_arithmetic():
    torch.manual_seed(0)
    c = PRESETS["paper"]
    tokens, vectors = VideoTokens(c), torch.randn(2, 16, 768)
    assert c.stack == 1 and c.video_rate * c.window_s == pytest.approx(16) and tokens.squeeze is None
    wanted = F.linear(vectors, tokens.embed.weight, tokens.embed.bias) + tokens.position.weight
    assert torch.allclose(tokens(vectors), wanted, atol=1e-5)


@pytest.mark.parametrize("start_s", [0.0, 1.024])
def test_each_video_token_reads_its_own_sixteenth_of_the_window(start_s: float):
    torch.manual_seed(0)
    tokens = VideoTokens(PRESETS["tiny"])
    vectors = torch.randn(1, 256, 384, requires_grad=True)
    made = tokens(vectors, start_s)
    assert made.shape == (1, 16, 128)
    centres = (torch.arange(256) + 0.5) / 50 - start_s
    for k in range(16):
        (grad,) = torch.autograd.grad(made[0, k].sum(), vectors, retain_graph=True)
        read = grad[0].abs().amax(-1) > 0
        inside = (centres > 0.192 * k) & (centres < 0.192 * (k + 1))
        beside = (centres > 0.192 * k - 0.02) & (centres < 0.192 * (k + 1) + 0.02)  # between two, a straight line
        assert (read & ~beside).sum() == 0 and (inside & ~read).sum() == 0
        assert 9 <= inside.sum() <= 10


def test_a_start_shifts_what_video_tokens_read():
    torch.manual_seed(0)
    tokens, vectors = VideoTokens(SMALL), torch.randn(2, 300, 12)
    late = tokens(vectors, 1.4)
    assert torch.allclose(late, tokens(vectors[:, 50:], 0.4), atol=5e-4)  # times are float32
    assert not torch.allclose(late, tokens(vectors, 0.4), atol=1e-2)
    both = tokens(vectors, torch.tensor([0.4, 1.4]))
    assert torch.equal(both[0], tokens(vectors, 0.4)[0]) and torch.equal(both[1], late[1])


def test_where_the_video_has_ended_its_last_vector_stays():
    torch.manual_seed(0)
    tokens, vectors = VideoTokens(SMALL), torch.randn(1, 60, 12)  # 1.2 s
    made = tokens(vectors) - tokens.position.weight
    still = tokens(vectors[:, -1:].expand(-1, 154, -1)) - tokens.position.weight
    assert torch.allclose(made[:, 7:], still[:, 7:], atol=1e-5)
    assert not torch.allclose(made[:, :6], still[:, :6], atol=1e-2)
    assert torch.allclose(tokens(vectors, 9.0) - tokens.position.weight, still, atol=1e-5)
    assert torch.allclose(tokens(vectors[:, :1]), tokens(vectors[:, :1].expand(-1, 9, -1)), atol=1e-5)


# --- the time bias at its start -------------------------------------------------------------------------


def test_at_first_bound_heads_attend_to_their_own_time_and_free_ones_to_the_neighbour():
    c = PRESETS["tiny"]
    unet = make_unet(c)
    assert len(cross_attentions(unet)) == 7
    for depth, attn in cross_attentions(unet).values():
        bias, bound = attn.processor, attn.heads - c.free_heads
        columns = c.context // 2**depth
        made = bias.bias(columns, 40)  # [8, columns, 16 + 24]
        seen = (made[:bound].argmax(-1) + 0.5) * c.token_s
        moment = ((torch.arange(bound) + 0.5) / bound - 0.5)[:, None] + torch.arange(columns) + 0.5
        away = seen - moment * (c.column_s * 2**depth)  # heads divide a column between them
        assert away.abs().max() <= c.token_s / 2 + 1e-4
        assert not made[:bound, :, 16:].any()
        assert not made[bound:, :, :16].any()
        assert (made[bound:, :, 16:] == 2).all()
    plain = make_unet(replace(c, neighbour=False))  # no one to listen to
    assert all(
        a.processor.bias(24, 16).argmax(-1).float().std(-1).min() > 3 for _, a in cross_attentions(plain).values()
    )


def test_an_untrained_system_attends_as_its_bias_says():
    system = small_system()
    latents, vectors, near = example(1)
    with torch.no_grad(), watch_attention(system.unet) as seen:
        system.denoise(latents, torch.tensor([500]), {"context": system.context(vectors, near)})
    name = next(n for n in seen if n.startswith("down_blocks.0"))
    bound, free = seen[name].view(1, 2, 16, 24, 40).mean(2)[0]  # [columns, tokens]
    assert free[:, 16:].sum(-1).mean() > 0.75 and bound[:, :16].sum(-1).mean() > 0.75
    away = (bound.argmax(-1) + 0.5) * SMALL.token_s - (torch.arange(24) + 0.5) * SMALL.column_s
    assert away.abs().max() <= SMALL.token_s / 2 + 1e-4


# --- context and null -----------------------------------------------------------------------------------


def test_the_context_is_the_video_first_and_then_the_neighbour():
    system = small_system()
    _, vectors, near = example()
    made = system.context(vectors, near)
    assert made.shape == (2, 40, 16)
    assert torch.equal(made[:, :16], system.video_tokens(vectors))
    assert torch.equal(made[:, 16:], system.audio_tokens(near))
    with pytest.raises(UsageError, match="needs a neighbour"):
        system.context(vectors)
    deaf = small_system(neighbour=False)
    assert deaf.audio_tokens is None and deaf.context(vectors).shape == (2, 16, 16)
    with pytest.raises(UsageError, match="without a condition"):
        deaf.context(vectors, near)


def test_the_trained_null_is_what_training_drops_to():
    system = small_system()
    _, vectors, near = example()
    null = system.null(vectors, near)
    assert torch.equal(null, system.context(vectors, near, drop=torch.tensor([True, True])))
    assert torch.equal(null[:, :16], system.video_tokens(torch.zeros_like(vectors)))
    assert torch.equal(null[:, 16:], system.audio_tokens(near))  # the neighbour stays
    some = system.context(vectors, near, drop=torch.tensor([True, False]))
    assert torch.equal(some[0], null[0]) and torch.equal(some[1], system.context(vectors, near)[1])


def test_the_zero_null_is_zeros_and_forgets_the_neighbour():
    system = small_system(null="zero")
    _, vectors, near = example()
    null = system.null(vectors, near)
    assert null.shape == (2, 40, 16) and not null.any()
    trained = small_system()
    seeds, samples = [3, 4], WINDOW
    for guidance, same in ((1.0, True), (2.0, False)):
        made = [
            s.sample_latents(s.window_conditions(vectors, near), samples, seeds=seeds, guidance=guidance)
            for s in (system, trained)
        ]
        assert torch.equal(*made) == same
        assert torch.allclose(*made, atol=1e-4) == same


def test_guidance_1_is_the_conditional_model_alone(monkeypatch):
    system = small_system()
    _, vectors, near = example(1)
    made = system.sample_latents(system.window_conditions(vectors, near), WINDOW, seeds=[0], guidance=1.0)
    monkeypatch.setattr(system, "null", lambda vectors, *_: torch.full((len(vectors), 40, 16), 9.0))
    assert torch.equal(
        system.sample_latents(system.window_conditions(vectors, near), WINDOW, seeds=[0], guidance=1.0), made
    )
    pushed = system.sample_latents(system.window_conditions(vectors, near), WINDOW, seeds=[0], guidance=2.0)
    assert not torch.allclose(pushed, made, atol=1e-3)


def test_video_and_neighbour_are_both_heard():
    system = small_system()
    _, vectors, near = example(1)
    made = system.sample_latents(system.window_conditions(vectors, near), WINDOW, seeds=[0])
    for other in ((vectors.flip(1), near), (vectors, near.flip(1))):
        assert not torch.allclose(
            system.sample_latents(system.window_conditions(*other), WINDOW, seeds=[0]), made, atol=1e-2
        )


# --- what is trained ------------------------------------------------------------------------------------


def step_of(system: Action2Sound) -> tuple[set[str], set[str]]:
    """What training calls trained, and what a step of it moved."""
    trained = system.train().trained()
    before = {k: v.clone() for k, v in system.state_dict().items()}
    optimizer = torch.optim.AdamW(trained.values(), 1e-2, weight_decay=0.1)
    latents, vectors, near = example()
    near = near if system.config.neighbour else None
    system.loss(latents, vectors, near, drop=torch.tensor([True, False]), generator=seeded())["loss"].backward()
    silent = {n for n, p in trained.items() if p.grad is None or not p.grad.abs().max() > 0}
    assert not silent
    assert [n for n, p in system.named_parameters() if n not in trained and p.grad is not None] == []
    optimizer.step()
    return set(trained), {k for k, v in system.state_dict().items() if not torch.equal(before[k], v)}


@pytest.mark.parametrize("changes", [{}, {"neighbour": False}, {"time_bias": False, "squeeze": None}])
def test_every_trained_part_gets_a_gradient_and_no_frozen_one_changes(changes: dict):
    system = small_system(**changes)
    trained, moved = step_of(system)
    assert trained == moved
    parts = {"unet", "video_tokens"} | ({"audio_tokens"} if system.config.neighbour else set())
    assert set(system.trained()) == {k for k, _ in system.named_parameters() if k.split(".")[0] in parts}


def test_the_released_optimizer_never_gets_the_audio_tokens():
    trained, moved = step_of(small_system(train_audio_projection=False))
    assert trained == moved and not [k for k in moved if k.startswith("audio_tokens")]
    trained, moved = step_of(small_system())
    names = {"audio_tokens." + k for k in ("project.0.weight", "project.2.bias", "position.weight")}
    assert names <= moved


def test_the_loss_is_a_function_of_its_generator_and_of_its_conditions():
    system = small_system()
    latents, vectors, near = example()

    def loss(*told, seed=0, **how):
        with torch.no_grad():
            return system.loss(latents, *told, generator=seeded(seed), **how)["loss"].item()

    first = loss(vectors, near)
    assert first == loss(vectors, near)
    others = [
        loss(vectors, near, seed=1), loss(vectors.flip(1), near), loss(vectors, near.flip(3)),
        loss(vectors, near, torch.tensor([0.0, 0.5])), loss(vectors, near, drop=torch.tensor([True, False])),
    ]  # fmt: skip
    assert len({first, *others}) == 6
    dropped = torch.tensor([True, True])
    assert loss(vectors, near, drop=dropped) == loss(7 * vectors, near, drop=dropped)


# --- switches -------------------------------------------------------------------------------------------


def test_a_drawn_neighbour_differs_and_is_seeded():
    sounds = [noise(-40), noise(-30, seed=1)]
    mean, drawn = small_system(), small_system(neighbour_latents="drawn")
    plain = mean.encode_neighbour(sounds, [5, 6])
    assert plain.shape == (2, 4, 16, 24) and torch.equal(plain, mean.encode_neighbour(sounds, [7, 8]))
    made = drawn.encode_neighbour(sounds, [5, 6])
    assert torch.equal(made, drawn.encode_neighbour(sounds, [5, 6]))
    assert not torch.allclose(made, plain, atol=1e-3)
    assert torch.equal(made[1:], drawn.encode_neighbour(sounds[1:], [6]))  # whatever else is in the batch
    assert not torch.equal(made[:1], drawn.encode_neighbour(sounds[:1], [6]))


def test_a_neighbour_is_made_as_long_as_a_window():
    system = small_system()
    long = Sound(np.concatenate([noise(-20).samples[0], noise(-50).samples[0]]), RATE)
    exact = fitting(long, WINDOW, RATE)
    assert exact.rms_dbfs == pytest.approx(-50, abs=0.5)
    whole = [system.encode_neighbour([s]) for s in (long, exact)]
    assert torch.equal(*whole)
    assert torch.equal(whole[0], system.encode_sound(exact))
    assert system.encode_neighbour([noise(-40, 0.4)]).shape == whole[0].shape


def test_released_padding_fills_the_mel_of_three_seconds_up_to_196_columns():
    wave = noise(-30, 3.0)
    ours, released = small_system(), small_system(padding="mel")
    image = ours.config.stft
    filled = image.to_image(wave, 196)
    assert filled.shape == (1, 1, 128, 196) and (filled[..., 188:] == -1).all()  # silence in a signed picture
    padded = image.to_image(wave)
    assert padded.shape[-1] == 192 and torch.equal(padded[..., :186], filled[..., :186])
    assert not torch.equal(padded[..., 188:], filled[..., 188:192])  # the tail of the last window
    a, b = (system.encode_sound(wave) for system in (ours, released))
    assert a.shape == b.shape == (1, 4, 16, 24) and not torch.equal(a[..., :20], b[..., :20])
    assert released.encode_neighbour([noise(-30, 8.0)]).shape == (1, 4, 16, 24)
    assert (ours.config.neighbour_s, released.config.neighbour_s) == (3.072, 3.0)


def test_the_mel_is_clamped_before_the_vocoder_unless_as_released():
    latents = 3 * torch.randn(1, 4, 16, 24, generator=seeded())
    ours, released = small_system(), small_system(clamp_mel=False)
    for system in (ours, released):
        torch.nn.init.normal_(system.autoencoder.model.decoder.conv_out.weight, std=2.0, generator=seeded(1))
    clamped, free = ours.decode_spectrogram(latents), released.decode_spectrogram(latents)
    assert clamped.min() == 0 and clamped.max() == 1 and free.min() < 0 and free.max() > 1
    assert torch.equal(free.clamp(0, 1), clamped)
    assert not torch.equal(ours.decode_latents(latents), released.decode_latents(latents))
    assert torch.equal(released.decode_latents(latents), ours.vocoder.decode(free, clamp=False).clamp(-1, 1))


@pytest.mark.parametrize(
    "changes", [{"sampler_steps": 5}, {"spacing": "linspace"}, {"prediction": "epsilon"}, {"guidance": 6.5}]
)
def test_settings_of_the_sampler_are_those_of_the_configuration(changes: dict):
    clip, ambient = clip_of(0.5), noise(-40)
    made = small_system(**changes).generate(clip, ambient=ambient)
    assert made.samples.tobytes() != small_system().generate(clip, ambient=ambient).samples.tobytes()
    given = {"sampler_steps": "steps", "guidance": "guidance"}
    told = {given[k]: v for k, v in changes.items() if k in given}
    if told:
        assert small_system().generate(clip, ambient=ambient, **told).samples.tobytes() == made.samples.tobytes()


def test_a_slow_camera_changes_what_is_seen():
    system, clip, seen = small_system(), clip_of(1.0), {}
    for fps in (None, 30.0, 10.0, 5.0):
        system.config = replace(SMALL, fps=fps)
        seen[fps] = system.encode_video(clip)
        assert seen[fps].shape == (1, 50, 12)
    assert torch.equal(seen[None], seen[30.0])  # the clip has 25 frames a second
    assert [len(seen[fps][0, :, 1].unique()) for fps in (None, 10.0, 5.0)] == [25, 10, 5]


def test_switches_can_be_given_for_once():
    system, clip = small_system(), clip_of(1.0)
    before = system.generate(clip).samples.tobytes()
    made = {
        before,
        *(
            system.generate(clip, **switch).samples.tobytes()
            for switch in (
                {"fps": 4.0},
                {"null": "zero"},
                {"neighbour_latents": "drawn"},
                {"padding": "mel"},
                {"vocoder": QUICK},
            )
        ),
    }
    assert len(made) == 6
    for wrong in ({"null": "none"}, {"fps": -4.0}, {"guidance": -1.0, "null": "zero"}):
        with pytest.raises(UsageError):
            system.generate(clip, **wrong)
        assert system.config == SMALL
    assert isinstance(system.vocoder, Vocoder)
    assert system.generate(clip).samples.tobytes() == before


def test_griffin_lim_reads_the_same_spectrogram():
    system, clip = small_system(), clip_of(0.5)
    made = system.generate(clip, vocoder="griffin-lim")
    assert (made.n, made.sample_rate) == (8000, RATE)
    assert isinstance(system.vocoder, Vocoder)
    system.vocoder = GriffinLimVocoder()
    assert np.array_equal(system.generate(clip).samples, made.samples)
    quick = system.generate(clip, vocoder=QUICK)
    assert quick.n == 8000 and quick.samples.tobytes() != made.samples.tobytes()


# --- generation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "fps"),
    [(0.3, 25.0), (0.301, 30000 / 1001), (0.5, 60.0), (3.0, 25.0), (3.072, 5.0), (7.3, 30000 / 1001)],
)
def test_as_many_samples_as_the_clip_is_long(seconds: float, fps: float):
    sound = small_system().generate(clip_of(seconds, fps), steps=2)
    assert (sound.n, sound.channels, sound.sample_rate) == (round(seconds * RATE), 1, RATE)
    assert np.abs(sound.samples).max() > 1e-3


def test_the_same_seed_gives_the_same_bytes():
    system, clip = small_system(), clip_of(1.0)
    torch.manual_seed(0)
    first, moved = system.generate(clip, seed=3), torch.rand(1)
    again, other = system.generate(clip, seed=3), system.generate(clip, seed=4)
    assert first.samples.tobytes() == again.samples.tobytes() != other.samples.tobytes()
    torch.manual_seed(0)
    assert torch.equal(moved, torch.rand(1))  # global randomness is not used


def test_the_video_decides_and_its_sound_does_not():
    system, clip = small_system(), clip_of(1.0)
    sound = system.generate(clip)
    loud = clip.with_sound(Sound(np.random.default_rng(0).uniform(-1, 1, RATE), RATE))
    assert sound.samples.tobytes() == system.generate(loud).samples.tobytes()
    ambient = noise(-40)
    given = [system.generate(c, ambient=ambient).samples.tobytes() for c in (clip, clip_of(1.0, seed=9))]
    assert given[0] != given[1]


@pytest.mark.parametrize("seconds", [1.0, 5.0])
def test_a_batch_gives_what_each_clip_gives_alone(seconds: float):
    system = small_system()
    clips = [clip_of(seconds, seed=s) for s in range(2)]
    ambient = [noise(-50), noise(-30, seed=4)]
    made = system.generate_batch(clips, seeds=[5, 6], ambient=ambient, steps=2)
    for clip, seed, sound, near in zip(clips, (5, 6), made, ambient, strict=True):
        alone = system.generate(clip, seed=seed, ambient=near, steps=2)
        assert np.abs(sound.samples - alone.samples).max() < 2e-3
        wrong = system.generate(clip, seed=seed + 1, ambient=near, steps=2)
        assert np.abs(sound.samples - wrong.samples).max() > 2e-2


def test_a_part_of_a_clip_sounds_like_that_part_alone():
    system, clip = small_system(), clip_of(3.0)
    part = system.generate(clip, start=1.0, duration=0.8)
    assert part.samples.tobytes() == system.generate(clip.slice(1.0, 1.8)).samples.tobytes()


def test_training_mode_is_put_aside_and_put_back():
    system, clip = small_system(), clip_of(1.0)
    expected = system.generate(clip)
    system.train()
    assert system.generate(clip).samples.tobytes() == expected.samples.tobytes()
    assert system.training and system.unet.training


def test_windows_see_their_own_part_of_the_video(monkeypatch):
    system, samples = small_system(), round(7.3 * RATE)
    vectors, near = torch.randn(1, 365, 12, generator=seeded(2)), example(1)[2]
    columns = system.config.latents_shape(samples)[-1]
    spans = windows(columns, 24, 8, 4)
    assert columns == 60 and len(spans) == 4
    asked, context = [], system.context
    monkeypatch.setattr(system, "context", lambda *a, **k: asked.append(a[2]) or context(*a, **k))
    made = system.sample_latents(system.window_conditions(vectors, near), samples, seeds=[0], steps=1)
    assert sorted(set(asked)) == pytest.approx([a * 0.128 for a, _ in spans])
    late = vectors.clone()
    late[:, 320:] += 1.0  # from 6.4 s, column 50
    changed = (system.sample_latents(system.window_conditions(late, near), samples, seeds=[0], steps=1) != made).any(
        dim=(0, 1, 2)
    )
    first = next(a for a, b in spans if b > 49)  # the first window that reaches that far
    assert not changed[:first].any() and changed[52:].all()


@pytest.mark.parametrize(("seconds", "options"), [(0.5, {}), (7.3, {"steps": 2}), (2.0, {"start": 1.0, "steps": 4})])
def test_the_bar_is_as_long_as_the_work(seconds: float, options: dict):
    system, clip, done = small_system(), clip_of(seconds), []
    assert system.steps_of(clip, ambient="low", **options) == options.get("steps", 3)
    system.generate(clip, progress=done.append, ambient="low", **options)
    assert done == [1] * options.get("steps", 3)


def test_what_ambience_is_asked_for_is_what_is_heard():
    system, clip = small_system(), clip_of(0.5)
    pool = Finder().pool
    heard = {a: system.generate(clip, ambient=a).samples.tobytes() for a in ("retrieved", "low", -50.0, -35.0)}
    assert len(set(heard.values())) == 4
    best = int(Finder().find(clip)[1][0])
    assert system.generate(clip).samples.tobytes() == heard["retrieved"]
    assert system.generate(clip, ambient=pool.sound(best)).samples.tobytes() == heard["retrieved"]
    assert system.generate(clip, ambient=pool.sound(1)).samples.tobytes() == heard["low"]


@pytest.mark.parametrize(
    ("seconds", "options", "message"),
    [
        (0.25, {}, "too short"),
        (2.0, {"start": 1.5, "duration": 1.0}, "not a part"),
        (2.0, {"guidance": -1.0}, "guidance"),
        (2.0, {"steps": 0}, "steps"),
        (2.0, {"fps": -4.0}, "frames per second are impossible"),
        (2.0, {"null": "none"}, "null must be one of"),
        (2.0, {"neighbour_latents": "mode"}, "neighbour_latents must be"),
        (2.0, {"ambient": "loud"}, "neither a file nor one of"),
        (2.0, {"vocoder": "wavenet"}, "is not known"),
        (2.0, {"vocoder": GriffinLimVocoder("vta_ldm")}, r"spectrograms \[B, 64, T\]"),
        (2.0, {"temperature": 1.0}, "unknown options"),
    ],
)
def test_what_cannot_be_made_is_refused(seconds: float, options: dict, message: str):
    system = small_system()
    with pytest.raises(UsageError, match=message):
        system.generate(clip_of(seconds), **options)
    assert system.config == SMALL


def test_a_system_without_a_condition_knows_no_ambient():
    system, clip = small_system(neighbour=False), clip_of(0.5)
    assert system.generate(clip).n == 8000
    for ambient in ("low", -40.0, noise(-40)):
        with pytest.raises(UsageError, match="knows no ambient"):
            system.generate(clip, ambient=ambient)


def test_without_a_pool_only_a_sound_can_be_given():
    system, clip = small_system(Ambients()), clip_of(0.5)
    assert system.generate(clip, ambient=noise(-40)).n == 8000
    for ambient in (None, "retrieved", "low", -40.0):
        with pytest.raises(WeightsError, match="no pool"):
            system.generate(clip, ambient=ambient)


def test_a_system_without_eyes_says_so():
    system = small_system()
    system.encoder = None
    with pytest.raises(UsageError, match="no frame encoder"):
        system.generate(clip_of(1.0))


def test_a_round_trip_is_as_long_as_the_sound():
    system = small_system()
    sound = Sound(0.1 * np.random.default_rng(0).standard_normal((2, 22050)), 44100)
    made = system.round_trip(sound)
    assert (made.n, made.sample_rate, made.channels) == (8000, RATE, 1)
    assert system.encode_sound(sound).shape == (1, 4, 16, 4)  # latents as long as the sound, and not a window
    spectrogram = system.decode_spectrogram(system.encode_sound(sound))
    assert spectrogram.shape == (1, 128, 32) and spectrogram.min() >= 0 and spectrogram.max() <= 1
