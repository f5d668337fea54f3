"""Action2Sound on disk: a folder with a part for each, a pool that is opened late, Stable Diffusion's layout."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from action2sound_parts import SMALL, SMALL_AUTOENCODER, SMALL_VOCODER, noise, small_system, speak
from av_parts import small_model
from system_parts import check_damaged, check_named_parts, check_same, clip_of

from v2a_nb.data.pool import Pool, Source, to_int16
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import as_shipped, tag_of
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.models.vocoder import GriffinLimVocoder, Vocoder
from v2a_nb.systems.action2sound.ambient import Ambients
from v2a_nb.systems.action2sound.official import from_published
from v2a_nb.systems.action2sound.system import Action2Sound
from v2a_nb.systems.registry import load
from v2a_nb.systems.retrieval.system import Retrieval


def small_retrieval() -> Retrieval:
    model, rng = small_model(), np.random.default_rng(0)
    waves = [to_int16(noise(dbfs, seed=i).samples[0]) for i, dbfs in enumerate((-30, -60, -45))]
    sources = [Source(f"own{i}", 0.0, 3.2) for i in range(3)]
    heard, seen = rng.standard_normal((2, 3, model.dim))
    return Retrieval(
        model, Pool(heard, seen, sources, np.array([-30.0, -60, -45]), waves=waves, tag=tag_of(model, "av-sim"))
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small system with a real frame encoder and a pool, as it was and as it is on disk."""
    folder = tmp_path_factory.mktemp("weights") / "action2sound"
    small_retrieval().save_pretrained(folder / "retrieval")
    torch.manual_seed(0)
    eyes = StrikeVision().eval()
    parts = ImageAutoencoder(SMALL_AUTOENCODER), Vocoder(SMALL_VOCODER)
    ambients = Ambients(lambda: Retrieval.from_pretrained(folder / "retrieval"))
    system = Action2Sound(replace(SMALL, video_dim=eyes.dim), eyes, *parts, ambients).eval()
    speak(system)
    as_shipped(system)
    made = system.save_pretrained(folder, retrieval="retrieval", preset="tiny", steps=7)
    assert made == folder
    return system, folder


def test_saved_weights_generate_the_same(saved):
    system, folder = saved
    loaded = Action2Sound.from_pretrained(folder)
    check_same(system, loaded)
    assert loaded.config == system.config
    assert (loaded.card["preset"], loaded.card["steps"]) == ("tiny", 7)
    clip = clip_of(0.4)
    low = loaded.generate(clip, ambient="low").samples
    assert np.array_equal(low, system.generate(clip, ambient=loaded.ambients.retrieval.pool.sound(1)).samples)


def test_the_folder_has_a_part_for_each(saved):
    from safetensors.torch import load_file

    system, folder = saved
    parts = {"autoencoder", "vocoder", "vision", "retrieval"}
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", *parts}
    state = load_file(str(folder / "model.safetensors"))
    assert {k.split(".")[0] for k in state} == {"unet", "video_tokens", "audio_tokens"}
    assert any("processor.others" in k for k in state)
    assert {v.dtype for v in state.values()} == {torch.float16}
    assert set(state) == set(system.trained())  # nothing that is trained is left out


def test_the_registry_knows_it(saved):
    _, folder = saved
    assert isinstance(load("action2sound", folder), Action2Sound)
    assert isinstance(load(str(folder)), Action2Sound)


def test_the_pool_is_opened_when_it_is_needed(saved, tmp_path):
    system, folder = saved
    parts = {name: str(folder / name) for name in ("vision", "autoencoder", "vocoder")}
    (tmp_path / "pool").mkdir()
    lean = system.save_pretrained(tmp_path / "lean", **parts, retrieval="../pool")
    loaded, clip = Action2Sound.from_pretrained(lean), clip_of(0.4)
    assert loaded.generate(clip, ambient=noise(-40)).n == 6400
    with pytest.raises(WeightsError, match=r"no config\.json"):
        loaded.generate(clip)
    shutil.copytree(folder / "retrieval", tmp_path / "pool", dirs_exist_ok=True)
    check_same(system, loaded)
    alone = Action2Sound.from_pretrained(system.save_pretrained(tmp_path / "alone", **parts))
    assert alone.generate(clip, ambient=noise(-40)).n == 6400
    with pytest.raises(WeightsError, match="no pool"):
        alone.generate(clip, ambient="low")


def test_parts_can_be_named_instead_of_written(saved, tmp_path):
    check_named_parts(*saved, tmp_path / "lean", ("vision", "autoencoder", "vocoder", "retrieval"))


def test_a_system_without_condition_and_with_griffin_lim(saved, tmp_path):
    system, folder = saved
    deaf = Action2Sound(replace(system.config, neighbour=False), system.encoder, system.autoencoder).eval()
    as_shipped(deaf)
    made = deaf.save_pretrained(tmp_path / "deaf", vision=str(folder / "vision"))
    assert {p.name for p in made.iterdir()} == {"config.json", "model.safetensors", "autoencoder"}
    assert json.loads((made / "config.json").read_text())["parts"]["vocoder"] == "griffin-lim"
    loaded = Action2Sound.from_pretrained(made)
    assert isinstance(loaded.vocoder, GriffinLimVocoder) and loaded.audio_tokens is None
    check_same(deaf, loaded)


def test_damaged_weights_are_refused(saved, tmp_path):
    cases = [
        ("[1]", "cannot be read"),
        ({"kind": "egosonics"}, "not Action2Sound"),
        ({"picture": "wide"}, "does not describe"),
        ({"null": "none"}, "does not describe"),
        ({"audio_hidden": 3}, "does not fit"),
        ({"neighbour": False}, "does not fit"),
        ({"latent_channels": 5}, "channels of the latents"),
    ]
    check_damaged(Action2Sound, saved[1], tmp_path / "broken", cases)


def test_what_cannot_be_saved_is_said(tmp_path):
    blind = small_system()
    blind.encoder = None
    with pytest.raises(UsageError, match="no vision to save"):
        blind.save_pretrained(tmp_path / "blind")
    with pytest.raises(UsageError, match="card cannot say guidance, null"):
        small_system().save_pretrained(tmp_path / "told", guidance=2.0, null="zero")
    assert not any(tmp_path.iterdir())


def test_another_frame_encoder_than_that_of_the_training_is_refused(saved, tmp_path):
    """Its vectors would have the right sizes and another meaning."""
    system, folder = saved
    trained = tag_of(system.encoder, "vision")
    torch.manual_seed(1)
    other = StrikeVision().eval()
    other.save_pretrained(tmp_path / "vision")
    parts = {name: str(folder / name) for name in ("autoencoder", "vocoder", "retrieval")}
    right = system.save_pretrained(tmp_path / "right", **parts, vision=str(folder / "vision"), encoder=trained)
    check_same(system, Action2Sound.from_pretrained(right))
    wrong = system.save_pretrained(tmp_path / "wrong", **parts, vision="../vision", encoder=trained)
    with pytest.raises(WeightsError) as caught:
        Action2Sound.from_pretrained(wrong)
    assert trained in str(caught.value) and tag_of(other, "vision") in str(caught.value)


@pytest.fixture(scope="module")
def stable_diffusion(tmp_path_factory):
    """Stable Diffusion in small: the folder of a pipeline, as on the Hub, and a configuration of its sizes."""
    from diffusers import AutoencoderKL

    from v2a_nb.systems.action2sound.model import make_unet

    folder = tmp_path_factory.mktemp("sd")
    torch.manual_seed(0)
    config = replace(
        SMALL, picture="action2sound-paper", video_rate=50.0, stack=1, squeeze=None, align=8, time_bias=False,
        free_heads=0, linear=False, spacing="linspace", prediction="epsilon",
    )  # fmt: skip
    unet = make_unet(config)
    unet.save_pretrained(folder / "unet")
    AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, block_out_channels=(4, 4, 4, 4), norm_num_groups=2,
        layers_per_block=1,
    ).save_pretrained(folder / "vae")  # fmt: skip
    return folder, config, unet.state_dict()


def test_published_weights_are_read_from_diffusers_layout(stable_diffusion, saved):
    folder, config, unet = stable_diffusion
    vocoder = Vocoder(SMALL_VOCODER)
    from system_parts import Eyes

    system = from_published(folder, encoder=Eyes(), vocoder=vocoder, config=config)
    own = system.unet.state_dict()
    assert own.keys() == unet.keys() and all(torch.equal(own[k], unet[k]) for k in unet)
    assert system.autoencoder.scaling_factor == 0.18215 and not system.training
    assert system.vocoder is vocoder
    assert system.generate(clip_of(0.5), ambient=noise(-40), steps=2).n == 8000
    assert isinstance(from_published(folder, config=config).vocoder, GriffinLimVocoder)


def test_a_time_bias_stays_beside_published_weights(stable_diffusion):
    folder, config, unet = stable_diffusion
    system = from_published(folder, config=replace(config, time_bias=True))
    own = system.unet.state_dict()
    assert all(torch.equal(own[k], unet[k]) for k in unet)
    more = own.keys() - unet.keys()
    assert more and all(".processor." in k for k in more)
    assert any(own[k].any() for k in more)


def test_published_weights_that_cannot_be_had_or_do_not_fit(stable_diffusion, tmp_path):
    folder, config, _ = stable_diffusion
    with pytest.raises(WeightsError, match="no autoencoder there"):
        from_published(tmp_path / "nowhere", config=config)
    shutil.copytree(folder / "vae", tmp_path / "half" / "vae")
    with pytest.raises(WeightsError, match="no UNet there"):
        from_published(tmp_path / "half", config=config)
    for changes in ({"layers": 2}, {"widths": (16, 40)}, {"context_width": 24}, {"linear": True}):
        with pytest.raises(WeightsError, match="its UNet has another size"):
            from_published(folder, config=replace(config, **changes))
    with pytest.raises(WeightsError, match="channels of the latents"):
        from_published(folder, config=replace(config, latent_channels=8))
