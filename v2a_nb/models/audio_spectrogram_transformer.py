"""The Audio Spectrogram Transformer of Action2Sound (section 3.5): a sound to a vector.

The transformer is ``transformers``' ``ASTModel`` in both presets:

- ``paper`` is AST-B on 1.5 s (149 columns, patches of 16 that step by 10, 170 tokens: released ``sd_ddpm_scale.py``).
  It reads Kaldi's filter bank, as Gong et al. (2021) trained it.
- ``tiny`` reads 2.56 s in 13 patches, all bands of 0.2 s each, as its video encoder has five tokens a second. Its
  front end is the log-mel of :mod:`v2a_nb.audio.onsets`: 40 bands every 5 ms, half of Kaldi's step: hits are sharper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio import onsets
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.models.held_weights import HeldWeights, take_over

SAMPLE_RATE, WINDOW, HOP, BANDS = 16000, 400, 160, 128
MEAN, DEVIATION = -4.26, 4.57
"""Mean and deviation of AudioSet, as the released code rounds them; the network reads (bank - mean) / (2 deviation)."""
FLOOR = 1.1920928955078125e-07
"""The least power in a band: silence is its logarithm."""
FRONTS = ("kaldi", "mel")
"""Front ends: Kaldi's filter bank, and log-mel."""
LAYER_NAMES = {
    "attention.q_proj": "attention.attention.query", "attention.k_proj": "attention.attention.key",
    "attention.v_proj": "attention.attention.value", "attention.o_proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
    "layernorm_before": "layernorm_before", "layernorm_after": "layernorm_after",
}  # fmt: skip
"""Parts of a layer of ``ASTModel`` by their names in ``layers.N`` (transformers 5, and our weights) -> their names in
``encoder.layer.N`` (transformers 4)."""


def columns_of(samples: int, front: str = "kaldi") -> int:
    """Columns of so many samples at 16 kHz: of Kaldi's filter bank, where only whole windows count, or of log-mel."""
    return max(0, 1 + (samples - WINDOW) // HOP) if front == "kaldi" else samples // onsets.HOP


def filter_bank(wave: Tensor) -> Tensor:
    """Kaldi's log mel filter bank, as ``torchaudio.compliance.kaldi.fbank`` computes it for AST.

    25 ms Hann windows every 10 ms, whole windows only; per window the mean is removed and high frequencies are
    raised (0.97); 128 triangles from 20 Hz to 8 kHz on Kaldi's mel scale; natural log of the power.

    Args:
        wave: [B, n] at 16 kHz, full scale -1 to 1, n at least 400.

    Returns:
        [B, 1 + (n - 400) // 160, 128], -15.9 (silence) to about 8. A column depends on its own 400 samples
        alone, so the bank of a part, cut on multiples of 160 samples, is a part of the bank.

    Raises:
        UsageError: not [B, n], or too short for one window.
    """
    if wave.ndim != 2 or wave.shape[1] < WINDOW:
        raise UsageError(f"waves must be [B, {WINDOW} samples or more], not {tuple(wave.shape)}")
    frames = wave.unfold(1, WINDOW, HOP)  # [B, T, 400]
    frames = frames - frames.mean(-1, keepdim=True)
    before = torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
    frames = (frames - 0.97 * before) * torch.hann_window(WINDOW, periodic=False, dtype=wave.dtype, device=wave.device)
    power = torch.fft.rfft(frames, n=512).abs().square()  # [B, T, 257]
    return (power @ _triangles().to(power)).clamp(min=FLOOR).log()


@lru_cache(maxsize=1)
def _triangles() -> Tensor:
    """Kaldi's mel triangles over the bins of a 512-point spectrum, float64 [257, 128]."""
    edges = 1127 * torch.log1p(torch.tensor([20.0, SAMPLE_RATE / 2], dtype=torch.float64) / 700)
    points = torch.linspace(float(edges[0]), float(edges[1]), BANDS + 2, dtype=torch.float64)
    bins = 1127 * torch.log1p(torch.arange(257, dtype=torch.float64) * (SAMPLE_RATE / 512) / 700)[:, None]
    left, centre, right = points[:-2], points[1:-1], points[2:]
    return torch.minimum((bins - left) / (centre - left), (right - bins) / (right - centre)).clamp(min=0)


@dataclass(frozen=True)
class AudioSpectrogramTransformerConfig:
    """Sizes of :class:`AudioSpectrogramTransformer`.

    Attributes:
        seconds: of a window.
        front: ``"kaldi"``, 128 bands every 10 ms, or ``"mel"``, 40 bands every 5 ms.
        columns: of the filter bank that the network is built for; what is missing is filled with zeros, after
            normalising, as the released code fills.
        dim, depth, heads, mlp: of the transformer; ``mlp`` is the hidden width.
        patch, stride: columns and bands of a patch, and from one to the next.
        crop: which part of a longer clip is read: ``"middle"``, or ``"released"``, which begins after two thirds of
            the spare time (1.0 s to 2.5 s of 3 s, where its comment names the middle).
    """

    seconds: float = 1.5
    front: str = "kaldi"
    columns: int = 149
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp: int = 3072
    patch: int = 16
    stride: int = 10
    crop: str = "middle"

    def check(self) -> None:
        """Raise :class:`UsageError` for sizes that fit no encoder."""
        if self.front not in FRONTS:
            raise UsageError(f"unknown front end {self.front!r}; there is {' and '.join(FRONTS)}")
        if columns_of(round(self.seconds * SAMPLE_RATE), self.front) > self.columns or self.columns < self.patch:
            raise UsageError(f"{self.columns} columns cannot hold {self.seconds} s in patches of {self.patch}")
        if self.dim % self.heads:
            raise UsageError(f"{self.dim} channels cannot be shared by {self.heads} heads")
        if self.crop not in ("middle", "released"):
            raise UsageError(f"unknown crop {self.crop!r}; there is middle and released")

    @property
    def bands(self) -> int:
        """Number of frequency bands of the front end."""
        return BANDS if self.front == "kaldi" else onsets.BANDS

    @property
    def hop(self) -> int:
        """Samples from a column to the next."""
        return HOP if self.front == "kaldi" else onsets.HOP


PRESETS = {
    "tiny": AudioSpectrogramTransformerConfig(
        2.56, "mel", columns=520, dim=128, depth=2, heads=4, mlp=256, patch=40, stride=40
    ),
    "paper": AudioSpectrogramTransformerConfig(),
}


class AudioSpectrogramTransformer(nn.Module):
    """Filter bank ``[B, T, bands]`` to ``[B, dim]``: the mean of the CLS and the distillation token.

    Args:
        config: sizes; left out, ``tiny``.
        lean: only hold the weights, which are not initialised, until the first sound is heard: who only looks needs
            no ``ASTModel``.

    Raises:
        UsageError: sizes that fit no encoder.
    """

    def __init__(self, config: AudioSpectrogramTransformerConfig | None = None, *, lean: bool = False) -> None:
        super().__init__()
        self.config = c = config or PRESETS["tiny"]
        c.check()
        self.net: Any = HeldWeights(_sizes(c)) if lean else _network(c)
        # whatever version of transformers is installed, tensors have the names of version 5 outside of this module
        self._register_state_dict_hook(_to_our_names)
        self._register_load_state_dict_pre_hook(_from_our_names, with_module=True)

    @property
    def dim(self) -> int:
        """Channels of the vector."""
        return self.config.dim

    def forward(self, bank: Tensor) -> Tensor:
        """[B, dim] of what :meth:`front_end` gives, [B, T, bands]; T is cut to, or filled up to, the network's columns.

        Raises:
            UsageError: another shape.
        """
        c = self.config
        if bank.ndim != 3 or bank.shape[2] != c.bands or not bank.shape[1]:
            raise UsageError(f"a filter bank is [B, T, {c.bands}], not {tuple(bank.shape)}")
        mean, deviation = (MEAN, 2 * DEVIATION) if c.front == "kaldi" else (-6.0, 4.0)
        bank = ((bank - mean) / deviation)[:, : c.columns]
        bank = F.pad(bank, (0, 0, 0, c.columns - bank.shape[1]))
        if isinstance(self.net, HeldWeights):
            with torch.random.fork_rng(devices=[]):  # its own first weights are random, and thrown away
                heard = AudioSpectrogramTransformer(c)
            take_over(self, heard)
            self.net = heard.net
        return self.net(bank).pooler_output

    def front_end(self, wave: Tensor) -> Tensor:
        """What the transformer reads of waves [B, n] at 16 kHz: :func:`filter_bank`, or the log-mel, [B, T, bands].

        Raises:
            UsageError: not [B, n], or under 25 ms.
        """
        if self.config.front == "kaldi":
            return filter_bank(wave)
        if wave.ndim != 2 or wave.shape[1] < WINDOW:
            raise UsageError(f"waves must be [B, {WINDOW} samples or more], not {tuple(wave.shape)}")
        mels = [onsets.log_mel(one)[:, : one.shape[0] // onsets.HOP] for one in wave.cpu().numpy()]
        return torch.from_numpy(np.stack(mels)).transpose(1, 2).to(wave)

    def listen(self, sound: Sound) -> Tensor:
        """Filter bank [1, T, bands] of the part of a sound that this network hears, or of all of a shorter one.

        Args:
            sound: any rate and channels.

        Raises:
            UsageError: under 25 ms.
        """
        c = self.config
        start = max(0.0, sound.duration - c.seconds) * (1 / 2 if c.crop == "middle" else 2 / 3)
        wave = sound.mono().resample(SAMPLE_RATE).samples
        first = c.hop * round(start * SAMPLE_RATE / c.hop)
        part = torch.from_numpy(wave[:, first : first + round(c.seconds * SAMPLE_RATE)].copy())
        return self.front_end(part.to(next(self.parameters()).device))


def _network(c: AudioSpectrogramTransformerConfig) -> Any:
    """transformers' ``ASTModel`` of these sizes."""
    from transformers import ASTConfig, ASTModel

    sizes = ASTConfig(
        hidden_size=c.dim, num_hidden_layers=c.depth, num_attention_heads=c.heads, intermediate_size=c.mlp,
        patch_size=c.patch, frequency_stride=c.stride, time_stride=c.stride, max_length=c.columns,
        num_mel_bins=c.bands,
    )  # fmt: skip
    net = ASTModel(sizes)
    for table in ("cls_token", "distillation_token", "position_embeddings"):
        nn.init.trunc_normal_(getattr(net.embeddings, table), std=0.02)  # zeros in transformers
    return net


def _sizes(c: AudioSpectrogramTransformerConfig) -> dict[str, tuple[int, ...]]:
    """Shapes of its parameters, by their names in transformers 5."""
    places = ((c.bands - c.patch) // c.stride + 1) * ((c.columns - c.patch) // c.stride + 1)
    sizes = {
        "embeddings.cls_token": (1, 1, c.dim), "embeddings.distillation_token": (1, 1, c.dim),
        "embeddings.position_embeddings": (1, places + 2, c.dim),
        "embeddings.patch_embeddings.projection.weight": (c.dim, 1, c.patch, c.patch),
        "embeddings.patch_embeddings.projection.bias": (c.dim,),
        "layernorm.weight": (c.dim,), "layernorm.bias": (c.dim,),
    }  # fmt: skip
    linear = dict.fromkeys(LAYER_NAMES, (c.dim, c.dim))
    linear |= {"mlp.fc1": (c.mlp, c.dim), "mlp.fc2": (c.dim, c.mlp)}
    linear |= {"layernorm_before": (c.dim,), "layernorm_after": (c.dim,)}
    for layer in range(c.depth):
        for name, size in linear.items():
            sizes[f"layers.{layer}.{name}.weight"], sizes[f"layers.{layer}.{name}.bias"] = size, size[:1]
    return sizes


def tensor_names(depth: int) -> dict[str, str]:
    """Tensors of the layers of ``ASTModel`` under transformers 5 -> under transformers 4; the others have one name."""
    return {
        f"layers.{n}.{new}.{kind}": f"encoder.layer.{n}.{old}.{kind}"
        for n in range(depth)
        for new, old in LAYER_NAMES.items()
        for kind in ("weight", "bias")
    }


def _rename(state: dict, prefix: str, names: dict[str, str]) -> None:
    for before, after in names.items():
        if f"{prefix}net.{before}" in state:
            state[f"{prefix}net.{after}"] = state.pop(f"{prefix}net.{before}")


def _to_our_names(module: AudioSpectrogramTransformer, state: dict, prefix: str, metadata: dict) -> None:
    _rename(state, prefix, {old: new for new, old in tensor_names(module.config.depth).items()})


def _from_our_names(module: AudioSpectrogramTransformer, state: dict, prefix: str, *_: object) -> None:
    """Tensors of either layout, under the names that the installed version has."""
    _to_our_names(module, state, prefix, {})
    if not hasattr(module.net, "layers"):
        _rename(state, prefix, tensor_names(module.config.depth))
