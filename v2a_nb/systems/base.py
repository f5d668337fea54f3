"""What all systems share: a clip goes in, or a part of it, and a sound exactly as long comes out.

A system says what it is called, what it can be told, and how it makes waves; lengths, parts, seeds, batches and what
is refused are here, so that they are the same everywhere.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from torch import Tensor, nn

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import Pretrained

SHORTEST_S = 0.3
"""Of a clip."""
Progress = Callable[[int], None] | None
"""Called with 1 for each step."""


class System(Pretrained, nn.Module, ABC):
    """The base of the systems, which add ``generate`` with their options by name, for people to read.

    Attributes:
        name: as :func:`v2a_nb.load` knows it.
        options: what ``generate`` takes besides ``seed``, ``start``, ``duration`` and ``progress``; None is the
            preset's best. What of it the command line has, it offers for this system.
        switches: what it takes further, for experiments.
        generate: makes the sound of a clip; each system has its own, with its options by name.
    """

    name: ClassVar[str]
    options: ClassVar[tuple[str, ...]] = ("guidance",)
    switches: ClassVar[tuple[str, ...]] = ()
    generate: Callable[..., Sound]

    # --- for a system to fill in --------------------------------------------------------------------

    @property
    @abstractmethod
    def sample_rate(self) -> int:
        """Of the sounds that are made, Hz."""

    @abstractmethod
    def encode_video(self, clip: Clip) -> Tensor:
        """What the system sees of a clip, [1, T, D]; its sound is not looked at."""

    @abstractmethod
    def _make(self, clips: list[Clip], samples: int, seeds: Sequence[int], progress: Progress, **options) -> Tensor:
        """Waves [B, samples] of clips of one length; ``options`` has only what was given."""

    @abstractmethod
    def _steps(self, samples: int, **options) -> int:
        """How often :meth:`_make` calls ``progress``."""

    # --- the same for all ---------------------------------------------------------------------------

    def samples_of(self, clip: Clip) -> int:
        """Samples of a sound exactly as long as the clip."""
        return round(clip.duration * self.sample_rate)

    def steps_of(self, clip: Clip, *, start: float = 0.0, duration: float | None = None, **options: object) -> int:
        """How often ``generate`` will call ``progress``, given the same: the length of its bar."""
        return self._steps(self.samples_of(part_of(clip, start, duration)), **self._given(options))

    @torch.no_grad()
    def generate_batch(
        self,
        clips: list[Clip],
        *,
        seeds: Sequence[int],
        start: float = 0.0,
        duration: float | None = None,
        progress: Progress = None,
        **options: object,
    ) -> list[Sound]:
        """Like ``generate`` for clips of one length, side by side: faster a clip.

        Args:
            clips: as for ``generate``.
            seeds: one for each clip, so that what is drawn for it does not depend on the others.
            start, duration, progress: as for ``generate``.
            options: the others of ``generate``, see :attr:`options` and :attr:`switches`.

        Raises:
            UsageError: as ``generate``; also clips of different lengths, not as many seeds as clips, and options
                that this system does not have.
        """
        options = self._given(options)
        if not clips or len(seeds) != len(clips):
            raise UsageError(f"{len(seeds)} seeds for {len(clips)} clips: one each is needed")
        clips = [part_of(clip, start, duration) for clip in clips]
        samples = self.samples_of(clips[0])
        for clip in clips:
            if clip.duration < SHORTEST_S - 1e-6:
                raise UsageError(f"{clip.name}: {clip.duration:.3f} s is too short; {SHORTEST_S} s is the least")
            if self.samples_of(clip) != samples:
                raise UsageError(
                    f"{clip.name} lasts {clip.duration:.3f} s and {clips[0].name} "
                    f"{clips[0].duration:.3f} s: clips of a batch must be equally long"
                )
        with evaluating(self):
            waves = self._make(clips, samples, seeds, progress, **options).clamp(-1, 1).cpu().numpy()
        return [Sound(wave, self.sample_rate).fit(n=samples) for wave in waves]

    def encode_videos(self, clips: Sequence[Clip]) -> Tensor:
        """:meth:`encode_video` of clips of one length, [B, T, D]."""
        seen = [self.encode_video(clip) for clip in clips]
        shortest = min(part.shape[1] for part in seen)  # frame times may differ by a rounding
        return torch.cat([part[:, :shortest] for part in seen])

    def _given(self, options: Mapping[str, object]) -> dict[str, object]:
        """What was not left out, once it is known that there is such a thing."""
        known = (*self.options, *self.switches)
        unknown = [option for option in options if option not in known]
        if unknown:
            raise UsageError(f"unknown options of {self.name}: {', '.join(unknown)}; there are {', '.join(known)}")
        return {k: v for k, v in options.items() if v is not None or k in self.switches}


class Coded(System):
    """A system that makes codes or latents of sound, and decodes them.

    Attributes:
        round_trip_of: what does that, in words.
    """

    round_trip_of: ClassVar[str]

    @abstractmethod
    def encode_sound(self, sound: Sound) -> Tensor:
        """A sound as codes or latents [1, ...]."""

    @abstractmethod
    def _decode(self, made: Tensor, samples: int) -> Tensor:
        """Waves [B, samples] of codes or latents [B, ...]."""

    @torch.no_grad()
    def round_trip(self, sound: Sound) -> Sound:
        """What is left of a sound that is coded and decoded, as long as before: more cannot be had of this system."""
        with evaluating(self):
            waves = self._decode(self.encode_sound(sound), round(sound.duration * self.sample_rate))
        return Sound(waves[0].cpu().numpy(), self.sample_rate)


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


def check_fit(wanted: Mapping[str, tuple[object, object]], who: str) -> None:
    """Compare what parts of a system have with what it needs.

    Args:
        wanted: what it is, in words -> (has, needs).
        who: needs it.

    Raises:
        WeightsError: the first that differs.
    """
    for what, (has, needs) in wanted.items():
        if has != needs:
            raise WeightsError(f"the parts do not fit: {has} {what}, and {who} wants {needs}")


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
