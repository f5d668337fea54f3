"""CLIP behind the frame encoders' interface, and which encoder weights were trained with."""

from __future__ import annotations

import json

import pytest
import torch
from vaura_parts import clip_of

from v2a_nb.errors import WeightsError
from v2a_nb.models.video_encoders.clip_frames import ClipFrames, check_encoder
from v2a_nb.models.video_encoders.registry import load_video_encoder

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
    loaded = load_video_encoder(folder)
    assert isinstance(loaded, ClipFrames) and (loaded.rate, loaded.resize) == (25.0, "bicubic")
    clip = clip_of(0.3)
    assert torch.allclose(loaded.features(clip), encoder.features(clip), atol=1e-2)
    encoder.model.save_pretrained(tmp_path / "published")
    published = ClipFrames.from_hub(str(tmp_path / "published"), rate=25.0)
    assert torch.allclose(published.features(clip), encoder.features(clip), atol=1e-5)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "kind": "codec"}))
    with pytest.raises(WeightsError, match="video encoder"):
        load_video_encoder(folder)
    with pytest.raises(WeightsError, match="no CLIPVisionModelWithProjection"):
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
