"""V-AURA as a system: lengths, seeds, refusals, weights and seams."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from system_parts import Eyes, check_damaged, check_named_parts, check_same, clip_of, seeded
from vaura_parts import DAC_RATES, Voice, fake_system, small_decoder

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.systems.vaura.system import PRESETS, VAura, VAuraDecoder


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
    sound = system.generate(clip, temperature=1.0)
    heard = clip.with_sound(Sound(np.random.default_rng(0).uniform(-1, 1, 16000), 16000))
    assert sound.samples.tobytes() == system.generate(heard, temperature=1.0).samples.tobytes()
    assert sound.samples.tobytes() != system.generate(clip_of(1.0, seed=9), temperature=1.0).samples.tobytes()


def test_a_batch_gives_what_each_clip_gives_alone():
    system = fake_system()
    clips = [clip_of(1.0, seed=s) for s in range(3)]
    together = system.generate_batch(clips, seeds=[5, 6, 7], temperature=1.0)
    for clip, seed, sound in zip(clips, (5, 6, 7), together, strict=True):
        assert sound.samples.tobytes() == system.generate(clip, seed=seed, temperature=1.0).samples.tobytes()


@pytest.mark.parametrize("seconds", [0.3, 2.56, 2.6, 7.013])
def test_a_stream_is_the_sound_in_pieces(seconds: float):
    system, clip = fake_system(), clip_of(seconds)
    how = {"seed": 3, "temperature": 1.0}
    pieces = list(system.stream(clip, **how))
    context = system.config.context_frames
    more = math.ceil(50 * seconds) - context  # frames after the first window
    assert len(pieces) == 1 + max(0, math.ceil(more / (context // 2))) and all(p.n > 0 for p in pieces)
    joined = np.concatenate([p.samples for p in pieces], axis=1)
    assert joined.tobytes() == system.generate(clip, **how).samples.tobytes()


def test_the_first_piece_of_a_stream_comes_before_the_rest_is_made():
    system, clip, steps = fake_system(), clip_of(7.0), []
    stream = system.stream(clip, progress=steps.append)
    assert not steps
    first = next(stream)
    assert first.n == 320 * system.config.context_frames and len(steps) < 0.1 * system._steps(7 * 16000)
    system.train()
    next(stream)
    assert system.training, "between the pieces the system is as the caller has it"
    for wrong in ({"temperature": -1.0}, {"start": 9.0}):
        with pytest.raises(UsageError):
            system.stream(clip, **wrong)  # at once, and not when the first piece is asked for
    with pytest.raises(UsageError, match="clip"):
        system.stream([clip])


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
    seen = system.encode_video(clip)
    system.train()
    system.codec.eval()
    assert torch.equal(system.encode_video(clip), seen)
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


def test_a_level_before_the_codes_is_predicted_and_not_decoded():
    system, clip = fake_system(num_codebooks=4, level_bins=16), clip_of(0.4)
    given = []
    decode = system.codec.decode
    system.codec.decode = lambda codes, n=None: given.append(codes) or decode(codes, n)
    assert system.generate(clip, seed=1).n == 6400
    sound = Sound(0.5 * np.sin(np.arange(6400)), 16000)
    codes = system.encode_sound(sound)
    assert codes.shape == (1, 4, 20) and (codes[0, 0] == 15).all()  # -9 dBFS: steps of 4 dB from -72 dBFS on
    assert system.round_trip(sound).n == 6400
    assert [c.shape for c in given] == [(1, 3, 20)] * 2
    assert system.log_likelihood(clip, codes).shape == (4, 20)
    with pytest.raises(WeightsError, match="codebooks"):
        fake_system(level_bins=16)


# --- weights --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The real parts of ``tiny`` with random weights, as they were and as they are on disk."""
    from v2a_nb.models.tiny_codec import TinyCodec
    from v2a_nb.models.video_encoders.strike import StrikeVision

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
    check_same(system, loaded)
    assert (loaded.card["preset"], loaded.card["steps"]) == ("tiny", 7)
    assert loaded.decoder.config == PRESETS["tiny"]


def test_weights_on_disk_are_half_precision_safetensors(saved):
    from safetensors.torch import load_file

    _, folder = saved
    state = load_file(str(folder / "model.safetensors"))
    assert {v.dtype for v in state.values()} == {torch.float16}
    assert not [p for p in folder.rglob("*") if p.suffix in (".pt", ".bin", ".pkl", ".part")]


def test_parts_can_be_named_instead_of_written(saved, tmp_path):
    check_named_parts(*saved, tmp_path / "lean", ("vision", "codec"))


def test_damaged_weights_are_refused(saved, tmp_path):
    cases = [("[1]", "cannot be read"), ({"kind": "other"}, "not V-AURA"), ({"layers": 3}, "does not fit")]
    check_damaged(VAura, saved[1], tmp_path / "broken", cases)


# --- seams ----------------------------------------------------------------------------------------------


def seam_rank(sound: Sound, borders: list[float], draws: int = 2000) -> float:
    """Where the change at the borders stands among changes elsewhere: 0.5 is typical, near 1 is a seam.

    A change is the mean absolute difference, in dB over 32 mel bands, of the 0.12 s after and before; the mean
    over the borders is ranked among means over as many random other places.
    """
    import librosa

    mel = librosa.feature.melspectrogram(y=sound.samples[0], sr=sound.sample_rate, n_fft=512, hop_length=160, n_mels=32)
    power, span = np.concatenate([np.zeros((32, 1)), np.cumsum(mel, axis=1)], axis=1), 12
    centres = np.arange(span, mel.shape[1] - span)
    before, after = (
        10 * np.log10((power[:, centres + b] - power[:, centres + a]) / span + 1e-8) for a, b in ((-span, 0), (0, span))
    )
    change = np.abs(after - before).mean(axis=0)
    at = np.array([round(t * sound.sample_rate / 160) - span for t in borders])
    near = np.abs(np.arange(len(change))[:, None] - at).min(axis=1) <= 2
    far = np.abs(np.arange(len(change))[:, None] - at).min(axis=1) > span
    assert near.any() and far.any()
    highest = np.array([change[max(0, i - 2) : i + 3].max() for i in at]).mean()
    peaks = np.array([change[max(0, i - 2) : i + 3].max() for i in np.flatnonzero(far)])
    random = np.random.default_rng(0).choice(peaks, (draws, len(at))).mean(axis=1)
    return float((random < highest).mean())


def borders_of(frames: int, context: int = 128, frame_rate: float = 50.0) -> list[float]:
    from v2a_nb.sampling.autoregressive import windows

    return [(start + known) / frame_rate for start, _, known in windows(frames, context, context // 2) if start]


def test_the_measure_of_seams_hears_them():
    n, borders = int(12.8 * 16000), borders_of(640)
    assert len(borders) == 8
    hiss = np.random.default_rng(0).normal(0, 0.02, n)
    assert seam_rank(Sound(hiss, 16000), borders) < 0.95
    louder = np.ones(n)
    for i, t in enumerate(borders):  # every other window is 2 dB louder
        louder[int(t * 16000) :] = 10 ** (2 / 20) if i % 2 == 0 else 1.0
    assert seam_rank(Sound(hiss * louder, 16000), borders) > 0.99
    click = hiss.copy()
    for t in borders:
        click[int(t * 16000) + np.arange(80)] += 0.5
    assert seam_rank(Sound(click, 16000), borders) > 0.99


def shipped_vaura() -> bool:
    from v2a_nb.hub import shipped

    return "vaura" in shipped()


@pytest.mark.skipif(not shipped_vaura(), reason="this source tree has no trained V-AURA weights")
def test_shipped_weights_leave_no_seam_in_steady_ambience(monkeypatch):
    """Unlike a decoder whose windows begin without the codes before them, which seams give away every time."""
    from v2a_nb.sampling import autoregressive
    from v2a_nb.world import strike_world

    generate_codes = autoregressive.generate_codes

    def forgetful(*parts, prompt=None, **how):
        return generate_codes(*parts, prompt=None if prompt is None else torch.zeros_like(prompt), **how)

    system = VAura.from_pretrained("vaura")
    still = strike_world(seed=9077, clips=1, size=64).clips[0].clip.frames[:1]
    clip = Clip(np.repeat(still, 320, axis=0), fps=25.0)
    with_past = system.generate_batch([clip, clip], seeds=(0, 1))
    monkeypatch.setattr(autoregressive, "generate_codes", forgetful)
    without = system.generate_batch([clip, clip], seeds=(0, 1))
    assert min(seam_rank(sound, borders_of(640)) for sound in with_past) < 0.95
    assert min(seam_rank(sound, borders_of(640)) for sound in without) > 0.99
