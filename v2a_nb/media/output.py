"""How results are written: the sound as a file of its own, and the video with its new sound."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError
from v2a_nb.files import noting
from v2a_nb.media.soundtracks import Soundtrack
from v2a_nb.media.spooled import SpooledSound
from v2a_nb.media.video import Video
from v2a_nb.media.writing import WAV_BYTES, save_mp4, save_sound

FORMATS = ("wav", "flac", "m4a")


@dataclass(frozen=True)
class Output:
    """What the files of a generated soundtrack are like; the defaults are 16-bit wav as the system gives it.

    Attributes:
        format: of the sound file: one of :data:`FORMATS`.
        bits: of a sample in wav and flac: 16 or 24.
        sample_rate: Hz, of the sound file and of the video's sound; None: the system's.
        channels: 1 or 2; None: the system's.
        keep_original: the video keeps its own sound as a second track.
        mix: the generated sound is amplified by so many decibels and added to the video's own sound; None: it stands
            alone.

    Raises:
        UsageError: anything else.
    """

    format: str = "wav"
    bits: int = 16
    sample_rate: int | None = None
    channels: int | None = None
    keep_original: bool = False
    mix: float | None = None

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise UsageError(f"--format {self.format}: there are {', '.join(FORMATS)}")
        if self.bits not in (16, 24):
            raise UsageError(f"--bits {self.bits}: 16 or 24")
        if self.bits != 16 and self.format == "m4a":
            raise UsageError("--bits belongs to wav and flac; the samples of m4a have no such size")
        if self.sample_rate is not None and not 8000 <= self.sample_rate <= 192000:
            raise UsageError(f"--sample-rate {self.sample_rate}: 8000 to 192000 Hz")
        if self.format == "m4a" and (self.sample_rate or 0) > 96000:
            raise UsageError(f"--sample-rate {self.sample_rate}: m4a has 96000 Hz at most")
        if self.channels not in (None, 1, 2):
            raise UsageError(f"--channels {self.channels}: 1 or 2")
        if self.mix is not None and self.keep_original:
            raise UsageError("--mix puts both sounds into one track, --keep-original into two: choose one of them")
        if self.mix is not None and not (math.isfinite(self.mix) and abs(self.mix) <= 100):
            raise UsageError(f"--mix {self.mix:g}dB: -100 to 100 dB")

    @property
    def endings(self) -> tuple[str, str]:
        """File name endings of the sound and of the video."""
        return self.format, "mp4"

    def longest(self, sample_rate: int) -> float:
        """Seconds that the sound file holds at most, at a system's rate (Hz); infinite but for wav."""
        if self.format != "wav":
            return math.inf
        return WAV_BYTES / ((self.sample_rate or sample_rate) * (self.channels or 1) * self.bits // 8)

    def write(
        self,
        pictures: Video | Clip,
        sound: Sound | SpooledSound,
        paths: Sequence[Path],
        note: Callable[[Path, Path], object] = lambda path, partial: None,
        report: Callable[[str], None] | None = None,
        **part: Any,
    ) -> None:
        """Write the sound, then the video.

        Args:
            pictures: the video that the sound was generated for, or a clip that comes from no file.
            sound: what was generated.
            paths: of the sound file and of the video, with these :attr:`endings`.
            note: called for each file when it is complete, see :func:`~v2a_nb.files.noting`.
            report: receives one line for each thing of the video that an mp4 cannot hold.
            part: ``start`` and ``duration`` of the part of the video that the sound is for.

        Raises:
            MediaError: a file cannot be written.
        """
        with noting(note):
            save_sound(self._pieces(sound), paths[0], bits=self.bits)
            if isinstance(pictures, Clip):
                save_mp4(pictures, self._pieces(sound), paths[1])
            else:
                pictures.dub(
                    self._pieces(sound), paths[1], keep_original=self.keep_original, mix=self.mix, report=report, **part
                )

    def _pieces(self, sound: Sound | SpooledSound) -> Iterator[Sound]:
        """The sound at the wanted rate, with as many channels as are wanted."""
        track = Soundtrack.of(sound, "Output.write").with_channels(self.channels)
        track = track if self.sample_rate is None else track.resampled(self.sample_rate)
        return (Sound(block, track.sample_rate, track.layout) for block in track.blocks)
