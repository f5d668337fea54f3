"""Vocoders: lengths, chunks, parity with transformers, published layouts, Griffin-Lim beside it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

from v2a_nb.audio import match_mels as match
from v2a_nb.audio.match_mels import match_mels
from v2a_nb.audio.onsets import detect_onsets
from v2a_nb.audio.spectrogram import Spectrogram
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import as_shipped, shipped
from v2a_nb.models.codec_report import log10_mel
from v2a_nb.models.vocoder import PRESETS, GriffinLimVocoder, Vocoder, VocoderConfig, load_vocoder
from v2a_nb.world import sounds

torch.set_num_threads(1)
# the generator alone; what matching does to its waves has tests of its own
SMALL = VocoderConfig(channels=16, block_kernels=(3, 5), block_dilations=((1, 3), (1, 2)), match=0)
# AudioLDM's rates, whose first kernel exceeds its rate by an odd number
AUDIOLDM = replace(PRESETS["paper-audioldm"], channels=32, block_kernels=(3,), block_dilations=((1, 3),))
needs_weights = pytest.mark.skipif("vocoder" not in shipped(), reason="the vocoder's weights are not in this checkout")


def lively(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights through which every frame can be heard; transformers' own let the signal die out."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            size = 0.05 if p.dim() == 1 else (0.1 if "conv_post" in name else 1.0) / math.sqrt(p[0].numel())
            p.copy_(torch.randn(p.shape, generator=generator) * size)
    return model.eval()


def vocoder(config: VocoderConfig = SMALL) -> Vocoder:
    return lively(Vocoder(config))


def spectrogram(frames: int, b: int = 2, config: VocoderConfig = SMALL, seed: int = 0) -> torch.Tensor:
    front = Spectrogram(config.front_end)
    drawn = torch.rand(b, front.bands, frames, generator=torch.Generator().manual_seed(seed))
    return drawn if config.front_end == "action2sound" else 6 * drawn - 8


def published(**changes) -> SpeechT5HifiGan:
    sizes = {
        "model_in_dim": 128, "upsample_initial_channel": 16, "upsample_rates": [8, 8, 2, 2],
        "upsample_kernel_sizes": [16, 16, 4, 4], "resblock_kernel_sizes": [3, 5],
        "resblock_dilation_sizes": [[1, 3], [1, 3]], "normalize_before": False,
    }  # fmt: skip
    return lively(SpeechT5HifiGan(SpeechT5HifiGanConfig(**{**sizes, **changes})))


# --- lengths and chunks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [SMALL, AUDIOLDM], ids=["action2sound", "vta_ldm"])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_a_frame_is_a_hop(config, frames):
    made = vocoder(config).decode(spectrogram(frames, config=config))
    hop = {"action2sound": 256, "vta_ldm": 160}[config.front_end]
    assert made.shape == (2, frames * hop) and made.isfinite().all() and made.abs().max() <= 1
    again = vocoder(config).decode(spectrogram(frames, config=config), frames * hop - 3)
    assert torch.equal(again, made[:, :-3])


@pytest.mark.parametrize("make", [vocoder, lambda: GriffinLimVocoder(iterations=2)], ids=["hifi-gan", "griffin-lim"])
@pytest.mark.parametrize("n", [600, 768, 1000, 4095])
def test_waves_come_back_at_their_length(make, n):
    way = make()
    assert (way.sample_rate, way.hop) == (16000, 256)
    wave = 0.1 * torch.randn(2, n, generator=torch.Generator().manual_seed(0))
    seen = way.spectrogram(wave)
    assert way.decode(seen, n).shape == (2, n)
    assert way.decode(seen).shape == (2, 256 * seen.shape[-1])


@pytest.mark.parametrize("config", [SMALL, AUDIOLDM], ids=["action2sound", "vta_ldm"])
def test_chunks_make_the_same_as_the_whole(config, monkeypatch):
    way, seen = vocoder(config).double(), spectrogram(61, config=config).double()
    whole = way.decode(seen)
    assert whole.std() > 0.003 and torch.equal(whole, way(seen))
    for chunk in (1, 7, 25, 60, 61):
        made = way.decode(seen, chunk=chunk)
        assert made.shape == whole.shape and (made - whole).abs().max() < 1e-12, chunk
    alike = (vocoder(config).decode(seen, chunk=7) - whole).abs().max()
    monkeypatch.setattr(Vocoder, "context", 1)
    # without its neighbours a chunk is another; that single precision is not the double is far less
    assert (way.decode(seen, chunk=7) - whole).abs().max() > 100 * alike


@pytest.mark.parametrize("config", [SMALL, AUDIOLDM, PRESETS["tiny"]], ids=["action2sound", "vta_ldm", "tiny"])
def test_a_sample_depends_on_its_context_and_on_no_more(config):
    way = vocoder(config)
    seen = spectrogram(2 * way.context + 5, b=1, config=config).double().requires_grad_()
    middle = way.context + 2
    way.double()(seen)[0, middle * way.hop : (middle + 1) * way.hop].square().sum().backward()
    felt = seen.grad[0].abs().sum(0).nonzero()[:, 0]
    assert middle - way.context <= felt.min() and felt.max() <= middle + way.context
    assert felt.max() - felt.min() >= 2 * way.context - 3  # nor is much more decoded than is needed


# --- parity -----------------------------------------------------------------------------------------------


def test_the_generator_is_transformers_on_the_natural_log_of_mels():
    model = published()
    config = VocoderConfig(
        channels=16, rates=(8, 8, 2, 2), kernels=(16, 16, 4, 4), block_kernels=(3, 5),
        block_dilations=((1, 3), (1, 3)), normalize=False, match=0,
    )  # fmt: skip
    seen = spectrogram(12)
    mels = torch.log(10 ** ((seen * 100 - 80) / 20))  # Action2Sound, ldm/logger.py
    with torch.no_grad():
        wanted = model(mels.transpose(1, 2))
    assert wanted.std() > 0.01
    assert (Vocoder(config, model).decode(seen) - wanted).abs().max() < 1e-5
    beyond = torch.cat([seen - 1.5, seen + 1.5], dim=-1)
    assert torch.equal(Vocoder(config, model).decode(beyond), Vocoder(config, model).decode(beyond.clamp(0, 1)))


def test_log_mels_of_the_front_ends():
    wave = 0.3 * torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    for config in (SMALL, AUDIOLDM):
        way = vocoder(config)
        magnitude = way.spectrogram.front_end.scale.undo(way.spectrogram(wave))
        assert torch.allclose(way.log_mel(way.spectrogram(wave)), magnitude.log(), atol=1e-4)


def test_calibration_gives_every_band_mean_0_and_spread_1():
    way, seen = vocoder(), spectrogram(40, b=3)
    seen[:, 5] = 0.5  # a band that never changes
    before = way.decode(seen)
    way.calibrate(seen)
    mels = (way.log_mel(seen).transpose(1, 2) - way.model.mean) / way.model.scale
    assert torch.allclose(mels.mean((0, 1)), torch.zeros(128), atol=1e-3)
    spread = mels.std((0, 1))
    assert spread[5] < 1e-2 and torch.allclose(spread[[*range(5), *range(6, 128)]], torch.ones(127), atol=1e-3)
    assert (way.decode(seen) - before).abs().max() > 1e-3
    with pytest.raises(UsageError, match="nothing to calibrate"):
        vocoder(replace(SMALL, normalize=False)).calibrate(seen)


def test_published_sizes():
    with torch.device("meta"):
        ours = Vocoder(PRESETS["paper"])
        audioldm = Vocoder(PRESETS["paper-audioldm"])
    count = sum(p.numel() for p in ours.parameters())
    # Kong et al. 2020, table 1: V1 has 13.92 M, and it reads 80 mels
    assert (count - 48 * 512 * 7) // 10_000 == 1392
    assert (ours.hop, ours.sample_rate, audioldm.hop, audioldm.sample_rate) == (256, 16000, 160, 16000)
    assert audioldm.model.conv_pre.weight.shape == (1024, 64, 7) and len(audioldm.model.upsampler) == 5


def test_tiny_is_small_and_computes_little(tmp_path, monkeypatch):
    way, matched = vocoder(PRESETS["tiny"]), []
    assert sum(p.numel() for p in way.parameters()) < 1e6
    way.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").stat().st_size < 4e6
    seen = way.spectrogram(torch.zeros(1, 48000))
    transform = match.stft
    monkeypatch.setattr(match, "stft", lambda wave, *how: matched.append(len(wave)) or transform(wave, *how))
    with FlopCounterMode(display=False) as counted:
        assert way.decode(seen, 48000).shape == (1, 48000)
    assert counted.get_total_flops() < 1.7e9 * 3  # three seconds
    assert matched == [1] * 16


# --- weights ----------------------------------------------------------------------------------------------


def test_weights_come_back(tmp_path):
    way = vocoder()
    way.calibrate(spectrogram(30, seed=1))
    as_shipped(way)
    folder = way.save_pretrained(tmp_path / "weights", steps=7)
    again = Vocoder.from_pretrained(folder)
    assert again.config == SMALL and not again.training
    assert torch.equal(again.decode(spectrogram(9)), way.decode(spectrogram(9)))
    assert json.loads((folder / "config.json").read_text())["steps"] == 7
    assert isinstance(load_vocoder(folder), Vocoder)


def test_the_published_layout_comes_in_and_out(tmp_path):
    model = published(normalize_before=True)
    model.mean.fill_(-4.0)
    model.scale.fill_(2.5)
    model.save_pretrained(tmp_path / "theirs")
    way = Vocoder.from_pretrained(tmp_path / "theirs")
    assert (way.config.front_end, way.config.rates, way.config.normalize) == ("action2sound", (8, 8, 2, 2), True)
    seen = spectrogram(10)
    assert torch.equal(way.decode(seen), Vocoder(way.config, model).decode(seen))
    way.save_pretrained(tmp_path / "ours")
    assert (Vocoder.from_pretrained(tmp_path / "ours").decode(seen) - way.decode(seen)).abs().max() < 0.01
    way.model.save_pretrained(tmp_path / "back")
    assert torch.equal(Vocoder.from_pretrained(tmp_path / "back").decode(seen), way.decode(seen))


def test_the_published_layout_of_audioldm(tmp_path):
    model = lively(SpeechT5HifiGan(AUDIOLDM.published()))
    model.save_pretrained(tmp_path)
    way = Vocoder.from_pretrained(tmp_path, front_end="vta_ldm")
    assert way.config == AUDIOLDM
    seen = spectrogram(16, config=AUDIOLDM)
    with torch.no_grad():
        released = model(seen.transpose(1, 2))
    assert released.shape == (2, 16 * 160 + 32)  # 163 872 samples of 1024 frames, as VTA-LDM's outputs have
    assert (way.decode(seen) - released[:, : 16 * 160]).abs().max() < 1e-6


def test_published_weights_that_do_not_fit_are_refused(tmp_path):
    published(model_in_dim=80).save_pretrained(tmp_path / "speecht5")
    with pytest.raises(WeightsError, match="80 mels with hop 256 at 16000 Hz; none"):
        Vocoder.from_pretrained(tmp_path / "speecht5")
    published().save_pretrained(tmp_path / "good")
    with pytest.raises(WeightsError, match="vta_ldm does not"):
        Vocoder.from_pretrained(tmp_path / "good", front_end="vta_ldm")
    from safetensors.torch import load_file, save_file

    path = tmp_path / "good" / "model.safetensors"
    state = load_file(path)
    for missing, fine in (("mean", True), ("resblocks.1.convs2.0.bias", False)):
        save_file({k: v for k, v in state.items() if k != missing}, path, metadata={"format": "pt"})
        if fine:  # what is not read may be missing
            Vocoder.from_pretrained(tmp_path / "good")
            continue
        with pytest.raises(WeightsError, match=f"lacks 1 tensors.*{missing}"):
            Vocoder.from_pretrained(tmp_path / "good")
    with pytest.raises(WeightsError, match="not a vocoder"):
        Vocoder.from_pretrained("codec")
    with pytest.raises(WeightsError, match="no weights"):
        Vocoder.from_pretrained(tmp_path / "nowhere")


def test_the_original_hifigan_comes_in():
    model = published()
    seen = spectrogram(10)
    config = model.config
    settings = {k: getattr(config, k) for k in ("upsample_rates", "upsample_kernel_sizes", "upsample_initial_channel")}
    settings |= {k: getattr(config, k) for k in ("resblock_kernel_sizes", "resblock_dilation_sizes")}
    plain = {k: v.clone() for k, v in model.state_dict().items() if k not in ("mean", "scale")}
    state = {}
    for key, value in plain.items():  # lengths and directions, under the original names
        key = key.replace("upsampler.", "ups.")
        if key.endswith("weight"):
            state[f"{key}_g"] = value.norm(dim=(1, 2), keepdim=True)
            state[f"{key}_v"] = 3.0 * value
        else:
            state[key] = value
    way = Vocoder.from_hifigan(state, {"resblock": "1", **settings})
    wanted = Vocoder(way.config, model).decode(seen)
    assert wanted.std() > 0.01 and (way.decode(seen) - wanted).abs().max() < 1e-5
    unnormalized = {k.replace("upsampler.", "ups."): v for k, v in plain.items()}
    assert torch.equal(Vocoder.from_hifigan(unnormalized, settings).decode(seen), wanted)
    with pytest.raises(WeightsError, match="V3"):
        Vocoder.from_hifigan(state, {"resblock": "2", **settings})
    with pytest.raises(WeightsError, match="lack upsample_rates"):
        Vocoder.from_hifigan(state, {k: v for k, v in settings.items() if k != "upsample_rates"})
    with pytest.raises(WeightsError, match=r"without conv_pre\.weight_g"):
        Vocoder.from_hifigan({k: v for k, v in state.items() if k != "conv_pre.weight_g"}, settings)
    with pytest.raises(WeightsError, match=r"1 are missing, 0 differ.*conv_post\.bias"):
        Vocoder.from_hifigan({k: v for k, v in state.items() if k != "conv_post.bias"}, settings)


# --- Griffin-Lim ------------------------------------------------------------------------------------------


def test_griffin_lim_has_the_same_interface():
    wave = torch.from_numpy(sounds(7, 2, seconds=1.0))
    way = load_vocoder("griffin-lim")
    assert isinstance(way, GriffinLimVocoder) and way.iterations == 60
    seen = way.spectrogram(wave)
    made = way.decode(seen, 16000)
    assert torch.equal(made, way.decode(seen, 16000))
    distance = (log10_mel(made, 16000) - log10_mel(wave, 16000)).abs().mean()
    rough = GriffinLimVocoder(iterations=0).decode(seen, 16000)
    assert distance < 0.2 < (log10_mel(rough, 16000) - log10_mel(wave, 16000)).abs().mean()
    assert not list(way.parameters())
    assert load_vocoder("griffin-lim", front_end="vta_ldm").hop == 160


# --- what cannot be meant -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [vocoder, GriffinLimVocoder], ids=["hifi-gan", "griffin-lim"])
def test_what_is_no_spectrogram_is_refused(make):
    way = make()
    for wrong in (torch.zeros(128, 9), torch.zeros(1, 80, 9), torch.zeros(1, 9, 128), torch.zeros(1, 128, 0)):
        with pytest.raises(UsageError, match=r"\[B, 128, T\]"):
            way.decode(wrong)
    for wrong in (torch.zeros(1, 128, 9, dtype=torch.int64), torch.full((1, 128, 9), math.nan)):
        with pytest.raises(UsageError, match="floating point"):
            way.decode(wrong)
    with pytest.raises(UsageError, match="hold 2304 samples, not 2305"):
        way.decode(torch.zeros(1, 128, 9), 2305)
    with pytest.raises(UsageError):
        way.decode(torch.zeros(1, 128, 9), -1)


def test_sizes_that_do_not_belong_together_are_refused():
    with pytest.raises(UsageError, match="256"):
        Vocoder(replace(SMALL, rates=(8, 8, 2)))
    with pytest.raises(UsageError, match="smaller than their rates"):
        Vocoder(replace(SMALL, kernels=(16, 16, 3)))
    with pytest.raises(UsageError, match="odd"):
        Vocoder(replace(SMALL, block_kernels=(3, 4)))
    with pytest.raises(UsageError, match="for each rate"):
        Vocoder(replace(SMALL, kernels=(16, 16)))
    with pytest.raises(UsageError, match="halved"):
        Vocoder(replace(SMALL, channels=4))
    with pytest.raises(UsageError, match="unknown front end"):
        Vocoder(replace(SMALL, front_end="tacotron"))
    with pytest.raises(UsageError, match="at least 1"):
        vocoder().decode(spectrogram(3), chunk=0)


# --- what is shipped ----------------------------------------------------------------------------------------


@needs_weights
def test_shipped_weights_beat_griffin_lim():
    way = load_vocoder()
    wave = torch.from_numpy(sounds(2500, 8, seconds=2.0, per_recording=1))
    seen = way.spectrogram(wave)
    distances = [
        float((log10_mel(v.decode(seen, 32000), 16000) - log10_mel(wave, 16000)).abs().mean())
        for v in (way, GriffinLimVocoder())
    ]
    assert distances[0] < distances[1]


@needs_weights
def test_the_end_of_a_sound_is_no_hit():
    """A network sees zeros past the end, and a cut wave has soft last windows: both sounded like a click."""
    wave = torch.from_numpy(sounds(31010, 25, seconds=3.0, per_recording=1))[[11, 20, 24]]
    way = load_vocoder()
    for true, made in zip(wave, way.decode(way.spectrogram(wave), 48000), strict=True):
        assert detect_onsets(true.numpy())[-1] < 2.9 and detect_onsets(made.numpy())[-1] < 2.9


# --- matching the mels ----------------------------------------------------------------------------------


def test_matched_waves_have_the_mels_that_were_asked_for():
    front = Spectrogram("action2sound")
    rng = np.random.default_rng(0)
    time = np.arange(16000) / 16000
    tone = 0.2 * np.sin(2 * np.pi * 2500 * time) * np.exp(-4 * time)
    true = torch.from_numpy((tone + 0.003 * rng.standard_normal(16000)).astype(np.float32))[None]
    made = torch.from_numpy((0.05 * rng.standard_normal(16128)).astype(np.float32))[None]  # all noise, and no tone
    wanted = front(true)

    def away(wave):
        return float((front(wave[:, :16000]) - wanted)[..., 2:-2].abs().mean()) * 100  # dB

    near = [away(match_mels(made, wanted, front, times)) for times in (0, 1, 2, 4)]
    assert near[0] > 20 and near == sorted(near, reverse=True) and near[-1] < 2


def test_what_no_band_hears_stays_and_silence_becomes_silent():
    front = Spectrogram("action2sound")
    time = np.arange(16384) / 16000
    hum = torch.from_numpy((0.1 * np.sin(2 * np.pi * 50 * time)).astype(np.float32))[None]  # under 125 Hz
    noise = 0.01 * torch.randn(1, 16384, generator=torch.Generator().manual_seed(0))
    silence = torch.zeros(1, 128, 64)
    left = (match_mels(hum + noise, silence, front, 4) - hum)[:, 2048:-2048]
    was, rate = noise[:, 2048:-2048], torch.fft.rfftfreq(12288, 1 / 16000)
    heard = (rate > 200) & (rate < 7500)
    power = [torch.fft.rfft(w * torch.hann_window(12288))[0].abs().square() for w in (left, was)]
    assert power[0][heard].mean() < 1e-4 * power[1][heard].mean()
    low = (rate > 40) & (rate < 100)
    assert power[0][low].mean() > 0.8 * power[1][low].mean()


def test_nothing_is_left_of_an_offset_that_nobody_hears():
    """A generator's, at -65 dBFS, was louder than the quiet rooms that it stood for."""
    front = Spectrogram("action2sound")
    noise = 1e-4 * torch.randn(2, 16384, generator=torch.Generator().manual_seed(2))
    made = match_mels(noise + 0.01, front(noise)[..., :64], front, 4)[:, 2048:-2048]
    assert float(made.mean().abs()) < 1e-5
    assert float(made.std()) == pytest.approx(1e-4, rel=0.2)


def test_a_wave_that_has_its_mels_is_left_alone():
    front = Spectrogram("action2sound")
    true = torch.fft.rfft(0.1 * torch.randn(2, 16384, generator=torch.Generator().manual_seed(1)))
    true[:, :40] = 0  # under 39 Hz
    true = torch.fft.irfft(true)
    made = match_mels(true, front(true)[..., :64], front, 2)
    assert float((made - true)[:, 1024:-1024].abs().max()) < 1e-3


def test_matching_is_a_switch_and_published_vocoders_have_none():
    torch.manual_seed(0)
    small = VocoderConfig(channels=16, block_kernels=(3,), block_dilations=((1,),))
    vocoder = Vocoder(small).eval()
    spectrogram = vocoder.spectrogram(0.1 * torch.randn(1, 16384))[..., :64]
    plain = Vocoder(replace(small, match=0), vocoder.model).eval()
    assert torch.allclose(plain.decode(spectrogram), plain(spectrogram), atol=1e-6)
    matched, wave = vocoder.decode(spectrogram), plain.decode(spectrogram)
    away = [float((vocoder.spectrogram(w)[..., :64] - spectrogram).abs().mean()) for w in (wave, matched)]
    assert away[1] < 0.3 * away[0]
    assert {name: c.match for name, c in PRESETS.items()} == {"tiny": 16, "paper": 0, "paper-audioldm": 0}


def test_a_wave_is_matched_to_its_own_end():
    """A wave that is as long as the one whose mels are wanted has nothing to correct in its last windows."""
    front = Spectrogram("action2sound")
    true = torch.fft.rfft(0.1 * torch.randn(2, 16000, generator=torch.Generator().manual_seed(1)))
    true[:, :40] = 0
    true = torch.fft.irfft(true)
    made = match_mels(true, front(true), front, 2)
    assert made.shape == true.shape and float((made - true).abs().max()) < 0.01  # of 0.4; a window's own offset goes


def test_what_cannot_be_matched_is_refused():
    with pytest.raises(UsageError, match="frames"):
        match_mels(torch.zeros(1, 767), torch.zeros(1, 128, 4), Spectrogram("action2sound"))
    with pytest.raises(UsageError, match="mels"):
        match_mels(torch.zeros(1, 1024), torch.zeros(1, 1025, 4), Spectrogram("egosonics"))
