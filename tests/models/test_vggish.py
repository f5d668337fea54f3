"""VGGish: its front end is the published one, its layout that of torchvggish, and other weights are refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.models.vggish import Vggish, examples, log_mel, mel_matrix


def small() -> Vggish:
    torch.manual_seed(0)
    return Vggish(width=2, hidden=16).eval()


def published_bank() -> np.ndarray:
    """Triangles over the mel axis, by transformers."""
    return mel_filter_bank(257, 64, 125.0, 7500.0, 16000, mel_scale="kaldi", triangularize_in_mel_space=True)


def test_the_front_end_is_the_published_one():
    bank = mel_matrix()
    assert bank.shape == (257, 64) and bank == pytest.approx(published_bank(), abs=1e-12)
    assert not bank[0].any() and bank.max() <= 1 and not bank[241:].any()  # no DC, nothing over 7500 Hz
    wave = 0.1 * np.random.default_rng(0).standard_normal(16000)
    expected = spectrogram(
        wave, window_function(400, "hann"), 400, 160, fft_length=512, power=1.0, center=False, mel_filters=bank,
        mel_floor=0.0,
    )  # fmt: skip
    made = log_mel(torch.from_numpy(wave))
    assert made.shape == (98, 64) and made.numpy() == pytest.approx(np.log(expected.T + 0.01), abs=1e-5)
    silence = log_mel(torch.zeros(16000, dtype=torch.double))
    assert silence.numpy() == pytest.approx(np.log(0.01))
    # a tone of 1 kHz is loudest in the band whose centre is nearest
    tone = log_mel(torch.sin(2 * torch.pi * 1000 * torch.arange(16000).double() / 16000))
    assert set(tone.argmax(1).tolist()) == {int(bank[32].argmax())}


@pytest.mark.parametrize(("seconds", "windows"), [(0.9, 1), (1, 1), (2.56, 2), (3, 3), (8, 8), (10, 10)])
def test_windows_follow_each_other_and_the_rest_is_left_out(seconds, windows):
    wave = torch.randn(round(16000 * seconds))
    banks = examples(wave)
    assert banks.shape == (windows, 96, 64) and banks.dtype == torch.float32
    n = 96 * 160
    torch.testing.assert_close(banks[-1], examples(wave[(windows - 1) * n :])[0])


def test_the_layout_is_the_published_one():
    with torch.device("meta"):
        net = Vggish()
    shapes = {name: tuple(x.shape) for name, x in net.state_dict().items()}
    layers = [*(f"features.{k}" for k in (0, 3, 6, 8, 11, 13)), *(f"embeddings.{k}" for k in (0, 2, 4))]
    assert set(shapes) == {f"{layer}.{part}" for layer in layers for part in ("weight", "bias")}
    assert shapes["features.0.weight"] == (64, 1, 3, 3) and shapes["features.13.weight"] == (512, 512, 3, 3)
    assert shapes["embeddings.0.weight"] == (4096, 12288) and shapes["embeddings.4.weight"] == (128, 4096)
    assert sum(p.numel() for p in net.parameters()) == 72_141_184


def test_vectors_are_not_rectified_and_time_comes_before_bands():
    net = small()
    banks = torch.randn(3, 96, 64)
    vectors = net(banks)
    assert vectors.shape == (3, 128) and (vectors < 0).any() and (vectors > 0).any()
    torch.testing.assert_close(net(banks[1:2])[0], vectors[1], rtol=1e-4, atol=1e-5)
    maps = net.features(banks[:1, None])[0]  # [16, 6, 4]
    order = torch.stack([maps[:, t, b] for t in range(6) for b in range(4)]).flatten()
    torch.testing.assert_close(net.embeddings(order[None])[0], vectors[0], rtol=1e-4, atol=1e-5)
    for bad in (torch.zeros(96, 64), torch.zeros(1, 95, 64)):
        with pytest.raises(UsageError, match="examples must be"):
            net(bad)
    for bad in (torch.zeros(0), torch.zeros(1, 16000)):
        with pytest.raises(UsageError, match="a wave must be"):
            examples(bad)


def test_published_weights_load_by_name(tmp_path):
    net, path = small(), tmp_path / "vggish.safetensors"
    state = {name: x.contiguous() for name, x in net.state_dict().items()}
    save_file(state | {"pproc.pca_matrix": torch.zeros(128, 128), "pproc.pca_means": torch.zeros(128, 1)}, path)
    banks = torch.randn(2, 96, 64)
    for where in (path, tmp_path):
        loaded = Vggish.from_file(where)
        assert not any(p.requires_grad for p in loaded.parameters())
        torch.testing.assert_close(loaded(banks), net(banks))
    for broken in ({**state, "features.3.weight": torch.zeros(3, 3)}, {"x": torch.zeros(1)},
                   {k: v for k, v in state.items() if k != "embeddings.2.bias"},
                   {**state, "embeddings.0.weight": torch.zeros(3)}):  # fmt: skip
        save_file(broken, path)
        with pytest.raises(WeightsError, match="no weights of VGGish"):
            Vggish.from_file(path)
    path.write_bytes(b"no tensors")
    with pytest.raises(WeightsError, match="cannot be read"):
        Vggish.from_file(path)
    for gone in (tmp_path / "gone", tmp_path / "vggish.pth"):
        with pytest.raises(WeightsError, match=r"VGGish needs one \.safetensors file"):
            Vggish.from_file(gone)
