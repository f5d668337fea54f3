"""All encoders behind one interface: shapes, times, windows, memory, attention. Networks are small and random."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import ceil
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from v2a_nb.clip import Clip
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.models.video_encoders.clip4clip import FRAMES, Clip4Clip
from v2a_nb.models.video_encoders.clip_frames import BATCH, ClipFrames
from v2a_nb.models.video_encoders.registry import ENCODERS, small
from v2a_nb.models.video_encoders.transformer_encoders import TransformerEncoder

TRANSFORMERS = ("pe_av", "vjepa2", "vivit", "videomae", "timesformer")
ATTENDING = ("clip", "clip4clip", "vivit", "videomae", "timesformer")

encoder_of: Callable[[str], Any] = cache(small)


def drifting(seconds: float, fps: float, seed: int = 0) -> Clip:
    """Blobs that drift slowly: the same scene at any frame rate."""
    rng = np.random.default_rng(seed)
    places, speeds, colours = rng.random((5, 2)), rng.normal(0, 0.1, (5, 2)), rng.integers(60, 255, (5, 3))
    rows, columns = np.mgrid[:48, :64] / 48
    frames = np.zeros((ceil(seconds * fps - 1e-6), 48, 64, 3))
    for i, frame in enumerate(frames):
        for (y, x), (down, right), colour in zip(places, speeds, colours, strict=True):
            apart = (rows - y - down * i / fps) ** 2 + (columns - x - right * i / fps) ** 2
            frame += np.exp(-apart / 0.03)[:, :, None] * colour
    return Clip(np.clip(frames, 0, 255).astype(np.uint8), fps=fps, duration=seconds)


def brightening(seconds: float, fps: float) -> Clip:
    """Frames as bright as their time: 10 a second."""
    n = ceil(seconds * fps - 1e-6)
    values = np.round(10 * np.arange(n) / fps).astype(np.uint8)
    return Clip(np.broadcast_to(values[:, None, None, None], (n, 36, 36, 3)).copy(), fps=fps, duration=seconds)


def window_s(encoder: TransformerEncoder) -> float:
    """Seconds of a window."""
    return encoder.window / (encoder.rate * encoder.frames_per_token)


def tell_brightness(encoder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make an encoder's network give the mean brightness, 0 to 255, of the pictures of each token."""
    settings = encoder.preprocessing if isinstance(encoder, ClipFrames) else encoder.config.preprocessing

    def brightness(pixels: torch.Tensor) -> torch.Tensor:
        values = pixels * torch.tensor(settings.std)[:, None, None] + torch.tensor(settings.mean)[:, None, None]
        return ((values - settings.offset) / settings.scale).mean((-3, -2, -1))

    if isinstance(encoder, ClipFrames):
        monkeypatch.setattr(
            encoder.model,
            "forward",
            lambda pixel_values: SimpleNamespace(image_embeds=brightness(pixel_values)[:, None]),
        )
    else:
        each = encoder.frames_per_token
        monkeypatch.setattr(
            encoder, "_patches", lambda pixels: brightness(pixels)[0].unflatten(0, (-1, each)).mean(1)[:, None, None]
        )


# --- the interface -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_tokens_have_the_shape_that_dim_and_rate_say(name):
    encoder = encoder_of(name)
    for clip in (drifting(0.4, 25.0), drifting(2.4, 12.5)):
        tokens = encoder.features(clip)
        assert tokens.shape == (max(1, ceil(encoder.rate * clip.duration - 1e-6)), encoder.dim)
        assert tokens.dtype == torch.float32 and torch.isfinite(tokens).all() and not tokens.requires_grad
        assert torch.equal(encoder.features(clip), tokens)
        assert torch.equal(encoder.encode(clip.frames, clip.fps), tokens)
    assert tokens.std() > 0.01  # they say something
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())


@pytest.mark.parametrize("name", ["clip", "videomae"])
def test_frames_that_are_none_are_refused(name):
    for frames, fps in (
        (np.zeros((3, 8, 8)), 25.0),
        (np.zeros((3, 8, 8, 3)), 25.0),
        (np.zeros((0, 8, 8, 3), "u1"), 25.0),
    ):
        with pytest.raises(MediaError):
            encoder_of(name).encode(frames, fps)
    with pytest.raises(MediaError):
        encoder_of(name).encode(np.zeros((3, 8, 8, 3), np.uint8), 0.0)


@pytest.mark.parametrize("name", [*TRANSFORMERS, "clip", "clip4clip", "cavp"])
def test_the_frame_rate_of_the_file_hardly_matters(name):
    encoder = encoder_of(name)
    at_25, at_30, other = (
        encoder.features(c) for c in (drifting(2.0, 25.0), drifting(2.0, 30.0), drifting(2.0, 25.0, seed=1))
    )
    assert (at_25 - at_30).abs().mean() < 0.2 * (at_25 - other).abs().mean()


def test_seeds_make_encoders():
    clip = drifting(0.5, 25.0)
    assert torch.equal(small("vivit", 3).features(clip), small("vivit", 3).features(clip))
    assert not torch.allclose(small("vivit", 3).features(clip), small("vivit", 4).features(clip), atol=0.1)
    before = torch.get_rng_state()
    small("clip")
    assert torch.equal(torch.get_rng_state(), before)
    with pytest.raises(UsageError, match="unknown encoder"):
        small("eyes")


def test_a_frozen_encoder_stays_in_evaluation_mode():
    encoders = [small("videomae"), small("clip4clip")]
    torch.nn.ModuleList(encoders).train()
    assert not any(module.training for encoder in encoders for module in encoder.modules())


# --- times -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [25.0, 60.0])
@pytest.mark.parametrize("name", [*TRANSFORMERS, "clip", "clip4clip"])
def test_token_i_stands_for_the_middle_of_its_time(name, fps, monkeypatch):
    encoder = small(name)
    if name == "clip4clip":
        encoder.head = None
    encoder.set_rate(min(encoder.rate, 5.0))
    tell_brightness(encoder, monkeypatch)
    clip = brightening(11.3, fps)
    tokens = encoder.features(clip)[:, 0]
    middles = (np.arange(len(tokens)) + 0.5) / encoder.rate
    inside = middles < clip.duration - 0.6 / encoder.rate
    # a frame is on the screen for 1 / fps, and bytes are rounded; a tenth of a second is one step of brightness
    assert np.abs(tokens.numpy() / 10 - middles)[inside].max() <= 1 / fps + 0.06
    assert inside.sum() >= len(tokens) - 2 and tokens[-1] <= 10 * clip.duration  # nothing beyond the end


def test_clip_in_the_middle_or_at_the_start_of_a_tokens_time(monkeypatch):
    for middle, first in ((True, 2.4), (False, 0.0)):  # EgoSonics and the released VTA-LDM read the start
        encoder = ClipFrames(small("clip").model, rate=2.0, middle=middle)
        with monkeypatch.context() as patch:
            tell_brightness(encoder, patch)
            tokens = encoder.features(brightening(4.0, 25.0))[:, 0]
        assert tokens.tolist() == pytest.approx([first + 5 * i for i in range(8)], abs=0.7)


# --- windows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_a_long_clip_is_its_windows(name):
    encoder = small(name)
    if name == "pe_av":
        encoder.set_rate(50.0)
    seconds = window_s(encoder)
    clip = drifting(2.5 * seconds, 4 * encoder.rate * encoder.frames_per_token)
    tokens, each = encoder.features(clip), encoder.window // encoder.frames_per_token
    for start in (0.0, seconds):
        window = encoder.features(clip.slice(start, start + seconds))
        first = round(start * encoder.rate)
        assert torch.allclose(tokens[first : first + each], window, atol=1e-5)
    # the last one is whole: it ends where the clip ends
    last = encoder.features(clip.slice(clip.duration - seconds))
    fresh = len(tokens) - 2 * each
    assert 0 < fresh < each and torch.allclose(tokens[-fresh:], last[-fresh:], atol=1e-5)


@pytest.mark.parametrize("name", ["vivit", "videomae", "timesformer"])
def test_a_short_clip_is_filled_with_a_picture_that_stands_still(name):
    encoder = encoder_of(name)
    frame = drifting(0.1, 10.0).frames[:1]
    still = Clip(np.repeat(frame, 100, axis=0), fps=100 / window_s(encoder))
    short = encoder.features(Clip(frame, fps=25.0))
    assert torch.allclose(short, encoder.features(still)[: len(short)], atol=1e-6)


@pytest.mark.parametrize("name", ["pe_av", "vjepa2"])
def test_a_network_of_any_length_is_given_no_more_than_there_is(name, monkeypatch):
    encoder, shapes, patches = small(name), [], type(encoder_of(name))._patches
    monkeypatch.setattr(
        encoder, "_patches", lambda pixels: (shapes.append(pixels.shape[1]), patches(encoder, pixels))[1]
    )
    encoder.features(drifting(1.0, 25.0))
    assert shapes == [round(encoder.rate * encoder.frames_per_token)]


@pytest.mark.parametrize("name", [*TRANSFORMERS, "clip", "clip4clip"])
def test_the_network_is_never_given_more_frames_than_its_window(name, monkeypatch):
    encoder, counts = small(name), []
    encoder.set_rate(40.0)
    tower = encoder.model.get_vision_features if name == "vjepa2" else encoder.model.forward

    def forward(*args, **how):
        pixels = args[0] if args else next(iter(how.values()))
        counts.append(pixels.shape[0] if name.startswith("clip") else pixels.shape[1])
        return tower(*args, **how)

    monkeypatch.setattr(encoder.model, "get_vision_features" if name == "vjepa2" else "forward", forward)
    tokens = encoder.features(brightening(4.0, 10.0))
    most = BATCH if name.startswith("clip") else encoder.window
    assert (
        len(tokens) == 160
        and max(counts) == most
        and len(counts) == ceil(160 * getattr(encoder, "frames_per_token", 1) / most)
    )


# --- CLIP4Clip ---------------------------------------------------------------------------------------------


def test_mean_pooling_keeps_clips_vectors():
    clip, model = drifting(3.0, 25.0), encoder_of("clip").model
    plain = ClipFrames(model, 2.0, middle=True).features(clip)
    encoder = Clip4Clip(model, middle=True)
    assert encoder.rate == 2.0 and torch.equal(encoder.features(clip), plain)
    pooled = encoder.pooled(plain)
    assert pooled.norm().item() == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(pooled, encoder.pooled(plain.flip(0) * 3), atol=1e-6)
    with pytest.raises(UsageError, match="meanP"):
        Clip4Clip(model, head="tightTransf")


def test_the_sequential_head_adds_what_it_knows_of_neighbours():
    encoder = small("clip4clip")
    vectors = torch.randn(5, encoder.dim, generator=torch.Generator().manual_seed(0))
    tokens = encoder.temporal(vectors)
    changed = vectors.clone()
    changed[4] = -changed[4]
    assert (encoder.temporal(changed)[0] - tokens[0]).abs().max() > 1e-4  # it looks at all frames
    assert not torch.allclose(encoder.temporal(vectors.flip(0)).flip(0), tokens, atol=1e-3)  # and knows their order
    for layer in encoder.head.layers:
        for out in (layer.self_attn.out_proj, layer.linear2):
            torch.nn.init.zeros_(out.weight)
            torch.nn.init.zeros_(out.bias)
    torch.nn.init.zeros_(encoder.head.places)
    assert torch.allclose(encoder.temporal(vectors), 2 * vectors)  # the residual of the released code
    long = torch.randn(FRAMES + 7, encoder.dim)
    assert torch.allclose(encoder.temporal(long)[:FRAMES], encoder.temporal(long[:FRAMES]), atol=1e-5)


def test_the_sequential_head_starts_from_clips_text_encoder(tmp_path):
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    text = {
        "hidden_size": 24,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "num_attention_heads": 1,
        "vocab_size": 50,
    }
    vision = encoder_of("clip").model.config.to_dict()
    whole = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)).eval()
    whole.save_pretrained(tmp_path)
    encoder = small("clip4clip").start_from_text(tmp_path)
    vectors = torch.randn(6, 24, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():  # the text encoder's own layers
        x = vectors[None] + whole.text_model.embeddings.position_embedding.weight[:6]
        for layer in whole.text_model.encoder.layers[:2]:
            x = layer(x, attention_mask=None)
    assert torch.allclose(encoder.temporal(vectors), vectors + x[0], atol=1e-5)
    assert not any(p.requires_grad for p in encoder.parameters())
    with pytest.raises(UsageError, match="meanP"):
        Clip4Clip(encoder.model).start_from_text(tmp_path)


def test_the_sequential_head_can_be_trained():
    encoder = small("clip4clip")
    encoder.head.requires_grad_(True)
    encoder.temporal(torch.randn(4, encoder.dim)).square().sum().backward()
    assert all(p.grad is not None for p in encoder.head.parameters())
    assert all(p.grad is None for p in encoder.model.parameters())


# --- attention ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ATTENDING)
def test_attention_is_a_share_of_each_patch_for_each_token(name):
    encoder, clip = encoder_of(name), drifting(2.3, 25.0)
    before = encoder.features(clip)
    shares = encoder.attention(clip)
    assert shares.shape == (len(before), 2, 2) and shares.min() >= 0
    assert torch.allclose(shares.sum((1, 2)), torch.ones(len(shares)), atol=1e-5)
    assert shares.std() > 1e-4
    assert torch.equal(encoder.features(clip), before)  # the fast attention is in place again
    assert torch.equal(encoder.attention(clip), shares)


@pytest.mark.parametrize("name", ["clip", "timesformer", "vivit"])
def test_attention_tells_patches_apart_by_their_look(name):
    """Without places, patches that look alike get equal shares, and one that looks different gets another."""
    encoder = small(name)
    side = 32 if name == "clip" else encoder.config.preprocessing.short_side
    frames = np.zeros((40, side, side, 3), np.uint8)
    frames[:, : side // 2, side // 2 :] = 255
    clip = Clip(frames, fps=20.0)
    with torch.no_grad():
        for key, value in encoder.model.named_parameters():
            if "position" in key or "time_embeddings" in key:
                value.zero_()
    shares = encoder.attention(clip)
    light, dark = shares[:, 0, 1], torch.stack([shares[:, 0, 0], shares[:, 1, 0], shares[:, 1, 1]])
    assert torch.allclose(dark, dark[:1].expand_as(dark), atol=1e-5)
    assert ((light - dark[0]).abs() > 1e-4).all()
