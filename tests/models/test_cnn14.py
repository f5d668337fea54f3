"""Cnn14: its front end is librosa's, its layout is the published one, and weights of another are refused."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.models.cnn14 import Cnn14


def small(bins: int = 257) -> Cnn14:
    torch.manual_seed(0)
    return Cnn14(classes=11, width=4, bins=bins).eval()


def published(net: Cnn14) -> dict[str, torch.Tensor]:
    """Its tensors as a published file has them: with the tables of the Fourier transform."""
    tables = {f"spectrogram_extractor.stft.conv_{part}.weight": torch.zeros(3, 1, 4) for part in ("real", "imag")}
    return {name: x.contiguous() for name, x in net.state_dict().items()} | tables


@pytest.mark.parametrize("bins", [257, 513])
def test_the_front_end_is_librosas(bins):
    net = small(bins)
    wave = 0.1 * torch.randn(1, net.sample_rate)
    wave[:, : net.sample_rate // 2] = 0
    expected = librosa.power_to_db(
        librosa.feature.melspectrogram(
            y=wave[0].numpy(), sr=net.sample_rate, n_fft=net.window, hop_length=net.hop, n_mels=64, fmin=50,
            fmax={257: 8000, 513: 14000}[bins], pad_mode="reflect",
        ),
        ref=1.0, amin=1e-10, top_db=None,
    )  # fmt: skip
    bank = net.log_mel(wave)[0].numpy()
    assert bank == pytest.approx(expected.T, abs=2e-2) and bank.min() == pytest.approx(-100)


def test_the_layout_is_the_published_one():
    with torch.device("meta"):
        shapes = {name: tuple(x.shape) for name, x in Cnn14().state_dict().items()}
    assert shapes["conv_block1.conv1.weight"] == (64, 1, 3, 3)
    assert shapes["conv_block6.conv2.weight"] == (2048, 2048, 3, 3) and shapes["bn0.running_mean"] == (64,)
    assert shapes["fc1.weight"] == (2048, 2048) and shapes["fc_audioset.weight"] == (527, 2048)
    assert shapes["logmel_extractor.melW"] == (257, 64)
    blocks = {f"conv_block{k}.{part}" for k in range(1, 7) for part in ("conv1", "conv2", "bn1", "bn2")}
    assert {name.rpartition(".")[0] for name in shapes} == {*blocks, "bn0", "fc1", "fc_audioset", "logmel_extractor"}


def test_vectors_and_logits():
    net, wave = small(), 0.1 * torch.randn(2, 20000)
    vector, logits = net(wave)
    assert vector.shape == (2, 128) and logits.shape == (2, 11) and (vector >= 0).all() and vector.any()
    torch.testing.assert_close(logits, net.fc_audioset(vector))
    torch.testing.assert_close(net(wave[1:])[0], vector[1:], rtol=1e-4, atol=1e-5)
    short = net(wave[:, :100])[0]  # is filled with silence
    torch.testing.assert_close(short, net(torch.nn.functional.pad(wave[:, :100], (0, 31 * 160 - 100)))[0])
    for bad in (torch.zeros(5), torch.zeros(1, 0)):
        with pytest.raises(UsageError, match="waves must be"):
            net(bad)


@pytest.mark.parametrize("bins", [257, 513])
def test_published_weights_load_by_name(tmp_path, bins):
    net, path = small(bins), tmp_path / "cnn14.safetensors"
    save_file(published(net), path)
    wave = 0.1 * torch.randn(1, 40000)
    for where in (path, tmp_path):
        loaded = Cnn14.from_file(where)
        assert loaded.sample_rate == net.sample_rate and not any(p.requires_grad for p in loaded.parameters())
        torch.testing.assert_close(loaded(wave), net(wave))
    state = published(net)
    for broken in ({**state, "fc1.weight": torch.zeros(3, 3)}, {k: v for k, v in state.items() if k != "fc1.bias"},
                   {"x": torch.zeros(1)}, {**state, "logmel_extractor.melW": torch.zeros(100, 64)}):  # fmt: skip
        save_file(broken, path)
        with pytest.raises(WeightsError, match="no weights of Cnn14"):
            Cnn14.from_file(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        Cnn14.from_file(path)
    for gone in (tmp_path / "gone", tmp_path / "Cnn14_16k.pth"):
        with pytest.raises(WeightsError, match=r"needs one \.safetensors file"):
            Cnn14.from_file(gone)
    assert np.isfinite(net(torch.zeros(1, 16000))[0].detach().numpy()).all()
