"""Clips of Strike World with their truth: in memory, on disk, as a ``datasets.Dataset``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, check_types
from v2a_nb.world import sound as world_sound
from v2a_nb.world.description import Event, Recording
from v2a_nb.world.picture import Move, frames
from v2a_nb.world.recording import VERSION, draw
from v2a_nb.world.scenery import silhouette, view_of

SPLITS = {"train": 0.8, "val": 0.1, "test": 0.1}


@dataclass(frozen=True)
class Settings:
    """How clips are rendered.

    Attributes:
        seconds: length of a clip, of which it has the nearest whole number of frames: see :attr:`duration`.
        size: pixels of a picture's side.
        fps: frames per second; 23.976, 29.97, 59.94 and 119.88 become the exact 24000/1001 and so on.
        sample_rate: Hz.
    """

    seconds: float = 2.56
    size: int = 112
    fps: float = 25.0
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        object.__setattr__(self, "fps", exact_rate(self.fps))

    @property
    def frames(self) -> int:
        """Frames of a clip."""
        return int(round(self.seconds * self.fps))

    @property
    def duration(self) -> float:
        """Seconds for which a clip's frames last, and its sound."""
        return self.frames / self.fps

    def check(self) -> None:
        """Raise :class:`UsageError` for settings that are out of range."""
        for name, low, high in (
            ("seconds", 0.2, 28.0), ("size", 16, 512), ("fps", 1, 120), ("sample_rate", 8000, 96000),
        ):  # fmt: skip
            value = getattr(self, name)
            if not low <= value <= high:
                raise UsageError(f"{name}={value} is outside of {low} to {high}")
        if not self.frames:
            raise UsageError(f"{self.seconds:g} s at {self.fps:g} frames per second have no frame")


def exact_rate(fps: float) -> float:
    """The frame rate that a rounded number means: those of NTSC are multiples of 1000/1001.

    >>> exact_rate(29.97) == 30000 / 1001, exact_rate(25.0)
    (True, 25.0)
    """
    return next((full * 1000 / 1001 for full in (24, 30, 60, 120) if abs(fps - full * 1000 / 1001) < 0.005), fps)


@dataclass(frozen=True)
class Take:
    """A recording with its rendered sound, from which clips are cut.

    Attributes:
        recording: the description of what happens.
        settings: how clips of it are rendered.
        level: a gain to use instead of the recording's own; the two clips of a pair share one.
        gain: the gain in use.
        stems: float32 [n] of the whole recording each: ``action``, ``ambient``, ``offscreen`` and ``mix``.
    """

    recording: Recording
    settings: Settings
    level: float | None = None
    gain: float = field(init=False)
    stems: dict[str, np.ndarray] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        source = self.recording
        if source.mismatched:  # the sound of an unrelated recording
            source = draw(source.seed + 7919, source.index, variety="wide", version=source.version)
        raw = world_sound.synthesize(source, self.settings.sample_rate)
        gain = world_sound.gain_of(raw) if self.level is None else self.level
        object.__setattr__(self, "gain", gain)
        object.__setattr__(self, "stems", world_sound.mixed(raw, gain))

    def with_gain(self, gain: float) -> Take:
        """Return the same with another gain."""
        return Take(self.recording, self.settings, gain)

    def clip(self, start_s: float, name: str) -> WorldClip:
        """Return the clip that starts at ``start_s``, seconds, rounded to a sample."""
        start = int(round(start_s * self.settings.sample_rate))
        return WorldClip(name, self, start / self.settings.sample_rate)


@dataclass(frozen=True)
class WorldClip:
    """A clip of a recording, with its truth. Pictures are rendered when they are first asked for, and kept.

    Attributes:
        id: unique in its world.
        take: the rendered recording that the clip is cut from.
        start_s: where in the recording the clip starts, seconds.
        pair: of a counterfactual clip, what was changed: ``{"of", "factor", "from", "to"}``.
    """

    id: str
    take: Take
    start_s: float
    pair: dict | None = None

    @property
    def recording(self) -> Recording:
        """The recording that the clip is cut from."""
        return self.take.recording

    @cached_property
    def clip(self) -> Clip:
        """The pictures, uint8 [T, size, size, 3], with the mix of all stems as sound."""
        s = self.take.settings
        times = np.arange(s.frames) / s.fps
        pictures = frames(self.recording, self.start_s + times, s.size, s.fps)
        return Clip(pictures, times, s.fps, s.duration, self.stems["mix"], self.id)

    @cached_property
    def stems(self) -> dict[str, Sound]:
        """The sounds ``action``, ``ambient``, ``offscreen`` and their exact sum ``mix``."""
        s = self.take.settings
        start = int(round(self.start_s * s.sample_rate))
        stop = start + int(round(s.duration * s.sample_rate))
        return {name: Sound(wave[start:stop], s.sample_rate) for name, wave in self.take.stems.items()}

    @cached_property
    def truth(self) -> dict:
        """The clip's entry in ``truth.json``, a dictionary of JSON types."""
        s = self.take.settings
        entry = {
            "id": self.id,
            "video": f"clips/{self.id}.mp4",
            "recording": self.recording.id,
            "start_s": round(self.start_s, 6),
            "duration_s": round(s.duration, 6),
            "narration": self.narration,
            "mismatched": self.recording.mismatched,
            "ambient": {
                "kind": self.recording.ambience,
                "level_dbfs": round(self.stems["ambient"].rms_dbfs, 2),
            },
            "events": [self._event(event) for event in self.events],
            "stems": {name: f"stems/{self.id}.{name}.wav" for name in (*world_sound.STEMS, "mix")},
        }
        if self.pair:
            entry["pair"] = self.pair
        return entry

    @property
    def events(self) -> list[Event]:
        """The events that take place in this clip."""
        stop = self.start_s + self.take.settings.duration
        return [e for e in self.recording.events if self.start_s <= e.time_s < stop]

    @property
    def narration(self) -> str:
        """One line that says what is done to which object."""
        from v2a_nb.world.narration import narrate

        return narrate(self.recording, self.events)

    def _event(self, event: Event) -> dict:
        thing = self.recording.things[event.thing]
        entry = {
            "time_s": round(event.time_s - self.start_s, 6),
            "kind": event.kind,
            "material": thing.material,
            "object": event.thing,
            "speed": round(event.speed, 3),
            "sounding": event.sounding,
            "box": self.box(event),
        }
        if event.manner != "turn":
            entry["manner"] = event.manner
        if event.duration_s:
            entry["duration_s"] = round(event.duration_s, 4)
        return entry

    def box(self, event: Event) -> list[float]:
        """Return the box of the struck object at the event's frame, pixels: ``[x0, y0, x1, y1]``."""
        s = self.take.settings
        thing = self.recording.things[event.thing]
        half = thing.width / 2
        x = np.array([thing.x - half, thing.x + half, thing.x + half, thing.x - half])
        y = np.array([thing.top, thing.top, thing.base, thing.base])
        px, py = view_of(self.recording, s.size).to_pixels(x, y)
        move = Move.of(self.recording, np.full(4, event.time_s), s.size)
        px, py = move.at(px, 0), move.at(py, 1)
        corners = (px.min(), py.min(), px.max(), py.max())
        return [round(float(np.clip(v, 0, s.size)), 2) for v in corners]

    @cached_property
    def masks(self) -> np.ndarray:
        """The sounding region of each frame, bool [T, size, size].

        It holds the struck object's pixels from the contact until 0.2 s later, or as long as a scrape lasts. It is
        empty in frames in which nothing sounds.
        """
        s = self.take.settings
        times = self.start_s + self.clip.times
        out = np.zeros((len(times), s.size, s.size), bool)
        move = Move.of(self.recording, times, s.size)
        zooms = np.ones(len(times)) if move.zoom is None else move.zoom
        for event in self.recording.events:
            if not event.sounding:
                continue
            last = event.time_s + max(event.duration_s, 0.2)
            thing = self.recording.things[event.thing]
            for k in np.flatnonzero((times >= event.time_s - 0.5 / s.fps) & (times <= last)):
                out[k] |= silhouette(self.recording, thing, s.size, zooms[k], np.round(move.shift[k]))
        return out


@dataclass(frozen=True)
class StrikeWorld:
    """The clips of one seed; ``train``, ``val`` and ``test`` never share a recording.

    Attributes:
        seed: of the world.
        settings: how the clips are rendered.
        clips: all of them, in order.
        version: of the world.
    """

    seed: int
    settings: Settings
    clips: tuple[WorldClip, ...]
    version: int = 1

    @property
    def train(self) -> list[WorldClip]:
        """The clips for training: 80 % of the recordings."""
        return self._split("train")

    @property
    def val(self) -> list[WorldClip]:
        """The clips for validation: 10 % of the recordings."""
        return self._split("val")

    @property
    def test(self) -> list[WorldClip]:
        """The clips for tests: 10 % of the recordings."""
        return self._split("test")

    @property
    def recordings(self) -> list[Recording]:
        """The recordings that the clips are cut from."""
        return list({clip.recording.id: clip.recording for clip in self.clips}.values())

    def _split(self, name: str) -> list[WorldClip]:
        ids = sorted({clip.recording.id for clip in self.clips})
        test = max(1, round(SPLITS["test"] * len(ids))) if len(ids) > 2 else 0
        val = max(1, round(SPLITS["val"] * len(ids))) if len(ids) > 2 else 0
        part = {
            "test": ids[len(ids) - test :] if test else ids,
            "val": ids[len(ids) - test - val : len(ids) - test] if val else ids,
            "train": ids[: len(ids) - test - val] if len(ids) > 2 else ids,
        }[name]
        return [clip for clip in self.clips if clip.recording.id in set(part)]

    def __len__(self) -> int:
        return len(self.clips)

    def __iter__(self) -> Iterator[WorldClip]:
        return iter(self.clips)

    def __getitem__(self, which: int | str) -> WorldClip:
        if isinstance(which, str):
            return next(clip for clip in self.clips if clip.id == which)
        return self.clips[which]

    def __repr__(self) -> str:
        s = self.settings
        return (
            f"StrikeWorld(seed={self.seed}, {len(self.clips)} clips of {s.seconds:g} s from "
            f"{len(self.recordings)} recordings, {s.size} px, {s.fps:g} fps, {s.sample_rate} Hz)"
        )

    def as_dataset(self):
        """Render all clips into a ``datasets.Dataset``.

        Its columns are ``id``, ``recording``, ``narration``, ``sample_rate``, ``fps``, ``frames`` (uint8
        [T, H, W, 3]), ``audio`` (float32 [n]) and ``truth``, which is JSON text because the lists in it have
        different lengths.
        """
        import json

        from datasets import Array4D, Dataset, Features, Sequence, Value

        s = self.settings
        shape = (s.frames, s.size, s.size, 3)
        features = Features(
            {
                "id": Value("string"),
                "recording": Value("string"),
                "narration": Value("string"),
                "sample_rate": Value("int32"),
                "fps": Value("float32"),
                "frames": Array4D(shape=shape, dtype="uint8"),
                "audio": Sequence(Value("float32")),
                "truth": Value("string"),
            }
        )

        def rows() -> Iterator[dict]:
            for item in self.clips:
                yield {
                    "id": item.id,
                    "recording": item.recording.id,
                    "narration": item.narration,
                    "sample_rate": s.sample_rate,
                    "fps": s.fps,
                    "frames": item.clip.frames,
                    "audio": item.stems["mix"].samples[0],
                    "truth": json.dumps(item.truth),
                }

        return Dataset.from_list(list(rows()), features=features)


@check_types
def strike_world(
    seed: int = 0,
    clips: int = 64,
    *,
    seconds: float = 2.56,
    size: int = 112,
    fps: float = 25.0,
    sample_rate: int = 16000,
    variety: str = "wide",
    mismatched: float = 0.0,
    per_recording: int = 4,
    style: str = "camera",
    version: int = VERSION,
) -> StrikeWorld:
    """Make a world of ``clips`` clips in memory; the same seed gives the same bytes.

    Args:
        seed: the world's seed; other seeds share no recording with it.
        clips: number of clips.
        seconds: length of each, 0.2 to 28, rounded to whole frames.
        size: pictures are ``size`` by ``size`` pixels.
        fps: frames per second; 23.976, 29.97, 59.94 and 119.88 become the exact 24000/1001 and so on.
        sample_rate: Hz.
        variety: ``"wide"``, or ``"plain"``: one table, a mallet, no distractors.
        mismatched: share of recordings, 0 to 1, whose sound belongs to another recording.
        per_recording: at most this many clips are cut from one recording; they do not overlap.
        style: ``"camera"``, or ``"game"``: the same clips, sounds and truth drawn as flat game graphics.
        version: of the world, 1 or 2; 2 is as wide as real video.

    Raises:
        UsageError: a setting is out of range.

    Examples:
        >>> world = strike_world(seed=0, clips=2, size=64)
        >>> world[0].clip.frames.shape
        (64, 64, 64, 3)
    """
    settings = Settings(seconds, size, fps, sample_rate)
    settings.check()
    if clips < 1:
        raise UsageError(f"clips={clips}: at least one clip is needed")
    if variety not in ("wide", "plain"):
        raise UsageError(f"variety={variety!r} is neither 'wide' nor 'plain'")
    if not 0 <= mismatched <= 1:
        raise UsageError(f"mismatched={mismatched} is not a share between 0 and 1")
    cut: list[WorldClip] = []
    index = 0
    while len(cut) < clips:
        recording = draw(seed, index, variety=variety, style=style, version=version)
        if recording.rng("mismatched").random() < mismatched:
            recording = recording.changed(mismatched=True)
        take = Take(recording, settings)
        starts = cut_points(recording, settings, per_recording)
        for start in starts[: clips - len(cut)]:
            cut.append(take.clip(float(start), f"s{seed}-{recording.id}-{int(start * 1000):05d}"))
        index += 1
    return StrikeWorld(seed, settings, tuple(cut), version)


def cut_points(recording: Recording, settings: Settings, at_most: int) -> np.ndarray:
    """Draw the starts of at most ``at_most`` clips that do not overlap, seconds on the grid of samples."""
    rng = recording.rng("cuts")
    room = recording.duration_s - settings.seconds
    count = min(at_most, int(recording.duration_s / (settings.seconds * 1.3)))
    count = max(1, count)
    slack = room - (count - 1) * settings.seconds
    offsets = np.sort(rng.uniform(0, slack, count)) + settings.seconds * np.arange(count)
    return np.floor(offsets * settings.sample_rate) / settings.sample_rate
