"""The two encoders of AV-Sim: sizes, attention, filter bank, InfoNCE, and what they refuse."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from av_parts import AUDIO, SMALL, VIDEO, random_eyes, small_model

from v2a_nb.audio.onsets import log_mel
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import SHIPPED, tag_of
from v2a_nb.models import audio_spectrogram_transformer as ast
from v2a_nb.models.audio_spectrogram_transformer import (
    AudioSpectrogramTransformer,
    AudioSpectrogramTransformerConfig,
    columns_of,
    filter_bank,
)
from v2a_nb.models.av_embedding import PRESETS, AudioVisualEmbedding, AudioVisualEmbeddingConfig, info_nce
from v2a_nb.models.video_encoders.clip_transformer import ClipTransformer, scene_thumbnail
from v2a_nb.models.video_encoders.divided_space_time import (
    DividedAttention,
    DividedBlock,
    DividedSpaceTimeConfig,
    DividedSpaceTimeViT,
    windows_of,
)

KALDI = AudioSpectrogramTransformerConfig(seconds=1.5, columns=160, dim=32, depth=1, heads=2, mlp=64, stride=16)
PLAIN = DividedSpaceTimeConfig(size=16, patch=8, frames=4, dim=24, depth=2, heads=3, mlp=48)


def noise(seconds: float, seed: int = 0, rate: int = 16000) -> Sound:
    return Sound(0.1 * np.random.default_rng(seed).standard_normal(round(seconds * rate)), rate)


def pictures(seconds: float, fps: float = 25.0, size: int = 24) -> Clip:
    """Frame k is of brightness k: which ones were picked can be read."""
    n = round(seconds * fps)
    frames = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, size, size, 3))
    return Clip(frames.copy(), fps=fps)


# --- sizes ------------------------------------------------------------------------------------------


def test_paper_video_encoder_has_the_released_parameters():
    with torch.device("meta"):
        net = DividedSpaceTimeViT(DividedSpaceTimeConfig())
    shapes = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    block = {
        "norm1.weight": (768,), "attn.qkv.weight": (2304, 768), "attn.qkv.bias": (2304,), "norm3.weight": (768,),
        "attn.proj.weight": (768, 768), "timeattn.qkv.weight": (2304, 768), "timeattn.proj.bias": (768,),
        "mlp.fc1.weight": (3072, 768), "mlp.fc2.weight": (768, 3072),
    }  # fmt: skip
    for i in range(12):
        assert {k: shapes[f"blocks.{i}.{k}"] for k in block} == block
    assert shapes["patch_embed.proj.weight"] == (768, 3, 16, 16)
    assert shapes["pos_embed"] == (1, 197, 768) and shapes["temporal_embed"] == (1, 16, 768)
    assert shapes["cls_token"] == (1, 1, 768) and shapes["norm.weight"] == (768,)
    # ViT-B/16 without head (85,798,656), a temporal table, and in each block a second attention and norm
    extra = 12 * (4 * 768 * 768 + 4 * 768 + 2 * 768)
    assert sum(math.prod(s) for s in shapes.values()) == 85_798_656 + 16 * 768 + extra == 114_177_792


def test_paper_audio_encoder_is_ast_on_170_tokens():
    with torch.device("meta"):
        model = AudioVisualEmbedding(PRESETS["paper"])
        bank = torch.empty(2, 148, 128)
        tokens = model.audio.net(torch.empty(2, 149, 128)).last_hidden_state
        assert tokens.shape == (2, 170, 768)  # 12 x 14 patches, CLS and distillation
        assert model.hear(bank).shape == model.see(torch.empty(2, 16, 3, 224, 224)).shape == (2, 256)
        assert model.video.per_frame(torch.empty(1, 16, 3, 224, 224)).shape == (1, 16, 768)  # c_v of section 3.6
    layer = 4 * (768 * 768 + 768) + 2 * 768 * 3072 + 3072 + 768 + 4 * 768
    expected = 12 * layer + (256 * 768 + 768) + 2 * 768 + 170 * 768 + 2 * 768
    assert sum(p.numel() for p in model.audio.parameters()) == expected
    assert sum(p.numel() for p in model.vid_proj.parameters()) == 196_864
    assert sum(p.numel() for p in model.aud_proj.parameters()) == 196_864 + 2 * 768


def test_tiny_is_small_and_reads_what_it_should():
    torch.manual_seed(0)
    model = AudioVisualEmbedding().eval()
    assert sum(p.numel() for p in model.parameters()) < 1e6
    assert model.config.video.seconds == model.config.audio.seconds == 2.56
    with torch.no_grad():
        seen = model.see(torch.randn(1, 128, 384), torch.rand(1, 8, 8, 3))
        heard = model.hear(model.audio.front_end(torch.randn(1, 40960)))
        tokens = model.audio.net(torch.randn(1, 520, 40)).last_hidden_state
    assert tokens.shape == (1, 2 + 13, 128)  # patches of 0.2 s
    assert seen.shape == heard.shape == (1, 256)
    assert torch.allclose(torch.stack([seen, heard]).norm(dim=-1), torch.ones(2, 1), atol=1e-5)


# --- attention --------------------------------------------------------------------------------------


def dense(attention: DividedAttention, x: torch.Tensor, frames: int, over_time: bool) -> torch.Tensor:
    """The same attention over all pairs of tokens, with what must not be seen masked."""
    b, n, d = x.shape
    h, places = attention.heads, (n - 1) // frames
    frame, place = torch.arange(n - 1) // places, torch.arange(n - 1) % places
    index = place if over_time else frame
    allowed = torch.ones(n, n, dtype=torch.bool)
    allowed[1:, 1:] = index[:, None] == index[None]
    q, k, v = (z.view(b, n, h, d // h).transpose(1, 2) for z in attention.qkv(x).chunk(3, dim=-1))
    scores = (q @ k.transpose(-1, -2) / math.sqrt(d // h)).masked_fill(~allowed, -torch.inf)
    return attention.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, d))


@pytest.mark.parametrize("over_time", [True, False])
@pytest.mark.parametrize(("frames", "places"), [(4, 9), (1, 4), (5, 1)])
def test_divided_attention_equals_masked_attention(over_time, frames, places):
    torch.manual_seed(0)
    attention = DividedAttention(24, 3).double()
    x = torch.randn(2, 1 + frames * places, 24, dtype=torch.float64)
    assert torch.allclose(attention(x, frames, over_time), dense(attention, x, frames, over_time), atol=1e-12)


def test_space_is_added_to_the_input_and_time_is_heard_through_it_alone():
    torch.manual_seed(0)
    block = DividedBlock(PLAIN.dim, PLAIN.heads, PLAIN.mlp).double()
    x = torch.randn(2, 1 + 4 * 4, 24, dtype=torch.float64)
    timed = x + dense(block.timeattn, block.norm3(x), 4, True)
    y = x + dense(block.attn, block.norm1(timed), 4, False)
    y = y + block.mlp.fc2(F.gelu(block.mlp.fc1(block.norm2(y))))
    assert torch.allclose(block(x, 4), y, atol=1e-12)


def test_time_that_starts_at_zero_sees_a_bag_of_frames_and_can_learn():
    torch.manual_seed(0)
    frames = torch.rand(2, 4, 3, 16, 16)
    still = DividedSpaceTimeViT(PLAIN)
    assert torch.allclose(still(frames), still(frames[:, [2, 0, 3, 1]]), atol=1e-6)
    timed = DividedSpaceTimeViT(replace(PLAIN, time_init="random"))
    assert not torch.allclose(timed(frames), timed(frames[:, [2, 0, 3, 1]]), atol=1e-3)
    still(frames).square().sum().backward()
    assert still.blocks[0].timeattn.qkv.weight.grad.abs().sum() > 0
    assert torch.equal(still.blocks[0].timeattn.proj.weight, torch.ones(24, 24))


def test_bytes_and_numbers_are_the_same_pictures():
    torch.manual_seed(0)
    net = DividedSpaceTimeViT(PLAIN).eval()
    frames = torch.randint(0, 256, (2, 4, 3, 16, 16), dtype=torch.uint8)
    assert torch.allclose(net(frames), net(frames.float() / 255), atol=1e-5)
    grey = frames.float().div(255).requires_grad_()
    net(grey).square().sum().backward()  # saliency needs gradients of pixels
    assert grey.grad.abs().amax((0, 2)).gt(0).all()


def test_vectors_per_frame():
    torch.manual_seed(0)
    net = DividedSpaceTimeViT(PLAIN)
    frames = torch.rand(2, 4, 3, 16, 16)
    patches = net.tokens(frames)[1]
    assert patches.shape == (2, 4, 4, 24)
    assert torch.equal(net.per_frame(frames), patches.amax(2))
    assert torch.equal(net.per_frame(frames, "mean"), patches.mean(2))
    with pytest.raises(UsageError, match="pool"):
        net.per_frame(frames, "sum")


def test_frames_are_picked_by_time():
    net = DividedSpaceTimeViT(replace(PLAIN, frames=16, fps=5.0))
    shown = net.pixels(pictures(3.0))[..., 0, 0, 0]
    assert shown.tolist() == [[*range(0, 75, 5), 74]]  # every 0.2 s; at 3.0 s the last one still shows
    assert net.pixels(pictures(2.56))[0, :, 0, 0, 0].tolist() == list(range(0, 61, 5))  # 13 frames, none held
    long = net.pixels(pictures(7.0))[..., 0, 0, 0]
    assert long[:, 0].tolist() == [0, 75, 100] and long.shape == (3, 16)  # the last window ends with the clip


def test_released_sampling_spreads_sixteen_frames():
    net = DividedSpaceTimeViT(replace(PLAIN, frames=16, fps=5.0, sampling="released"))
    shown = net.pixels(pictures(3.0, fps=30.0))[0, :, 0, 0, 0].tolist()
    assert shown == [0, 5, 11, 17, 23, 29, 35, 41, 47, 53, 59, 65, 71, 77, 83, 89]


def test_released_pictures_are_squashed_and_bicubic():
    rng = np.random.default_rng(0)
    clip = Clip(rng.integers(0, 255, (25, 32, 64, 3), dtype=np.uint8), fps=25.0)
    shown = {}
    for changes in ({}, {"fit": "squash"}, {"resize": "bicubic"}):
        shown[str(changes)] = DividedSpaceTimeViT(replace(PLAIN, **changes)).pixels(clip)
    cropped, squashed, bicubic = shown.values()
    assert cropped.shape == squashed.shape == bicubic.shape
    assert not torch.equal(cropped, squashed) and not torch.equal(cropped, bicubic)
    from PIL import Image

    whole = Image.fromarray(clip.frames[0]).resize((16, 16), Image.Resampling.BILINEAR)
    assert np.array_equal(squashed[0, 0].permute(1, 2, 0).numpy(), np.asarray(whole))
    for wrong in ({"fit": "pad"}, {"resize": "nearest"}):
        with pytest.raises(UsageError, match="must be one of"):
            DividedSpaceTimeViT(replace(PLAIN, **wrong))


def test_windows():
    assert windows_of(2.0, 3.0) == [(0.0, 2.0)] and windows_of(3.0, 3.0) == [(0.0, 3.0)]
    assert windows_of(3.0, 1.5) == [(0.0, 1.5), (1.5, 3.0)]
    for a, b in windows_of(10.1, 3.0):
        assert b - a == pytest.approx(3.0) and a >= 0 and b <= 10.1 + 1e-9


@pytest.mark.parametrize(
    "wrong",
    [{"size": 20}, {"heads": 5}, {"frames": 0}, {"fps": 0.0}, {"time_init": "ones"}, {"sampling": "random"}],
)
def test_impossible_video_encoders_are_refused(wrong):
    with pytest.raises(UsageError):
        DividedSpaceTimeViT(replace(PLAIN, **wrong))


@pytest.mark.parametrize("shape", [(1, 5, 3, 16, 16), (1, 4, 3, 16, 24), (4, 3, 16, 16), (1, 0, 3, 16, 16)])
def test_frames_of_another_shape_are_refused(shape):
    with pytest.raises(UsageError, match="frames must be"):
        DividedSpaceTimeViT(PLAIN)(torch.zeros(shape))


# --- moments ----------------------------------------------------------------------------------------


def test_a_token_knows_when_within_its_fifth_of_a_second():
    torch.manual_seed(0)
    net = ClipTransformer(VIDEO)
    vectors, place = torch.zeros(1, 75, 384), torch.full((1, 8, 8, 3), 0.5)
    made = []
    for k in (31, 35, 39, 41):
        hit = vectors.clone()
        hit[0, k] = 3.0
        made.append(net.tokens(hit, place))
    assert all((a[0] - made[0][0]).abs().max() > 1e-3 for a in made[1:])  # all but the last lie in one token
    assert made[0][1].shape == (1, 8, 32)  # 75 vectors in tens: the last token is half filled


def test_the_place_is_seen_and_bytes_are_numbers():
    torch.manual_seed(0)
    net = ClipTransformer(VIDEO)
    vectors, place = torch.randn(2, 75, 384), torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    assert torch.allclose(net(vectors, place), net(vectors, place.float() / 255), atol=1e-6)
    assert (net(vectors, place) - net(vectors, place.flip(0))).abs().max() > 1e-3
    assert torch.equal(net.per_frame(vectors, place), net.tokens(vectors, place)[1])
    wanted = vectors.requires_grad_()
    net(wanted, place).square().sum().backward()
    assert wanted.grad.abs().amax((0, 2)).gt(0).all()


def test_a_place_is_the_mean_picture():
    frames = np.zeros((4, 64, 80, 3), np.uint8)
    frames[:, :, :8] = 255  # outside of the middle square
    frames[:2, :8, 8:16, 0] = 200
    frames[:, 32:, 40:, 2] = 100
    made = scene_thumbnail(frames)
    expected = np.zeros((8, 8, 3), np.uint8)
    expected[0, 0, 0] = 100
    expected[4:, 4:, 2] = 100
    assert np.array_equal(made, expected)


def test_windows_of_what_is_seen():
    eyes, net = random_eyes(), ClipTransformer(VIDEO)
    clip = pictures(3.4)
    vectors, places = net.windows(clip, eyes)
    features = eyes.features(clip)
    assert vectors.shape == (3, 75, 384) and places.shape == (3, 8, 8, 3)
    for i, first in enumerate((0, 75, len(features) - 75)):
        assert torch.equal(vectors[i], features[first : first + 75])
    # frame k is of brightness k, and one in five is looked at
    assert [int(p[0, 0, 0]) for p in places] == [18, 54, 64]  # means over 8 frames, halves to even
    short, _ = net.windows(pictures(1.0), eyes)
    assert short.shape == (1, 50, 384)


@pytest.mark.parametrize(
    ("vectors", "place"),
    [((1, 76, 384), (1, 8, 8, 3)), ((1, 0, 384), (1, 8, 8, 3)), ((1, 75, 96), (1, 8, 8, 3)),
     ((2, 75, 384), (1, 8, 8, 3)), ((1, 75, 384), (1, 3, 8, 8))],
)  # fmt: skip
def test_vectors_of_another_shape_are_refused(vectors, place):
    with pytest.raises(UsageError, match="must be"):
        ClipTransformer(VIDEO)(torch.zeros(vectors), torch.zeros(place))


@pytest.mark.parametrize("wrong", [{"fps": 7.0}, {"fps": 0.0}, {"fps": 100.0}, {"seconds": 0.1}, {"heads": 5}])
def test_impossible_moments_are_refused(wrong):
    with pytest.raises(UsageError):
        ClipTransformer(replace(VIDEO, **wrong))


# --- filter bank ------------------------------------------------------------------------------------


def test_filter_bank_equals_that_of_transformers():
    from transformers import ASTFeatureExtractor

    wave = 0.1 * np.random.default_rng(0).standard_normal(24000)
    wave[8000:9000] = 0.0  # silence as well
    wave = wave.astype(np.float32)
    made = ASTFeatureExtractor(max_length=148, do_normalize=False)(wave, sampling_rate=16000, return_tensors="pt")
    ours = filter_bank(torch.from_numpy(wave)[None])
    assert ours.shape == (1, 148, 128)
    assert (ours - made["input_values"]).abs().max() < 2e-3
    assert ours.min() == pytest.approx(math.log(1.1920929e-7), abs=1e-4)


def test_the_bank_of_a_part_is_a_part_of_the_bank():
    wave = torch.randn(1, 16000)
    assert torch.allclose(filter_bank(wave)[:, 10:40], filter_bank(wave[:, 1600 : 1600 + 400 + 29 * 160]), atol=1e-4)
    assert filter_bank(wave + 0.3).sub(filter_bank(wave)).abs().max() < 0.05  # a constant is not heard
    assert [columns_of(n) for n in (399, 400, 24000, 48000)] == [0, 1, 148, 298]
    with pytest.raises(UsageError, match="waves must be"):
        filter_bank(torch.zeros(1, 399))


def test_what_is_missing_is_filled_with_zeros_after_normalising():
    torch.manual_seed(0)
    net = AudioSpectrogramTransformer(KALDI).eval()
    bank = filter_bank(torch.randn(1, 8000))  # 48 columns
    filled = torch.cat([bank, torch.full((1, 160 - bank.shape[1], 128), ast.MEAN)], dim=1)
    assert torch.allclose(net(bank), net(filled), atol=1e-6)
    for wrong in (torch.zeros(1, 10, 64), torch.zeros(10, 128), torch.zeros(1, 0, 128)):
        with pytest.raises(UsageError, match="filter bank"):
            net(wrong)


@pytest.mark.parametrize(("crop", "first"), [("middle", 12000), ("released", 16000)])
def test_which_part_of_three_seconds_is_heard(crop, first):
    net = AudioSpectrogramTransformer(replace(KALDI, crop=crop))
    sound = noise(3.0)
    expected = filter_bank(torch.from_numpy(sound.samples[:, first : first + 24000].copy()))
    assert torch.equal(net.listen(sound), expected)
    short = noise(1.0)
    assert torch.equal(net.listen(short), filter_bank(torch.from_numpy(short.samples.copy())))
    assert net.listen(noise(3.0, rate=48000)).shape == (1, 148, 128)  # any rate


def test_tiny_hears_the_log_mel():
    net = AudioSpectrogramTransformer(AUDIO)
    sound = noise(3.0)
    middle = sound.samples[0, 12000:36000]
    assert np.array_equal(net.listen(sound)[0].numpy(), log_mel(middle)[:, :300].T)
    assert columns_of(24000, "mel") == 300 and net.listen(noise(1.0)).shape == (1, 200, 40)
    with pytest.raises(UsageError, match="waves must be"):
        net.front_end(torch.zeros(1, 399))
    with pytest.raises(UsageError, match="filter bank"):
        net(torch.zeros(1, 300, 128))


@pytest.mark.parametrize("wrong", [{"columns": 100}, {"heads": 3}, {"crop": "end"}, {"front": "cqt"}])
def test_impossible_audio_encoders_are_refused(wrong):
    with pytest.raises(UsageError):
        AudioSpectrogramTransformerConfig(**{"seconds": 1.5, "columns": 160, "dim": 32, **wrong}).check()


# --- InfoNCE ----------------------------------------------------------------------------------------


def test_info_nce_by_hand():
    heard = torch.eye(2)
    seen = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    # sound 0 sees (1, 0.6), sound 1 sees (0, 0.8); video 0 hears (1, 0), video 1 hears (0.6, 0.8)
    t = 0.5
    sounds = -(math.log(1 / (1 + math.exp((0.6 - 1) / t))) + math.log(1 / (1 + math.exp((0 - 0.8) / t)))) / 2
    videos = -(math.log(1 / (1 + math.exp((0 - 1) / t))) + math.log(1 / (1 + math.exp((0.6 - 0.8) / t)))) / 2
    assert info_nce(heard, seen, t, both=False).item() == pytest.approx(sounds, abs=1e-6)
    assert info_nce(heard, seen, t).item() == pytest.approx((sounds + videos) / 2, abs=1e-6)
    alike = F.normalize(torch.ones(8, 4), dim=-1)
    assert info_nce(alike, alike, 0.07).item() == pytest.approx(math.log(8), abs=1e-5)


def test_other_moments_of_a_recording_are_not_wrong():
    torch.manual_seed(0)
    heard, seen = (F.normalize(torch.randn(6, 8), dim=-1) for _ in range(2))
    groups = torch.tensor([0, 1, 2, 0, 1, 2])
    logits = heard @ seen.T / 0.1
    rows = [torch.tensor([j for j in range(6) if j == i or groups[j] != groups[i]]) for i in range(6)]
    expected = sum(logits[i, rows[i]].logsumexp(0) - logits[i, i] for i in range(6)) / 6
    assert info_nce(heard, seen, 0.1, both=False, groups=groups).item() == pytest.approx(expected.item(), abs=1e-5)
    assert info_nce(heard, seen, 0.1, groups=torch.arange(6)) == info_nce(heard, seen, 0.1)


def test_every_parameter_learns_and_a_fixed_temperature_does_not():
    torch.manual_seed(0)
    for learn in (True, False):
        model = AudioVisualEmbedding(replace(SMALL, learn_temperature=learn, temperature=0.05))
        assert model.temperature.item() == pytest.approx(0.05)
        seen = model.see(torch.randn(4, 75, 384), torch.rand(4, 8, 8, 3))
        heard = model.hear(torch.randn(4, 300, 40))
        info_nce(heard, seen, model.temperature).backward()
        silent = [k for k, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert [k for k in silent if not k.endswith("k_proj.bias")] == []  # a key's bias cancels in a softmax
        assert ("log_scale" in dict(model.named_parameters())) == learn
    cold = AudioVisualEmbedding(SMALL)
    torch.nn.init.constant_(cold.log_scale, 20.0)
    assert cold.temperature.item() == pytest.approx(0.01)


# --- clips and sounds -------------------------------------------------------------------------------


def test_a_long_clip_is_the_mean_of_its_windows():
    model = small_model()
    clip, sound = pictures(3.0), noise(3.0)
    halves = model.see(*model.windows(clip)).detach().numpy()
    assert halves.shape == (2, 16)
    assert np.allclose(model.look(clip), halves.sum(0) / np.linalg.norm(halves.sum(0)), atol=1e-5)
    parts = [model.listen(sound.slice(0, 1.5)), model.listen(sound.slice(1.5, 3.0))]
    whole = sum(parts) / np.linalg.norm(sum(parts))
    assert np.allclose(model.listen(sound), whole, atol=1e-5)
    assert np.linalg.norm(model.look(clip)) == pytest.approx(1, abs=1e-5)
    assert -1 <= model.similarity(clip, sound) <= 1
    assert np.array_equal(model.look(clip), model.look(clip.with_sound(noise(3.0, seed=9))))


@pytest.mark.parametrize(("seconds", "count"), [(0.5, 3), (1.5, 8), (3.0, 15), (3.4, 17)])
def test_vectors_per_frame_of_a_clip(seconds, count):
    model, clip = small_model(), pictures(seconds)
    made = model.per_frame(clip)
    assert made.shape == (count, 32)
    with torch.no_grad():
        windows = model.video.per_frame(*model.windows(clip))
    assert torch.equal(made[0], windows[0, 0])
    if seconds == 3.4:  # the last window begins at 1.9 s; of it only what lies after 3.0 s
        assert torch.equal(made[14], windows[1, 6]) and torch.equal(made[15], windows[2, 5])


def test_another_frame_encoder_is_refused(tmp_path):
    eyes = random_eyes()
    told = replace(SMALL, video=replace(VIDEO, encoder=tag_of(eyes, "vision")))
    model = AudioVisualEmbedding(told, eyes)
    model.save_pretrained(tmp_path / "whole")
    assert AudioVisualEmbedding.from_pretrained(tmp_path / "whole").config == told
    with pytest.raises(WeightsError, match="read vectors of vision@"):
        AudioVisualEmbedding(replace(SMALL, video=replace(VIDEO, encoder="vision@0000")), eyes)
    eyes.save_pretrained(tmp_path / "strike_vision")
    model.save_pretrained(tmp_path / "light", vision="../strike_vision")
    assert not (tmp_path / "light" / "vision").exists()
    light = AudioVisualEmbedding.from_pretrained(tmp_path / "light")
    assert np.array_equal(
        light.look(pictures(1.5)), AudioVisualEmbedding.from_pretrained(tmp_path / "whole").look(pictures(1.5))
    )
    model.save_pretrained(tmp_path / "other", vision=str(SHIPPED / "strike_vision"))
    with pytest.raises(WeightsError, match="and the frame encoder is"):
        AudioVisualEmbedding.from_pretrained(tmp_path / "other")
    assert "frame_encoder" not in "".join(model.state_dict())  # neither trained nor counted here
    with pytest.raises(UsageError, match="without the frozen"):
        AudioVisualEmbedding(SMALL).look(pictures(1.5))


def test_weights_come_back(tmp_path):
    model = small_model()
    model.save_pretrained(tmp_path, steps=5)
    again = AudioVisualEmbedding.from_pretrained(tmp_path)
    assert again.config == SMALL and again.card == {"steps": 5}
    clip = pictures(1.5)
    assert np.array_equal(again.look(clip), model.look(clip))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "kind": "vaas"}))
    with pytest.raises(WeightsError, match="audio-visual encoders"):
        AudioVisualEmbedding.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "dim": 32}))
    with pytest.raises(WeightsError, match="does not fit"):
        AudioVisualEmbedding.from_pretrained(tmp_path)


def tree_of(state: dict[str, torch.Tensor]) -> torch.nn.Module:
    """Modules that hold these tensors under these names."""
    root = torch.nn.Module()
    for name, value in state.items():
        *path, last = name.split(".")
        owner = root
        for word in path:
            if not hasattr(owner, word):
                owner.add_module(word, torch.nn.Module())
            owner = getattr(owner, word)
        owner.register_parameter(last, torch.nn.Parameter(value.clone()))
    return root


def test_shipped_tensors_fit_the_layouts_of_transformers_4_and_5():
    """32 tensors of the AST have other names before transformers 5; files have those of 5 under any version."""
    model = AudioVisualEmbedding.from_pretrained("av_sim")
    names = ast.tensor_names(model.config.audio.depth)
    assert len(names) == 32 and len(set(names.values())) == 32
    state = {k: v.clone() for k, v in model.state_dict().items()}
    assert set(names) <= {k.removeprefix("audio.net.") for k in state}
    older = {f"audio.net.{names[k.removeprefix('audio.net.')]}" if k.removeprefix("audio.net.") in names else k: v
             for k, v in state.items()}  # fmt: skip
    assert len(older.keys() - state.keys()) == 32
    # a state in the other layout loads
    bank = torch.randn(1, 512, 40, generator=torch.Generator().manual_seed(0))
    wanted, fresh = model.hear(bank), AudioVisualEmbedding(model.config)
    fresh.load_state_dict(older)
    assert torch.equal(fresh.eval().hear(bank), wanted)
    # and where the installed version has the other layout, what is loaded, saved and named stays as it is
    inner = {k.removeprefix("audio.net."): v for k, v in older.items() if k.startswith("audio.net.")}
    fresh.audio.net = tree_of({k: torch.zeros_like(v) for k, v in inner.items()})
    fresh.load_state_dict(state)
    assert all(torch.equal(v, inner[k]) for k, v in fresh.audio.net.state_dict().items())
    assert fresh.state_dict().keys() == state.keys() and tag_of(fresh, "av-sim") == "av-sim@1529"


@pytest.mark.parametrize("wrong", [{"temperature": 0.001}, {"temperature": 2.0}, {"dim": 1}])
def test_impossible_models_are_refused(wrong):
    with pytest.raises(UsageError):
        AudioVisualEmbedding(replace(AudioVisualEmbeddingConfig(), **wrong))
