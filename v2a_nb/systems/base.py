"""What all systems share: one clip or several go in, or a part of them, and sounds exactly as long come out.

A system's own file says how: its ``generate`` reads from top to bottom, from the video to the sound. What is the same
for all stands here: lengths, parts, seeds, batches, and what is refused.
"""

from __future__ import annotations

import sys
import warnings
from abc import ABC, abstractmethod
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, ClassVar, overload

import torch
from torch import Tensor, nn

from v2a_nb.audio.hit_levels import with_levels
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError, check_value
from v2a_nb.hits import AUTO, SENSITIVITY, Hits, check_sensitivity
from v2a_nb.hub import Pretrained

SHORTEST_S = 0.3
"""Seconds of the shortest clip that a sound can be made for."""
WARNED: set[str] = set()
"""Warnings of systems that were given, or shown in another way, in this process: each once."""
Progress = Callable[[int], object] | None
"""Called with 1 after each step."""


@dataclass(frozen=True)
class Option:
    """An option of ``generate`` as the command line offers it.

    Attributes:
        help: what it does.
        type: from text to the value; raises ``argparse.ArgumentTypeError`` or ValueError.
        metavar: what stands for the value in the help.
    """

    help: str
    type: Callable[[str], object] = float
    metavar: str = "X"


def sensitivity_of(text: str) -> float | str:
    """A number from 0 to 1, or ``"auto"``, for :class:`Option`."""
    try:
        check_sensitivity(value := text if text == AUTO else float(text))
    except (ValueError, UsageError) as error:
        raise ArgumentTypeError(f"{text!r} is neither 0 (only sure) to 1 (every doubt) nor {AUTO}") from error
    return value


def interval_of(text: str) -> tuple[float, float]:
    """Two shares such as ``0.2,0.8``, for :class:`Option`."""
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no interval, such as 0.2,0.8") from error
    if not 0 <= low <= high <= 1:
        raise ArgumentTypeError(f"{text!r} does not lie in 0..1, from low to high")
    return low, high


SAMPLING = {
    "sampler": Option("dpm++, ddim, ddpm, or a scheduler of diffusers, such as UniPCMultistepScheduler", str, "NAME"),
    "guidance_interval": Option(
        "from which share of the noise to which there is guidance; the other steps cost half", interval_of, "A,B"
    ),
}
"""Options of the diffusion systems that change what a sound costs."""
FOLLOWING = {
    "hits": Option("the hits that are to sound, a file such as --save-hits writes", Path, "FILE"),
    "sensitivity": Option(
        "which of its own hits a system follows: 0, only sure ones, to 1, every doubt, or auto, what suits the clip",
        sensitivity_of,
        "S",
    ),
}
"""Options of the systems that can be told when something sounds."""


class System(Pretrained, nn.Module, ABC):
    """The base of the systems.

    Attributes:
        name: as :func:`v2a_nb.load` knows it.
        encoder: of video: has ``features(clip) -> [T, D]``. A system without one has its own :meth:`encode_video`.
        options: what ``generate`` takes besides ``seed``, ``start``, ``duration`` and ``progress``, and the command
            line with it; left out, each is what is best with the weights.
        switches: what ``generate`` takes further, for experiments.
        warning: what ``generate`` says, once in a process, of clips that come from video files; set for shipped weights
            by :func:`v2a_nb.load`.
    """

    name: ClassVar[str]
    encoder: nn.Module | None
    options: ClassVar[dict[str, Option]] = {}
    switches: ClassVar[tuple[str, ...]] = ()
    warning: str = ""

    # --- for a system to fill in --------------------------------------------------------------------

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Sample rate of the generated sounds, Hz."""

    @overload
    def generate(self, clip: Clip, *, seed: int = 0, **options: Any) -> Sound: ...

    @overload
    def generate(self, clip: Sequence[Clip], *, seed: Sequence[int], **options: Any) -> list[Sound]: ...

    @abstractmethod
    def generate(self, clip, *, seed=0, **options):
        """The sound of a clip, or the sounds of clips of one length; each system has its own options by name."""

    @abstractmethod
    def _steps(self, samples: int, **options: object) -> int:
        """How often ``generate`` calls ``progress`` for a sound of so many samples."""

    def options_of_next_block(self, clip: Clip, options: dict[str, Any]) -> dict[str, Any]:
        """Options of ``generate`` for the rest of a long video, of which ``clip`` was the first block.

        A system that looks for its condition in the video finds it once, so that it stays the same to the end.
        """
        return options

    # --- the same for all ---------------------------------------------------------------------------

    def generate_batch(self, clips: Sequence[Clip], *, seeds: Sequence[int], **options: object) -> list[Sound]:
        """Like ``generate``, for clips of one length side by side: faster a clip.

        Args:
            clips: as for ``generate``.
            seeds: one for each clip, so that its sound does not depend on the others.
            options: the others of ``generate``, see :attr:`options` and :attr:`switches`.

        Raises:
            UsageError: as ``generate``; also clips of different lengths, not as many seeds as clips, and options
                that this system does not have.
        """
        known = ("start", "duration", "progress", *self.options, *self.switches)
        unknown = [name for name in options if name not in known]
        if unknown:
            there = ", ".join(known[3:]) or "none"
            raise UsageError(f"unknown options of {self.name}: {', '.join(unknown)}; there are {there}")
        return self.generate(list(clips), seed=list(seeds), **options)

    def stream(self, clip: Clip, *, seed: int = 0, **options: Any) -> Iterator[Sound]:
        """The soundtrack piece by piece, each to be played as soon as it is there: together, what ``generate`` gives.

        Here it is one piece; systems that make a sound from its beginning to its end give more.

        Args:
            clip, seed: as for ``generate``.
            options: the others of ``generate``.

        Yields:
            sounds, mono.
        """
        yield self.generate(clip, seed=seed, **options)

    def steps_of(self, clip: Clip, *, start: float = 0.0, duration: float | None = None, **options: object) -> int:
        """How often ``generate`` will call ``progress``, given the same: the length of its bar."""
        return self._steps(self._samples(part_of(clip, start, duration)), **given(**options))

    def encode_video(self, clip: Clip, hits: Hits | None = None) -> Tensor:
        """What the video encoder makes of a clip, [1, T, D]; the clip's sound is not used.

        With ``config.fps`` the encoder gets no more frames a second than that, as if the camera were that slow.

        Args:
            hits: what is to sound; left out, what the encoder expects.

        Raises:
            UsageError: this system was made without an encoder, or with one that knows no hits.
        """
        encoder = self._encoder(hits=hits is not None)
        with torch.no_grad(), evaluating(self):
            clip = clip.at_most_fps(getattr(self.config, "fps", None))
            if isinstance(hits, ReadHits):
                features = encoder.features_of(hits.reading, hits)
            else:
                features = encoder.features(clip) if hits is None else encoder.features(clip, hits)
            return features[None].to(self.device)

    def encode_videos(self, clips: Sequence[Clip], hits: Sequence[Hits] | None = None) -> Tensor:
        """:meth:`encode_video` of clips of one length, [B, T, D]."""
        told = [{}] * len(clips) if hits is None else [{"hits": each} for each in hits]
        features = [self.encode_video(clip, **each) for clip, each in zip(clips, told, strict=True)]
        shortest = min(each.shape[1] for each in features)  # frame times may differ by a rounding
        return torch.cat([each[:, :shortest] for each in features])

    def hits(
        self, clip: Clip, *, sensitivity: float | str = SENSITIVITY, start: float = 0.0, duration: float | None = None
    ) -> Hits:
        """What the system expects to sound in a clip, whose own sound is not used: times, probabilities and places.

        Args:
            sensitivity: which hits are taken, see :meth:`v2a_nb.hits.Hits.at`: 0.5, those that are more likely than
                not; 1, every doubt; ``"auto"``, what suits the clip.
            start, duration: a part of the clip, seconds; times are those of the part.

        Raises:
            UsageError: a part outside of the clip, or an encoder that knows no hits.

        Examples:
            >>> from v2a_nb import load
            >>> load("vaura").hits(clip)[:1].add(1.0).times[-1]
            1.0
        """
        return Hits(self.read_hits(clip, sensitivity=sensitivity, start=start, duration=duration))

    def read_hits(
        self,
        clip: Clip,
        *,
        sensitivity: float | str = SENSITIVITY,
        start: float = 0.0,
        duration: float | None = None,
        fps: float | None = None,
    ) -> Hits:
        """What :meth:`hits` gives, with what the encoder read: :meth:`generate` of the same clip goes on from there.

        The other arguments and the errors are those of :meth:`hits`. An encoder that cannot go on gives hits alone.

        Args:
            fps: frames a second that are read, at most; left out, those of the configuration.
        """
        check_value(f"{type(self).__name__}.hits", "clip", clip, Clip)
        check_sensitivity(sensitivity)
        encoder = self._encoder(hits=True)
        with torch.no_grad(), evaluating(self):
            fps = getattr(getattr(self, "config", None), "fps", None) if fps is None else fps
            clip = part_of(clip, start, duration).at_most_fps(fps)
            reading = encoder.reading(clip) if hasattr(encoder, "features_of") else None
            found = encoder.hits(clip, faint=True) if reading is None else encoder.hits_of(reading)
        hits = Hits({**hit, "origin": "model"} for hit in found).at(sensitivity).part(0.0, clip.duration)
        return hits if reading is None else ReadHits(hits, reading)

    def _encoder(self, *, hits: bool) -> Any:
        """The video encoder, perhaps one that knows hits."""
        if self.encoder is None:
            raise UsageError(f"this {self.title} has no frame encoder: give one when it is made")
        if hits and not hasattr(self.encoder, "hits"):
            raise UsageError(
                f"the frame encoder of this {self.title} knows no hits: the tiny presets have one that does"
            )
        return self.encoder

    def _hits(
        self,
        clip: Clip | Sequence[Clip],
        hits: Hits | Sequence[Any] | str | Path | None,
        sensitivity: float | str | None,
        start: float,
        duration: float | None,
    ) -> list[Hits] | None:
        """The hits that each clip's sound is to follow, in the time of the part that is used; None: the model's own.

        Args:
            clip, start, duration: of ``generate``.
            hits: hits, times in seconds or a file of hits; for several clips a list of them, one each.
            sensitivity: see :meth:`v2a_nb.hits.Hits.at`.

        Raises:
            UsageError: hits outside of the clip, that are no hits, or not one list for each clip.
        """
        if hits is None and sensitivity is None:
            return None
        clips = self._listed(clip)
        if hits is None:
            how = {"sensitivity": sensitivity, "start": start, "duration": duration}
            return [self.read_hits(each, **how) for each in clips]
        given = [hits] if isinstance(clip, Clip) else hits
        if isinstance(given, Hits | str | Path) or len(given) != len(clips):
            raise UsageError(f"{len(clips)} clips need as many lists of hits, one each")
        found = []
        for each, some in zip(clips, given, strict=True):
            if isinstance(some, ReadHits) and sensitivity is None and start == 0 and duration is None:
                found.append(some)  # of this very clip: it need not be read again
                continue
            some = Hits.load(some) if isinstance(some, str | Path) else some if isinstance(some, Hits) else Hits(some)
            some.check_within(each.duration, each.name)
            some = some if sensitivity is None else some.at(sensitivity)
            found.append(some.part(start, each.duration if duration is None else start + duration))
        return found

    def _listed(self, clip: Clip | Sequence[Clip]) -> list[Clip]:
        """The clip, or the clips, that ``generate`` was given.

        Raises:
            UsageError: something else.
        """
        function = f"{type(self).__name__}.generate"
        several = isinstance(clip, Iterable) and not isinstance(clip, str)
        clips = list(clip) if several else [clip]
        for each in clips:
            if isinstance(getattr(each, "clip", None), Clip):
                raise UsageError(f"{function}: clip must be a Clip; the {type(each).__name__} has one: give its .clip")
            check_value(function, "clip", each, Clip)
        return clips

    def _samples(self, clip: Clip) -> int:
        """Samples of a sound exactly as long as the clip."""
        return round(clip.duration * self.sample_rate)

    def _batch(
        self, clip: Clip | Sequence[Clip], seed: int | Sequence[int], start: float, duration: float | None
    ) -> tuple[list[Clip], list[int], int]:
        """The named part of each clip, a seed for each, and how many samples their sounds have.

        Raises:
            UsageError: no clips, too short ones, ones of different lengths, or not one seed each.
        """
        clips = self._listed(clip)
        if not isinstance(seed, Integral | Iterable) or isinstance(seed, str):
            check_value(f"{type(self).__name__}.generate", "seed", seed, int)
        seeds = [seed] if isinstance(seed, Integral) else list(seed)
        if not clips or len(seeds) != len(clips):
            raise UsageError(f"{len(seeds)} seeds for {len(clips)} clips: one each is needed")
        if self.warning and self.warning not in WARNED and any(each.file for each in clips):
            WARNED.add(self.warning)
            warnings.warn(self.warning, stacklevel=_callers_level())
        clips = [part_of(each, start, duration) for each in clips]
        samples = self._samples(clips[0])
        for each in clips:
            if each.duration < SHORTEST_S - 1e-6:
                raise UsageError(f"{each.name}: {each.duration:.3f} s is too short; {SHORTEST_S} s is the least")
            if self._samples(each) != samples:
                raise UsageError(
                    f"{each.name} lasts {each.duration:.3f} s and {clips[0].name} "
                    f"{clips[0].duration:.3f} s: clips of a batch must be equally long"
                )
        return clips, [int(each) for each in seeds], samples

    def _sounds(
        self, waves: Tensor, samples: int, clip: Clip | Sequence[Clip], hits: Sequence[Hits] | None = None
    ) -> Sound | list[Sound]:
        """Waves [B, n] as sounds of exactly so many samples, within full scale: one for one clip, or a list.

        Args:
            hits: of each clip; those with a level make the sound around them louder or softer.
        """
        sounds = [Sound(wave, self.sample_rate).fit(n=samples) for wave in waves.clamp(-1, 1).cpu().numpy()]
        if hits is not None:
            sounds = [with_levels(sound, each) for sound, each in zip(sounds, hits, strict=True)]
        return sounds[0] if isinstance(clip, Clip) else sounds


class ReadHits(Hits):
    """Hits that an encoder expects, with what it read of the clip: a sound that follows them reads it no second time.

    Args:
        hits: those that are followed.
        reading: what ``encoder.reading`` gave of their clip.
    """

    def __init__(self, hits: Hits, reading: Any) -> None:
        super().__init__(hits)
        self.reading = reading


def _callers_level() -> int:
    """The ``stacklevel`` with which a warning of this file names the user's line, outside of the package and torch."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("v2a_nb", "torch"):
        level, frame = level + 1, frame.f_back
    return level


def given(**options: object) -> dict[str, object]:
    """The options that are not None: those that were given."""
    return {name: value for name, value in options.items() if value is not None}


def part_of(clip: Clip, start: float = 0.0, duration: float | None = None) -> Clip:
    """The named part of a clip, seconds, or the clip.

    Raises:
        UsageError: a part outside of the clip.
    """
    if start == 0 and duration is None:
        return clip
    end = clip.duration if duration is None else start + duration
    if not 0 <= start < end <= clip.duration + 1e-3:
        raise UsageError(f"{clip.name}: {start:g} s to {end:g} s is not a part of its {clip.duration:.3f} s")
    return clip.slice(start, end)


def seeded(seeds: Sequence[int]) -> list[torch.Generator]:
    """A source of randomness for each seed, on the CPU: the same on every device."""
    return [torch.Generator().manual_seed(int(seed)) for seed in seeds]


def check_fit(parts: Mapping[str, tuple[object, object]], system: str) -> None:
    """Compare what the parts of a system have with what it needs.

    Args:
        parts: a quantity in words -> (what a part has, what the system needs).
        system: its name.

    Raises:
        WeightsError: the first that differs.
    """
    for what, (has, needs) in parts.items():
        if has != needs:
            raise WeightsError(f"the parts do not fit: {has} {what}, and {system} wants {needs}")


@contextmanager
def switched(system: System, switches: Mapping[str, object], extra: Sequence[str] = ()) -> Iterator[None]:
    """Inside, the system's configuration has these switches.

    Args:
        extra: fields of the configuration that may be set besides the system's switches.

    Raises:
        UsageError: an unknown switch, or a value that it cannot have.
    """
    unknown = [name for name in switches if name not in (*system.switches, *extra)]
    if unknown:
        there = ", ".join(dict.fromkeys([*system.options, *system.switches]))
        raise UsageError(f"unknown options of {system.name}: {', '.join(unknown)}; there are {there}")
    before, system.config = system.config, replace(system.config, **switches)
    try:
        yield
    finally:
        system.config = before


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """No dropout and no batch statistics inside; outside everything is as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
