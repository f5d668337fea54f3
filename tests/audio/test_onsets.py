"""The log-mel flux: one definition for the detector (numpy) and for the training target (torch)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from v2a_nb.audio import onsets, targets
from v2a_nb.audio.onsets import detect_onsets, match_onsets, onset_scores, onset_strength
from v2a_nb.clip import Sound

torch.set_num_threads(1)
RATE = 16000
N = 40960  # 2.56 s


def struck(seed: int, amplitude: float, noise_dbfs: float = -45.0) -> tuple[np.ndarray, float]:
    """A struck bar over white noise, and when it was struck (s)."""
    rng = np.random.default_rng(seed)
    wave = rng.standard_normal(N) * 10 ** (noise_dbfs / 20)
    start = int(rng.uniform(0.3, 1.8) * RATE)
    t = np.arange(int(0.6 * RATE)) / RATE
    ring = np.zeros(len(t))
    for ratio in (1, 2.57, 4.2, 6.1, 8.4):
        pitch = 420 * 2 ** rng.uniform(-0.5, 0.5) * ratio
        ring += ratio**-0.7 * np.sin(2 * np.pi * pitch * t) * np.exp(-6.91 * t * ratio**0.55 / 0.2)
    ring /= np.abs(ring).max()
    ring[:80] += 0.35 * rng.standard_normal(80) * np.hanning(160)[80:]
    wave[start : start + len(t)] += amplitude * ring / np.abs(ring).max()
    return wave.astype(np.float32), start / RATE


def ambience(kind: str, seed: int, dbfs: float, n: int = N) -> np.ndarray:
    """Steady sound, float32 [n], at ``dbfs`` RMS."""
    from scipy.signal import lfilter

    rng = np.random.default_rng(seed)
    noise = rng.standard_normal(n)
    if kind == "hum":
        t = np.arange(n) / RATE
        noise = 0.02 * noise + sum(np.sin(2 * np.pi * 50 * k * t + k) / k for k in (1, 2, 3, 4, 6, 8))
    elif kind == "rain":
        drops = (rng.random(n) < 60 / RATE) * noise
        noise = 0.8 * lfilter([1, -0.7], [1, -0.2], noise) + 0.7 * lfilter([1], [1, -1.2, 0.72], drops)
    return (noise * 10 ** (dbfs / 20) / np.sqrt(np.mean(noise**2))).astype(np.float32)


@pytest.mark.parametrize("amplitude", [0.05, 0.1, 0.3, 0.8])
def test_a_knock_is_found_where_it_is(amplitude: float) -> None:
    errors, extra, missed = [], 0, 0
    for seed in range(20):
        wave, when = struck(seed, amplitude)
        found = detect_onsets(wave)
        near = found[np.abs(found - when) < 0.02]
        missed += not len(near)
        extra += len(found) - len(near[:1])
        errors.extend(near[:1] - when)
    assert missed == 0 and extra <= 1
    assert np.abs(errors).max() < 0.005
    assert abs(np.median(errors)) < 0.002


@pytest.mark.parametrize("dbfs", [-60.0, -50.0])
@pytest.mark.parametrize("kind", ["hiss", "hum", "rain"])
def test_steady_sound_has_no_onset(kind: str, dbfs: float) -> None:
    counts = [len(detect_onsets(ambience(kind, seed, dbfs))) for seed in range(20)]
    assert counts == [0] * 20


def test_silence_and_shreds_have_no_onset() -> None:
    for n in (0, 1, 79, 319, 320, 400, N):
        assert detect_onsets(np.zeros(n, np.float32)).shape == (0,)
    assert not onset_strength(np.zeros(N, np.float32)).any()


def test_the_threshold_is_absolute() -> None:
    # one loud hit must not hide a soft one, nor must its absence let noise through
    wave, when = struck(3, 0.1)
    both = wave.copy()
    both[:200] += 0.9 * np.hanning(200).astype(np.float32)
    loud, _ = struck(4, 0.9)
    both[30000:38000] += loud[np.argmax(np.abs(loud)) - 20 :][:8000]
    assert np.abs(detect_onsets(wave) - when).min() < 0.005
    assert np.abs(detect_onsets(both) - when).min() < 0.005


def test_onsets_move_with_the_sound() -> None:
    wave, when = struck(1, 0.3)
    for shift in (1, 37, 80, 1111):  # finer than a frame, too: the peak is interpolated
        moved = detect_onsets(np.roll(wave, shift))
        assert np.abs(moved - when - shift / RATE).min() < 0.003


def test_two_hits_closer_than_the_gap_are_one_and_farther_are_two() -> None:
    t = np.arange(300) / RATE
    hit = (0.5 * np.sin(2 * np.pi * 1500 * t) * np.exp(-400 * t)).astype(np.float32)
    for gap, number in ((0.03, 1), (0.12, 2)):
        wave = np.zeros(N, np.float32)
        for at in (0.5, 0.5 + gap):
            wave[int(at * RATE) :][:300] += hit
        assert len(detect_onsets(wave)) == number


def test_a_sound_of_any_rate_and_channels() -> None:
    wave, when = struck(2, 0.4)
    sound = Sound(wave, RATE)
    for other in (sound, sound.stereo(), sound.resample(44100), sound.resample(48000).stereo()):
        assert np.abs(detect_onsets(other) - when).min() < 0.005


def test_training_target_and_detector_measure_the_same() -> None:
    assert (targets.HOP, targets.WINDOW, targets.BANDS, targets.FLOOR, targets.SAMPLE_RATE) == (
        onsets.HOP, onsets.WINDOW, onsets.BANDS, onsets.FLOOR, onsets.SAMPLE_RATE,
    )  # fmt: skip
    wave, when = struck(0, 0.5)
    ours = onsets.log_mel(wave)
    theirs = targets.log_mel(torch.from_numpy(wave)[None])[0]
    assert np.abs(ours[:, : theirs.shape[1]] - theirs.numpy()).max() < 1e-3
    strength = targets.rises(theirs[None]).mean(1)[0].numpy()
    assert np.abs(strength[4:-2] - onset_strength(wave)[4 : len(strength) - 2]).max() < 1e-3
    sharp, bands = targets.flux_target(theirs[None])
    assert sharp.shape == (1, 128, 4) and bands.shape == (1, 128, 8)
    loudest = int(sharp.flatten().argmax()) * 0.005
    assert abs(loudest - when) < 0.0075


def test_log_mel_is_librosas() -> None:
    librosa = pytest.importorskip("librosa")
    wave, _ = struck(5, 0.3)
    spectrum = librosa.stft(wave, n_fft=512, win_length=256, hop_length=80)
    basis = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=40, fmin=60, fmax=7800)
    theirs = np.log(basis @ np.abs(spectrum) ** 2 + 1e-5)
    ours = onsets.log_mel(wave)
    assert ours.dtype == np.float32 and ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-3


def test_it_transforms_each_window_once_and_makes_its_bands_once(monkeypatch) -> None:
    windows, bands = [], []
    transform, mel = np.fft.rfft, onsets.mel_basis
    monkeypatch.setattr(np.fft, "rfft", lambda x, **how: windows.append(len(x)) or transform(x, **how))
    monkeypatch.setattr(onsets, "mel_basis", lambda *what: bands.append(what) or mel(*what))
    onsets._basis.cache_clear()
    for seed in range(3):
        detect_onsets(struck(seed, 0.3)[0])
    assert windows == [1 + N // onsets.HOP] * 3 and len(bands) == 1


# --- matching ---------------------------------------------------------------------------------------


def test_the_golden_toy() -> None:
    reference, estimate = np.array([0.5, 1, 1.5, 2]), np.array([0.53, 1.06, 1.49, 2, 2.5])
    precision, recall, f1 = onset_scores(reference, estimate, 0.05)
    assert (precision, recall) == (0.6, 0.75) and f1 == pytest.approx(2 / 3)
    offsets = [estimate[j] - reference[i] for i, j in match_onsets(reference, estimate, 0.05)]
    assert np.median(np.abs(offsets)) == pytest.approx(0.010)


def test_empty_lists() -> None:
    none, some = np.zeros(0), np.array([0.5])
    assert np.isnan(onset_scores(none, none, 0.05)).all()
    assert onset_scores(none, some, 0.05) == onset_scores(some, none, 0.05) == (0.0, 0.0, 0.0)


def test_the_window_is_inclusive() -> None:
    for reference in np.arange(0.1, 2.5, 0.1):
        assert len(match_onsets(np.array([reference]), np.array([reference + 0.05]), 0.05)) == 1
        assert not match_onsets(np.array([reference]), np.array([reference + 0.0501]), 0.05)


def test_scores_are_mir_evals() -> None:
    onset = pytest.importorskip("mir_eval").onset
    rng = np.random.default_rng(0)
    for _ in range(500):
        reference = np.sort(rng.uniform(0, 3, rng.integers(1, 12)))
        estimate = np.sort(rng.uniform(0, 3, rng.integers(1, 12)))
        for window in (0.025, 0.05, 0.1, 0.25):
            f1, precision, recall = onset.f_measure(reference, estimate, window)
            assert onset_scores(reference, estimate, window) == pytest.approx((precision, recall, f1))
            pairs = match_onsets(reference, estimate, window)
            assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)


@pytest.mark.parametrize("kind", ["hiss", "hum"])
def test_the_cut_at_a_clips_ends_is_no_onset(kind: str) -> None:
    # a loud ambience is cut in the middle of everything; nothing starts or ends there
    found = [t for seed in range(40) for t in detect_onsets(ambience(kind, seed, -40.0))]
    assert sum(t < 0.03 or t > N / RATE - 0.03 for t in found) <= 2
