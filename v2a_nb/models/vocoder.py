"""Vocoders: mel spectrograms to waves.

Action2Sound's is HiFi-GAN (Kong et al. 2020; Action2Sound sections 3.5 and 4.1), here ``transformers``'
``SpeechT5HifiGan``, which computes the same. Griffin-Lim, the paper's "w/o vocoder", has the same interface.

Action2Sound released neither weights nor sizes of its vocoder; a hop of 256 makes HiFi-GAN's V1 the natural
reading, and that is what ``paper`` is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.audio.match_mels import match_mels
from v2a_nb.audio.spectrogram import FRONT_ENDS, DecibelScale, Spectrogram
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained, config_from_json, kind_of, reason
from v2a_nb.models.lean_hifigan import HifiGan

if TYPE_CHECKING:
    from transformers import SpeechT5HifiGan, SpeechT5HifiGanConfig

CHUNK = 1024
"""Frames that are decoded at a time: 16 s for Action2Sound."""
TRANSFORMERS_KIND = "speecht5_hifigan"
"""What ``transformers`` calls the same network."""


@dataclass(frozen=True)
class VocoderConfig:
    """Sizes of :class:`Vocoder`.

    Attributes:
        front_end: name of the spectrogram that is decoded; its hop is the product of ``rates``.
        channels: of the first layer; each upsampling halves them.
        rates: samples out for one in, of each upsampling.
        kernels: of each upsampling.
        block_kernels: of the residual blocks that follow each upsampling, side by side.
        block_dilations: of each of these blocks' convolutions.
        normalize: subtract a mean and divide by a scale per band first (:meth:`Vocoder.calibrate`).
        match: how often the wave is corrected towards the mels that it was decoded from, see
            :func:`~v2a_nb.audio.match_mels.match_mels`. Ours; with published weights, 0.
    """

    front_end: str = "action2sound"
    channels: int = 128
    rates: tuple[int, ...] = (8, 8, 4)
    kernels: tuple[int, ...] = (16, 16, 8)
    block_kernels: tuple[int, ...] = (3, 7)
    block_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5), (1, 3, 5))
    normalize: bool = True
    match: int = 16

    def check(self) -> None:
        """Raise :class:`UsageError` for sizes that do not belong together."""
        front = Spectrogram(self.front_end)
        hop = front.front_end.hop
        if math.prod(self.rates) != hop:
            raise UsageError(f"rates {self.rates} make {math.prod(self.rates)} samples of a frame of {hop}")
        if len(self.kernels) != len(self.rates) or len(self.block_kernels) != len(self.block_dilations):
            raise UsageError("there must be a kernel for each rate, and dilations for each kernel of the blocks")
        if any(k < r for k, r in zip(self.kernels, self.rates)) or not all(k % 2 for k in self.block_kernels):
            raise UsageError(
                f"kernels {self.kernels} must not be smaller than their rates {self.rates}, and those of the blocks, "
                f"{self.block_kernels}, must be odd: else samples are lost"
            )
        if self.channels >> len(self.rates) < 1:
            raise UsageError(f"{self.channels} channels cannot be halved {len(self.rates)} times")

    def published(self) -> SpeechT5HifiGanConfig:
        """The same sizes for ``transformers``."""
        from transformers import SpeechT5HifiGanConfig

        front = Spectrogram(self.front_end)
        return SpeechT5HifiGanConfig(
            model_in_dim=front.bands, sampling_rate=front.front_end.sample_rate,
            upsample_initial_channel=self.channels, upsample_rates=list(self.rates),
            upsample_kernel_sizes=list(self.kernels), resblock_kernel_sizes=list(self.block_kernels),
            resblock_dilation_sizes=[list(d) for d in self.block_dilations], normalize_before=self.normalize,
        )  # fmt: skip


_V1 = {"block_kernels": (3, 7, 11), "block_dilations": ((1, 3, 5),) * 3, "normalize": False, "match": 0}

PRESETS = {
    "tiny": VocoderConfig(),
    # HiFi-GAN V1
    "paper": VocoderConfig(channels=512, rates=(8, 8, 2, 2), kernels=(16, 16, 4, 4), **_V1),
    # AudioLDM's, which VTA-LDM uses
    "paper-audioldm": VocoderConfig("vta_ldm", 1024, (5, 4, 2, 2, 2), (16, 16, 8, 4, 4), **_V1),
}


class _OfSpectrogram(nn.Module):
    """What all vocoders say of the spectrogram that they read."""

    spectrogram: Spectrogram

    def extra_repr(self) -> str:
        """What ``print`` adds."""
        return f"{self.spectrogram}"

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return self.spectrogram.front_end.sample_rate

    @property
    def hop(self) -> int:
        """Samples per frame."""
        return self.spectrogram.front_end.hop


class Vocoder(Pretrained, _OfSpectrogram):
    """HiFi-GAN's generator: spectrograms [B, F, T] as their front end scales them to waves [B, T * hop].

    Args:
        config: left out, ``tiny``.
        model: a ``SpeechT5HifiGan``, or a :class:`~v2a_nb.models.lean_hifigan.HifiGan`, to use instead of a new one.

    Raises:
        UsageError: sizes that do not belong together.

    Examples:
        >>> vocoder = Vocoder()
        >>> spectrogram = vocoder.spectrogram(torch.zeros(1, 16000))
        >>> spectrogram.shape, vocoder.decode(spectrogram, 16000).shape
        (torch.Size([1, 128, 63]), torch.Size([1, 16000]))
    """

    kind, title, config_class, default = "vocoder", "a vocoder", VocoderConfig, "vocoder"
    other_kinds = (TRANSFORMERS_KIND,)

    def __init__(self, config: VocoderConfig | None = None, model: SpeechT5HifiGan | HifiGan | None = None) -> None:
        super().__init__()
        self.config = config or PRESETS["tiny"]
        self.spectrogram = Spectrogram(self.config.front_end)
        self.config.check()
        if model is None:
            from transformers import SpeechT5HifiGan

            model = SpeechT5HifiGan(self.config.published())
        self.model = model

    @property
    def context(self) -> int:
        """Frames on either side that the samples of a frame depend on."""
        c = self.config
        # two convolutions for each dilation: one with it, one without
        blocks = max(sum((k - 1) // 2 * (d + 1) for d in ds) for k, ds in zip(c.block_kernels, c.block_dilations))
        reach = 3  # of the last convolution
        for rate, kernel in zip(reversed(c.rates), reversed(c.kernels)):
            reach = math.ceil((reach + blocks + kernel - 1 - (kernel - rate) // 2) / rate)
        return reach + 3  # of the first convolution

    def log_mel(self, spectrogram: Tensor, clamp: bool = True) -> Tensor:
        """What HiFi-GAN reads, the natural log of mel magnitudes; with ``clamp`` the scale's range is kept."""
        scale = self.spectrogram.front_end.scale
        if isinstance(scale, DecibelScale):
            spectrogram = spectrogram.clamp(0, 1) if clamp else spectrogram
            decibels = spectrogram * scale.range_db - scale.range_db + scale.top_db
            return decibels * (math.log(10) / 20)
        return spectrogram

    def forward(self, spectrogram: Tensor, clamp: bool = True) -> Tensor:
        """Waves [B, T * hop] in [-1, 1] of spectrograms [B, F, T], with gradients and in one piece."""
        wave = self.model(self.log_mel(spectrogram, clamp).transpose(1, 2))
        # a kernel that exceeds its rate by an odd number makes a little more: AudioLDM's makes 32 samples
        return wave[:, : spectrogram.shape[-1] * self.hop]

    @torch.no_grad()
    def decode(
        self, spectrogram: Tensor, num_samples: int | None = None, *, clamp: bool = True, chunk: int = CHUNK
    ) -> Tensor:
        """Waves [B, num_samples] in [-1, 1] of spectrograms [B, F, T].

        Args:
            spectrogram: as :attr:`spectrogram` scales it.
            num_samples: left out, T * hop.
            clamp: values outside of the scale's range are cut.
            chunk: frames that are decoded at a time, with so much of their neighbours that no sample depends on it.

        Raises:
            UsageError: no such spectrogram, or more samples than its frames hold.
        """
        samples = _checked(self.spectrogram, spectrogram, num_samples)
        if chunk < 1:
            raise UsageError(f"chunks of {chunk} frames: at least 1 is needed")
        spectrogram = spectrogram.to(self.model.conv_pre.weight)
        frames, more, waves = -(-samples // self.hop), self.context, []
        if self.config.match and spectrogram.shape[-1] < frames + more:
            # past its end a network sees zeros, which are a loudness of their own, and makes a click of the step to it
            spectrogram = F.pad(spectrogram, (0, frames + more - spectrogram.shape[-1]), mode="replicate")
        for a in range(0, frames, chunk):
            low, b = max(0, a - more), min(frames, a + chunk)
            wave = self(spectrogram[..., low : b + more], clamp)
            waves.append(wave[:, (a - low) * self.hop : (b - low) * self.hop])
        wave = torch.cat(waves, dim=-1)[:, :samples]
        if self.config.match:
            spectrogram = spectrogram[..., : 1 + samples // self.hop]
            wave = match_mels(wave, spectrogram, self.spectrogram, self.config.match).clamp(-1, 1)
        return wave

    @torch.no_grad()
    def calibrate(self, spectrograms: Tensor) -> None:
        """Measure mean and spread of each band on spectrograms [B, F, T].

        Raises:
            UsageError: sizes that do not normalize.
        """
        if not self.config.normalize:
            raise UsageError("this vocoder does not normalize its bands: there is nothing to calibrate")
        mels = self.log_mel(spectrograms)
        self.model.mean.copy_(mels.mean(dim=(0, 2)))
        self.model.scale.copy_(mels.std(dim=(0, 2)).clamp(min=1e-2))

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any], front_end: str | None = None) -> Vocoder:
        """Our layout, or that of ``transformers``.

        Args:
            front_end: of weights in the layout of ``transformers``, which does not say it; left out, the one
                whose bands, hop and rate fit.

        Raises:
            WeightsError: damaged weights, or none that a front end here fits.
        """
        if kind_of(saved) == TRANSFORMERS_KIND:
            return cls._from_transformers(path, front_end)
        return super()._read(path, saved)

    @classmethod
    def _build(cls, config: VocoderConfig, **parts: Any) -> Vocoder:
        """With the network of :mod:`v2a_nb.models.lean_hifigan`, whose import is light."""
        config.check()
        c, bands = config, Spectrogram(config.front_end).bands
        sizes = (c.channels, c.rates, c.kernels, c.block_kernels, c.block_dilations, c.normalize)
        return cls(config, HifiGan(bands, *sizes))

    @classmethod
    def _from_transformers(cls, path: Path, front_end: str | None) -> Vocoder:
        from transformers import SpeechT5HifiGan

        try:
            model, info = SpeechT5HifiGan.from_pretrained(path, use_safetensors=True, output_loading_info=True)
        except Exception as error:  # transformers and safetensors raise many kinds
            raise WeightsError(f"{path} cannot be loaded: {reason(error)}") from error
        c = model.config
        # transformers would put random numbers where the file has none; what is not read may be missing
        unread = set() if c.normalize_before else {"mean", "scale"}
        wrong = sorted({str(k) for k in [*info["missing_keys"], *info["mismatched_keys"]]} - unread)
        if wrong:
            raise WeightsError(f"{path} lacks {len(wrong)} tensors of its vocoder, the first is {wrong[0]}")
        config = config_from_json(
            VocoderConfig,
            {
                "front_end": _front_end(front_end, c.model_in_dim, math.prod(c.upsample_rates), c.sampling_rate),
                "channels": c.upsample_initial_channel, "rates": c.upsample_rates,
                "kernels": c.upsample_kernel_sizes, "block_kernels": c.resblock_kernel_sizes,
                "block_dilations": c.resblock_dilation_sizes, "normalize": c.normalize_before, "match": 0,
            },
        )  # fmt: skip
        return cls(config, model)

    @classmethod
    def from_hifigan(
        cls, state: Mapping[str, Tensor], settings: Mapping[str, object], front_end: str = "action2sound"
    ) -> Vocoder:
        """The original HiFi-GAN's generator: what its checkpoint holds under ``generator``, and its JSON settings.

        Args:
            state: tensors with or without weight normalisation (``weight_g`` and ``weight_v``).
            settings: with ``upsample_rates``, ``resblock_kernel_sizes`` and so on.

        Raises:
            WeightsError: settings or tensors that are missing, another kind of block, or tensors of other sizes.
        """
        if str(settings.get("resblock", "1")) != "1":
            raise WeightsError(f"blocks of kind {settings['resblock']!r} (HiFi-GAN V3) are not what transformers has")
        names = {
            "channels": "upsample_initial_channel", "rates": "upsample_rates", "kernels": "upsample_kernel_sizes",
            "block_kernels": "resblock_kernel_sizes", "block_dilations": "resblock_dilation_sizes",
        }  # fmt: skip
        missing = [k for k in names.values() if k not in settings]
        if missing:
            raise WeightsError(f"the settings lack {', '.join(missing)}: not those of a HiFi-GAN")
        fields = {k: settings[v] for k, v in names.items()}
        config = {**fields, "front_end": front_end, "normalize": False, "match": 0}
        vocoder = cls(config_from_json(VocoderConfig, config))
        weights = fused(state)
        own = vocoder.model.state_dict()
        missing = [k for k in own if k not in weights and k not in ("mean", "scale")]
        wrong = [k for k, v in weights.items() if k not in own or own[k].shape != v.shape]
        if missing or wrong:
            raise WeightsError(
                f"the tensors do not fit: {len(missing)} are missing, {len(wrong)} differ, the first is "
                f"{(missing + wrong)[0]!r}"
            )
        vocoder.model.load_state_dict(weights, strict=False)
        return vocoder.eval()


class GriffinLimVocoder(_OfSpectrogram):
    """Griffin-Lim behind the interface of :class:`Vocoder` (Action2Sound's table 2, "w/o vocoder").

    Args:
        front_end: name of the spectrogram.
        iterations, seed, method: see :meth:`~v2a_nb.audio.spectrogram.Spectrogram.to_wave`.
    """

    def __init__(
        self, front_end: str = "action2sound", *, iterations: int = 60, seed: int | None = 0, method: str = "nnls"
    ) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(front_end)
        self.iterations, self.seed, self.method = iterations, seed, method

    def extra_repr(self) -> str:
        """What ``print`` adds."""
        return f"{self.spectrogram}, {self.iterations} iterations"

    @torch.no_grad()
    def decode(self, spectrogram: Tensor, num_samples: int | None = None, *, clamp: bool = True) -> Tensor:
        """As :meth:`Vocoder.decode`, in one piece and not cut to [-1, 1]; what is not clamped stays as it is."""
        samples = _checked(self.spectrogram, spectrogram, num_samples)
        # one frame more, so that the last samples lie between frames
        longer = torch.cat([spectrogram, spectrogram[..., -1:]], dim=-1)
        return self.spectrogram.to_wave(
            longer, samples, iterations=self.iterations, seed=self.seed, method=self.method
        )  # fmt: skip


def load_vocoder(name: str | Path = "vocoder", *, front_end: str | None = None) -> Vocoder | GriffinLimVocoder:
    """``"griffin-lim"``, or what :meth:`Vocoder.from_pretrained` takes."""
    if str(name) == "griffin-lim":
        return GriffinLimVocoder(front_end or "action2sound")
    return Vocoder.from_pretrained(name, front_end=front_end)


def fused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the original HiFi-GAN under the names of ``transformers``, without weight normalisation.

    Raises:
        WeightsError: a direction without its length.
    """
    tensors = {}
    for key, value in state.items():
        if key.endswith("weight_g"):
            continue
        name = f"upsampler.{key[4:]}" if key.startswith("ups.") else key
        if key.endswith("weight_v"):
            length = state.get(f"{key[:-1]}g")
            if length is None:
                raise WeightsError(f"{key} is there without {key[:-1]}g")
            name = name.removesuffix("_v")
            value = value * (length / value.norm(dim=(1, 2), keepdim=True))
        tensors[name] = value
    return tensors


def _front_end(name: str | None, bands: int, hop: int, sample_rate: int) -> str:
    """The name of the front end that a vocoder in the layout of ``transformers`` reads."""
    fits = [f.name for f in FRONT_ENDS.values() if (f.mels, f.hop, f.sample_rate) == (bands, hop, sample_rate)]
    if (name is None and not fits) or (name is not None and name not in fits):
        asked = f"{name} does not" if name is not None else "none here does"
        raise WeightsError(f"the vocoder reads {bands} mels with hop {hop} at {sample_rate} Hz; {asked}")
    return name or fits[0]


def _checked(front: Spectrogram, spectrogram: Tensor, num_samples: int | None) -> int:
    """Samples to make of a spectrogram that can be decoded."""
    if spectrogram.ndim != 3 or spectrogram.shape[1] != front.bands or not spectrogram.numel():
        raise UsageError(f"spectrograms [B, {front.bands}, T] are needed, not {tuple(spectrogram.shape)}")
    if not spectrogram.is_floating_point() or not bool(torch.isfinite(spectrogram).all()):
        raise UsageError("the spectrogram must be floating point, without NaN and infinite values")
    held = spectrogram.shape[-1] * front.front_end.hop
    samples = held if num_samples is None else num_samples
    if not 0 <= samples <= held:
        raise UsageError(f"{spectrogram.shape[-1]} frames hold {held} samples, not {num_samples}")
    return samples
