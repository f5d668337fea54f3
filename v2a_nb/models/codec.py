"""Codecs: waveforms to integer codes and back, behind one interface.

:class:`DacCodec` runs the published Descript Audio Codec (Kumar et al. 2023; V-AURA section III-B uses the
44.1 kHz one) through ``transformers.DacModel``; :class:`~v2a_nb.models.tiny_codec.TinyCodec` is the small one
that comes with the package. What takes a :class:`Codec` takes either.
"""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, load_one_of, reason

if TYPE_CHECKING:
    from transformers import DacModel


@runtime_checkable
class Codec(Protocol):
    """What systems need of a codec."""

    @property
    def sample_rate(self) -> int:
        """Hz."""

    @property
    def hop(self) -> int:
        """Samples per frame of codes."""

    @property
    def frame_rate(self) -> float:
        """Frames of codes per second, exactly ``sample_rate / hop``."""

    @property
    def num_codebooks(self) -> int:
        """K: residual codebooks, the coarsest first."""

    @property
    def codebook_size(self) -> int:
        """V: codes are 0 to V - 1."""

    @property
    def reach(self) -> int:
        """Frames before and after its own on which a sample of the decoded wave can depend."""

    def encode(self, wave: Tensor) -> Tensor:
        """Waveform [B, n] in [-1, 1] to codes int64 [B, K, T], ``T = ceil(n / hop)``."""

    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Codes [B, k, T], the first k of K codebooks, to a waveform [B, num_samples or T * hop]."""


class DacCodec(Pretrained, nn.Module):
    """The Descript Audio Codec of ``transformers``, with exact lengths.

    ``DacModel`` by itself rounds its frame rate up (87 where 44100 / 512 is 86.13), drops codebooks at random
    in training mode, does not pad what it encodes and, with odd strides, decodes fewer samples than its
    frames stand for.

    Weights lie in the layout of ``transformers``.
    """

    kind, title, default = "dac", "a Descript Audio Codec", "dac-44khz"

    def __init__(self, model: DacModel) -> None:
        """Wrap a ``DacModel``; it is frozen."""
        super().__init__()
        self.model = model.eval().requires_grad_(False)

    def __repr__(self) -> str:
        return (
            f"DacCodec({self.sample_rate} Hz, {self.frame_rate:.4f} frames/s, "
            f"{self.num_codebooks} codebooks of {self.codebook_size})"
        )

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.model.config.sampling_rate

    @property
    def hop(self) -> int:
        """Samples per frame of codes: the product of the strides."""
        return math.prod(self.model.config.downsampling_ratios)

    @property
    def exact_frame_rate(self) -> Fraction:
        """Frames of codes per second, as a fraction: 11025/128 at 44.1 kHz."""
        return Fraction(self.sample_rate, self.hop)

    @property
    def frame_rate(self) -> float:
        """Frames of codes per second: 86.1328125 at 44.1 kHz."""
        return float(self.exact_frame_rate)

    @property
    def num_codebooks(self) -> int:
        """Residual codebooks: 9 at 44.1 kHz."""
        return self.model.config.n_codebooks

    @property
    def codebook_size(self) -> int:
        """Codes of one codebook: 1024."""
        return self.model.config.codebook_size

    @property
    def reach(self) -> int:
        """Frames before and after its own on which a sample can depend: of all convolutions of the decoder."""
        steps, rate = 3.0, 1  # the first convolution reads seven frames
        for stride in self.model.config.upsampling_ratios:
            steps += 1 / rate  # of a transposed convolution that is twice as long as its stride
            rate *= stride
            steps += 3 * (1 + 3 + 9) / rate  # kernels of seven, with three dilations
        return math.ceil(steps + 3 / rate) + any(stride % 2 for stride in self.model.config.downsampling_ratios)

    def train(self, mode: bool = True) -> DacCodec:
        """Stays in evaluation mode whatever it is part of: in training mode DAC drops codebooks."""
        return super().train(False)

    @torch.no_grad()
    def encode(self, wave: Tensor) -> Tensor:
        """Codes int64 [B, K, ceil(n / hop)] of a waveform float [B, n] in [-1, 1].

        Raises:
            UsageError: the waveform is not [B, n], or empty.
        """
        if wave.dim() != 2 or wave.shape[-1] == 0:
            raise UsageError(f"a waveform [B, n] is needed, not {tuple(wave.shape)}")
        weight = self.model.encoder.conv1.weight
        frames = math.ceil(wave.shape[-1] / self.hop)
        wave = F.pad(wave, (0, frames * self.hop - wave.shape[-1])).to(weight)
        return self.model.encode(wave[:, None]).audio_codes

    @torch.no_grad()
    def decode(self, codes: Tensor, num_samples: int | None = None) -> Tensor:
        """Waveform [B, num_samples] of codes [B, k, T]; k may be 1 to K (coarser with fewer).

        Raises:
            UsageError: codes of the wrong shape or range, or more samples asked than codes hold.
        """
        if codes.dim() != 3 or not 1 <= codes.shape[1] <= self.num_codebooks or not codes.numel():
            raise UsageError(f"codes [B, 1..{self.num_codebooks}, T] are needed, not {tuple(codes.shape)}")
        if not 0 <= int(codes.min()) <= int(codes.max()) < self.codebook_size:
            raise UsageError(f"codes must lie in 0..{self.codebook_size - 1}")
        held = codes.shape[-1] * self.hop
        samples = held if num_samples is None else num_samples
        if not 0 <= samples <= held:
            raise UsageError(f"{codes.shape[-1]} frames hold {held} samples, not {num_samples}")
        if any(stride % 2 for stride in self.model.config.downsampling_ratios):
            # an odd stride decodes up to a frame less than it should; the last frame again makes up for it
            codes = torch.cat([codes, codes[..., -1:]], dim=-1)
        return self.model.decode(audio_codes=codes).audio_values.reshape(len(codes), -1)[:, :samples]

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write ``config.json`` and ``model.safetensors`` as ``transformers`` does."""
        self.model.save_pretrained(folder)
        return Path(folder)

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> DacCodec:
        from transformers import DacModel

        try:
            model, info = DacModel.from_pretrained(path, use_safetensors=True, output_loading_info=True)
        except Exception as error:  # transformers and safetensors raise many kinds
            raise WeightsError(f"{path} cannot be loaded: {reason(error)}") from error
        # transformers would put random numbers where the file has none
        wrong = sorted(map(str, [*info["missing_keys"], *info["mismatched_keys"]]))
        if wrong:
            raise WeightsError(f"{path} lacks {len(wrong)} tensors of its codec, the first is {wrong[0]}")
        return cls(model)


def decode_part(codec: Codec, codes: Tensor, start: int, stop: int) -> Tensor:
    """The wave [B, samples] of frames ``start`` to ``stop`` of codes [B, k, T], as if all had been decoded.

    Only the frames around the part are read; what is after them may not be known yet.

    Examples:
        >>> codes = torch.zeros(1, 4, 300, dtype=torch.long)
        >>> decode_part(load_codec(), codes, 100, 150).shape
        torch.Size([1, 16000])
    """
    first, last = max(0, start - codec.reach), min(codes.shape[-1], stop + codec.reach)
    wave = codec.decode(codes[..., first:last])
    return wave[:, (start - first) * codec.hop : (stop - first) * codec.hop]


def load_codec(name: str | Path = "codec", revision: str | None = None) -> Codec:
    """A codec of either kind: the shipped ``"codec"``, ``"dac-44khz"``, a folder, or a Hub id.

    Raises:
        WeightsError: no such weights, or weights of something that is not a codec.
    """
    from v2a_nb.models.tiny_codec import TinyCodec

    return load_one_of(name, "a codec", TinyCodec, DacCodec, revision=revision)
