"""V-AURA: the language model's facts from the paper and its code, and the system around it."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.systems.vaura import PRESETS, VAura, VAuraConfig, VAuraDecoder

SMALL = VAuraConfig(
    hidden=32, layers=2, heads=2, intermediate=48, num_codebooks=3, codebook_size=16, visual_dim=12,
    visual_width=16, audio_width=16, context_frames=24,
)  # fmt: skip
DAC_RATES = {"frame_rate": "44100/512", "visual_rate": "25/2", "context_frames": 221}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_decoder(speaking: bool = True, **changes) -> VAuraDecoder:
    torch.manual_seed(0)
    decoder = VAuraDecoder(replace(SMALL, **changes)).eval()
    if speaking:  # heads begin at zero
        torch.nn.init.normal_(decoder.heads.weight, std=1.0)
    return decoder


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


def test_the_released_null_is_a_buffer_and_fails_elsewhere():
    decoder = small_decoder(null="released", num_codebooks=3, **DAC_RATES)
    assert "null" not in dict(decoder.named_parameters())
    codes = torch.randint(16, (1, 3, 221), generator=seeded())
    visual = torch.randn(1, 32, 12, generator=seeded())
    dropped = decoder(codes, visual, torch.tensor([True]))
    assert torch.equal(dropped, decoder(codes, decoder.null[None]))
    # 24 tokens instead of 32: V-AURA's first reported issue
    with pytest.raises(UsageError, match="32 tokens and 24 are needed"):
        decoder(codes[..., :165], visual[:, :24], torch.tensor([True]))


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


def test_unknown_switches_are_refused():
    for wrong in ({"visual_map": "repeat8"}, {"null": "random"}, {"visual_width": 5}):
        with pytest.raises(UsageError):
            replace(SMALL, **wrong)


# --- the system -----------------------------------------------------------------------------------------


class Eyes(torch.nn.Module):
    """An encoder: brightness of the picture, at 50 tokens a second."""

    rate, dim = 50.0, 12

    def features(self, clip: Clip) -> torch.Tensor:
        wanted = math.ceil(clip.duration * self.rate - 1e-6)
        bright = torch.tensor(clip.at_fps(self.rate).frames[:wanted].mean(axis=(1, 2, 3)) / 255)
        noise = 0.5 if self.training else 0.0  # as dropout would be: generate must not run in training mode
        return bright.float()[:, None] * torch.arange(12) + noise


class Voice(torch.nn.Module):
    """A codec of 16 kHz, 320 samples a frame: each frame is a constant, given by its first code."""

    sample_rate, hop, num_codebooks, codebook_size = 16000, 320, 3, 16

    def encode(self, wave: torch.Tensor) -> torch.Tensor:
        frames = -(-wave.shape[-1] // self.hop)
        return torch.zeros(len(wave), 3, frames, dtype=torch.long)

    def decode(self, codes: torch.Tensor, num_samples: int | None = None) -> torch.Tensor:
        wave = (codes[:, 0] / 16.0 + codes[:, 1] / 160.0).repeat_interleave(self.hop, dim=-1)
        return wave[..., :num_samples]


def fake_system(**changes) -> VAura:
    return VAura(small_decoder(**changes), Eyes(), Voice()).eval()


def clip_of(seconds: float, fps: float = 25.0, seed: int = 0) -> Clip:
    n = max(1, math.ceil(seconds * fps - 1e-6))
    frames = np.random.default_rng(seed).integers(0, 255, (n, 8, 10, 3), dtype=np.uint8)
    return Clip(frames, fps=fps, duration=seconds)


@pytest.mark.parametrize("fps", [25.0, 30000 / 1001, 12.0])
@pytest.mark.parametrize("seconds", [0.3, 0.301, 0.48, 0.5, 1.0, 1.2345, 2.56, 7.013])
def test_as_many_samples_as_the_clip_is_long(seconds: float, fps: float):
    sound = fake_system().generate(clip_of(seconds, fps))
    assert (sound.n, sound.channels, sound.sample_rate) == (round(seconds * 16000), 1, 16000)


@pytest.mark.parametrize("seconds", [0.3, 0.64, 1.92, 2.0, 2.56, 5.5])
def test_any_window_length_works_under_guidance_at_the_rates_of_the_paper(seconds: float):
    """The released code stops at every window that has not 32 visual tokens."""

    class Slow(Eyes):
        rate = 12.5

    class Dac(Voice):
        sample_rate, hop = 44100, 512

    system = VAura(small_decoder(**DAC_RATES), Slow(), Dac()).eval()
    sound = system.generate(clip_of(seconds), guidance=6.0)
    assert sound.n == round(seconds * 44100)


def test_the_same_seed_gives_the_same_bytes():
    system, clip = fake_system(), clip_of(1.0)
    first = system.generate(clip, seed=3, temperature=1.0)
    again = system.generate(clip, seed=3, temperature=1.0)
    other = system.generate(clip, seed=4, temperature=1.0)
    assert first.samples.tobytes() == again.samples.tobytes()
    assert first.samples.tobytes() != other.samples.tobytes()


def test_global_randomness_is_neither_used_nor_moved():
    system, clip = fake_system(), clip_of(1.0)
    torch.manual_seed(0)
    first = system.generate(clip, temperature=1.0)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))
    assert first.samples.tobytes() == system.generate(clip, temperature=1.0).samples.tobytes()


def test_the_video_decides_and_its_sound_does_not():
    system, clip = fake_system(), clip_of(1.0)
    sound = system.generate(clip)
    heard = clip.with_sound(Sound(np.random.default_rng(0).uniform(-1, 1, 16000), 16000))
    assert sound.samples.tobytes() == system.generate(heard).samples.tobytes()
    assert sound.samples.tobytes() != system.generate(clip_of(1.0, seed=9)).samples.tobytes()


def test_a_batch_gives_what_each_clip_gives_alone():
    system = fake_system()
    clips = [clip_of(1.0, seed=s) for s in range(3)]
    together = system.generate_batch(clips, seeds=[5, 6, 7], temperature=1.0)
    for clip, seed, sound in zip(clips, (5, 6, 7), together, strict=True):
        assert sound.samples.tobytes() == system.generate(clip, seed=seed, temperature=1.0).samples.tobytes()


def test_a_part_of_a_clip_sounds_like_that_part_alone():
    system, clip = fake_system(), clip_of(3.0)
    part = system.generate(clip, start=1.0, duration=0.8)
    assert part.n == 12800
    assert part.samples.tobytes() == system.generate(clip.slice(1.0, 1.8)).samples.tobytes()
    assert system.generate(clip, start=2.0).n == 16000


@pytest.mark.parametrize(
    ("seconds", "options", "message"),
    [
        (0.25, {}, "too short"),
        (2.0, {"duration": 0.2}, "too short"),
        (2.0, {"start": 1.5, "duration": 1.0}, "not a part"),
        (2.0, {"start": -1.0}, "not a part"),
        (2.0, {"start": 2.0}, "not a part"),
        (2.0, {"duration": float("nan")}, "not a part"),
        (2.0, {"temperature": -1.0}, "temperature"),
    ],
)
def test_what_cannot_be_made_is_refused(seconds: float, options: dict, message: str):
    with pytest.raises(UsageError, match=message):
        fake_system().generate(clip_of(seconds), **options)


def test_batches_that_cannot_be_are_refused():
    system = fake_system()
    with pytest.raises(UsageError, match="equally long"):
        system.generate_batch([clip_of(1.0), clip_of(1.5)], seeds=[0, 1])
    with pytest.raises(UsageError, match="seeds"):
        system.generate_batch([clip_of(1.0)], seeds=[0, 1])


def test_training_mode_is_put_aside_and_put_back():
    system, clip = fake_system(dropout=0.5, token_dropout=0.5), clip_of(1.0)
    expected = system.generate(clip)
    system.train()
    system.codec.eval()
    assert system.generate(clip).samples.tobytes() == expected.samples.tobytes()
    assert system.training and system.decoder.training and system.encoder.training
    assert not system.codec.training


def test_parts_that_do_not_fit_are_refused():
    class Wide(Eyes):
        dim = 13

    class Slow(Eyes):
        rate = 25.0

    class Coarse(Voice):
        hop = 640

    class Rich(Voice):
        codebook_size = 32

    for eyes, voice, what in [
        (Wide(), Voice(), "visual channels"),
        (Slow(), Voice(), "visual tokens a second"),
        (Eyes(), Coarse(), "codec frames a second"),
        (Eyes(), Rich(), "codes in a codebook"),
    ]:
        with pytest.raises(WeightsError, match=what):
            VAura(small_decoder(), eyes, voice)


def test_log_likelihood_is_that_of_the_codes():
    system, clip = fake_system(), clip_of(0.4)
    codes = torch.randint(16, (1, 3, 20), generator=seeded())
    visual = system.encode_video(clip)
    assert visual.shape == (1, 20, 12)
    made = system.log_likelihood(clip, codes)
    assert made.shape == (3, 20)
    expected = system.decoder(codes, visual).log_softmax(-1)
    for book, frame in [(0, 0), (1, 7), (2, 19)]:
        assert made[book, frame] == expected[0, book, frame, codes[0, book, frame]]
    other = clip_of(0.4, seed=5)
    assert torch.equal(system.log_likelihood(clip, codes, null=True), system.log_likelihood(other, codes, null=True))
    assert not torch.equal(made, system.log_likelihood(other, codes))
    visual.requires_grad_()
    system.log_likelihood(visual, codes)[0, 10].backward()
    assert visual.grad[0, 10].abs().max() > 0  # the picture of the frame
    assert visual.grad[0, 11:].abs().max() == 0  # and none that comes later


def test_encode_sound_resamples_and_mixes():
    sound = Sound(np.zeros((2, 22050), np.float32), 44100)
    assert fake_system().encode_sound(sound).shape == (1, 3, 25)


# --- weights --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The real parts of ``tiny`` with random weights, as they were and as they are on disk."""
    from v2a_nb.audio.tiny_codec import TinyCodec
    from v2a_nb.vision.encoder import StrikeVision

    torch.manual_seed(0)
    decoder = VAuraDecoder(PRESETS["tiny"])
    torch.nn.init.normal_(decoder.heads.weight, std=0.3)
    system = VAura(decoder, StrikeVision(), TinyCodec()).eval()
    state = {k: v.half().float() if v.is_floating_point() else v for k, v in system.state_dict().items()}
    system.load_state_dict(state)  # what fp16 on disk keeps
    folder = system.save_pretrained(tmp_path_factory.mktemp("weights") / "vaura", preset="tiny", steps=7)
    return system, folder


def test_saved_weights_generate_the_same(saved):
    system, folder = saved
    loaded = VAura.from_pretrained(folder)
    clip = clip_of(0.4)
    assert loaded.generate(clip).samples.tobytes() == system.generate(clip).samples.tobytes()
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert (loaded.card["preset"], loaded.card["steps"]) == ("tiny", 7)
    assert loaded.decoder.config == PRESETS["tiny"]


def test_weights_on_disk_are_half_precision_safetensors(saved):
    from safetensors.torch import load_file

    _, folder = saved
    state = load_file(str(folder / "model.safetensors"))
    assert {v.dtype for v in state.values()} == {torch.float16}
    assert not [p for p in folder.rglob("*") if p.suffix in (".pt", ".bin", ".pkl", ".part")]


def test_parts_can_be_named_instead_of_written(saved, tmp_path):
    system, folder = saved
    names = {"vision": str(folder / "vision"), "codec": str(folder / "codec")}
    lean = system.save_pretrained(tmp_path / "lean", **names)
    assert not (lean / "codec").exists() and not (lean / "vision").exists()
    clip = clip_of(0.4)
    made = VAura.from_pretrained(lean).generate(clip)
    assert made.samples.tobytes() == system.generate(clip).samples.tobytes()


def test_damaged_weights_are_refused(saved, tmp_path):
    import shutil

    _, folder = saved
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    config = json.loads((broken / "config.json").read_text())
    for text, message in [
        ("{", "cannot be read"),
        ("[1]", "not V-AURA"),
        (json.dumps({**config, "kind": "other"}), "not V-AURA"),
        (json.dumps({**config, "layers": 3}), "does not fit"),
    ]:
        (broken / "config.json").write_text(text)
        with pytest.raises(WeightsError, match=message):
            VAura.from_pretrained(broken)
    (broken / "config.json").write_text(json.dumps(config))
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cannot be read"):
        VAura.from_pretrained(broken)
    with pytest.raises(WeightsError):
        VAura.from_pretrained(tmp_path / "nowhere")
