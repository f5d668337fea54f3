"""Griffin-Lim: find a wave whose STFT has given magnitudes, without knowing its phases.

The fast variant with momentum of Perraudin, Balazs and Sondergaard (WASPAA 2013), step for step as
``librosa.griffinlim`` does it, but batched and on any torch device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from v2a_nb.errors import UsageError


def stft(wave: Tensor, n_fft: int, hop: int, pad_mode: str = "constant") -> Tensor:
    """Centred short-time Fourier transform with a periodic Hann window, as ``librosa.stft``.

    Args:
        wave: [B, n] real.
        n_fft: window and transform length, samples.
        hop: samples between frames.
        pad_mode: ``"constant"`` (zeros, librosa's default) or ``"reflect"`` (needs n > n_fft / 2).

    Returns:
        complex [B, n_fft / 2 + 1, 1 + n // hop].

    Raises:
        UsageError: the wave is empty, or too short to be reflected.
    """
    n = wave.shape[-1]
    shortest = n_fft // 2 + 1 if pad_mode == "reflect" else 1
    if n < shortest:
        raise UsageError(
            f"a spectrogram with n_fft {n_fft} and {pad_mode} padding needs {shortest} samples, "
            f"the sound has {n}: give a longer sound"
        )
    window = torch.hann_window(n_fft, dtype=wave.dtype, device=wave.device)
    return torch.stft(wave, n_fft, hop, window=window, center=True, pad_mode=pad_mode, return_complex=True)


def istft(spectrum: Tensor, hop: int, num_samples: int | None = None) -> Tensor:
    """Inverse of :func:`stft`: complex [B, F, T] to [B, num_samples], default hop * (T - 1)."""
    n_fft = 2 * (spectrum.shape[-2] - 1)
    window = torch.hann_window(n_fft, dtype=spectrum.real.dtype, device=spectrum.device)
    return torch.istft(spectrum, n_fft, hop, window=window, center=True, length=num_samples)


def griffin_lim(
    magnitude: Tensor,
    hop: int,
    *,
    iterations: int = 32,
    momentum: float = 0.99,
    seed: int | None = 0,
    num_samples: int | None = None,
    pad_mode: str = "constant",
) -> Tensor:
    """Find waves whose STFT magnitudes are close to the given ones.

    Args:
        magnitude: [B, F, T], not negative, F = n_fft / 2 + 1.
        hop: samples between frames.
        iterations: number of iterations; 0 uses the initial phases as they are.
        momentum: 0 is the algorithm of 1984; 0.99 needs several times fewer iterations for the same error.
        seed: of the initial phases; None starts from zero phase, as librosa's ``init=None``. All items
            of a batch start from the same phases, so the result of an item does not depend on the
            batch it is in.
        num_samples: length of the result; left out, hop * (T - 1).
        pad_mode: padding of the STFT that the magnitudes come from.

    Returns:
        [B, num_samples], in the type and on the device of ``magnitude``.

    Raises:
        UsageError: fewer than two frames, negative magnitudes, or settings out of range.
    """
    if magnitude.ndim != 3 or magnitude.shape[-1] < 2:
        raise UsageError(f"Griffin-Lim needs magnitudes [B, F, T] with T of 2 or more, not {tuple(magnitude.shape)}")
    if iterations < 0 or momentum < 0:
        raise UsageError(f"iterations ({iterations}) and momentum ({momentum}) cannot be negative")
    if magnitude.numel() and not bool((magnitude >= 0).all()):
        raise UsageError("magnitudes are negative or NaN: undo the scaling of the spectrogram first")
    n_fft = 2 * (magnitude.shape[-2] - 1)
    frames = hop * (magnitude.shape[-1] - 1)  # the length that has exactly T frames
    tiny = torch.finfo(magnitude.dtype).tiny
    phases = _first_phases(magnitude, seed)
    previous: Tensor | None = None
    for _ in range(iterations):
        spectrum = stft(istft(magnitude * phases, hop, frames), n_fft, hop, pad_mode)  # [B, F, T]
        ahead = spectrum if previous is None else spectrum - momentum / (1 + momentum) * previous
        phases = ahead / (ahead.abs() + tiny)
        previous = spectrum
    return istft(magnitude * phases, hop, frames if num_samples is None else num_samples)


def spectral_convergence(wave: Tensor, magnitude: Tensor, hop: int, pad_mode: str = "constant") -> Tensor:
    """Distance of a wave's STFT magnitudes from given ones, [B]: 0 is equal, 1 is the distance of silence.

    The Frobenius norm of the difference over that of ``magnitude`` (Sturmel and Daudet, DAFx 2011).

    Args:
        wave: [B, n] with 1 + n // hop = T.
        magnitude: [B, F, T].
    """
    n_fft = 2 * (magnitude.shape[-2] - 1)
    found = stft(wave, n_fft, hop, pad_mode).abs()
    tiny = torch.finfo(magnitude.dtype).tiny
    return (found - magnitude).norm(dim=(1, 2)) / magnitude.norm(dim=(1, 2)).clamp(min=tiny)


def _first_phases(magnitude: Tensor, seed: int | None) -> Tensor:
    """Initial phases as unit complex numbers [1, F, T], drawn on the CPU so that every device starts alike."""
    shape = (1, *magnitude.shape[1:])
    if seed is None:
        turns = torch.zeros(shape, dtype=magnitude.dtype)
    else:
        generator = torch.Generator().manual_seed(seed)
        turns = torch.rand(shape, generator=generator, dtype=torch.float64).to(magnitude.dtype)
    turns = turns.to(magnitude.device)
    return torch.polar(torch.ones_like(turns), 2 * torch.pi * turns)
