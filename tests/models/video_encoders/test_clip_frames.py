"""Video as a picture of stacked frame vectors, and CLIP behind the encoder's interface."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from vaura_parts import clip_of

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.models.video_encoders.clip_frames import (
    ClipFrames,
    check_encoder,
    extend,
    load_frame_encoder,
    slower,
    standardise,
    to_image,
    to_tokens,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbered(fps: float, seconds: float = 3.0) -> Clip:
    """A clip whose frames show their own number."""
    n = round(fps * seconds)
    return Clip(np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 8, 8, 3)), fps=fps)


@pytest.mark.parametrize(("rate", "fps"), [(30.0, 15.0), (30.0, 4.0), (25.0, 15.0), (25.0, 4.0)])
def test_a_slower_camera_shows_what_was_there_when_it_looked(rate: float, fps: float):
    clip = numbered(rate)
    held = slower(clip, fps)
    assert held.n == np.ceil(3 * fps) and held.duration == clip.duration
    shown = held.at_fps(rate).frames[:, 0, 0, 0].astype(int)  # what an encoder at the old rate is given
    true = np.arange(len(shown))
    assert (shown <= true).all()  # nothing from the future
    assert (np.diff(shown) >= 0).all() and len(np.unique(shown)) == held.n
    assert (true - shown).max() < rate / fps + 1  # and nothing older than a frame


def test_half_the_rate_repeats_every_other_frame():
    shown = slower(numbered(30.0), 15.0).at_fps(30.0).frames[:8, 0, 0, 0]
    assert shown.tolist() == [0, 0, 2, 2, 4, 4, 6, 6]


def test_the_full_rate_changes_nothing():
    clip = numbered(30.0)
    for fps in (None, 30.0, 60.0):
        assert slower(clip, fps) is clip
    with pytest.raises(UsageError, match="frames a second"):
        slower(clip, 0.0)


def test_the_last_column_goes_on():
    vectors = torch.randn(2, 4, 3)
    assert torch.equal(extend(vectors, 3), vectors[:, :3])
    longer = extend(vectors, 6)
    assert torch.equal(longer[:, 4:], vectors[:, 3:].expand(-1, 2, -1))


def test_standardised_pictures_lie_between_0_and_1_and_forget_scale():
    vectors = torch.randn(2, 50, 12, generator=seeded())
    made = standardise(vectors)
    assert made.min() >= 0 and made.max() <= 1
    assert made.mean().item() == pytest.approx(0.5, abs=0.02) and made.std().item() == pytest.approx(1 / 6, abs=0.01)
    assert torch.allclose(made, standardise(40 * vectors + 7), atol=1e-4)
    assert torch.isfinite(standardise(torch.zeros(1, 5, 3))).all()


def test_columns_stay_at_their_time():
    vectors = torch.zeros(1, 50, 12)
    vectors[:, 20] = 1.0
    picture = to_image(vectors, 64, 200, channels=3)
    assert picture.shape == (1, 3, 64, 200)
    assert torch.equal(picture[:, 0], picture[:, 2])
    assert abs(int(picture[0, 0].mean(0).argmax()) - (20.5 * 4 - 0.5)) <= 1


def test_rows_are_the_numbers_of_a_vector_and_folds_become_channels():
    vectors = torch.arange(12.0)[None, None].expand(1, 10, -1)
    plain, folded = to_image(vectors, 12, 10), to_image(vectors, 6, 10, fold=2)
    assert torch.allclose(plain[0, 0, :, 5], torch.arange(12.0), atol=1e-4)
    assert folded.shape == (1, 2, 6, 10)
    assert torch.allclose(folded[0, :, :, 5], torch.arange(12.0).view(2, 6), atol=1e-4)
    with pytest.raises(UsageError, match="folded"):
        to_image(vectors, 12, 10, fold=5)


def test_neighbours_make_a_token():
    vectors = torch.arange(10.0).view(1, 5, 2)
    made = to_tokens(vectors, 2)
    assert made.tolist() == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 8, 9]]]
    assert torch.equal(to_tokens(vectors, 1), vectors)


# --- CLIP -----------------------------------------------------------------------------------------------


def small_clip():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    return CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16, intermediate_size=16, projection_dim=12, num_hidden_layers=1, num_attention_heads=2,
            image_size=32, patch_size=16,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("seconds", "fps"), [(0.3, 25.0), (1.0, 24.0), (1.51, 60.0)])
def test_clip_gives_thirty_vectors_a_second(seconds: float, fps: float):
    encoder = ClipFrames(small_clip())
    made = encoder.features(clip_of(seconds, fps))
    assert made.shape == (-(-round(seconds * 3000) // 100), 12) == (len(made), encoder.dim)
    assert not any(p.requires_grad for p in encoder.parameters())
    if fps == 24.0:  # some pictures are shown twice
        assert len({tuple(v.tolist()) for v in made}) <= 24


def test_vit_l_14_has_768_numbers():
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(
        hidden_size=1024, intermediate_size=4096, projection_dim=768, num_hidden_layers=24, num_attention_heads=16,
        patch_size=14,
    )  # fmt: skip
    with torch.device("meta"):
        encoder = ClipFrames(CLIPVisionModelWithProjection(config))
    assert (encoder.rate, encoder.dim) == (30.0, 768)
    assert sum(p.numel() for p in encoder.parameters()) == 303_966_208


def test_clip_is_saved_and_read_again(tmp_path):
    encoder = ClipFrames(small_clip(), rate=25.0)
    folder = encoder.save_pretrained(tmp_path / "clip")
    loaded = load_frame_encoder(folder)
    assert isinstance(loaded, ClipFrames) and loaded.rate == 25.0
    clip = clip_of(0.3)
    assert torch.allclose(loaded.features(clip), encoder.features(clip), atol=1e-2)
    encoder.model.save_pretrained(tmp_path / "published")
    published = ClipFrames.from_hub(str(tmp_path / "published"), rate=25.0)
    assert torch.allclose(published.features(clip), encoder.features(clip), atol=1e-5)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "kind": "codec"}))
    with pytest.raises(WeightsError, match="frame encoder"):
        load_frame_encoder(folder)
    with pytest.raises(WeightsError, match="no CLIP"):
        ClipFrames.from_hub(str(tmp_path / "nowhere"))


def test_an_encoder_that_is_not_the_one_that_was_told_is_refused(tmp_path):
    from v2a_nb.hub import tag_of

    torch.manual_seed(0)
    eyes, other = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    tag = tag_of(eyes, "vision")
    check_encoder(eyes, tag, tmp_path)
    for untold in (None, "of a friend", "vision", "vision@12345", 7):  # nothing to compare with
        check_encoder(other, untold, tmp_path)
    with pytest.raises(WeightsError) as caught:
        check_encoder(other, tag, tmp_path)
    assert all(part in str(caught.value) for part in (tag, tag_of(other, "vision"), str(tmp_path)))
