"""Augmentation: clips that are cut together from two, and clips that are stretched in time.

Concat augmentation (VTA-LDM, section 5.5 and appendix E) shows the pictures and the sound of one clip up to some
instant, and those of another from there on, so that a model must look when something sounds. What its released code
(``train.py``) does, and what is done here instead:

| released | here |
|---|---|
| every clip is joined (``random.random() > 0``) | with a probability |
| validation and test clips too | training clips; test clips where they are asked for (:func:`joined_world`) |
| pictures are cut at 2 a second; resampled sounds as if they had the file's sample rate | both at one instant, at \
any rates |
| any partner | one of the same side of the split |
| captions side by side | "A, then B", of what is left of both |

:func:`concatenate` joins two clips, :class:`JoinedRecordings` those of a recipe, :func:`joined_world` makes a test set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.data.pool import Source
from v2a_nb.data.recordings import FileRecordings, Recording, Recordings
from v2a_nb.errors import UsageError, check_types
from v2a_nb.world.dataset import StrikeWorld, WorldClip, strike_world
from v2a_nb.world.description import Event
from v2a_nb.world.narration import narrate

FADE_S = 0.005
"""Seconds of the cross-fade between two sounds, which is too short to move an onset. A hard cut may leave a step in the
wave, a click that no picture shows: 10 of 120 joined clips of Strike World (seed 41400) have a step at the cut that is
three times as high as those around it, and with the fade 1 has. Another level of the room is heard in either case."""
GRID_S = 0.02
"""Cuts of recordings lie on multiples of it: whole samples at every usual rate, and whole frames at 25 and 50 fps."""
STRETCH = (0.5, 2.0)
"""Least and greatest factor of :func:`stretch`."""
_SAME_S = 1e-6  # times that are nearer are one


@check_types
def concatenate(a: Clip, b: Clip, at_s: float, *, fade_s: float = FADE_S) -> Clip:
    """Show and play ``a`` up to ``at_s``, and ``b`` from there on.

    At each time before the cut the picture is the one that ``a`` shows then, and after it the one that ``b`` shows;
    what ``b`` shows at the cut appears there. No frame is resampled, so that times are uneven where the rates differ.
    Pictures get the size of ``a`` (the middle of ``b`` is cut out in its proportions), sounds the higher of the two
    sample rates.

    Args:
        a, b: of any sizes, frame rates and sample rates, both with sound or both without.
        at_s: seconds from the start of each; inside of both.
        fade_s: length of an equal-power cross-fade whose middle is the cut; 0 is a hard cut. Outside of it each sample
            is the one of its clip.

    Returns:
        a clip as long as ``b``.

    Raises:
        UsageError: the cut is outside of a clip, or only one has a sound.

    Examples:
        >>> a, b = (Clip(np.full((50, 8, 8, 3), v, np.uint8), fps=25.0) for v in (1, 2))
        >>> concatenate(a, b, 0.4).frames[[9, 10], 0, 0, 0].tolist()
        [1, 2]
    """
    if not 0 < at_s < min(a.duration, b.duration):
        raise UsageError(
            f"clips of {a.duration:.3f} s and {b.duration:.3f} s cannot be cut at {at_s} s: an instant inside of both "
            "is needed"
        )
    if (a.sound is None) != (b.sound is None):
        raise UsageError(
            f"{(a if a.sound is None else b).name} has no sound and the other clip has: join silent() ones"
        )
    before = int(np.searchsorted(a.times, at_s - _SAME_S))
    if not before:
        raise UsageError(f"{a.name} shows its first picture at {a.times[0]:.3f} s, after the cut at {at_s} s")
    later = int(np.searchsorted(b.times, at_s + _SAME_S, side="right"))
    shown = max(0, later - 1)  # what b shows at the cut
    frames = np.concatenate([a.frames[:before], _in_size(b, a.height, a.width).frames[shown:]])
    times = np.concatenate([a.times[:before], np.maximum(b.times[shown:], at_s)])
    sound = None
    if a.sound is not None and b.sound is not None:
        sound = _joined_sound(a.sound, b.sound, at_s, b.duration, fade_s)
    return Clip(
        frames, times, max(a.fps, b.fps), b.duration, sound, f"{a.name}+{b.name}", (*a.problems, *b.problems)
    )  # fmt: skip


def join_texts(first: str, second: str) -> str:
    """One line for a joined clip; an empty text is left out.

    >>> join_texts("a dog barks", "rain falls"), join_texts("", "rain falls")
    ('a dog barks, then rain falls', 'rain falls')
    """
    return ", then ".join(text for text in (first, second) if text)


def _in_size(clip: Clip, height: int, width: int) -> Clip:
    """The middle of the pictures in the proportions of ``height`` by ``width``, scaled to them."""
    scale = min(clip.height / height, clip.width / width)
    rows, columns = max(1, round(scale * height)), max(1, round(scale * width))
    top, left = (clip.height - rows) // 2, (clip.width - columns) // 2
    return replace(clip, frames=clip.frames[:, top : top + rows, left : left + columns]).resize(height, width)


def _joined_sound(a: Sound, b: Sound, at_s: float, duration: float, fade_s: float) -> Sound:
    rate = max(a.sample_rate, b.sample_rate)
    a, b = (sound.resample(rate).fit(duration) for sound in (a, b))
    if a.channels != b.channels:
        a, b = a.stereo(), b.stereo()
    samples = splice(a.samples, b.samples, round(at_s * rate), round(fade_s * rate))
    return Sound(samples, rate, a.layout if a.layout == b.layout else None)


def splice(a: np.ndarray, b: np.ndarray, at: int, fade: int) -> np.ndarray:
    """Samples of ``a`` [..., n] up to ``at`` and of ``b`` [..., n] from there on.

    Args:
        fade: samples of an equal-power cross-fade around ``at``; it is shorter where a sound begins or ends sooner.
    """
    out = np.concatenate([a[..., :at], b[..., at:]], axis=-1)
    half = min(fade // 2, at, out.shape[-1] - at)
    if half > 0:
        angle = np.pi / 2 * ((np.arange(2 * half) + 0.5) / (2 * half))
        around = slice(at - half, at + half)
        out[..., around] = np.cos(angle) * a[..., around] + np.sin(angle) * b[..., around]
    return out


# --- recordings, for recipes ------------------------------------------------------------------------------


@dataclass(frozen=True)
class JoinedRecordings:
    """Recordings in pairs that take turns: a clip that is cut out of one holds a cut with some probability.

    Two recordings that follow each other are a pair, and each of them changes to the other and back at cuts that are
    evenly spaced, the first at a place that is drawn. A clip holds one cut at most, at any place. The two have one
    name, ``"r00004+r00005"``, so that they stay together when recordings are held out: no clip to train on ever has
    anything of a recording that is not.

    Attributes:
        recordings: of which they are made.
        probability: that a clip of ``seconds`` holds a cut, 0 to 1; of a clip half as long, it is half.
        seconds: of the clips that are going to be cut.
        plain_from: recordings from this number on stay as they are: those that are held out, which the released code
            joins too. None: all are joined.
        fade_s: as in :func:`concatenate`.

    Raises:
        UsageError: a probability or a length that makes no sense.

    Examples:
        >>> from v2a_nb.data.recordings import StrikeRecordings
        >>> joined = JoinedRecordings(StrikeRecordings(7), probability=0.5, seconds=2.56)
        >>> joined.open(4).name, joined.open(4).narration(0.0, 30.0) != StrikeRecordings(7).open(4).narration(0.0, 30.0)
        ('r00004+r00005', True)
    """

    recordings: Recordings
    probability: float
    seconds: float
    plain_from: int | None = None
    fade_s: float = FADE_S
    _opened: dict[int, Recording] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise UsageError(f"probability={self.probability}: a share between 0 and 1 is needed")
        if not self.seconds > 0:
            raise UsageError(f"seconds={self.seconds}: the length of the clips is needed")

    @property
    def limit(self) -> int | None:
        """As many as of the recordings."""
        return self.recordings.limit

    @property
    def known_ambience(self) -> bool:
        """No: a joined recording has two."""
        return False

    def numbers(self, first: int, count: int) -> range:
        return self.recordings.numbers(first, count)

    def open(self, number: int) -> Recording:
        if number not in self._opened:
            self._opened.clear()  # the clips of a recording are opened side by side
            partner = self._partner(number)
            if partner is None:
                self._opened[number] = self.recordings.open(number)
            else:
                pair = self.recordings.open(number), self.recordings.open(partner)
                name = "+".join(sorted(each.name for each in pair))
                self._opened[number] = JoinedRecording(
                    name, *pair, every_s=self.seconds / self.probability, fade_s=self.fade_s
                )
        return self._opened[number]

    def describe(self) -> dict:
        how = {"probability": self.probability, "seconds": self.seconds, "fade_s": self.fade_s}
        return {**self.recordings.describe(), "joined": {**how, "plain_from": self.plain_from}}

    def __getstate__(self) -> dict:
        return {**vars(self), "_opened": {}}

    def _partner(self, number: int) -> int | None:
        """The number of the other recording of a pair; None where there is none."""
        partner: int | None = number ^ 1
        if isinstance(self.recordings, FileRecordings):
            partner = self._partner_of_file(number)
        out = self.plain_from is not None and partner is not None and max(number, partner) >= self.plain_from
        return None if out or not self.probability else partner

    def _partner_of_file(self, number: int) -> int | None:
        names = self._parts_of_files
        order = list(names)
        own = self.recordings.entries[number].recording  # type: ignore[attr-defined]
        other = order.index(own) ^ 1
        if other >= len(order):
            return None
        # several files may be parts of one recording: part by part
        parts = names[order[other]]
        return parts[names[own].index(number) % len(parts)]

    @cached_property
    def _parts_of_files(self) -> dict[str, list[int]]:
        """Numbers of the files of each recording."""
        parts: dict[str, list[int]] = {}
        for number, entry in enumerate(self.recordings.entries):  # type: ignore[attr-defined]
            parts.setdefault(entry.recording, []).append(number)
        return parts


@dataclass(frozen=True)
class _Piece:
    """A part of a joined recording: from ``start_s`` to ``end_s``, of ``recording`` and there ``shift_s`` later."""

    start_s: float
    end_s: float
    recording: Recording
    shift_s: float = 0.0


class JoinedRecording:
    """Two recordings that take turns, with the times of the first.

    Args:
        name: of the pair.
        first: gives length, and the random numbers.
        second: is seen and heard at the same times, or sooner where it ends too soon; a part for which it is too short
            stays the first one's.
        every_s: seconds from cut to cut.
        fade_s: as in :func:`concatenate`.
    """

    def __init__(self, name: str, first: Recording, second: Recording, every_s: float, fade_s: float) -> None:
        self.name, self.begin_s, self.duration_s = name, first.begin_s, first.duration_s
        self.first, self.fade_s = first, fade_s
        every = max(1, int(np.ceil(every_s / GRID_S - 1e-6)))
        begin = int(first.rng("joins").integers(every))
        edges = GRID_S * np.arange(begin, int(np.ceil(self.duration_s / GRID_S)), every)
        bounds = [0.0, *(float(edge) for edge in edges if 0 < edge < self.duration_s), self.duration_s]
        self.pieces: list[_Piece] = []
        for k, (a, b) in enumerate(pairwise(bounds)):
            room = second.duration_s - (b - a)
            if k % 2 and room >= 0:
                shift = min(0.0, GRID_S * np.floor((room - a) / GRID_S + 1e-6))
                self.pieces.append(_Piece(a, b, second, float(shift)))
            elif self.pieces and self.pieces[-1].recording is first:
                self.pieces[-1] = replace(self.pieces[-1], end_s=b)
            else:
                self.pieces.append(_Piece(a, b, first))
        self._waves: dict[int, np.ndarray] = {}

    @property
    def cuts(self) -> np.ndarray:
        """Times at which one recording ends and the other goes on, seconds, increasing."""
        return np.array([piece.start_s for piece in self.pieces[1:]])

    def wave(self, sample_rate: int) -> np.ndarray:
        if sample_rate not in self._waves:
            out = self.first.wave(sample_rate)
            for piece in self.pieces:
                if piece.recording is self.first:
                    continue
                a, b = round(piece.start_s * sample_rate), min(len(out), round(piece.end_s * sample_rate))
                shift, fade = round(piece.shift_s * sample_rate), round(self.fade_s * sample_rate)
                other, own = np.zeros_like(out), piece.recording.wave(sample_rate)
                first, last = max(0, a - fade), min(len(out), b + fade, len(own) - shift)
                first = max(first, -shift)
                other[first:last] = own[first + shift : last + shift]
                joined = splice(out, other, a, fade) if a > 0 else other
                out = splice(joined, out, b, fade) if b < len(out) else joined
            self._waves[sample_rate] = out
        return self._waves[sample_rate]

    def frames(self, start_s: float, times: np.ndarray, size: int, fps: float) -> np.ndarray:
        owner = np.searchsorted([piece.start_s - _SAME_S for piece in self.pieces], start_s + times, side="right") - 1
        parts = []
        for k in np.unique(owner):
            mine = times[owner == k]
            begin = 0.0 if len(mine) == len(times) else mine[0]
            piece = self.pieces[k]
            parts.append(piece.recording.frames(start_s + begin + piece.shift_s, mine - begin, size, fps))
        return np.concatenate(parts)

    def onsets(self, start_s: float, seconds: float) -> np.ndarray:
        found = [
            a - start_s + piece.recording.onsets(a + piece.shift_s, b - a)
            for piece, a, b in self._within(start_s, seconds)
        ]
        return np.concatenate(found) if found else np.zeros(0)

    def narration(self, start_s: float, seconds: float) -> str:
        text = ""
        for piece, a, b in self._within(start_s, seconds):
            text = join_texts(text, piece.recording.narration(a + piece.shift_s, b - a))
        return text

    def rng(self, word: str) -> np.random.Generator:
        return self.first.rng(word)

    def source(self, start_s: float, seconds: float) -> Source:
        """The origin of a clip.

        Raises:
            UsageError: there is a cut in it, so that it has two.
        """
        parts = self._within(start_s, seconds)
        if len(parts) != 1:
            raise UsageError(f"{self.name}: a clip that is joined of two has no single origin that a pool could name")
        piece = parts[0][0]
        return piece.recording.source(start_s + piece.shift_s, seconds)

    def _within(self, start_s: float, seconds: float) -> list[tuple[_Piece, float, float]]:
        """The pieces of a clip, and from when to when each of them is in it."""
        stop = start_s + seconds
        spans = [(piece, max(start_s, piece.start_s), min(stop, piece.end_s)) for piece in self.pieces]
        return [(piece, a, b) for piece, a, b in spans if b - a > _SAME_S]


# --- Strike World with its truth ---------------------------------------------------------------------------


@dataclass(frozen=True)
class JoinedWorldClip(WorldClip):
    """A clip of Strike World up to ``at_s``, and another one from there on, with the truth of what is left of both.

    Its entry of ``truth.json`` has the events of both with their times, and ``"joined"`` with the instant and the two
    ids. The level of its ambience is that of both together; its kind is None where they differ. The numbers of
    objects are those of each event's own recording.

    Attributes:
        first, then: the two clips; ``take`` and ``start_s`` are those of the first.
        at_s: when the cut is, seconds.
        fade_s: as in :func:`concatenate`.
    """

    first: WorldClip = None  # type: ignore[assignment]  # fields of WorldClip have defaults
    then: WorldClip = None  # type: ignore[assignment]
    at_s: float = 0.0
    fade_s: float = FADE_S

    @cached_property
    def clip(self) -> Clip:
        joined = concatenate(self.first.clip.silent(), self.then.clip.silent(), self.at_s)
        return replace(joined, sound=self.stems["mix"], name=self.id)

    @cached_property
    def stems(self) -> dict[str, Sound]:
        a, b, seconds = self.first.stems, self.then.stems, self.take.settings.duration
        return {name: _joined_sound(a[name], b[name], self.at_s, seconds, self.fade_s) for name in a}

    @cached_property
    def truth(self) -> dict:
        a, b = self.first.truth, self.then.truth
        kinds = {part["ambient"]["kind"] for part in (a, b)}
        level = round(self.stems["ambient"].rms_dbfs, 2)
        return {
            "id": self.id,
            "video": f"clips/{self.id}.mp4",
            "recording": f"{a['recording']}+{b['recording']}",
            "start_s": a["start_s"],
            "duration_s": a["duration_s"],
            "narration": self.narration,
            "mismatched": a["mismatched"] or b["mismatched"],
            "ambient": {"kind": kinds.pop() if len(kinds) == 1 else None, "level_dbfs": level},
            "events": [
                *(_ended(event, self.at_s) for event in a["events"] if event["time_s"] < self.at_s),
                *(event for event in b["events"] if event["time_s"] >= self.at_s),
            ],
            "stems": {name: f"stems/{self.id}.{name}.wav" for name in a["stems"]},
            "joined": {"time_s": self.at_s, "of": [a["id"], b["id"]]},
        }

    @property
    def events(self) -> list[Event]:
        """The events before the cut and those after it, each with the times of its own recording."""
        return [event for part in self._parts for event in part]

    @property
    def narration(self) -> str:
        """One line that says what is done before the cut, and what after it."""
        first, then = self._parts
        return join_texts(narrate(self.first.recording, first), narrate(self.then.recording, then))

    @cached_property
    def masks(self) -> np.ndarray:
        """The sounding region of each frame, bool [T, size, size]."""
        before = self.clip.times < self.at_s - _SAME_S
        return np.where(before[:, None, None], self.first.masks, self.then.masks)

    @property
    def _parts(self) -> tuple[list[Event], list[Event]]:
        a, b = self.first, self.then
        return (
            [event for event in a.events if round(event.time_s - a.start_s, 6) < self.at_s],
            [event for event in b.events if round(event.time_s - b.start_s, 6) >= self.at_s],
        )


def join_world_clips(first: WorldClip, then: WorldClip, at_s: float, *, fade_s: float = FADE_S) -> JoinedWorldClip:
    """Show ``first`` up to ``at_s``, rounded to a frame, and ``then`` from there on; their truth is joined as well.

    Raises:
        UsageError: they are rendered in different ways, or the cut is outside of them.
    """
    settings = first.take.settings
    if settings != then.take.settings:
        raise UsageError(f"{first.id} and {then.id} have other lengths, sizes or rates: their truth cannot be joined")
    frame = round(at_s * settings.fps)
    if not 0 < frame < settings.frames:
        raise UsageError(f"clips of {settings.duration:.3f} s cannot be cut at {at_s} s")
    at_s = round(frame / settings.fps, 6)
    return JoinedWorldClip(
        f"{first.id}+{then.id}", first.take, first.start_s, None, first=first, then=then, at_s=at_s, fade_s=fade_s
    )


@check_types
def joined_world(
    seed: int = 0, clips: int = 64, *, per_recording: int = 4, fade_s: float = FADE_S, **options: Any
) -> StrikeWorld:
    """Make a test set of joined clips, as the augmented test set of VTA-LDM (section 5.5): two scenes in each.

    Recordings are used in pairs, the clips of one with those of the other, so that clips of different pairs have
    nothing in common. Cuts lie on frames, in the middle half of the clip.

    Args:
        seed: of the world, and of the cuts.
        clips: number of joined clips.
        per_recording: at most this many clips are cut from one recording.
        fade_s: as in :func:`concatenate`.
        options: as for :func:`~v2a_nb.world.dataset.strike_world`.

    Returns:
        a world whose clips are :class:`JoinedWorldClip`, ready for :func:`v2a_nb.evaluate`.

    Raises:
        UsageError: a setting is out of range.

    Examples:
        >>> item = joined_world(seed=3, clips=2, size=32)[0]
        >>> item.truth["recording"], item.truth["joined"]["time_s"] == item.at_s
        ('r00000+r00001', True)
    """
    source = strike_world(seed, 2 * (clips + per_recording), per_recording=per_recording, **options)
    recordings: dict[str, list[WorldClip]] = {}
    for clip in source:
        recordings.setdefault(clip.recording.id, []).append(clip)
    groups = list(recordings.values())
    pairs = [pair for a, b in zip(groups[::2], groups[1::2]) for pair in zip(a, b)]
    rng = np.random.default_rng([seed, clips, len("joined")])
    shares = rng.uniform(0.25, 0.75, len(pairs))
    joined = [
        join_world_clips(a, b, float(share) * a.take.settings.duration, fade_s=fade_s)
        for (a, b), share in zip(pairs[:clips], shares, strict=False)
    ]
    return StrikeWorld(seed, source.settings, tuple(joined), source.version)


def _ended(event: Mapping, at_s: float) -> dict:
    """An event that lasts no longer than until ``at_s``."""
    if "duration_s" not in event:
        return dict(event)
    return {**event, "duration_s": round(min(event["duration_s"], at_s - event["time_s"]), 4)}


# --- time-stretch ----------------------------------------------------------------------------------------------


@check_types
def stretch(clip: Clip, factor: float) -> Clip:
    """Make a clip ``factor`` times as long, pictures and sound together, as a film that runs at another speed.

    The sound is resampled, so that its pitch falls as it gets longer. A phase vocoder would keep the pitch, but it
    smears each onset over its window. Of 296 strikes of Strike World (seed 41300, factors 0.5 to 2) 99.7 % stay within
    5 ms of the picture so, and 34 % (windows of 512 samples) or 11 % (2048) with librosa's.

    Args:
        factor: 0.5 (twice as fast) to 2 (half as fast); the nearest fraction with a denominator of at most 1000 is
            taken, for pictures and sound alike.

    Raises:
        UsageError: a factor out of range.

    Examples:
        >>> clip = Clip(np.zeros((50, 8, 8, 3), np.uint8), fps=25.0, sound=Sound(np.zeros(32000), 16000))
        >>> stretch(clip, 1.5)
        Clip(3.000 s, 8x8, 50 frames at 16.6667 fps, Sound(3.000 s, 16000 Hz, mono, peak -120.0 dBFS, rms -120.0 dBFS))
    """
    exact = _fraction(factor)
    factor, sound = float(exact), clip.sound
    if sound is not None and exact != 1:
        from scipy.signal import resample_poly

        samples = resample_poly(sound.samples.astype(np.float64), exact.numerator, exact.denominator, axis=1)
        sound = replace(sound, samples=samples.astype(np.float32)).fit(clip.duration * factor)
    return replace(
        clip, times=clip.times * factor, fps=clip.fps / factor, duration=clip.duration * factor, sound=sound
    )  # fmt: skip


def stretch_truth(truth: Mapping, factor: float) -> dict:
    """The entry of ``truth.json`` of a clip that :func:`stretch` made: times, lengths and speeds of its events follow.

    Args:
        truth: of the clip as it was.
        factor: as for :func:`stretch`.

    Raises:
        UsageError: a factor out of range.
    """
    factor = float(_fraction(factor))
    events = []
    for event in truth["events"]:
        changed = {**event, "time_s": round(event["time_s"] * factor, 6), "speed": round(event["speed"] / factor, 3)}
        if "duration_s" in event:
            changed["duration_s"] = round(event["duration_s"] * factor, 4)
        events.append(changed)
    return {**truth, "duration_s": round(truth["duration_s"] * factor, 6), "events": events, "stretched": factor}


def _fraction(factor: float) -> Fraction:
    if not STRETCH[0] <= factor <= STRETCH[1]:
        raise UsageError(f"factor={factor} is outside of {STRETCH[0]:g} to {STRETCH[1]:g}")
    return Fraction(factor).limit_denominator(1000)
