"""The spectrogram explorer: the effect of window, hop, mel bands and Griffin-Lim iterations."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import lru_cache, partial

import numpy as np

from v2a_nb import plots
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.widgets import explorer_frame as frame

DEFAULTS = {"n_fft": 512, "hop": 128, "mels": None, "iterations": 32}
ONE_BY_ONE = (
    {},
    {"n_fft": 128, "hop": 32},
    {"n_fft": 2048, "hop": 512},
    {"mels": 64},
    {"mels": 16},
    {"iterations": 4},
    {"iterations": 0},
)
"""Settings of the page: the defaults, then one setting changed at a time."""
N_FFT = (16, 16384)  # least and most
RANGE_DB = 80  # of the colours
CELLS = (200, 500)  # of a picture: rows and columns at most


class SpectrogramExplorer(frame.Explorer):
    """What :func:`explore_spectrogram` returns."""

    lead = (
        "Upper picture: what the representation keeps. Lower picture and sound: what came back from it by "
        "Griffin-Lim. Long windows smear time, short ones pitch; few bands lose pitch; few iterations ring."
    )

    def __init__(
        self, sound: Sound, settings: Sequence[Mapping] | None, events: Mapping | Sequence | None, seed: int, title: str
    ) -> None:
        self.sound, self.seed = frame.checked(sound, "explore_spectrogram"), seed
        self.times = frame.times_of(events)
        self._remarks = ("mixed to mono",) if sound.channels > 1 else ()
        super().__init__(title or "Spectrogram explorer", ONE_BY_ONE if settings is None else settings, DEFAULTS)

    def _check(self, settings: dict) -> None:
        check(self.sound, **settings)

    def _compute(self, settings: dict) -> frame.Variant:
        return spectrogram_at(self.sound, **settings, times=self.times, seed=self.seed)

    def _first(self) -> list[frame.Variant]:
        numbers = frame.onset_f1(self.sound, self.times, self.sound)
        draw = partial(frame.spectrogram_of, self.sound)
        return [frame.Variant("original", {}, self.sound, draw, numbers, self._remarks)]

    def _controls(self, w) -> dict:
        # lists and not sliders where the choices are few: a screen reader then says the value and not its place
        style = frame.control_style(w)
        bands = [("all bins", 0), *((f"{m} mels", m) for m in (8, 16, 32, 64, 80, 128))]
        return {
            "n_fft": w.Dropdown(
                options=[2**k for k in range(6, 12)], value=512, description="Window n_fft (samples)", **style
            ),
            "hop": w.Dropdown(options=[2**k for k in range(4, 11)], value=128, description="Hop (samples)", **style),
            "mels": w.Dropdown(options=bands, value=0, description="Bands", **style),
            "iterations": w.IntSlider(
                value=32, min=0, max=128, step=4, description="Griffin-Lim iterations", continuous_update=False, **style
            ),
        }

    def _read(self, name: str, value: object) -> object:
        return None if name == "mels" and value == 0 else value  # a Dropdown takes None for "nothing chosen"


@check_types
def explore_spectrogram(
    sound: Sound,
    settings: Sequence[Mapping] | None = None,
    *,
    events: Mapping | Sequence | None = None,
    seed: int = 0,
    title: str = "",
) -> SpectrogramExplorer:
    """Convert a sound to spectrograms of several settings and back by Griffin-Lim, and compare.

    The result is displayed as a static page that needs no kernel. ``.live()`` has sliders and needs one,
    ``.at(n_fft=1024)`` returns one choice, ``.table`` has the numbers, and ``.save(path)`` writes the page.

    Args:
        sound: of any rate, best a few seconds, since the page holds about 2 MB; channels are mixed to mono.
        settings: of each card, a dictionary of what differs from ``n_fft`` 512, ``hop`` 128, all bins (``mels``
            None) and 32 ``iterations``; left out, :data:`ONE_BY_ONE`.
        events: true events (of ``truth.json``) or their times, s; with them the onset F1 is against the truth.
        seed: of Griffin-Lim's initial phases.
        title: heading of the page.

    Raises:
        UsageError: an argument of a wrong type, an empty or too short sound, or impossible settings; see :func:`check`.

    Examples:
        >>> explorer = explore_spectrogram(sound, [{}, {"mels": 16}])
        >>> fine, coarse = (explorer.at(mels=mels).numbers["log-mel distance (dB)"] for mels in (None, 16))
        >>> fine < coarse
        True
    """
    return SpectrogramExplorer(sound, settings, events, seed, title)


def check(sound: Sound, n_fft: int, hop: int, mels: int | None, iterations: int) -> None:
    """Check that a sound can be recovered with these settings.

    Raises:
        UsageError: sizes that are no whole numbers; odd windows; a hop over half a window, where Hann windows lose
            samples between them; no bands, or more than bins; a sound shorter than a hop.
    """
    for name, value in (("n_fft", n_fft), ("hop", hop), ("mels", mels), ("iterations", iterations)):
        integral = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not integral and not (name == "mels" and value is None):
            raise UsageError(f"{name} must be a whole number, not {value!r}")
    if not N_FFT[0] <= n_fft <= N_FFT[1] or n_fft % 2:
        raise UsageError(f"n_fft {n_fft}: an even number of samples from {N_FFT[0]} to {N_FFT[1]} is needed")
    if not 1 <= hop <= n_fft // 2:
        raise UsageError(f"hop {hop} with n_fft {n_fft}: from 1 to n_fft / 2 = {n_fft // 2} samples are needed")
    bins = n_fft // 2 + 1
    if mels is not None and not 1 <= mels <= bins:
        raise UsageError(f"mels {mels} with n_fft {n_fft}: from 1 to {bins} bands are needed, or None for all bins")
    if not 0 <= iterations <= 1000:
        raise UsageError(f"iterations {iterations}: from 0 to 1000 are needed")
    if sound.n < hop:
        raise UsageError(f"a sound of {sound.n} samples is shorter than a hop of {hop}: give a longer sound")


def spectrogram_at(
    sound: Sound,
    n_fft: int = 512,
    hop: int = 128,
    mels: int | None = None,
    iterations: int = 32,
    *,
    times: np.ndarray | None = None,
    seed: int = 0,
) -> frame.Variant:
    """Compute one choice: the spectrogram as a picture, the recovered sound, and measures of the loss.

    Args:
        sound: mono.
        n_fft, hop: samples (Hann window).
        mels: bands of a Slaney basis over the whole range; None keeps the linear bins.
        iterations: of Griffin-Lim; 0 takes random phases as they are.
        times: of the true onsets, seconds.
        seed: of the initial phases.

    Returns:
        a variant whose numbers are ``values per sample`` (what the representation needs; a wave is 1),
        ``bin (Hz)``, ``window (ms)``, ``spectral convergence`` (how far Griffin-Lim is from the magnitudes it was
        given; 0 is perfect), ``log-mel distance (dB)`` to the original, and an onset F1.

    Raises:
        UsageError: see :func:`check`.
    """
    import torch

    from v2a_nb.audio.griffin_lim import griffin_lim, spectral_convergence
    from v2a_nb.audio.spectrogram import Spectrogram

    sound = frame.checked(sound, "spectrogram_at")
    check(sound, n_fft, hop, mels, iterations)
    front = Spectrogram(_front_end(sound.sample_rate, n_fft, hop, mels))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # librosa's, over empty bands: they are a remark below
        kept = front(torch.from_numpy(sound.samples.copy()))  # [1, F, T]
        magnitude = front.inverse(kept)  # [1, n_fft / 2 + 1, T]
        wave = griffin_lim(magnitude, hop, iterations=iterations, seed=seed, num_samples=sound.n)
        rebuilt = Sound(wave.numpy(), sound.sample_rate)
        again = front(wave)
    numbers = {
        "values per sample": kept.numel() / sound.n,
        "bin (Hz)": sound.sample_rate / n_fft,
        "window (ms)": 1000 * n_fft / sound.sample_rate,
        "spectral convergence": float(spectral_convergence(wave, magnitude, hop)),
        "log-mel distance (dB)": frame.distance_db(sound, rebuilt),
        **frame.onset_f1(rebuilt, times, sound),
    }
    bands = "all bins" if mels is None else f"{mels} mels"
    label = f"n_fft {n_fft}, hop {hop}, {bands}, {iterations} iterations"
    settings = {"n_fft": n_fft, "hop": hop, "mels": mels, "iterations": iterations}
    empty = 0 if mels is None else int((_peaks(sound.sample_rate, n_fft, mels) == 0).sum())
    remarks = (f"{empty} bands hold no bin",) if empty else ()
    panels = [_decibels(values[0].numpy(), sound.sample_rate, n_fft, mels) for values in (kept, again)]
    draw = partial(_picture, sound, settings, panels, label)
    return frame.Variant(label, settings, rebuilt, draw, numbers, remarks)


def _front_end(sample_rate: int, n_fft: int, hop: int, mels: int | None):
    from v2a_nb.audio.spectrogram import FrontEnd, LogScale, PictureLayout

    # a floor of 1e-5 lies over 100 dB under a full-scale sine, in bins and in bands: nothing audible is cut
    return FrontEnd(
        name="explorer", sample_rate=sample_rate, seconds=1.0, n_fft=n_fft, hop=hop, pad_mode="constant", mels=mels,
        fmin=0.0, fmax=sample_rate / 2, scale=LogScale(1e-5), picture=PictureLayout(),
    )  # fmt: skip


@lru_cache(maxsize=16)
def _basis(sample_rate: int, n_fft: int, mels: int) -> np.ndarray:
    import librosa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=mels, fmin=0.0, fmax=sample_rate / 2)


def _peaks(sample_rate: int, n_fft: int, mels: int) -> np.ndarray:
    """Height of each band's triangle [mels]; 0 where no bin lies in it."""
    return _basis(sample_rate, n_fft, mels).max(axis=1)


def _decibels(values: np.ndarray, rate: int, n_fft: int, mels: int | None) -> np.ndarray:
    """Log magnitudes [F, T] as dB under a full-scale sine, float16, in as many cells as a card can show.

    Where cells are merged the loudest wins: a picture that leaves cells out loses clicks and thin tones.
    """
    level = np.full((1, 1), n_fft / 4) if mels is None else _peaks(rate, n_fft, mels)[:, None] * n_fft / 4
    db = 20 * np.log10(np.maximum(np.exp(values) / np.maximum(level, 1e-9), 1e-7))
    high, wide = (-(-n // most) for n, most in zip(db.shape, CELLS, strict=True))
    db = np.pad(db, ((0, -db.shape[0] % high), (0, -db.shape[1] % wide)), constant_values=-140)
    return db.reshape(db.shape[0] // high, high, -1, wide).max(axis=(1, 3)).astype(np.float16)


def _picture(sound: Sound, settings: dict, panels: list[np.ndarray], label: str) -> plots.Figure:
    """What the representation holds of the original, and below of what came back, rows evenly spaced."""
    from matplotlib.figure import Figure

    n_fft, mels, rate = settings["n_fft"], settings["mels"], sound.sample_rate
    hertz = np.arange(n_fft // 2 + 1) * rate / n_fft
    if mels is not None:
        import librosa

        hertz = librosa.mel_frequencies(n_mels=mels + 2, fmin=0.0, fmax=rate / 2)[1:-1]
    frames = 1 + sound.n // settings["hop"]
    high, wide = -(-len(hertz) // CELLS[0]), -(-frames // CELLS[1])
    fig = Figure(figsize=(4.6, 3.4), layout="constrained")
    shared = fig.subplots(2, 1, sharex=True, sharey=True)
    step = settings["hop"] / rate
    for ax, db, title in zip(shared, panels, ("kept", "came back"), strict=True):
        # cells reach half a hop and half a band to each side of what they measure
        extent = (-step / 2, (db.shape[1] * wide - 0.5) * step, -0.5, db.shape[0] * high - 0.5)
        picture = ax.imshow(
            db.astype(np.float32), origin="lower", aspect="auto", extent=extent, vmin=-RANGE_DB, vmax=0, cmap="magma",
            interpolation="nearest",
        )  # fmt: skip
        ax.set_title(title, fontsize=9, loc="left", pad=3)
        ax.set_ylabel("Hz")
    wanted = np.array([f for f in (250, 500, 1000, 2000, 4000, 8000, 16000) if hertz[0] <= f <= rate / 2 + 1])
    rows = np.interp(wanted, hertz, np.arange(len(hertz)))
    room = np.concatenate([rows[:-1][np.diff(rows) > 0.12 * len(hertz)], rows[-1:]]) if len(rows) else rows
    shared[0].set_yticks(room, [str(f) for f, row in zip(wanted, rows, strict=True) if row in room])
    shared[1].set(xlabel="time (s)", xlim=(0, max(sound.duration, 1e-3)), ylim=(-0.5, len(hertz) - 0.5))
    fig.colorbar(picture, ax=list(shared), label="dBFS", pad=0.01)
    return plots.show(fig, f"Spectrogram at {label}, {sound.duration:.2f} s: what is kept above, what came back below.")
