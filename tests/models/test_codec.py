"""Codecs: lengths, determinism, quantizer, weights in and out, and what the shipped one keeps of a sound."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import PUBLISHED
from v2a_nb.models.codec import Codec, DacCodec, decode_part, load_codec
from v2a_nb.models.codec_report import code_use, codec_report, log10_mel, pooled_f1
from v2a_nb.models.tiny_codec import ResidualQuantizer, TinyCodec, TinyCodecConfig

torch.set_num_threads(1)


def tiny(seed: int = 0) -> TinyCodec:
    torch.manual_seed(seed)
    small = TinyCodecConfig(
        encoder_dim=24, encoder_blocks=3, decoder_dim=24, decoder_blocks=1, fine_dim=24, fine_blocks=1, latent_dim=8
    )
    return TinyCodec(small).eval()


def noise(n: int, b: int = 2, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(b, n, generator=torch.Generator().manual_seed(seed))


def dac(ratios: tuple[int, ...] = (2, 4, 4), **changes) -> DacCodec:
    """Small random weights with the published layout, large enough that the signal survives them."""
    from transformers import DacConfig, DacModel

    sizes = {
        "encoder_hidden_size": 4, "decoder_hidden_size": 16, "n_codebooks": 3, "codebook_size": 16,
        "codebook_dim": 4, "sampling_rate": 44100, "downsampling_ratios": list(ratios),
    }  # fmt: skip
    torch.manual_seed(0)
    model = DacModel(DacConfig(**{**sizes, **changes}))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Conv1d):
                torch.nn.init.kaiming_normal_(module.weight)
            if isinstance(module, torch.nn.Embedding):
                torch.nn.init.normal_(module.weight)
    return DacCodec(model)


# --- the interface -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [tiny, dac, lambda: dac((2, 5, 3))], ids=["tiny", "dac", "dac with odd strides"])
@pytest.mark.parametrize("extra", [-1, 0, 1, 2])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_any_length_comes_back_exactly(make, frames: int, extra: int) -> None:
    codec = make()
    n = frames * codec.hop + extra
    codes = codec.encode(noise(n))
    assert codes.dtype == torch.int64
    assert codes.shape == (2, codec.num_codebooks, math.ceil(n / codec.hop))
    assert 0 <= codes.min() <= codes.max() < codec.codebook_size
    assert codec.decode(codes, n).shape == (2, n)
    assert codec.decode(codes).shape == (2, codes.shape[-1] * codec.hop)
    assert codec.decode(codes, n).isfinite().all()


@pytest.mark.parametrize("make", [tiny, dac], ids=["tiny", "dac"])
def test_the_interface_and_its_errors(make) -> None:
    codec = make()
    assert isinstance(codec, Codec)
    assert codec.frame_rate == codec.sample_rate / codec.hop
    codes = codec.encode(noise(5 * codec.hop))
    for wrong in (noise(100)[0], noise(0), noise(100)[None]):
        with pytest.raises(UsageError, match="waveform"):
            codec.encode(wrong)
    for wrong in (codes[0], torch.cat([codes] * 5, dim=1), codes[:, :0]):
        with pytest.raises(UsageError, match="codes"):
            codec.decode(wrong)
    for wrong in (codes * 0 - 1, codes * 0 + codec.codebook_size):
        with pytest.raises(UsageError, match="must lie in"):
            codec.decode(wrong)
    with pytest.raises(UsageError, match="frames hold"):
        codec.decode(codes, 5 * codec.hop + 1)


@pytest.mark.parametrize("make", [tiny, dac, lambda: dac((2, 5, 3))], ids=["tiny", "dac", "dac with odd strides"])
def test_a_sample_depends_on_no_code_beyond_the_reach(make) -> None:
    codec, generator = make(), torch.Generator().manual_seed(1)
    codes = torch.randint(codec.codebook_size, (2, codec.num_codebooks, 90), generator=generator)
    other = codes.clone()
    other[..., 45] = (codes[..., 45] + 1) % codec.codebook_size
    whole = codec.decode(codes)
    moved = (whole - codec.decode(other)).abs().amax(0).view(90, codec.hop).amax(-1) / whole.abs().max()
    frames = (moved > 1e-6).nonzero()[:, 0]
    assert 45 - codec.reach <= frames.min() <= 45 <= frames.max() <= 45 + codec.reach
    assert codec.reach - (45 - int(frames.min())) <= 4, "no further than it must be"
    for start, stop in ((0, 90), (0, 30), (30, 31), (31, 77), (77, 90)):
        part = decode_part(codec, codes[..., : stop + codec.reach], start, stop)
        wanted = whole[:, start * codec.hop : stop * codec.hop]
        assert part.shape == wanted.shape and (part - wanted).abs().max() < 1e-3 * whole.abs().max()


@pytest.mark.parametrize("make", [tiny, dac], ids=["tiny", "dac"])
def test_same_sound_same_codes_alone_or_in_a_batch(make) -> None:
    codec = make()
    wave = noise(4000, b=3)
    codes = codec.encode(wave)
    assert torch.equal(codes, codec.encode(wave))
    assert torch.equal(codec.decode(codes), codec.decode(codes))
    alone = torch.cat([codec.encode(row[None]) for row in wave])
    assert (alone == codes).float().mean() > 0.99  # a tie may fall differently with other sums
    assert len(codes.unique()) > 3  # the random weights do not answer the same whatever they hear


@pytest.mark.parametrize("make", [tiny, dac], ids=["tiny", "dac"])
def test_fewer_codebooks_decode_to_something_else(make) -> None:
    codec = make()
    codes = codec.encode(noise(4000))
    waves = [codec.decode(codes[:, :k]) for k in range(1, codec.num_codebooks + 1)]
    for a, b in pairwise(waves):
        assert a.shape == b.shape and not torch.allclose(a, b)


# --- the tiny codec ------------------------------------------------------------------------------------


def test_the_tiny_codec_has_the_size_that_the_design_gives_it() -> None:
    codec = TinyCodec()
    assert (codec.sample_rate, codec.hop, codec.frame_rate) == (16000, 320, 50.0)
    assert (codec.num_codebooks, codec.codebook_size) == (4, 256)
    assert 1.5e6 < sum(p.numel() for p in codec.parameters()) < 2.1e6
    assert codec.encode(noise(40960, 1)).shape == (1, 4, 128)


def test_a_hit_changes_only_the_codes_around_it() -> None:
    """Tokens are easy to predict if the sound of a frame is in that frame and few others."""
    codec = tiny()
    quiet = noise(320 * 40, 1)
    hit = quiet.clone()
    hit[0, 320 * 20 : 320 * 20 + 320] += 0.5 * noise(320, 1, seed=1)[0]
    changed = (codec.latents(hit) - codec.latents(quiet)).abs().amax(dim=(0, 1)) > 1e-5
    frames = changed.nonzero().flatten().tolist()
    assert 20 in frames
    assert min(frames) >= 18 and max(frames) <= 27, frames


def test_where_in_its_frame_a_hit_lies_reaches_the_latents() -> None:
    codec = tiny()
    waves = noise(320 * 12, 1).repeat(4, 1)
    for k in range(4):
        waves[k, 320 * 6 + 80 * k] += 0.8
    latents = codec.latents(waves)[:, :, 5:8].flatten(1)
    assert torch.cdist(latents, latents).add(torch.eye(4) * 9).min() > 1e-2


def test_steady_noise_decodes_without_a_jump_at_the_ends() -> None:
    """Every sample lies under two windows of the inverse STFT: nothing divides by nearly zero."""
    wave = tiny().synthesize(torch.randn(1, 8, 20, generator=torch.Generator().manual_seed(0)))
    middle = wave[:, 640:-640].detach().abs().max()
    assert wave[:, -320:].detach().abs().max() < 4 * middle
    assert wave[:, :320].detach().abs().max() < 4 * middle


def test_save_and_load(tmp_path: Path) -> None:
    codec = tiny()
    codec.save_pretrained(tmp_path, steps=7)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["kind"] == "tiny-codec" and config["steps"] == 7 and config["latent_dim"] == 8
    again = TinyCodec.from_pretrained(tmp_path)
    assert again.config == codec.config and not again.training
    # what is saved is fp16; the windows and the mel basis are not saved and must stay exact
    codec.load_state_dict({k: v.half().float() for k, v in codec.state_dict().items()})
    wave = noise(3000)
    codes = codec.encode(wave)
    assert torch.equal(again.encode(wave), codes)
    assert torch.equal(again.decode(codes), codec.decode(codes))
    assert isinstance(load_codec(tmp_path), TinyCodec)
    from safetensors.torch import load_file

    state = load_file(tmp_path / "model.safetensors")
    assert all(v.dtype == torch.float16 for v in state.values())
    assert not any("counts" in k or "sums" in k for k in state)


def test_weights_of_another_kind_are_refused(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path / "tiny")
    dac().save_pretrained(tmp_path / "dac")
    with pytest.raises(WeightsError, match="not a Descript"):
        DacCodec.from_pretrained(tmp_path / "tiny")
    with pytest.raises(WeightsError, match="not a tiny codec"):
        TinyCodec.from_pretrained(tmp_path / "dac")
    config = tmp_path / "tiny" / "config.json"
    config.write_text(config.read_text().replace("tiny-codec", "vaura"))
    with pytest.raises(WeightsError, match="not a codec"):
        load_codec(tmp_path / "tiny")
    config.write_text("{")
    with pytest.raises(WeightsError, match=r"config\.json"):
        load_codec(tmp_path / "tiny")
    with pytest.raises(WeightsError, match="no weights"):
        load_codec("nothing-of-that-name")


def test_loading_the_tiny_codec_needs_no_transformers(tmp_path: Path) -> None:
    tiny().save_pretrained(tmp_path)
    code = (
        "import sys, torch; from v2a_nb.models.codec import load_codec; "
        "c = load_codec(sys.argv[1]); c.decode(c.encode(torch.zeros(1, 999)), 999); "
        "print([m for m in ('transformers', 'diffusers', 'accelerate', 'datasets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- residual vector quantization ----------------------------------------------------------------------


def structured(n: int = 6000, centres: int = 300, dim: int = 8, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    where = torch.randn(centres, dim, generator=rng)
    return where[torch.randint(centres, (n,), generator=rng)] + 0.1 * torch.randn(n, dim, generator=rng)


def started(seed: int = 0) -> tuple[ResidualQuantizer, torch.Tensor]:
    torch.manual_seed(seed)
    vectors = structured()
    quantizer = ResidualQuantizer(4, 64, 8)
    quantizer.start(vectors)
    return quantizer, vectors


def test_k_means_uses_its_codes_on_structured_data() -> None:
    quantizer, vectors = started()
    use = code_use(quantizer.encode(vectors.T[None]), 64)
    assert all(level["used"] > 0.9 * 64 for level in use), use
    assert all(level["perplexity"] > 0.5 * 64 for level in use), use


def test_k_means_starts_from_fewer_vectors_than_codes() -> None:
    torch.manual_seed(0)
    quantizer = ResidualQuantizer(2, 64, 8)
    quantizer.start(structured(20))
    assert quantizer.codebooks.isfinite().all()
    vectors = structured(20)
    error = (quantizer.decode(quantizer.encode(vectors.T[None]))[0].T - vectors).square().mean()
    assert error < 0.05 * vectors.square().mean()


def test_each_codebook_lowers_the_error_and_the_first_most() -> None:
    quantizer, vectors = started()
    codes = quantizer.encode(vectors.T[None])
    errors = [vectors.square().mean().item()]
    for k in range(1, 5):
        errors.append((quantizer.decode(codes[:, :k])[0].T - vectors).square().mean().item())
    gains = [a - b for a, b in pairwise(errors)]
    assert all(gain > 0 for gain in gains), errors
    assert gains == sorted(gains, reverse=True), gains


def test_a_level_takes_the_code_that_is_nearest_to_what_is_left() -> None:
    quantizer, vectors = started()
    vectors = vectors[:50]
    codes = quantizer.encode(vectors.T[None])[0]
    left = vectors.clone()
    for level in range(4):
        book = quantizer.codebooks[level]
        assert torch.equal(torch.cdist(left, book).argmin(1), codes[level])
        left -= book[codes[level]]


def test_gradients_pass_straight_through() -> None:
    quantizer, vectors = started()
    quantizer.eval()
    latents = vectors[:96].T.reshape(1, 8, 96).clone().requires_grad_()
    weight = torch.randn(1, 8, 96, generator=torch.Generator().manual_seed(1))
    quantized, commitment = quantizer.learn(latents)
    (quantized * weight).sum().backward()
    assert torch.allclose(latents.grad, weight)
    latents.grad = None
    commitment = quantizer.learn(latents)[1]
    commitment.backward()
    moved = latents.detach() - 0.5 * latents.grad / latents.grad.abs().max() * 0.05
    torch.manual_seed(0)
    before = quantizer.learn(latents.detach())[1]
    torch.manual_seed(0)
    assert quantizer.learn(moved)[1] < before  # commitment pulls towards the codes


def test_dead_codes_restart_and_codebooks_follow_the_data() -> None:
    quantizer, vectors = started()
    quantizer.codebooks[0, 5] = 1e3  # nothing will ever choose it
    quantizer.sums[0, 5], quantizer.counts[0, 5] = 1e3 * 0.02, 0.02
    quantizer.train()
    quantizer.learn(vectors[:960].T.reshape(1, 8, 960))
    assert quantizer.codebooks[0, 5].abs().max() < 10
    moved = (vectors[:960] + 3).T.reshape(1, 8, 960)

    def error() -> float:
        return (quantizer.decode(quantizer.encode(moved)) - moved).square().mean().item()

    lost = error()
    for _ in range(500):  # a code that starves needs some 300 updates to be given up
        quantizer.learn(moved)
    assert error() < 0.1 * lost
    assert code_use(quantizer.encode(moved), 64)[0]["used"] > 0.8 * 64


# --- DAC through transformers --------------------------------------------------------------------------


def test_the_published_dac_by_its_numbers() -> None:
    """Built without memory: the 44.1 kHz preset of transformers' converter (and V-AURA section III-B)."""
    from transformers import DacConfig, DacModel

    with torch.device("meta"):
        codec = DacCodec(DacModel(DacConfig(sampling_rate=44100)))
    assert (codec.sample_rate, codec.hop, codec.num_codebooks, codec.codebook_size) == (44100, 512, 9, 1024)
    assert codec.exact_frame_rate == Fraction(11025, 128)
    assert codec.model.config.frame_rate == 87  # the trap: rounded up
    assert codec.frame_rate == 86.1328125
    assert math.ceil(112896 / codec.hop) == 221  # 2.56 s
    parameters = sum(p.numel() for p in codec.model.parameters())
    published = PUBLISHED["dac-44khz"]
    assert published.id == "descript/dac_44khz" and published.licence == "MIT" and published.revision
    assert abs(4 * parameters / 1e6 - published.megabytes) < 2


def test_dac_never_drops_codebooks() -> None:
    codec = dac(quantizer_dropout=1.0)
    holder = torch.nn.ModuleList([codec]).train()
    assert holder.training and not codec.training and not codec.model.training
    assert not any(p.requires_grad for p in codec.parameters())
    wave = noise(2000)
    assert torch.equal(codec.encode(wave), codec.encode(wave))


def test_odd_strides_decode_the_same_where_transformers_has_samples() -> None:
    codec = dac((2, 5, 3))
    codes = codec.encode(noise(30 * 80))
    short = codec.model.decode(audio_codes=codes).audio_values.reshape(2, -1)
    made = codec.decode(codes)
    assert short.shape[-1] < made.shape[-1] == 2400
    assert torch.allclose(made[:, :1200], short[:, :1200], atol=1e-4)


def test_dac_weights_in_the_published_layout(tmp_path: Path) -> None:
    codec = dac()
    codec.save_pretrained(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"config.json", "model.safetensors"}
    wave = noise(1999)
    for again in (DacCodec.from_pretrained(tmp_path), load_codec(tmp_path)):
        assert isinstance(again, DacCodec)
        assert torch.equal(again.encode(wave), codec.encode(wave))


def test_dac_weights_that_lack_a_tensor_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    dac().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    state = load_file(path)
    state.pop("quantizer.quantizers.1.codebook.weight")
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"lacks 1 tensors.*quantizers\.1\.codebook"):
        DacCodec.from_pretrained(tmp_path)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        DacCodec.from_pretrained(tmp_path)


def test_the_published_id_is_asked_for_at_its_revision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dac().save_pretrained(tmp_path)
    asked = []

    def download(name: str, revision: str | None = None, allow_patterns: list[str] | None = None) -> str:
        asked.append((name, revision))
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    for name in ("dac-44khz", "descript/dac_44khz"):
        assert isinstance(load_codec(name), DacCodec)
    load_codec("dac-44khz", revision="abc")
    recorded = PUBLISHED["dac-44khz"].revision
    assert asked == [("descript/dac_44khz", r) for r in (recorded, recorded, "abc")]


# --- the report ----------------------------------------------------------------------------------------


class Keeper:
    """A codec that loses nothing: 16-bit samples as codes; ``late`` delays what it decodes."""

    sample_rate, hop, frame_rate, num_codebooks, codebook_size = 16000, 1, 16000.0, 1, 65536

    def __init__(self, late: int = 0, gain: float = 1.0) -> None:
        self.late, self.gain = late, gain

    def encode(self, wave: torch.Tensor) -> torch.Tensor:
        return ((wave.clamp(-1, 1) * 32767).round().long() + 32768)[:, None]

    def decode(self, codes: torch.Tensor, num_samples: int | None = None) -> torch.Tensor:
        wave = (codes[:, 0] - 32768) / 32767 * self.gain
        return wave.roll(self.late, dims=-1)[:, :num_samples]


def clicks(times: tuple[float, ...], n: int = 32000, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    wave = 0.003 * rng.standard_normal(n)
    for time in times:
        t = np.arange(3200) / 16000
        ring = sum(np.sin(2 * np.pi * f * t) for f in (400, 1100, 2300, 4100))
        start = int(time * 16000)
        wave[start : start + 3200] += 0.2 * ring * np.exp(-t / 0.04)
    return wave.astype(np.float32)


TIMES = ((0.4, 1.0, 1.5), (0.7,))


def test_a_codec_that_loses_nothing_scores_so() -> None:
    waves = np.stack([clicks(times, seed=k) for k, times in enumerate(TIMES)])
    report = codec_report(Keeper(), waves, [np.array(t) for t in TIMES])
    assert report["mel_distance"] < 0.01
    assert report["onset_f1_50ms"] == report["original_f1_50ms"] == report["decoded_f1_50ms"] == 1.0
    assert abs(report["level_bias_db"]) < 0.01 and report["onset_jitter_ms"] < 0.5
    json.dumps(report, allow_nan=False)


def test_the_report_sees_delay_and_gain() -> None:
    waves = np.stack([clicks(times, seed=k) for k, times in enumerate(TIMES)])
    late = codec_report(Keeper(late=320), waves)
    assert late["onset_f1_50ms"] == 1.0 and abs(late["onset_shift_ms"] - 20) < 1.5
    assert codec_report(Keeper(late=1600), waves)["onset_f1_50ms"] == 0.0
    soft = codec_report(Keeper(gain=0.5), waves)
    assert abs(soft["level_bias_db"] + 6.02) < 0.05
    assert 0.2 < soft["mel_distance"] < 0.31  # 6.02 dB is 0.301; the floor hides some of it
    assert "original_f1_50ms" not in soft
    with pytest.raises(UsageError, match="event times of 1"):
        codec_report(Keeper(), waves, [np.zeros(0)])
    with pytest.raises(UsageError, match="sounds"):
        codec_report(Keeper(), waves[0])


def test_code_use_counts() -> None:
    codes = torch.stack([torch.zeros(1, 8).long(), torch.arange(8)[None]], dim=1)
    use = code_use(codes, 16)
    assert use[0] == {"used": 1, "perplexity": 1.0}
    assert use[1]["used"] == 8 and abs(use[1]["perplexity"] - 8) < 1e-9


def test_pooled_f1_weighs_by_event() -> None:
    one, two = np.array([1.0]), np.array([1.0, 2.0])
    assert pooled_f1([two, one], [two, np.zeros(0)]) == pytest.approx(2 * 2 / 5)
    assert math.isnan(pooled_f1([np.zeros(0)], [np.zeros(0)]))


def test_log10_mel_is_in_tenths_of_decibels_over_twenty() -> None:
    wave = noise(4096, 1)
    gap = log10_mel(wave, 16000) - log10_mel(wave / 10, 16000)
    assert torch.allclose(gap, torch.ones_like(gap), atol=1e-3)
