"""``Clip`` and ``Sound``: a video and a soundtrack in memory, which all other parts of the package take and return.

Both are immutable: every method returns a new value, and arrays are read-only. Neither imports torch, so that a
notebook can cut and show them before any model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from v2a_nb.errors import MediaError, UsageError, check_types, check_value

CHANNELS = {
    "mono": "FC",
    "stereo": "FL+FR",
    "2.1": "FL+FR+LFE",
    "3.0": "FL+FR+FC",
    "3.0(back)": "FL+FR+BC",
    "3.1": "FL+FR+FC+LFE",
    "4.0": "FL+FR+FC+BC",
    "quad": "FL+FR+BL+BR",
    "quad(side)": "FL+FR+SL+SR",
    "4.1": "FL+FR+FC+LFE+BC",
    "5.0": "FL+FR+FC+BL+BR",
    "5.0(side)": "FL+FR+FC+SL+SR",
    "5.1": "FL+FR+FC+LFE+BL+BR",
    "5.1(side)": "FL+FR+FC+LFE+SL+SR",
    "6.0": "FL+FR+FC+BC+SL+SR",
    "6.1": "FL+FR+FC+LFE+BC+SL+SR",
    "7.0": "FL+FR+FC+BL+BR+SL+SR",
    "7.1": "FL+FR+FC+LFE+BL+BR+SL+SR",
    "7.1(wide)": "FL+FR+FC+LFE+BL+BR+FLC+FRC",
}
"""Channel layouts: front, side and back, left, right and centre, and the low-frequency effects (LFE)."""
_BLOCK = 1 << 20  # samples per channel that are squared at a time
_HALF = 0.5**0.5
_LEFT = {"FL": 1.0, "FLC": 1.0, "DL": 1.0, "FC": _HALF, "SL": _HALF, "BL": _HALF, "BC": 0.5}
_RIGHT = {"FR": 1.0, "FRC": 1.0, "DR": 1.0, "FC": _HALF, "SR": _HALF, "BR": _HALF, "BC": 0.5}


@dataclass(frozen=True, eq=False)
class Sound:
    """An audio signal: samples and their rate.

    Attributes:
        samples: float32 [channels, n]; full scale is -1 to 1. A 1-D array becomes one channel.
        sample_rate: samples per second, Hz.
        layout: which loudspeakers the channels belong to: a name such as ``"5.1"`` (:data:`CHANNELS`), or the
            loudspeakers, ``"FL+FR+FC"``. None: unknown.

    Raises:
        MediaError: samples that are no numbers, NaN or infinite, an array of the wrong shape, or an impossible rate.
        UsageError: a sample rate that is no number.

    Examples:
        >>> tone = Sound(0.5 * np.sin(np.arange(16000) * 0.1), 16000)
        >>> tone
        Sound(1.000 s, 16000 Hz, mono, peak -6.0 dBFS, rms -9.0 dBFS)
        >>> tone.slice(0.25, 0.5).n
        4000
    """

    samples: np.ndarray
    sample_rate: int
    layout: str | None = None

    def __post_init__(self) -> None:
        check_value("Sound", "sample_rate", self.sample_rate, float)
        check_value("Sound", "layout", self.layout, str, type(None))
        try:
            samples = self.samples if _is_frozen(self.samples) else np.array(self.samples, np.float32)
        except (TypeError, ValueError) as error:
            raise MediaError(f"samples must be numbers [channels, n]: {error}") from error
        if samples.ndim == 1:
            samples = samples[None]
        if samples.ndim != 2 or samples.shape[0] == 0:
            raise MediaError(f"samples must be [channels, n], not {samples.shape}")
        if not self.sample_rate > 0 or self.sample_rate % 1:
            raise MediaError(f"a sample rate of {self.sample_rate} Hz is impossible")
        if self.layout is not None and len(self._speakers) != samples.shape[0]:
            raise MediaError(f"a sound of {samples.shape[0]} channels cannot have the layout {self.layout!r}")
        if samples.size and not np.isfinite([samples.min(), samples.max()]).all():  # which NaN becomes, too
            bad = int((~np.isfinite(samples)).sum())
            raise MediaError(f"{bad} of {samples.size} samples are NaN or infinite")
        samples.flags.writeable = False
        object.__setattr__(self, "samples", samples)
        object.__setattr__(self, "sample_rate", int(self.sample_rate))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.samples.shape[0]

    @property
    def _speakers(self) -> list[str]:
        """The loudspeakers of the channels; empty where they are unknown."""
        return CHANNELS.get(self.layout, self.layout).split("+") if self.layout else []

    @property
    def n(self) -> int:
        """Number of samples per channel."""
        return self.samples.shape[1]

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.n / self.sample_rate

    @property
    def peak(self) -> float:
        """The largest absolute sample; 0 for an empty sound."""
        return float(max(self.samples.max(), -self.samples.min())) if self.n else 0.0

    @property
    def rms_dbfs(self) -> float:
        """The root mean square in dB relative to full scale, -120 at least."""
        if not self.n:
            return -120.0
        blocks = (self.samples[:, k : k + _BLOCK] for k in range(0, self.n, _BLOCK))
        power = float(sum(np.square(block, dtype=np.float64).sum() for block in blocks)) / self.samples.size
        return 10 * float(np.log10(max(power, 1e-12)))

    @check_types
    def slice(self, start: float, end: float | None = None) -> Sound:
        """Return the part from ``start`` to ``end`` (s), rounded to samples and limited to the sound's length.

        Raises:
            UsageError: the end is not after the start.
        """
        end = self.duration if end is None else end
        if end <= start:
            raise UsageError(f"a slice from {start} s to {end} s is empty")
        a, b = (int(np.clip(round(t * self.sample_rate), 0, self.n)) for t in (start, end))
        return replace(self, samples=self.samples[:, a:b])

    @check_types
    def resample(self, sample_rate: int) -> Sound:
        """Convert to another sample rate with a polyphase filter of linear phase.

        Raises:
            UsageError: a rate of 0 Hz or less.
        """
        if sample_rate == self.sample_rate:
            return self
        if sample_rate <= 0:
            raise UsageError(f"a sample rate of {sample_rate} Hz is impossible")
        from math import gcd

        from scipy.signal import resample_poly

        common = gcd(int(sample_rate), self.sample_rate)
        up, down = int(sample_rate) // common, self.sample_rate // common
        samples = resample_poly(self.samples.astype(np.float64), up, down, axis=1)
        n = int(round(self.n * sample_rate / self.sample_rate))
        return replace(self, samples=_fit(samples, n), sample_rate=sample_rate)

    def mono(self) -> Sound:
        """Mix the channels into one: the mean of both where there are two, and of :meth:`stereo` where there are more.

        More than two channels of unknown layout are averaged.
        """
        if self.channels == 1:
            return self
        samples = self.stereo().samples if self.channels > 2 and self.layout else self.samples
        return Sound(samples.mean(axis=0, keepdims=True), self.sample_rate)

    def stereo(self) -> Sound:
        """Return two channels: one is doubled, more are mixed by their layout (Recommendation ITU-R BS.775).

        Left becomes ``FL + 0.71 FC + 0.71 SL`` (or ``BL``; and half of a back centre), right likewise; the
        low-frequency effects are left out. Samples may go beyond full scale. More than two channels of unknown layout
        are averaged.
        """
        if self.channels == 2:
            return self
        if self.channels == 1 or not self.layout:
            return Sound(np.repeat(self.mono().samples, 2, axis=0), self.sample_rate)
        mix = [[side.get(speaker, 0.0) for speaker in self._speakers] for side in (_LEFT, _RIGHT)]
        return Sound(np.array(mix, np.float32) @ self.samples, self.sample_rate, "stereo")

    @check_types
    def gain(self, db: float) -> Sound:
        """Amplify by ``db`` decibels; samples beyond full scale are not clipped."""
        return replace(self, samples=self.samples * np.float32(10 ** (db / 20)))

    @check_types
    def fit(self, seconds: float | None = None, *, n: int | None = None) -> Sound:
        """Cut the end off, or append silence, to a length of exactly ``seconds``, or of ``n`` samples.

        Raises:
            UsageError: neither length is given, or it is negative.
        """
        if n is None:
            if seconds is None or not seconds >= 0:
                raise UsageError(f"cannot fit a sound to {seconds} s")
            n = int(round(seconds * self.sample_rate))
        if n < 0:
            raise UsageError(f"cannot fit a sound to {n} samples")
        return replace(self, samples=_fit(self.samples, n))

    def __repr__(self) -> str:
        kind = {1: "mono", 2: "stereo"}.get(self.channels, f"{self.channels} channels")
        peak = 20 * np.log10(max(self.peak, 1e-6))
        return (
            f"Sound({self.duration:.3f} s, {self.sample_rate} Hz, {kind}, "
            f"peak {peak:.1f} dBFS, rms {self.rms_dbfs:.1f} dBFS)"
        )

    def _repr_html_(self) -> str | None:
        return _html_of(self) if _html_of else None


@dataclass(frozen=True, eq=False)
class Clip:
    """A video: frames with their times, and optionally a sound.

    Attributes:
        frames: uint8 [T, H, W, 3], RGB.
        times: float64 [T]: when each frame appears, seconds from the clip's start, increasing. Left out, the frames
            are evenly spaced at ``fps``.
        fps: nominal frames per second.
        duration: seconds; left out, the last frame lasts ``1 / fps``.
        sound: the soundtrack, or None.
        name: a title, which errors mention too.
        problems: what of its file could not be read, one short line each.
        file: the path of the video file that it was read from; empty: it was made in memory.

    Raises:
        MediaError: frames or times of another type or shape, an impossible frame rate, a sound that is no Sound.
        UsageError: another argument of a wrong type.

    Examples:
        >>> clip = Clip(np.zeros((50, 48, 64, 3), np.uint8), fps=25.0)
        >>> clip
        Clip(2.000 s, 64x48, 50 frames at 25 fps, silent)
        >>> clip.at_fps(10).n
        20
    """

    frames: np.ndarray
    times: np.ndarray = None  # type: ignore[assignment]  # left out only when a clip is made
    fps: float = 25.0
    duration: float = None  # type: ignore[assignment]
    sound: Sound | None = None
    name: str = "clip"
    problems: tuple[str, ...] = ()
    file: str = ""

    def __post_init__(self) -> None:
        kinds = {"fps": [float], "duration": [float, type(None)], "name": [str], "problems": [Sequence], "file": [str]}
        for name, fitting in kinds.items():
            check_value("Clip", name, getattr(self, name), *fitting)
        frames = np.asarray(self.frames)
        if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
            raise MediaError(f"frames must be uint8 [T, H, W, 3], not {frames.dtype} {frames.shape}")
        if not len(frames):
            raise MediaError(f"{self.name}: no frames")
        if not 0 < self.fps < 10000:
            raise MediaError(f"{self.name}: {self.fps} frames per second is impossible")
        try:
            times = np.array(np.arange(len(frames)) / self.fps if self.times is None else self.times, np.float64)
        except (TypeError, ValueError) as error:
            raise MediaError(f"{self.name}: times must be numbers, one for each frame: {error}") from error
        if times.shape != (len(frames),) or (np.diff(times) <= 0).any():
            raise MediaError(f"{self.name}: times must be increasing, one for each frame")
        duration = times[-1] + 1 / self.fps if self.duration is None else self.duration
        if self.sound is not None and not isinstance(self.sound, Sound):
            raise MediaError(f"{self.name}: the sound must be a Sound, not {type(self.sound).__name__}")
        frames = frames.view()
        frames.flags.writeable = False
        times.flags.writeable = False
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "duration", float(duration))
        object.__setattr__(self, "problems", tuple(self.problems))

    @property
    def n(self) -> int:
        """Number of frames."""
        return len(self.frames)

    @property
    def height(self) -> int:
        """Rows of pixels."""
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        """Columns of pixels."""
        return self.frames.shape[2]

    @check_types
    def slice(self, start: float, end: float | None = None) -> Clip:
        """Return the part from ``start`` to ``end`` (s); its first frame is the one that is visible at ``start``.

        Raises:
            UsageError: the part lies outside of the clip, or is empty.
        """
        end = self.duration if end is None else min(end, self.duration)
        if start < 0 or end <= start:
            raise UsageError(f"{self.name}: cannot cut {start} s to {end} s out of {self.duration:.3f} s")
        first = max(0, int(np.searchsorted(self.times, start + 1e-6, side="right")) - 1)
        last = max(first + 1, int(np.searchsorted(self.times, end - 1e-6, side="left")))
        times = np.maximum(self.times[first:last] - start, 0.0)
        sound = None
        if self.sound is not None:
            begin = int(round(start * self.sound.sample_rate))
            n = int(round((end - start) * self.sound.sample_rate))
            sound = replace(self.sound, samples=self.sound.samples[:, begin : begin + n]).fit(n=n)
        return replace(self, frames=self.frames[first:last], times=times, duration=end - start, sound=sound)

    @check_types
    def at_fps(self, fps: float) -> Clip:
        """Return evenly spaced frames at ``fps``: at each time, the nearest frame.

        Raises:
            UsageError: a frame rate of 0 or less.
        """
        if not fps > 0:
            raise UsageError(f"{fps} frames per second are impossible")
        wanted = max(1, int(np.ceil(self.duration * fps - 1e-6)))
        times = np.arange(wanted) / fps
        pick = np.searchsorted((self.times[1:] + self.times[:-1]) / 2, times - 1e-4)  # of two as near, the earlier
        return replace(self, frames=self.frames[pick], times=times, fps=fps)

    @check_types
    def at_most_fps(self, fps: float | None) -> Clip:
        """Return what a camera of ``fps`` would have given; None, or a faster one, changes nothing.

        Raises:
            UsageError: a frame rate of 0 or less.
        """
        return self if fps is None or fps >= self.fps else self.at_fps(fps)

    @check_types
    def resize(self, height: int, width: int) -> Clip:
        """Scale the pictures to ``height`` by ``width`` pixels, bilinear with antialiasing.

        Raises:
            UsageError: a size of 0 or less.
        """
        if (height, width) == (self.height, self.width):
            return self
        if height < 1 or width < 1:
            raise UsageError(f"pictures of {height}x{width} pixels are impossible")
        from PIL import Image

        out = np.empty((self.n, height, width, 3), np.uint8)
        for i, frame in enumerate(self.frames):
            out[i] = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.BILINEAR))
        return replace(self, frames=out)

    def silent(self) -> Clip:
        """Return the same pictures without sound."""
        return replace(self, sound=None)

    @check_types
    def with_sound(self, sound: Sound) -> Clip:
        """Return the same pictures with ``sound``, which is cut or filled with silence to the clip's length."""
        return replace(self, sound=sound.fit(self.duration))

    def __repr__(self) -> str:
        sound = "silent" if self.sound is None else repr(self.sound)
        return f"Clip({self.duration:.3f} s, {self.width}x{self.height}, {self.n} frames at {self.fps:g} fps, {sound})"

    def _repr_html_(self) -> str | None:
        return _html_of(self) if _html_of else None


_html_of: Callable[[Clip | Sound], str] | None = None


def register_display(html_of: Callable[[Clip | Sound], str]) -> None:
    """Set how clips and sounds show themselves in a notebook; until then they show their ``repr``.

    Args:
        html_of: returns the HTML of a clip or a sound.
    """
    global _html_of
    _html_of = html_of


def _is_frozen(samples: object) -> bool:
    """Whether samples are float32 that nobody can change, and not a part of a larger array: they need no copy."""
    if not isinstance(samples, np.ndarray) or samples.dtype != np.float32 or samples.flags.writeable:
        return False
    whole = samples if samples.base is None else samples.base
    return isinstance(whole, np.ndarray) and not whole.flags.writeable and whole.nbytes == samples.nbytes


def _fit(samples: np.ndarray, n: int) -> np.ndarray:
    """Cut or zero-pad samples [channels, m] to [channels, n]."""
    if samples.shape[1] >= n:
        return samples[:, :n]
    return np.pad(samples, ((0, 0), (0, n - samples.shape[1])))
