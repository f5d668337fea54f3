"""EgoSonics: SyncroNet starts as nothing and is trained, alone; lengths, seeds, switches, weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from egosonics_parts import SMALL, small_system, speak
from system_parts import Eyes, clip_of, seeded

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import SHIPPED, config_from_json, read_config
from v2a_nb.models.attention import cross_attentions
from v2a_nb.sampling.diffusion import windows
from v2a_nb.systems.egosonics.model import VideoToText, WordTokens, control_weights
from v2a_nb.systems.egosonics.system import PRESETS, STAGES, EgoSonics, EgoSonicsConfig


def example(b: int = 2, columns: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    latents = torch.randn(b, 4, 8, columns, generator=seeded(1))
    return latents, torch.randn(b, columns * 4, 12, generator=seeded(2))


# --- sizes ----------------------------------------------------------------------------------------------


def count(module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.fixture(scope="module")
def paper() -> EgoSonics:
    with torch.device("meta"):
        return EgoSonics(PRESETS["paper"])


def test_paper_preset_has_the_published_parameters(paper):
    assert count(paper.base) == 865_910_724  # Stable Diffusion 2.1's UNet
    assert count(paper.autoencoder) == 83_653_863
    assert count(paper.syncronet.control) == 364_228_240  # Stable Diffusion 2.1's ControlNet without its 512-d hint
    assert paper.syncronet.project.weight.shape == (1024, 768)
    assert paper.mlp.layers[-1].weight.shape == (77 * 1024, 1024)


def test_paper_preset_has_7_self_and_7_cross_attentions_and_13_zero_convolutions(paper):
    control = paper.syncronet.control
    names = [n for n, _ in control.named_modules()]
    assert sum(n.endswith(".attn1") for n in names) == 7
    assert sum(n.endswith(".attn2") for n in names) == 7
    assert len(control.controlnet_down_blocks) + 1 == 13
    assert not [n for n, _ in control.named_parameters() if "processor" in n]
    heads = {depth: attn.heads for depth, attn in cross_attentions(control).values()}
    assert heads == {0: 5, 1: 10, 2: 20, 3: 20}


def test_paper_preset_runs_on_ten_seconds(paper):
    shape = PRESETS["paper"].latents_shape(220500)
    assert shape == (4, 64, 64)
    with torch.device("meta"):
        noisy, t, tokens = torch.zeros(1, *shape), torch.zeros(1), torch.zeros(1, 300, 768)
        down, middle = paper.syncronet(noisy, t, tokens, torch.zeros(1, 3, 512, 512))
    assert [d.shape[-1] for d in down] == [64, 64, 64, 32, 32, 32, 16, 16, 16, 8, 8, 8]
    assert middle.shape == (1, 1280, 8, 8)


def test_tiny_preset_is_small_and_reads_fine_time():
    c = PRESETS["tiny"]
    system = EgoSonics(c)
    assert 4_500_000 < count(system.base) < 6_000_000
    assert count(system.syncronet) < 2_500_000
    assert c.latents_shape(81920) == (16, 8, 64)  # 5.12 s
    assert (c.column_s, c.token_s) == (0.08, 0.04)
    biases = [n for n, _ in system.syncronet.named_parameters() if n.endswith("processor.cos")]
    assert len(biases) == len(cross_attentions(system.syncronet.control)) == 3


def test_shipped_weights_have_the_settings_that_the_recipe_writes():
    assert config_from_json(EgoSonicsConfig, read_config(SHIPPED / "egosonics")) == PRESETS["tiny"]


# --- the control path -----------------------------------------------------------------------------------


def test_at_step_0_syncronet_leaves_the_base_exactly_as_it_is():
    system = small_system(speaking=False)
    latents, vectors = example()
    conditions = system.conditions(vectors, 16)
    t = torch.tensor([10, 900])
    with torch.no_grad():
        assert conditions["hint"].std() > 0 and system.syncronet.hint_encoder(conditions["hint"]).abs().max() > 0
        alone = system.base(latents, t, conditions["text"], return_dict=False)[0]
        assert torch.equal(system.denoise(latents, t, conditions), alone)
        speak(system)
        assert not torch.allclose(system.denoise(latents, t, conditions), alone, atol=1e-4)


def test_syncronet_starts_as_a_copy_of_the_base():
    system = small_system(speaking=False)
    for p in system.base.parameters():
        p.data += 0.01  # as training would
    system.start_syncronet()
    base, control = system.base.state_dict(), system.syncronet.control.state_dict()
    same = [k for k in control if k in base]
    assert len(same) > 50
    assert all(torch.equal(control[k], base[k]) for k in same)
    assert not any(control[k].any() for k in control if k.startswith(("controlnet_down", "controlnet_mid")))


def test_first_only_the_zero_convolutions_get_a_gradient():
    system = small_system(speaking=False)
    trained = system.stage("syncronet")
    system.loss(*example(), generator=seeded())["loss"].backward()
    reached = {n for n, p in trained.items() if p.grad is not None and p.grad.abs().max() > 0}
    assert reached and all(".controlnet_down_blocks." in n or ".controlnet_mid_block." in n for n in reached)


@pytest.mark.parametrize("stage", list(STAGES))
def test_every_trainable_part_gets_a_gradient_and_no_frozen_one_changes(stage: str):
    system = small_system().train()
    trained = system.stage(stage)
    before = {k: v.clone() for k, v in system.state_dict().items()}
    parts = [system.autoencoder, system.base, system.mlp, system.words, system.syncronet]
    assert sum(len(list(p.parameters())) for p in parts) + 1 == len(list(system.parameters()))
    optimizer = torch.optim.AdamW(trained.values(), 1e-2, weight_decay=0.1)
    latents, vectors = example()
    text = system.words(system.words.ids(["a mallet strikes wood", "a hand taps glass"]))
    drop = torch.tensor([True, False])
    losses = {
        "autoencoder": lambda: system.autoencoder.loss(torch.rand(1, 1, 64, 64) * 2 - 1),
        "base": lambda: system.loss_base(latents, text, drop, seeded()),
        "text": lambda: system.loss_text(vectors, text),
        "syncronet": lambda: system.loss(latents, vectors, drop, seeded()),
    }
    losses[stage]()["loss"].backward()
    unreached = [n for n, p in trained.items() if p.grad is None or not p.grad.abs().max() > 0]
    assert unreached == []
    frozen = [n for n, p in system.named_parameters() if n not in trained and p.grad is not None]
    assert frozen == []
    optimizer.step()
    after = system.state_dict()
    moved = {k for k, p in system.named_parameters() if not torch.equal(before[k], after[k])}
    assert moved == set(trained)


def test_stages_cover_all_that_is_trained_once():
    system = small_system()
    names = [set(system.stage(stage)) for stage in STAGES]
    assert set.union(*names) == {n for n, _ in system.named_parameters()}
    assert sum(len(n) for n in names) == len(set.union(*names))
    with pytest.raises(UsageError, match="no stage"):
        system.stage("all")


def test_a_hint_encoder_with_published_weights_stays_frozen():
    system = small_system(train_hint=False)
    assert not [n for n in system.stage("syncronet") if "controlnet_cond_embedding" in n]


def test_the_null_is_the_base_alone():
    system = small_system()
    latents, vectors = example()
    null = system.null(system.conditions(vectors, 16))
    t = torch.tensor([10, 900])
    with torch.no_grad():
        alone = system.base(latents, t, system.null_text.expand(2, -1, -1), return_dict=False)[0]
        assert torch.equal(system.denoise(latents, t, null), alone)
        # and beside a conditional half
        told = system.conditions(vectors, 16)
        both = {k: torch.cat([told[k], null[k]]) for k in told}
        made = system.denoise(torch.cat([latents, latents]), torch.cat([t, t]), both)
        assert torch.allclose(made[2:], alone, atol=1e-5)
        assert torch.allclose(made[:2], system.denoise(latents, t, told), atol=1e-5)


def test_control_weights():
    heights = [64, 64, 64, 32, 32, 32, 16, 16, 16, 8, 8, 8, 8]
    assert control_weights("none", heights) == [1.0] * 13
    resolution = control_weights("cfg_rw", heights)
    assert resolution[0] == 0.125 and resolution[3] == 0.25 and resolution[-1] == 1.0
    guess = control_weights("guess", heights)
    assert guess[0] == pytest.approx(0.1) and guess[-1] == pytest.approx(1.0)
    assert guess[6] == pytest.approx(10**-0.5)
    with pytest.raises(UsageError, match="control_weighting"):
        control_weights("all", heights)


def test_a_frame_image_of_another_size_is_refused():
    system = small_system()
    with pytest.raises(UsageError, match="8 times"):
        system.syncronet(torch.zeros(1, 4, 8, 16), torch.zeros(1), torch.zeros(1, 8, 24), torch.zeros(1, 1, 64, 64))


# --- switches -------------------------------------------------------------------------------------------


def heard(system: EgoSonics, vectors: torch.Tensor, **switches) -> torch.Tensor:
    system.config = replace(SMALL, **switches)
    latents, _ = example()
    with torch.no_grad():
        return system.denoise(latents, torch.tensor([400, 900]), system.conditions(vectors, 16))


def test_switches_change_what_is_heard():
    system, (_, vectors) = small_system(), example()
    made = [
        heard(system, vectors, **s)
        for s in (
            {}, {"no_syncronet": True}, {"no_cross_attention": True}, {"control_weighting": "cfg_rw"},
            {"control_weighting": "guess"},
        )
    ]  # fmt: skip
    for i, first in enumerate(made):
        assert all(not torch.allclose(first, other, atol=1e-5) for other in made[i + 1 :])


def test_a_slow_camera_changes_what_is_seen():
    system, clip, seen = small_system(), clip_of(1.0), {}
    for fps in (None, 30.0, 15.0, 4.0):
        system.config = replace(SMALL, fps=fps)
        seen[fps] = system.encode_video(clip)
        assert seen[fps].shape == (1, 50, 12)
    assert torch.equal(seen[None], seen[30.0])  # the clip has 25 frames a second
    assert [len(seen[fps][0, :, 1].unique()) for fps in (None, 15.0, 4.0)] == [25, 15, 4]


def test_without_syncronet_only_the_mean_is_left_and_without_cross_attention_the_hint():
    system, (_, vectors) = small_system(), example()
    shuffled = vectors[:, torch.randperm(vectors.shape[1], generator=seeded())]
    alone = [heard(system, v, no_syncronet=True) for v in (vectors, shuffled)]
    assert torch.allclose(*alone, atol=1e-5)
    hinted = [heard(system, v, no_cross_attention=True) for v in (vectors, shuffled)]
    assert not torch.allclose(*hinted, atol=1e-4)
    told = system.conditions(vectors, 16)
    t = torch.tensor([400, 900])
    with torch.no_grad():
        other = {**told, "tokens": torch.randn_like(told["tokens"])}
        latents, _ = example()
        system.config = replace(SMALL, no_cross_attention=True)
        assert torch.equal(system.denoise(latents, t, told), system.denoise(latents, t, other))


def test_windows_see_their_own_part_of_the_video():
    system = small_system()
    _, vectors = example(1, columns=40)
    whole = system.conditions(vectors, 40)
    part = system.conditions(vectors, 40, (12, 28))
    assert torch.equal(part["tokens"], whole["tokens"][:, 24:56])
    inside = slice(16, 112)  # columns of the picture, away from the edges of the window
    assert torch.allclose(part["hint"][..., inside], whole["hint"][..., 96:][..., inside], atol=1e-5)
    late = system.conditions(vectors, 44, (28, 44))  # the video ends before the last column
    assert late["tokens"].shape == (1, 32, 24)


@pytest.mark.parametrize(
    "wrong",
    [{"picture": "wide"}, {"control_weighting": "all"}, {"heads": (1, 2, 3)}, {"hint_widths": (4, 4)}, {"stack": 3}],
)
def test_configurations_that_do_not_fit_are_refused(wrong: dict):
    with pytest.raises(UsageError):
        replace(SMALL, **wrong)


# --- text -----------------------------------------------------------------------------------------------


def test_words_are_found_again_and_their_order_does_not_matter():
    torch.manual_seed(0)
    words = WordTokens(2, 16)
    ids = words.ids(["A mallet strikes the Bowl.", "bowl the strikes, mallet a", "a hand", ""])
    assert ids.shape == (4, 5) and ids.dtype == torch.long
    made = words(ids)
    assert made.shape == (4, 2, 16)
    assert torch.allclose(made[0], made[1], atol=1e-6)
    assert not torch.allclose(made[0], made[2], atol=1e-3)
    assert torch.isfinite(made).all()


def test_video_to_text_reads_the_direction_of_the_mean():
    mlp = VideoToText(12, 16, 2, 16)
    vectors = torch.randn(3, 40, 12)
    assert mlp(vectors).shape == (3, 2, 16)
    assert torch.allclose(mlp(vectors), mlp(7 * vectors.flip(1)), atol=1e-4)


# --- generation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [25.0, 30000 / 1001])
@pytest.mark.parametrize("seconds", [0.3, 0.301, 1.28, 1.2345, 2.56, 4.013])
def test_as_many_samples_as_the_clip_is_long(seconds: float, fps: float):
    sound = small_system().generate(clip_of(seconds, fps), steps=2)
    assert (sound.n, sound.channels, sound.sample_rate) == (round(seconds * 16000), 1, 16000)


def test_the_same_seed_gives_the_same_bytes():
    system, clip = small_system(), clip_of(1.0)
    torch.manual_seed(0)
    first, moved = system.generate(clip, seed=3), torch.rand(1)
    again, other = system.generate(clip, seed=3), system.generate(clip, seed=4)
    assert first.samples.tobytes() == again.samples.tobytes()
    assert first.samples.tobytes() != other.samples.tobytes()
    torch.manual_seed(0)
    assert torch.equal(moved, torch.rand(1))  # global randomness is not used


def test_guidance_1_is_the_conditional_model_alone():
    system, (_, vectors) = small_system(), example(1)
    samples = 16 * 8 * 160
    made = system.sample_latents(system.window_conditions(vectors, samples), samples, seeds=[0], guidance=1.0)
    for p in (system.null_text,):
        p.data += 100.0
    assert torch.equal(
        system.sample_latents(system.window_conditions(vectors, samples), samples, seeds=[0], guidance=1.0), made
    )
    assert not torch.allclose(
        system.sample_latents(system.window_conditions(vectors, samples), samples, seeds=[0], guidance=2.0),
        made,
        atol=1e-3,
    )


def test_the_video_decides_and_its_sound_does_not():
    system, clip = small_system(), clip_of(1.0)
    sound = system.generate(clip)
    loud = clip.with_sound(Sound(np.random.default_rng(0).uniform(-1, 1, 16000), 16000))
    assert sound.samples.tobytes() == system.generate(loud).samples.tobytes()
    assert sound.samples.tobytes() != system.generate(clip_of(1.0, seed=9)).samples.tobytes()


def test_a_batch_gives_what_each_clip_gives_alone():
    system = small_system()
    clips = [clip_of(1.0, seed=s) for s in range(2)]
    vectors = torch.cat([system.encode_video(clip) for clip in clips])
    both = system.sample_latents(system.window_conditions(vectors, 16000), 16000, seeds=[5, 6])
    for i, seed in enumerate((5, 6)):
        alone = system.sample_latents(system.window_conditions(vectors[i : i + 1], 16000), 16000, seeds=[seed])
        assert torch.allclose(both[i : i + 1], alone, atol=1e-4)
    assert [s.n for s in system.generate_batch(clips, seeds=[5, 6])] == [16000, 16000]


def test_a_part_of_a_clip_sounds_like_that_part_alone():
    system, clip = small_system(), clip_of(3.0)
    part = system.generate(clip, start=1.0, duration=0.8)
    assert part.samples.tobytes() == system.generate(clip.slice(1.0, 1.8)).samples.tobytes()


def test_switches_can_be_given_for_once():
    system, clip = small_system(), clip_of(1.0)
    before = system.generate(clip)
    without = system.generate(clip, no_syncronet=True, fps=4.0, control_weighting="guess")
    assert without.samples.tobytes() != before.samples.tobytes()
    assert system.config == SMALL
    assert system.generate(clip).samples.tobytes() == before.samples.tobytes()


def test_training_mode_is_put_aside_and_put_back():
    system, clip = small_system(), clip_of(1.0)
    expected = system.generate(clip)
    system.train()
    assert system.generate(clip).samples.tobytes() == expected.samples.tobytes()
    assert system.training and system.base.training


@pytest.mark.parametrize(
    ("seconds", "options", "message"),
    [
        (0.25, {}, "too short"),
        (2.0, {"start": 1.5, "duration": 1.0}, "not a part"),
        (2.0, {"guidance": -1.0}, "guidance"),
        (2.0, {"steps": 0}, "steps"),
        (2.0, {"fps": -4.0}, "frames per second are impossible"),
        (2.0, {"control_weighting": "all"}, "control_weighting"),
        (2.0, {"temperature": 1.0}, "unknown options"),
    ],
)
def test_what_cannot_be_made_is_refused(seconds: float, options: dict, message: str):
    with pytest.raises(UsageError, match=message):
        small_system().generate(clip_of(seconds), **options)


def test_batches_that_cannot_be_are_refused():
    system = small_system()
    with pytest.raises(UsageError, match="equally long"):
        system.generate_batch([clip_of(1.0), clip_of(1.5)], seeds=[0, 1])
    with pytest.raises(UsageError, match="seeds"):
        system.generate_batch([clip_of(1.0)], seeds=[0, 1])
    system.encoder = None
    with pytest.raises(UsageError, match="no frame encoder"):
        system.generate(clip_of(1.0))


def test_decoding_in_windows_leaves_no_seam():
    system = small_system(overlap=8)
    steady = torch.randn(1, 4, 8, 1, generator=seeded()).expand(-1, -1, -1, 60)
    picture = system.decode_picture(steady)
    assert picture.shape == (1, 1, 64, 480)

    def steps(wide: torch.Tensor) -> torch.Tensor:
        """How much columns differ from those a latent later."""
        return (wide[:, 8:] - wide[:, :-8]).abs().mean(0)

    beside = torch.cat([system.autoencoder.decode(steady[..., :16])[0, 0]] * 2, dim=1)
    with_seam = steps(beside)[64:-64].max().item()  # windows put side by side show their padding
    assert steps(picture[0, 0])[64:-64].max() < 0.35 * with_seam
    assert system.decode_latents(steady, 70000).shape == (1, 70000)


def test_parts_that_do_not_fit_are_refused():
    class Wide(Eyes):
        dim = 13

    class Slow(Eyes):
        rate = 30.0

    for eyes, what in [(Wide(), "numbers in a frame vector"), (Slow(), "frame vectors a second")]:
        with pytest.raises(WeightsError, match=what):
            EgoSonics(SMALL, eyes, small_system().autoencoder)
    with pytest.raises(WeightsError, match="channels of the latents"):
        EgoSonics(SMALL)


def test_the_hint_is_encoded_once_a_window_and_says_the_same():
    system, samples = small_system(), 16000
    vectors = torch.randn(2, 50, 12, generator=seeded(3))
    calls, encode = [], system.syncronet.hint_encoder.forward
    system.syncronet.hint_encoder.forward = lambda picture: calls.append(len(picture)) or encode(picture)
    of_window = system.window_conditions(vectors, samples)
    columns = system.config.latents_shape(samples)[-1]
    made = system.sample_latents(of_window, samples, seeds=[0, 1])
    assert len(calls) == len(windows(columns, 16, 4, 4)) and set(calls) == {2}
    calls.clear()

    def at_every_step(start, stop):
        condition = system.conditions(vectors, columns, (start, stop), system.mlp(vectors))
        return condition, system.null(condition)

    assert torch.equal(system.sample_latents(at_every_step, samples, seeds=[0, 1]), made)
    assert len(calls) == 3 * len(windows(columns, 16, 4, 4))
    assert system.syncronet.hint_encoder.conv_in is system.syncronet.control.controlnet_cond_embedding.conv_in


@pytest.mark.parametrize(
    "changes", [{"sampler": "dpm++"}, {"spacing": "leading"}, {"guidance_interval": (0.3, 0.8)}], ids=str
)
def test_how_the_noise_is_taken_away_can_be_chosen(changes):
    system, clip = small_system(), clip_of(1.0)
    plain = system.generate(clip, seed=0, steps=4)
    assert not np.array_equal(system.generate(clip, seed=0, steps=4, **changes).samples, plain.samples)
    assert np.array_equal(system.generate(clip, seed=0, steps=4).samples, plain.samples)
    assert small_system(**changes).config != system.config
    with pytest.raises(UsageError, match="sampler must be one of ddim, dpm"):
        system.generate(clip, seed=0, sampler="euler")
