"""What all systems share: one clip or several go in, or a part of them, and sounds exactly as long come out.

A system's own file says how: its ``generate`` reads from top to bottom, from the video to the sound. What is the same
for all stands here: lengths, parts, seeds, batches, and what is refused.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any, ClassVar, overload

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError, check_value
from v2a_nb.hub import Pretrained

SHORTEST_S = 0.3
"""Seconds of the shortest clip that a sound can be made for."""
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


def count(text: str) -> int:
    """A whole number of at least 1, for :class:`Option`."""
    if (value := int(text)) < 1:
        raise ArgumentTypeError(f"{value} is too few; at least 1")
    return value


class System(Pretrained, nn.Module, ABC):
    """The base of the systems.

    Attributes:
        name: as :func:`v2a_nb.load` knows it.
        encoder: of video: has ``features(clip) -> [T, D]``. A system without one has its own :meth:`encode_video`.
        options: what ``generate`` takes besides ``seed``, ``start``, ``duration`` and ``progress``, and the command
            line with it; left out, each is what is best with the weights.
        switches: what ``generate`` takes further, for experiments.
    """

    name: ClassVar[str]
    encoder: nn.Module | None
    options: ClassVar[dict[str, Option]] = {}
    switches: ClassVar[tuple[str, ...]] = ()

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

    def steps_of(self, clip: Clip, *, start: float = 0.0, duration: float | None = None, **options: object) -> int:
        """How often ``generate`` will call ``progress``, given the same: the length of its bar."""
        return self._steps(self._samples(part_of(clip, start, duration)), **given(**options))

    def encode_video(self, clip: Clip) -> Tensor:
        """What the video encoder makes of a clip, [1, T, D]; the clip's sound is not used.

        With ``config.fps`` the encoder gets no more frames a second than that, as if the camera were that slow.

        Raises:
            UsageError: this system was made without an encoder.
        """
        if self.encoder is None:
            raise UsageError(f"this {self.title} has no frame encoder: give one when it is made")
        with torch.no_grad(), evaluating(self):
            clip = clip.at_most_fps(getattr(self.config, "fps", None))
            return self.encoder.features(clip)[None].to(self.device)

    def encode_videos(self, clips: Sequence[Clip]) -> Tensor:
        """:meth:`encode_video` of clips of one length, [B, T, D]."""
        features = [self.encode_video(clip) for clip in clips]
        shortest = min(each.shape[1] for each in features)  # frame times may differ by a rounding
        return torch.cat([each[:, :shortest] for each in features])

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
        clips = [clip] if isinstance(clip, Clip) else list(clip)
        seeds = [seed] if isinstance(seed, Integral) else list(seed)
        for each in clips:
            check_value(f"{type(self).__name__}.generate", "clip", each, Clip)
        if not clips or len(seeds) != len(clips):
            raise UsageError(f"{len(seeds)} seeds for {len(clips)} clips: one each is needed")
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

    def _sounds(self, waves: Tensor, samples: int, clip: Clip | Sequence[Clip]) -> Sound | list[Sound]:
        """Waves [B, n] as sounds of exactly so many samples, within full scale: one for one clip, or a list."""
        sounds = [Sound(wave, self.sample_rate).fit(n=samples) for wave in waves.clamp(-1, 1).cpu().numpy()]
        return sounds[0] if isinstance(clip, Clip) else sounds


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
def switched(system: System, switches: Mapping[str, object]) -> Iterator[None]:
    """Inside, the system's configuration has these switches.

    Raises:
        UsageError: an unknown switch, or a value that it cannot have.
    """
    unknown = [name for name in switches if name not in system.switches]
    if unknown:
        there = ", ".join([*system.options, *system.switches])
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
