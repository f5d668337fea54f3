"""The released layout: small random weights in it become ours, and sampling gives what the released loop gives."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from system_parts import clip_of, seeded
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from v2a_nb.cli import main
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.models.autoencoder import AutoencoderConfig
from v2a_nb.models.lean_hifigan import HifiGan
from v2a_nb.models.vocoder import Vocoder, VocoderConfig
from v2a_nb.sampling.diffusion import alphas_cumprod, spectrogram_unet
from v2a_nb.systems.registry import load
from v2a_nb.systems.vta_ldm import official
from v2a_nb.systems.vta_ldm.model import PRESETS

SIZES = {"widths": (8, 16, 16, 16), "layers": 1, "heads": (2, 2, 2, 2), "groups": 4, "context_width": 24}
CONFIG = replace(PRESETS["paper"], **SIZES, video_dim=20, text_dim=20, sampler_steps=4)
AUTOENCODER = AutoencoderConfig(
    channels=1, latent_channels=8, widths=(8, 8, 16), layers=2, groups=4, attention=True, unshuffle=1,
    scaling_factor=0.92,
)  # fmt: skip
HIFIGAN = {**official.VOCODER, "upsample_initial_channel": 32}


def released_vae(model) -> dict[str, torch.Tensor]:
    """The tensors of an ``AutoencoderKL`` under the names of the latent-diffusion repositories."""
    state, top = {}, len(AUTOENCODER.widths) - 1
    for name, tensor in model.state_dict().items():
        name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets\.(\d)", lambda m: f"up.{top - int(m[1])}.block.{m[2]}", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{top - int(m[1])}.upsample", name)
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        for ours, theirs in (
            ("mid_block.attentions.0.group_norm", "mid.attn_1.norm"), ("mid_block.attentions.0", "mid.attn_1"),
            ("to_q", "q"), ("to_k", "k"), ("to_v", "v"), ("to_out.0", "proj_out"), ("conv_shortcut", "nin_shortcut"),
            ("conv_norm_out", "norm_out"),
        ):  # fmt: skip
            name = name.replace(ours, theirs)
        linear = "attn_1" in name and tensor.ndim == 2
        state[name] = tensor[:, :, None, None] if linear else tensor  # there, attention is projected by convolutions
    return state


@pytest.fixture(scope="module")
def released():
    """Networks in the released orientation, time as rows, with random weights; and the layout of two files."""
    torch.manual_seed(0)
    unet = spectrogram_unet(rows=256, channels=8, **SIZES).eval()
    for p in unet.parameters():
        p.data += 0.02 * torch.randn_like(p)
    clip = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=1, image_size=32,
            patch_size=16, projection_dim=20,
        )
    ).eval()  # fmt: skip
    from v2a_nb.models.autoencoder import ImageAutoencoder

    vae, linear = ImageAutoencoder(AUTOENCODER).eval(), torch.nn.Linear(20, 24)
    names = {"channels": "upsample_initial_channel", "rates": "upsample_rates", "kernels": "upsample_kernel_sizes"}
    sizes = {ours: HIFIGAN[theirs] for ours, theirs in names.items()}
    sizes = {k: tuple(v) if isinstance(v, list) else v for k, v in sizes.items()}
    blocks = {"block_kernels": (3, 7, 11), "block_dilations": ((1, 3, 5),) * 3, "normalize": False, "match": 0}
    vocoder = Vocoder(VocoderConfig("vta_ldm", **sizes, **blocks))
    diffusion = {f"unet.{k}": v for k, v in unet.state_dict().items()}
    diffusion |= {f"vid_fea_extractor.clip_vision.{k}": v for k, v in clip.state_dict().items()}
    diffusion |= {f"vid_fea_extractor.linear_layer.{k}": v for k, v in linear.state_dict().items()}
    diffusion["vid_fea_extractor.clip_text.any"] = torch.zeros(3)  # it has a text tower, which is not read
    audio = released_vae(vae.model)
    ups = vocoder.model.state_dict()
    audio |= {f"vocoder.{k.replace('upsampler.', 'ups.')}": v for k, v in ups.items() if k not in ("mean", "scale")}
    networks = {"unet": unet, "clip": clip, "vae": vae, "linear": linear, "vocoder": vocoder}
    return networks, {k: v.contiguous() for k, v in diffusion.items()}, {k: v.contiguous() for k, v in audio.items()}


@pytest.fixture(scope="module")
def system(released):
    _, diffusion, audio = released
    return official.from_released(diffusion, audio, config=CONFIG, autoencoder=AUTOENCODER, vocoder=HIFIGAN)


def plain_loop(networks, vectors, counts, generators, steps, guidance):
    """The released ``inference``: padded tokens under a mask, zeros under ones, DDPM with added noise, time as rows.

    Args:
        vectors: [B, T, dim], of which the first ``counts`` of each are there.
    """
    b, longest = len(vectors), max(counts)
    tokens = networks["linear"](vectors[:, :longest])
    mask = torch.arange(longest)[None] < torch.tensor(counts)[:, None]
    tokens = tokens * mask[..., None]
    tokens, mask = torch.cat([torch.zeros_like(tokens), tokens]), torch.cat([torch.ones_like(mask), mask])
    alphas = alphas_cumprod(CONFIG.schedule).float()
    draw = lambda: torch.stack([torch.randn(8, 16, 256, generator=g) for g in generators]).transpose(2, 3)  # noqa: E731
    x = draw()
    for t in [1 + k * (1000 // steps) for k in range(steps)][::-1]:
        twice, times = torch.cat([x, x]), torch.full((2 * b,), t)
        v = networks["unet"](twice, times, tokens, encoder_attention_mask=mask, return_dict=False)[0]
        without, with_video = v.chunk(2)
        v = without + guidance * (with_video - without)
        now, then = alphas[t], alphas[t - 1000 // steps] if t >= 1000 // steps else torch.tensor(1.0)
        clean, share = now.sqrt() * x - (1 - now).sqrt() * v, now / then
        mean = (then.sqrt() * (1 - share) * clean + share.sqrt() * (1 - then) * x) / (1 - now)
        x = mean + ((1 - then) / (1 - now) * (1 - share)).clamp(min=1e-20).sqrt() * draw()
    return x


@torch.no_grad()
def test_what_is_sampled_is_what_the_released_loop_samples(released, system):
    networks, _, _ = released
    vectors, seconds = torch.randn(2, 20, 20, generator=seeded(1)), torch.tensor([10.0, 6.0])
    wanted = plain_loop(networks, vectors, [20, 12], [seeded(3), seeded(4)], 4, 3.0)
    conditions = system.window_conditions(vectors, seconds=seconds)
    made = system.sample_latents(conditions, 163840, seeds=[3, 4])
    assert made.shape == (2, 8, 16, 256)
    assert torch.allclose(made.transpose(2, 3), wanted, atol=2e-3 * float(wanted.abs().max()))
    blind = system.sample_latents(system.window_conditions(0 * vectors, seconds=seconds), 163840, seeds=[3, 4])
    assert not torch.allclose(blind, made, atol=1e-2)


@torch.no_grad()
def test_latents_become_the_released_sound(released, system):
    networks, _, _ = released
    latents = torch.randn(1, 8, 16, 256, generator=seeded(2))
    mel = networks["vae"].decode(latents.transpose(2, 3))[:, 0]  # [B, frames, bands]
    assert mel.shape == (1, 1024, 64)
    assert torch.allclose(system.decode_spectrogram(latents)[0], mel[0].T, atol=1e-4)
    wave = networks["vocoder"].decode(mel.transpose(1, 2), 163840, clamp=False).clamp(-1, 1)
    assert torch.allclose(system.decode_latents(latents, 163840), wave, atol=1e-4)
    image = torch.randn(1, 1, 1024, 64, generator=seeded(5))
    theirs = networks["vae"].encode(image).transpose(2, 3)
    assert torch.allclose(system.autoencoder.encode(image.transpose(2, 3)), theirs, atol=1e-4)


@torch.no_grad()
def test_frames_are_read_as_released(released, system):
    """At 0, 0.5, 1 s and so on, not normalised."""
    networks, _, _ = released
    frames = np.random.default_rng(0).integers(0, 255, (60, 32, 32, 3), dtype=np.uint8)
    clip = replace(clip_of(2.0, fps=30.0), frames=frames)
    pixels = torch.from_numpy(frames[[0, 15, 30, 45]]).permute(0, 3, 1, 2).float() / 255
    wanted = networks["clip"](pixel_values=pixels).image_embeds
    assert torch.allclose(system.encode_video(clip)[0], wanted, atol=1e-4)
    tokens = system.context(system.encode_video(clip), seconds=torch.tensor([2.0]))
    assert tokens["mask"].sum() == 4
    assert torch.allclose(tokens["context"][0, :4], networks["linear"](wanted), atol=1e-4)


def test_the_command_writes_weights_that_load(released, system, tmp_path, monkeypatch, capsys):
    _, diffusion, audio = released
    save_file(diffusion, tmp_path / "diffusion.safetensors")
    save_file({f"first_stage_model.{k}": v for k, v in audio.items()}, tmp_path / "audio.safetensors")
    monkeypatch.setattr(official.from_released, "__kwdefaults__", {
        "config": CONFIG, "autoencoder": AUTOENCODER, "vocoder": HIFIGAN,
    })  # fmt: skip
    files, out = [str(tmp_path / f"{name}.safetensors") for name in ("diffusion", "audio")], tmp_path / "out"
    assert main(["convert", "vta_ldm", "--from", *files, "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    loaded, clip = load(out), clip_of(0.5)
    assert isinstance(loaded.vocoder.model, HifiGan) and loaded.config == system.config
    a, b = (each.generate(clip, steps=2).samples for each in (loaded, system))
    assert np.allclose(a, b, atol=1e-4)
    assert main(["convert", "vta_ldm", "--from", *files, "--out", str(out)]) == 1
    assert "holds weights already" in capsys.readouterr().err


def test_what_is_not_the_release_is_refused(released, tmp_path):
    _, diffusion, audio = released
    how = {"config": CONFIG, "autoencoder": AUTOENCODER, "vocoder": HIFIGAN}
    with pytest.raises(WeightsError, match="no tensor begins with unet"):
        official.from_released({k: v for k, v in diffusion.items() if not k.startswith("unet.")}, audio, **how)
    with pytest.raises(WeightsError, match="released UNet has another size"):
        official.from_released({**diffusion, "unet.more": torch.zeros(1)}, audio, **how)
    with pytest.raises(WeightsError):
        official.from_released(diffusion, {k: v for k, v in audio.items() if "decoder.up.2" not in k}, **how)
    with pytest.raises(UsageError, match="1 files"):
        official.convert(["a.safetensors"], tmp_path / "x")
    with pytest.raises(WeightsError, match=r"one \.safetensors file"):
        official.convert(["a.bin", "b.bin"], tmp_path / "x")
