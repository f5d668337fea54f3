"""The lean networks against diffusers' and transformers': the same tensors, numbers and gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from v2a_nb.models.attention import set_time_bias, watch_attention, without_cross_attention
from v2a_nb.models.lean_autoencoder import Autoencoder
from v2a_nb.models.lean_hifigan import HifiGan
from v2a_nb.models.lean_unet import ControlNet
from v2a_nb.models.vocoder import Vocoder, VocoderConfig
from v2a_nb.sampling.diffusion import spectrogram_unet


def copied(lean: nn.Module, library: nn.Module) -> None:
    """Give both the same lively weights: what begins at zero would hide what is behind it."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in library.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    assert {k: v.shape for k, v in lean.state_dict().items()} == {k: v.shape for k, v in library.state_dict().items()}
    lean.load_state_dict(library.state_dict())


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def gradients(module: nn.Module, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    module.zero_grad()
    loss.backward()
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


UNETS = {
    "linear": {"layers": 1, "heads": (2, 4, 4), "widths": (16, 32, 32), "linear": True},
    "convolutions": {"layers": 2, "heads": (2, 2), "widths": (16, 24), "linear": False},
}


def unets(name: str) -> tuple[nn.Module, nn.Module]:
    how = {"rows": 8, "channels": 4, "groups": 8, "context_width": 12, **UNETS[name]}
    library, lean = (spectrogram_unet(**how, lean=lean).eval() for lean in (False, True))
    for unet in (library, lean):
        set_time_bias(unet, rows=8, column_s=0.1, token_s=0.2, timed=5, free=1, row_values=3)
    copied(lean, library)
    return library, lean


@pytest.mark.parametrize("columns", [12, 10], ids=["even", "uneven"])
@pytest.mark.parametrize("name", UNETS)
def test_the_unet_is_diffusers(name: str, columns: int):
    library, lean = unets(name)
    noisy, t, tokens = noise(2, 4, 8, columns), torch.tensor([5, 900]), noise(2, 7, 12)
    wanted = library(noisy, t, tokens).sample
    assert torch.equal(lean(noisy, t, tokens).sample, wanted)
    ours, theirs = (gradients(each, each(noisy, t, tokens)[0].square().mean()) for each in (lean, library))
    assert ours.keys() == theirs.keys() and len(ours) > 50
    for key, value in theirs.items():
        assert torch.allclose(ours[key], value, rtol=1e-4, atol=1e-6 * float(value.abs().max())), key
    with torch.no_grad(), watch_attention(lean) as shares, watch_attention(library) as wanted_shares:
        lean(noisy, t, tokens), library(noisy, t, tokens)
    assert shares.keys() == wanted_shares.keys()
    assert all(torch.equal(shares[key], wanted_shares[key]) for key in shares)
    with torch.no_grad(), without_cross_attention(lean), without_cross_attention(library):
        assert torch.equal(lean(noisy, t, tokens)[0], library(noisy, t, tokens)[0])


@pytest.mark.parametrize("name", UNETS)
def test_the_controlnet_is_diffusers(name: str):
    from diffusers import ControlNetModel

    library_unet, lean_unet = unets(name)
    how = {"conditioning_channels": 2, "conditioning_embedding_out_channels": (4, 8, 8)}
    fresh = {}
    for unet in (library_unet, lean_unet):  # the base's time biases are no part of a copy
        plain = {k: v for k, v in unet.state_dict().items() if ".processor." not in k}
        fresh[unet] = spectrogram_unet(
            rows=8, channels=4, groups=8, context_width=12, **UNETS[name], lean=unet is lean_unet
        )  # fmt: skip
        fresh[unet].load_state_dict(plain)
    library = ControlNetModel.from_unet(fresh[library_unet], **how).eval()
    lean = ControlNet.from_unet(fresh[lean_unet], **how).eval()
    assert torch.equal(lean.mid_block.resnets[0].conv1.weight, lean_unet.mid_block.resnets[0].conv1.weight)
    noisy, t, tokens, hint = noise(2, 4, 8, 12), torch.tensor([5, 900]), noise(2, 7, 12), noise(2, 2, 32, 48)
    assert not any(signal.any() for signal in lean(noisy, t, tokens, hint)[0]), "zero convolutions"
    copied(lean, library)
    down, middle = lean(noisy, t, tokens, hint)
    wanted_down, wanted_middle = library(noisy, t, tokens, hint, return_dict=False)
    assert torch.equal(middle, wanted_middle)
    assert all(torch.equal(a, b) for a, b in zip(down, wanted_down, strict=True))
    added = {"down_block_additional_residuals": tuple(down), "mid_block_additional_residual": middle}
    ours, theirs = (unet(noisy, t, tokens, **added, return_dict=False)[0] for unet in (lean_unet, library_unet))
    assert torch.equal(ours, theirs) and not torch.equal(ours, lean_unet(noisy, t, tokens)[0])


@pytest.mark.parametrize("attention", [True, False])
def test_the_autoencoder_is_diffusers(attention: bool):
    from diffusers import AutoencoderKL

    widths = (8, 16, 16)
    library = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3, block_out_channels=widths, layers_per_block=2, norm_num_groups=4,
        mid_block_add_attention=attention,
    ).eval()  # fmt: skip
    lean = Autoencoder(3, 4, widths, 2, 4, attention).eval()
    copied(lean, library)
    pictures = noise(2, 3, 16, 24)
    ours, theirs = lean.encode(pictures).latent_dist, library.encode(pictures).latent_dist
    assert torch.equal(ours.mode(), theirs.mode())
    drawn = [each.sample(generator=torch.Generator().manual_seed(3)) for each in (ours, theirs)]
    assert torch.equal(*drawn) and not torch.equal(drawn[0], ours.mode())
    assert torch.allclose(ours.kl(), theirs.kl(), rtol=1e-5)
    assert torch.equal(lean.decode(drawn[0]).sample, library.decode(drawn[0]).sample)


@pytest.mark.parametrize("normalize", [True, False])
def test_the_vocoder_is_transformers(normalize: bool, tmp_path):
    config = VocoderConfig(channels=32, block_kernels=(3, 5), normalize=normalize, match=0)
    library = Vocoder(config).eval()
    assert "transformers" in type(library.model).__module__, "a new vocoder, to be trained, is the library's"
    with torch.no_grad():
        library.model.mean += 0.5
        library.model.scale *= 2
    library.save_pretrained(tmp_path)
    lean = Vocoder.from_pretrained(tmp_path)
    assert isinstance(lean.model, HifiGan) and lean.config == config
    copied(lean.model, library.model)
    mels = noise(2, 128, 9)
    with torch.no_grad():
        assert torch.equal(lean(mels), library(mels))
    assert lean.save_pretrained(tmp_path / "again").exists()
    assert Vocoder.from_pretrained(tmp_path / "again").config == replace(config)


def test_an_audio_tower_is_made_when_a_sound_is_heard():
    from v2a_nb.models.audio_spectrogram_transformer import PRESETS, AudioSpectrogramTransformer

    config = replace(PRESETS["tiny"], dim=16, mlp=24, heads=2)
    library, lean = AudioSpectrogramTransformer(config).eval(), AudioSpectrogramTransformer(config, lean=True).eval()
    copied(lean, library)
    lean.net.layernorm.requires_grad_(False)
    before, state = dict(lean.named_parameters()), torch.get_rng_state()
    bank = noise(2, 520, 40)
    assert torch.equal(lean(bank), library(bank)) and torch.equal(torch.get_rng_state(), state)
    after = {id(p): p.requires_grad for p in lean.parameters()}
    assert after == {id(p): p.requires_grad for p in before.values()} and not all(after.values())
