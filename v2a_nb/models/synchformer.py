"""Synchformer (Iashin et al. 2024, arXiv 2401.16423): how far a sound is ahead of its pictures, in 21 classes.

14 segments of 0.64 s that overlap by half, 4.8 s in all, go through a visual and an audio tower one by one. A small
transformer reads all 112 visual and 84 audio vectors and says which of 21 offsets from -2 s to 2 s fits. V-AURA's Sync
and av-benchmark's DeSync are made of its answers.

Written from the paper and the released layout. The published weights (MIT) are pickles, which are never read here.
Convert once, where you trust them, the file of MMAudio's release v0.1, a copy of Synchformer's ``24-01-04T16-39-21``
(of which the tensors lie under the key ``"model"``)::

    state = torch.load("synchformer_state_dict.pth", weights_only=True)
    safetensors.torch.save_file({k: v.contiguous() for k, v in state.items()}, "synchformer.safetensors")

The layout is that of the released classes, tensor by tensor: 513 tensors, 237 460 245 numbers. The published files
themselves could not be fetched where this was written. Traps: the table of positions has 198 rows, so it is 14 segments
and no other number; published accuracy is 47 % on true sounds of VGGSound-Sparse, 67 % within one class, so a Sync of
true sounds is not 0; the answer to silence or noise is some class, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import read_published, reason
from v2a_nb.models.audio_spectrogram_transformer import tensor_names
from v2a_nb.models.video_encoders.preprocessing import HALF, Preprocessing
from v2a_nb.models.video_encoders.segment_avclip import FPS, SEGMENT, TUBELET, SegmentConfig, SegmentVideoTower, Summary

SAMPLE_RATE, BANDS, COLUMNS, HOP, WINDOW, BINS = 16000, 128, 66, 160, 400, 513
SEGMENTS, STEP = 14, SEGMENT // 2
"""Segments that are read at once, and frames from one to the next."""
FRAMES = SEGMENT + (SEGMENTS - 1) * STEP
"""Frames that are read at once: 120, 4.8 s."""
SAMPLES = FRAMES * SAMPLE_RATE // int(FPS)
MEAN, DEVIATION = -4.2677393, 4.5689974
"""Mean and deviation of AudioSet; the audio tower reads (log mel - mean) / (2 deviation)."""
OFFSETS_S = np.round(np.linspace(-2.0, 2.0, 21), 1)
"""The classes, seconds by which the sound is *ahead* of the pictures: 2 means that it comes 2 s early."""
PATCH, PATCH_STEP = 16, 10
"""Columns and bands of a patch of the audio tower, and from one to the next."""
AT_ONCE = 2
"""Segments of pictures that are worked on at a time; one needs 0.1 GB at full size."""


@dataclass(frozen=True)
class SynchformerConfig:
    """Sizes of :class:`Synchformer`; the defaults are the published ones.

    Attributes:
        tower: sizes of both towers; ``size`` and ``patch`` are the visual one's.
        depth, heads: of the transformer that reads the vectors of both.
    """

    tower: SegmentConfig = field(default_factory=SegmentConfig)
    depth: int = 3
    heads: int = 8


class SegmentAudioTower(nn.Module):
    """Log-mel spectrograms of segments ``[B, 66, 128]`` to vectors ``[B, 6, dim]``: an AST, then a summary of bands."""

    def __init__(self, config: SegmentConfig) -> None:
        super().__init__()
        from transformers import ASTConfig, ASTModel

        sizes: dict[str, Any] = {
            "hidden_size": config.dim, "num_hidden_layers": config.depth, "num_attention_heads": config.heads,
            "intermediate_size": config.mlp, "patch_size": PATCH, "frequency_stride": PATCH_STEP,
            "time_stride": PATCH_STEP, "max_length": COLUMNS, "num_mel_bins": BANDS,
        }  # fmt: skip
        self.ast = ASTModel(ASTConfig(**sizes))
        self.freq_attn_agg = Summary(config.dim, config.heads, config.mlp)

    def forward(self, bank: Tensor) -> Tensor:
        """Vectors [B, 6, dim] of normalised log-mel spectrograms [B, 66, 128]."""
        patches = self.ast(bank).last_hidden_state[:, 2:]  # without CLS and the distillation token
        steps = (COLUMNS - PATCH) // PATCH_STEP + 1
        patches = patches.unflatten(1, (-1, steps)).transpose(1, 2)  # [B, 6, 12, dim]
        return self.freq_attn_agg(patches.flatten(0, 1)).unflatten(0, (-1, steps))


class _Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.proj = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn = _Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class OffsetTransformer(nn.Module):
    """Visual vectors [B, 112, dim] and audio vectors [B, 84, dim] to logits [B, 21]."""

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.vis_in_lnorm, self.aud_in_lnorm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.OFF_tok, self.MOD_tok = (nn.Parameter(torch.randn(1, 1, dim)) for _ in range(2))
        tokens = 2 + SEGMENTS * (SEGMENT // TUBELET + (COLUMNS - PATCH) // PATCH_STEP + 1)
        self.pos_emb_cfg = nn.ParameterDict({"pos_emb": nn.Parameter(torch.randn(1, tokens, dim))})
        self.blocks = nn.Sequential(*(_Block(dim, heads) for _ in range(depth)))
        self.ln_f = nn.LayerNorm(dim)
        self.off_head = nn.Linear(dim, len(OFFSETS_S))

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        video, audio = self.vis_in_lnorm(video), self.aud_in_lnorm(audio)
        offset, between = (token.expand(len(video), -1, -1) for token in (self.OFF_tok, self.MOD_tok))
        x = torch.cat([offset, video, between, audio], dim=1) + self.pos_emb_cfg["pos_emb"]
        return self.off_head(self.ln_f(self.blocks(x))[:, 0])


class Synchformer(nn.Module):
    """Both towers, their projections and the transformer.

    Examples:
        >>> tower = SegmentConfig(size=32, dim=48, depth=1, heads=3, mlp=96)
        >>> model = Synchformer(SynchformerConfig(tower, depth=1, heads=2)).eval()
        >>> frames, wave = np.zeros((120, 40, 60, 3), np.uint8), np.zeros(76800, np.float32)
        >>> model(model.see(frames)[None], model.hear(wave)[None]).shape
        torch.Size([1, 21])
    """

    def __init__(self, config: SynchformerConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or SynchformerConfig()
        self.vfeat_extractor = SegmentVideoTower(c.tower)
        self.afeat_extractor = SegmentAudioTower(c.tower)
        self.vproj, self.aproj = nn.Linear(c.tower.dim, c.tower.dim), nn.Linear(c.tower.dim, c.tower.dim)
        self.transformer = OffsetTransformer(c.tower.dim, c.depth, c.heads)

    def forward(self, video: Tensor, audio: Tensor) -> Tensor:
        """Logits [B, 21] of :data:`OFFSETS_S`.

        Args:
            video, audio: vectors [B, 14, 8, dim] and [B, 14, 6, dim], as :meth:`see` and :meth:`hear` give them.

        Raises:
            UsageError: another number of segments.
        """
        if video.shape[1] != SEGMENTS or audio.shape[1] != SEGMENTS:
            raise UsageError(f"Synchformer reads {SEGMENTS} segments, not {video.shape[1]} and {audio.shape[1]}")
        return self.transformer(self.vproj(video).flatten(1, 2), self.aproj(audio).flatten(1, 2))

    @torch.no_grad()
    def see(self, frames: np.ndarray, short_side: int = 0) -> Tensor:
        """Vectors float32 [14, 8, dim] of pictures uint8 [120, H, W, 3] at 25 fps.

        Args:
            short_side: pixels that the short side is brought to before the middle is cut out: 256 as in V-AURA's
                evaluation; 0 is the size of what is cut out, 224, as in av-benchmark.

        Raises:
            UsageError: another number of pictures.
        """
        if len(frames) != FRAMES:
            raise UsageError(f"Synchformer reads {FRAMES} pictures, not {len(frames)}")
        size = self.config.tower.size
        prepared = Preprocessing(size, short_side or size, "bicubic", HALF, HALF)
        weight = self.vproj.weight
        parts = []
        for first in range(0, SEGMENTS, AT_ONCE):
            which = np.arange(first, min(first + AT_ONCE, SEGMENTS)) * STEP
            pixels = prepared.pixels(frames[which[0] : which[-1] + SEGMENT]).to(weight)
            segments = pixels.unfold(0, SEGMENT, STEP).movedim(-1, 1)  # [S, 16, 3, size, size]
            parts.append(self.vfeat_extractor(segments))
        return torch.cat(parts)

    @torch.no_grad()
    def hear(self, wave: np.ndarray) -> Tensor:
        """Vectors float32 [14, 6, dim] of a wave [76800] at 16 kHz.

        Raises:
            UsageError: another number of samples.
        """
        if wave.shape != (SAMPLES,):
            raise UsageError(f"Synchformer reads {SAMPLES} samples, not {wave.shape}")
        length = SEGMENT * SAMPLE_RATE // int(FPS)
        segments = torch.from_numpy(np.array(wave, np.float32)).unfold(0, length, length // 2)  # [14, 10240]
        return self.afeat_extractor(segment_mel(segments.to(self.vproj.weight)))

    def published_names(self) -> dict[str, str]:
        """Tensors of this network -> their names in a published file; only AST's are others, in transformers 5."""
        new = tensor_names(self.config.tower.depth)
        return {name: name.replace(tail, new.get(tail, tail)) for name in self.state_dict() for tail in [_of_ast(name)]}

    @classmethod
    def from_file(cls, path: str | Path, config: SynchformerConfig | None = None) -> Synchformer:
        """The network with published weights, frozen.

        Args:
            path: of safetensors with the published names, or of a folder with one such file.
            config: left out, the published sizes.

        Raises:
            WeightsError: there is no such file, or its tensors are others.
        """
        state = read_published(path, "Synchformer")
        unused = ("vfeat_extractor.patch_embed.proj.weight", "vfeat_extractor.patch_embed.proj.bias")
        net = cls(config)
        own = {published: name for name, published in net.published_names().items()}
        try:
            net.load_state_dict({own.get(name, name): x.float() for name, x in state.items() if name not in unused})
        except RuntimeError as error:
            raise WeightsError(f"{path}: these are no weights of Synchformer: {reason(error)}") from error
        return net.eval().requires_grad_(False)


def _of_ast(name: str) -> str:
    return name.removeprefix("afeat_extractor.ast.")


def segment_mel(waves: Tensor) -> Tensor:
    """Normalised log-mel spectrograms [B, 66, 128] of segments [B, 10240] at 16 kHz.

    25 ms Hann windows in the middle of 64 ms, every 10 ms, ends mirrored; 128 mel triangles of HTK's scale without a
    norm, 0 to 8 kHz; log(power + 1e-6). The released code fills the last column with zero before it normalises.
    """
    window = torch.hann_window(WINDOW, dtype=waves.dtype, device=waves.device)
    spectrum = torch.stft(waves, 2 * BINS - 2, HOP, WINDOW, window, return_complex=True, pad_mode="reflect")
    power = spectrum.abs().square().transpose(1, 2)  # [B, 65, 513]
    bank = (power @ _mel_basis().to(power) + 1e-6).log()
    return (F.pad(bank, (0, 0, 0, COLUMNS - bank.shape[1])) - MEAN) / (2 * DEVIATION)


@lru_cache(maxsize=1)
def _mel_basis() -> Tensor:
    """Mel triangles over the bins of a spectrum, [513, 128]."""
    import librosa

    basis = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=2 * BINS - 2, n_mels=BANDS, htk=True, norm=None)
    return torch.from_numpy(basis.T.copy())
