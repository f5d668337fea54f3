"""EgoSonics on disk: a folder with a part for each, and published weights in diffusers' layout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from egosonics_parts import SMALL, small_system, speak
from system_parts import check_damaged, check_named_parts, check_same

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.systems.egosonics.system import EgoSonics


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small system with a real frame encoder, as it was and as it is on disk."""
    from v2a_nb.hub import as_shipped
    from v2a_nb.models.video_encoders.strike import StrikeVision

    torch.manual_seed(0)
    eyes = StrikeVision().eval()
    system = EgoSonics(replace(SMALL, video_dim=eyes.dim), eyes, small_system().autoencoder).eval()
    speak(system)
    as_shipped(system)
    folder = system.save_pretrained(tmp_path_factory.mktemp("weights") / "egosonics", preset="tiny", steps=7)
    return system, folder


def test_saved_weights_generate_the_same(saved):
    system, folder = saved
    loaded = EgoSonics.from_pretrained(folder)
    check_same(system, loaded)
    assert loaded.config == system.config
    assert (loaded.card["preset"], loaded.card["steps"]) == ("tiny", 7)


def test_the_folder_has_a_part_for_each(saved):
    from safetensors.torch import load_file

    _, folder = saved
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "base", "autoencoder", "vision"}
    state = load_file(str(folder / "model.safetensors"))
    assert {k.split(".")[0] for k in state} == {"syncronet", "mlp", "words", "null_text"}
    assert any("processor.cos" in k for k in state)
    assert {v.dtype for v in state.values()} == {torch.float16}


def test_the_registry_knows_it(saved):
    from v2a_nb.systems.registry import load

    _, folder = saved
    assert isinstance(load("egosonics", folder), EgoSonics)
    assert isinstance(load(str(folder)), EgoSonics)


def test_parts_can_be_named_instead_of_written(saved, tmp_path):
    check_named_parts(*saved, tmp_path / "lean", ("vision", "autoencoder", "base"))


def test_damaged_weights_are_refused(saved, tmp_path):
    cases = [
        ("[1]", "cannot be read"),
        ({"kind": "vaura"}, "not EgoSonics"),
        ({"picture": "wide"}, "does not describe"),
        ({"mlp_hidden": 3}, "does not fit"),
    ]
    check_damaged(EgoSonics, saved[1], tmp_path / "broken", cases)


def test_what_cannot_be_saved_is_said(tmp_path):
    with pytest.raises(UsageError, match="no vision to save"):
        EgoSonics(SMALL, None, small_system().autoencoder).save_pretrained(tmp_path / "blind")
    with pytest.raises(UsageError, match="card cannot say guidance"):
        small_system().save_pretrained(tmp_path / "told", guidance=2.5)


def test_another_frame_encoder_than_that_of_the_training_is_refused(saved, tmp_path):
    """Its vectors would have the right sizes and another meaning."""
    from v2a_nb.hub import tag_of
    from v2a_nb.models.video_encoders.strike import StrikeVision

    system, folder = saved
    trained = tag_of(system.encoder, "vision")
    torch.manual_seed(1)
    other = StrikeVision().eval()
    has = tag_of(other, "vision")
    assert has != trained
    other.save_pretrained(tmp_path / "vision")
    parts = {"autoencoder": str(folder / "autoencoder"), "base": str(folder / "base")}
    right = system.save_pretrained(tmp_path / "right", **parts, vision=str(folder / "vision"), encoder=trained)
    check_same(system, EgoSonics.from_pretrained(right))
    wrong = system.save_pretrained(tmp_path / "wrong", **parts, vision="../vision", encoder=trained)
    with pytest.raises(WeightsError) as caught:
        EgoSonics.from_pretrained(wrong)
    assert trained in str(caught.value) and has in str(caught.value) and str(wrong) in str(caught.value)
    untold = system.save_pretrained(tmp_path / "untold", **parts, vision="../vision", encoder="of a friend")
    assert EgoSonics.from_pretrained(untold).card["encoder"] == "of a friend"  # no tag: nothing to compare with


def test_published_weights_are_read_from_diffusers_layout(tmp_path, monkeypatch):
    """Stable Diffusion in small: the folder of a pipeline, as on the Hub."""
    from diffusers import AutoencoderKL, ControlNetModel

    from v2a_nb.systems.egosonics import official
    from v2a_nb.systems.egosonics.model import make_unet

    torch.manual_seed(0)
    config = replace(
        SMALL, picture="paper", hint_repeat=3, hint_widths=(4, 8, 8, 8), video_rate=30.0, stack=1, align=16,
        words=False, time_bias=False, overlap=0, context=16,
    )  # fmt: skip
    unet = make_unet(config)
    unet.save_pretrained(tmp_path / "unet")
    AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4, 4, 4, 4), norm_num_groups=2,
    ).save_pretrained(tmp_path / "vae")  # fmt: skip
    control = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8, 8, 8))
    torch.nn.init.normal_(control.controlnet_cond_embedding.conv_out.weight)
    control.save_pretrained(tmp_path / "control")
    monkeypatch.setattr(official, "text_of", lambda name, narrations: torch.full((1, 2, 16), 0.5))
    how = {"clip": None, "config": config}
    system = official.from_published(tmp_path, hint=tmp_path / "control", **how)
    assert torch.equal(system.base.state_dict()["conv_in.weight"], unet.state_dict()["conv_in.weight"])
    copied = system.syncronet.control.state_dict()["down_blocks.0.resnets.0.conv1.weight"]
    assert torch.equal(copied, unet.state_dict()["down_blocks.0.resnets.0.conv1.weight"])
    hint = system.syncronet.hint_encoder.conv_out.weight
    assert torch.equal(hint, control.controlnet_cond_embedding.conv_out.weight)
    assert not [n for n in system.stage("syncronet") if "cond_embedding" in n]
    assert (system.null_text == 0.5).all()
    assert "embedding" in " ".join(official.from_published(tmp_path, **how).stage("syncronet"))
    with pytest.raises(WeightsError, match="could be had"):
        official.from_published(tmp_path / "nowhere", **how)
