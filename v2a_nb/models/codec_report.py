"""How a codec changes sounds: spectral distance, use of its codes, and whether onsets stay where they were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from v2a_nb.audio.griffin_lim import stft
from v2a_nb.audio.onsets import detect_onsets, match_onsets
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError

if TYPE_CHECKING:
    from v2a_nb.models.codec import Codec

WINDOW_S = 0.05
MEL_FLOOR = STFT_FLOOR = 1e-5
STFTS = (512, 1024, 2048)


def log10_mel(wave: Tensor, sample_rate: int) -> Tensor:
    """log10 of 80 mel bands of the magnitude, [B, n] to [B, 80, 1 + n // 256]; n_fft 1024, floor 1e-5.

    The floor of -5 and the base are those of DAC's mel distance (Kumar et al. 2023, released ``loss.py``).
    """
    import librosa

    basis = torch.from_numpy(librosa.filters.mel(sr=sample_rate, n_fft=1024, n_mels=80).astype(np.float32))
    spectrum = torch.stft(wave, 1024, 256, window=torch.hann_window(1024), pad_mode="constant", return_complex=True)
    return torch.log10((basis @ spectrum.abs()).clamp(min=MEL_FLOOR))


def stft_distance(decoded: Tensor, true: Tensor, range_db: float | None = None) -> Tensor:
    """Multi-resolution STFT distance [B] of waves [B, n] (Yamamoto et al. 2020, section 2.2).

    Spectral convergence plus the mean distance of log magnitudes (natural, floor 1e-5), averaged over transforms
    of 512, 1024 and 2048 samples with hops of a quarter.

    Args:
        decoded, true: waves of one length.
        range_db: magnitudes that are further below the largest of ``true`` count as so large.
    """
    total = decoded.new_zeros(len(decoded))
    for n in STFTS:
        a, b = (stft(wave, n, n // 4).abs() for wave in (decoded, true))
        if range_db is not None:
            floor = b.amax(dim=(1, 2), keepdim=True) * 10 ** (-range_db / 20)
            a, b = a.maximum(floor), b.maximum(floor)
        logs = (torch.log(a.clamp(min=STFT_FLOOR)) - torch.log(b.clamp(min=STFT_FLOOR))).abs().mean(dim=(1, 2))
        convergence = (a - b).norm(dim=(1, 2)) / b.norm(dim=(1, 2)).clamp(min=torch.finfo(b.dtype).tiny)
        total += convergence + logs
    return total / len(STFTS)


def code_use(codes: Tensor, size: int) -> list[dict[str, float]]:
    """How a codebook is used, per codebook of ``codes`` [B, K, T].

    Returns:
        per codebook ``used``, how many of its ``size`` codes occur, and ``perplexity``, 2 to the entropy in
        bits: of how many equally frequent codes the choice would be as hard to guess.
    """
    result = []
    for level in range(codes.shape[1]):
        counts = torch.bincount(codes[:, level].flatten(), minlength=size).double()
        share = counts[counts > 0] / counts.sum()
        perplexity = float(torch.exp(-(share * share.log()).sum()))
        result.append({"used": int((counts > 0).sum()), "perplexity": perplexity})
    return result


def pooled_f1(true: Sequence[np.ndarray], found: Sequence[np.ndarray], window: float = WINDOW_S) -> float:
    """F1 of all onsets of all sounds together, times in s; NaN where there are none at all."""
    hits = sum(len(match_onsets(a, b, window)) for a, b in zip(true, found, strict=True))
    total = sum(len(a) + len(b) for a, b in zip(true, found, strict=True))
    return 2 * hits / total if total else float("nan")


def codec_report(
    codec: Codec,
    waves: np.ndarray | Tensor,
    true_event_times: Sequence[np.ndarray] | None = None,
    *,
    batch: int = 16,
) -> dict:
    """Encode and decode sounds, and measure the difference.

    Args:
        codec: any :class:`~v2a_nb.models.codec.Codec`.
        waves: float [N, n] in [-1, 1] at the codec's rate.
        true_event_times: per sound, when something really happened (s).
        batch: sounds per call.

    Returns:
        A dictionary of plain numbers and lists:

        - ``mel_distance``: mean distance of :func:`log10_mel` between original and decoded; 0.05 is 1 dB.
        - ``mel_distance_by_codebooks``: the same with the first 1, 2, ... K codebooks.
        - ``level_error_db``: mean distance of the RMS levels, dB; ``level_bias_db`` has the sign.
        - ``codebooks``: see :func:`code_use`.
        - ``onset_f1_50ms``: onsets of the decoded against those of the original, pooled.
        - ``onset_f1_50ms_by_codebooks``: the same with fewer codebooks.
        - ``onset_shift_ms``: median of decoded minus original over matched onsets; ``onset_jitter_ms`` is
          the median of its absolute value.
        - with ``true_event_times``: ``original_f1_50ms`` and ``decoded_f1_50ms`` against the truth.

    Raises:
        UsageError: ``waves`` is not [N, n], is empty, or has not as many sounds as there are lists of times.
    """
    waves = torch.as_tensor(np.asarray(waves), dtype=torch.float32)
    if waves.dim() != 2 or not waves.numel():
        raise UsageError(f"sounds [N, n] are needed, not {tuple(waves.shape)}")
    if true_event_times is not None and len(true_event_times) != len(waves):
        raise UsageError(f"{len(waves)} sounds, but event times of {len(true_event_times)}")
    rate, n = codec.sample_rate, waves.shape[-1]
    books = codec.num_codebooks
    codes = torch.cat([codec.encode(part).cpu() for part in waves.split(batch)])
    original = [_onsets(wave, rate) for wave in waves]
    mel, level = log10_mel(waves, rate), _dbfs(waves)
    distances, scores = [], []
    for k in range(1, books + 1):
        waves_k = torch.cat([codec.decode(part[:, :k], n).float().cpu() for part in codes.split(batch)])
        distances.append(float((log10_mel(waves_k, rate) - mel).abs().mean()))
        decoded = [_onsets(wave, rate) for wave in waves_k]
        scores.append(pooled_f1(original, decoded))
    # of all codebooks, which came last
    gap = _dbfs(waves_k) - level
    shifts = [
        (b[j] - a[i]) * 1000 for a, b in zip(original, decoded, strict=True) for i, j in match_onsets(a, b, WINDOW_S)
    ]
    report = {
        "sounds": len(waves),
        "mel_distance": distances[-1],
        "mel_distance_by_codebooks": distances,
        "level_error_db": float(gap.abs().mean()),
        "level_bias_db": float(gap.mean()),
        "codebooks": code_use(codes, codec.codebook_size),
        "onset_f1_50ms": scores[-1],
        "onset_f1_50ms_by_codebooks": scores,
        "onset_shift_ms": float(np.median(shifts)) if shifts else math.nan,
        "onset_jitter_ms": float(np.median(np.abs(shifts))) if shifts else math.nan,
    }
    if true_event_times is not None:
        times = [np.sort(np.asarray(t, float)) for t in true_event_times]
        report["original_f1_50ms"] = pooled_f1(times, original)
        report["decoded_f1_50ms"] = pooled_f1(times, decoded)
    return report


def _onsets(wave: Tensor, rate: int) -> np.ndarray:
    return detect_onsets(Sound(wave.numpy(), rate))


def _dbfs(waves: Tensor) -> Tensor:
    """RMS level of each sound [B, n], dBFS; -120 for silence."""
    return 10 * torch.log10(waves.double().square().mean(-1).clamp(min=1e-12))
