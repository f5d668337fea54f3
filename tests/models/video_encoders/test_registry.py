"""The registry of video encoders: its table, what it loads, what it refuses."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from paths import ROOT

from v2a_nb.clip import Clip
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import SHIPPED, as_shipped, tag_of
from v2a_nb.models.video_encoders import registry
from v2a_nb.models.video_encoders.clip4clip import Clip4Clip
from v2a_nb.models.video_encoders.clip_frames import ClipFrames
from v2a_nb.models.video_encoders.registry import ENCODERS, load_video_encoder, page, shipped_place, small
from v2a_nb.models.video_encoders.transformer_encoders import PEVideo
from v2a_nb.training.recipes.autoencoder import keep_encoder

CLIP = Clip(np.random.default_rng(0).integers(0, 255, (30, 40, 50, 3), dtype=np.uint8), fps=25.0)


# --- the table ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_an_entry_says_all_that_a_user_must_know(name):
    info = ENCODERS[name]
    assert info.what and info.licence and info.id and info.dim > 0 and info.rate > 0
    assert (info.megabytes or 0) > 0 or "not known" in info.note
    assert info.loads or info.note
    encoder: Any = small(name)
    assert encoder.rate == info.rate and type(encoder) is info.encoder_class


def test_the_issues_encoders_are_there():
    wanted = "clip4clip clip languagebind imagebind pe_av vjepa2 vivit timesformer videomae cavp segment_avclip"
    assert set(ENCODERS) == {*wanted.split(), "strike", "strike_wide"}


def test_the_page_is_the_table():
    assert (ROOT / "docs" / "video_encoders.md").read_text(encoding="utf-8") == page()
    assert "docs/video_encoders.md" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["cavp", "strike"])
def test_shipped_encoders_are_as_large_as_the_table_says(name):
    info = ENCODERS[name]
    assert round((SHIPPED / info.id / "model.safetensors").stat().st_size / 1e6) == info.megabytes
    encoder = load_video_encoder(name)
    assert (encoder.dim, encoder.rate) == (info.dim, info.rate)
    assert len(encoder.features(CLIP)) == round(1.2 * info.rate)
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())


def published_networks() -> dict[str, Any]:
    """The networks that are downloaded, in their published sizes, without memory."""
    import transformers as t

    clip = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    labels: dict[str, Any] = {"num_labels": 400}
    text = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return {
        "clip": lambda: t.CLIPModel(
            t.CLIPConfig(projection_dim=768, vision_config={**clip, "patch_size": 14}, text_config=text)
        ),
        "vjepa2": lambda: t.VJEPA2Model(t.VJEPA2Config()),
        "vivit": lambda: t.VivitForVideoClassification(t.VivitConfig(**labels)),
        "timesformer": lambda: t.TimesformerForVideoClassification(t.TimesformerConfig(**labels)),
    }


@pytest.mark.parametrize("name", ["clip", "vjepa2", "vivit", "timesformer"])
def test_a_download_is_as_large_as_its_network(name):
    with torch.device("meta"):
        network = published_networks()[name]()
    assert round(sum(4 * p.numel() for p in network.parameters()) / 1e6) == ENCODERS[name].megabytes


# --- saved and loaded --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENCODERS)
def test_an_encoder_is_saved_and_loaded(name, tmp_path):
    encoder: Any = as_shipped(small(name, seed=5))
    if name == "cavp":
        as_shipped(encoder.frame_encoder)
    if hasattr(encoder, "set_rate"):
        encoder.set_rate(4.0)
    loaded = load_video_encoder(encoder.save_pretrained(tmp_path / name, seed=5))
    assert type(loaded) is type(encoder) and loaded.card == {"seed": 5}
    assert (loaded.dim, loaded.rate) == (encoder.dim, encoder.rate)
    assert torch.allclose(loaded.features(CLIP), encoder.features(CLIP), atol=1e-6)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())
    assert tag_of(loaded, "vision") == tag_of(encoder, "vision")


@pytest.mark.parametrize("name", ["clip", "clip4clip", "vjepa2", "vivit", "videomae", "timesformer"])
def test_tags_know_the_rate(name):
    """Features of the same weights at another rate are other features."""
    encoder = small(name)
    before = tag_of(encoder, "vision")
    encoder.set_rate(4.0)
    assert tag_of(encoder, "vision") != before


def test_the_tag_of_egosonics_clip_is_that_of_its_weights_alone():
    encoder = ClipFrames(small("clip").model)
    assert encoder.config is None and Clip4Clip(encoder.model, 30.0).config is not None


def published(name: str, folder) -> Any:
    """Save a small encoder's network as the Hub holds it, with the head that the published one has, if any."""
    import transformers as t

    encoder = small(name, seed=2)
    heads = {
        "vivit": (t.VivitForVideoClassification, "vivit"),
        "timesformer": (t.TimesformerForVideoClassification, "timesformer"),
        "videomae": (t.VideoMAEForPreTraining, "videomae"),
    }
    network = encoder.model
    if name in heads:
        head_class, part = heads[name]
        network = head_class(encoder.model.config)
        getattr(network, part).load_state_dict(encoder.model.state_dict())
    network.save_pretrained(folder)
    p = encoder.preprocessing if isinstance(encoder, ClipFrames) else encoder.config.preprocessing
    square = {"height": p.crop, "width": p.crop}
    size = {"shortest_edge": p.short_side} if p.short_side else square
    said = {"size": size, "crop_size": square, "do_center_crop": p.short_side > 0}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return encoder


@pytest.mark.parametrize("name", ["clip", "vjepa2", "vivit", "videomae", "timesformer", "pe_av"])
def test_a_folder_as_published_is_loaded(name, tmp_path):
    encoder = published(name, tmp_path)
    loaded = load_video_encoder(tmp_path, rate=encoder.rate)
    assert type(loaded) is type(encoder)
    assert torch.allclose(loaded.features(CLIP), encoder.features(CLIP), atol=1e-5)


def test_pe_av_is_found_inside_of_the_whole_model(tmp_path):
    """The published file holds encoders of sound and text as well, and a tied copy of the video encoder."""
    from safetensors.torch import load_file, save_file

    encoder = published("pe_av", tmp_path)
    config = {"model_type": "pe_audio_video", "video_config": {"video_config": encoder.model.config.to_dict()}}
    (tmp_path / "config.json").write_text(json.dumps(config, default=str))
    own = load_file(tmp_path / "model.safetensors")
    state = {f"video_model.video_encoder.{k}": v for k, v in own.items()}
    state |= {f"audio_video_encoder.{k}": torch.zeros_like(v) for k, v in own.items() if k.startswith("layers")}
    state["text_model.layers.0.weight"] = torch.zeros(3)
    save_file(state, tmp_path / "model.safetensors")
    loaded = load_video_encoder(tmp_path)
    assert isinstance(loaded, PEVideo)
    assert torch.allclose(loaded.features(CLIP), encoder.features(CLIP), atol=1e-5)


def test_a_name_loads_its_published_weights(monkeypatch):
    asked = []
    monkeypatch.setattr(registry, "load_one_of", lambda *args, **how: (asked.append((args, how)), small("vivit"))[1])
    load_video_encoder("vivit")
    load_video_encoder("vivit", revision="main")
    load_video_encoder("someone/some-encoder")
    assert [(args[0], how["revision"]) for args, how in asked] == [
        ("google/vivit-b-16x2-kinetics400", "refs/pr/3"), ("google/vivit-b-16x2-kinetics400", "main"),
        ("someone/some-encoder", None),
    ]  # fmt: skip
    assert asked[0][0][2:] == (ENCODERS["vivit"].encoder_class,) and len(asked[2][0]) > 6


def test_a_name_never_hides_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small("clip").save_pretrained("vivit")
    assert isinstance(load_video_encoder("vivit"), ClipFrames)


# --- refused -----------------------------------------------------------------------------------------------


def refused(name, *words: str, error: type = WeightsError, **how) -> None:
    with pytest.raises(error) as caught:
        load_video_encoder(name, **how)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words), caught.value


def test_what_cannot_be_loaded_says_why():
    refused("timesformer", "facebook/timesformer-base-finetuned-k400", "pickle", "save_pretrained")
    refused("eyes", "no weights 'eyes'")
    refused("codec", "not a video encoder")


@pytest.mark.parametrize("name", ["clip", "clip4clip", "videomae", "vjepa2", "pe_av"])
def test_wrong_weights_are_refused(name, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = small(name).save_pretrained(tmp_path / "ours")
    state = load_file(folder / "model.safetensors")
    first = sorted(state)[0]
    save_file({k: v for k, v in state.items() if k != first}, folder / "model.safetensors")
    refused(folder, "does not fit", first)
    (folder / "model.safetensors").write_bytes(b"nothing")
    refused(folder, "cannot be read")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "kind": "eyes"}))
    refused(folder, "'eyes'", "not a video encoder")


@pytest.mark.parametrize("name", ["clip", "vivit", "timesformer", "pe_av"])
def test_a_published_folder_that_lacks_weights_is_refused(name, tmp_path):
    from safetensors.torch import load_file, save_file

    published(name, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    gone = [k for k in state if "layernorm" in k.lower() or "layer_norm" in k.lower()]
    assert gone
    save_file({k: v for k, v in state.items() if k not in gone}, tmp_path / "model.safetensors", {"format": "pt"})
    refused(tmp_path, "does not fit")


def test_pictures_of_another_size_than_the_network_reads_are_refused(tmp_path):
    published("videomae", tmp_path)
    (tmp_path / "preprocessor_config.json").unlink()
    refused(tmp_path, "224 pixels", "32")


def test_rates(tmp_path):
    assert load_video_encoder(small("clip").save_pretrained(tmp_path / "clip"), rate=2).rate == 2.0
    refused("strike", "50 tokens a second", error=UsageError, rate=2)
    refused(tmp_path / "clip", "impossible", error=UsageError, rate=-1)
    assert load_video_encoder("strike", rate=50).rate == 50.0


@pytest.mark.parametrize(
    ("name", "place"),
    [("strike_wide", "vaura/vision"), ("vaura", "vaura/vision"), ("strike", "strike_vision"), ("cavp", "av_sim"),
     ("strike_vision", "strike_vision"), ("clip", None), ("someone/some-model", None), ("no-such-weights", None)],
)  # fmt: skip
def test_a_run_keeps_a_shipped_encoder_where_the_package_has_it(name, place, tmp_path):
    assert shipped_place(name) == place
    if place is not None:
        encoder = load_video_encoder(name)
        assert keep_encoder(encoder, name, tmp_path) == tmp_path / place
        kept = load_video_encoder(tmp_path / place)
        assert tag_of(kept, "vision") == tag_of(encoder, "vision")
        assert shipped_place(tmp_path / place) is None
        other = keep_encoder(encoder, tmp_path / place, tmp_path)
        assert other == tmp_path / "encoders" / tag_of(encoder, "vision").removeprefix("vision@")
