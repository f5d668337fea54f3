"""The ``retrieval`` baseline of Action2Sound (section 5.1): the sound of the training set that fits the video best.

Nothing is generated. What is found is a real recording, so it sounds natural and knows nothing of when things happen:
the paper's own retrieval has an FAD of 1.84 and is judged in sync for 12 % of the clips, where the truth is for 78 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from v2a_nb.clip import Clip, Sound
from v2a_nb.data.pool import SIMILARITIES, Pool, Source, tag_of
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import parts_of, read_tensors
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.systems.base import System

SEAM_S = 0.1
"""Over which a looped sound passes into its own beginning."""


class Retrieval(System):
    """A pool and the encoders that its vectors are of.

    Args:
        model: looks at clips.
        pool: of training sounds.
        by: what is compared: ``"sound"``, the paper's AV-Sim of the clip and each sound, or ``"look"``, the clip and
            the clip that each sound comes from.

    Raises:
        WeightsError: the pool's vectors are of other encoders.
        UsageError: an unknown similarity.

    Examples:
        >>> system = Retrieval.from_pretrained("retrieval")           # doctest: +SKIP
        >>> system.generate(clip)                                     # doctest: +SKIP
        Sound(2.560 s, 16000 Hz, mono, peak -14.2 dBFS, rms -36.0 dBFS)
    """

    name = kind = default = "retrieval"
    title, part_names = "a pool with its encoders", ("encoder",)
    options = ()
    switches = ("by", "among", "leave_out")

    def __init__(self, model: AudioVisualEmbedding, pool: Pool, by: str = "look") -> None:
        super().__init__()
        if by not in SIMILARITIES:
            raise UsageError(f"unknown similarity {by!r}; there is {' and '.join(SIMILARITIES)}")
        if model.dim != pool.dim or (pool.tag and pool.tag != tag_of(model)):
            raise WeightsError(
                f"the pool holds {pool.dim} channels of {pool.tag or 'unnamed encoders'}, these encoders are "
                f"{tag_of(model)} with {model.dim}; build the pool anew"
            )
        self.model, self.pool, self.by = model, pool, by

    @property
    def sample_rate(self) -> int:
        """Of the sounds that are found, Hz."""
        return self.pool.sample_rate

    @property
    def device(self) -> torch.device:
        """Where the encoders are."""
        return self.model.device

    def encode_video(self, clip: Clip) -> Tensor:
        """What the clip looks like, [1, 1, 256]; its sound is not looked at."""
        return torch.from_numpy(self.model.look(clip))[None, None]

    def find(
        self, clip: Clip, k: int = 1, *, by: str | None = None, leave_out: Source | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` sounds of the pool that fit a clip best.

        Args:
            clip: its own sound is not looked at.
            k: how many.
            by: left out, the system's.
            leave_out: nothing of this recording is found: where the clip itself comes from.

        Returns:
            cosines [k], falling, and rows of the pool [k].

        Raises:
            UsageError: an unknown similarity, or too few sounds.
        """
        forbidden = None if leave_out is None else self.pool.same_recording(leave_out)
        return self.pool.search(self.model.look(clip), k, by=by or self.by, forbidden=forbidden)

    def generate(
        self,
        clip: Clip,
        *,
        seed: int = 0,
        by: str | None = None,
        among: int = 1,
        leave_out: Source | None = None,
        start: float = 0.0,
        duration: float | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> Sound:
        """The sound that fits best, exactly as long as the clip (or as the part of it that is named).

        A longer one is cut, a shorter one passes into its own beginning again.

        Args:
            clip: any size, frame rate and length from 0.3 s; its own sound is not looked at.
            seed: which of ``among`` is taken; with one there is no choice.
            by, leave_out: see :meth:`find`.
            among: one of so many best is drawn; the best itself where there is one.
            start, duration: a part of the clip, seconds.
            progress: called with 1 once.

        Returns:
            mono, at the pool's rate.

        Raises:
            UsageError: under 0.3 s, a part outside of the clip, or more sounds than there are.
        """
        return self.generate_batch(
            [clip], seeds=[seed], by=by, among=among, leave_out=leave_out, start=start, duration=duration,
            progress=progress,
        )[0]  # fmt: skip

    def _make(
        self, clips: list[Clip], samples: int, seeds: Sequence[int], progress: Callable | None, **options
    ) -> Tensor:
        among, made = options.get("among", 1), []
        for clip, seed in zip(clips, seeds, strict=True):
            rows = self.find(clip, among, by=options.get("by"), leave_out=options.get("leave_out"))[1]
            row = rows[np.random.default_rng(int(seed)).integers(len(rows))]
            made.append(lasting(self.pool.sound(int(row)), samples).samples[0])
        if progress:
            progress(1)
        return torch.from_numpy(np.stack(made))

    def _steps(self, samples: int, **options) -> int:
        return 1

    # --- weights ------------------------------------------------------------------------------------

    def _parts(self) -> dict[str, Any]:
        return {"encoder": self.model}

    def _tensors(self) -> dict[str, Tensor]:
        return self.pool.tensors()[0]

    def _told(self) -> dict[str, Any]:
        return {"by": self.by, **self.pool.tensors()[1]}

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> Retrieval:
        encoder = AudioVisualEmbedding.from_pretrained(parts_of(path, saved, cls.part_names)["encoder"])
        return cls(encoder, Pool.from_tensors(read_tensors(path), saved), saved.get("by", "look"))


def lasting(sound: Sound, samples: int, seam_s: float = SEAM_S) -> Sound:
    """A sound of exactly ``samples``: cut, or repeated so that its end passes into its beginning.

    The two cross over in ``seam_s`` (half of the sound at most) with constant power: where they are alike, as two
    moments of a hum are, plain equal-power weights would swell by up to 3 dB, so their sum is divided by what their
    correlation adds.

    Raises:
        UsageError: nothing to repeat, or no samples wanted.
    """
    if samples < 1 or not sound.n:
        raise UsageError(f"{sound.n} samples cannot be made {samples} long")
    if sound.n >= samples:
        return sound.fit(n=samples)
    wave = sound.samples.astype(np.float64)
    seam = min(round(seam_s * sound.sample_rate), sound.n // 2)
    head, tail, period = wave[:, :seam], wave[:, sound.n - seam :], sound.n - seam
    angle = np.pi / 2 * (np.arange(seam) + 0.5) / max(seam, 1)
    power = np.sqrt(np.square(head).sum() * np.square(tail).sum())
    alike = float((head * tail).sum() / power) if power > 0 else 0.0
    cross = (np.sin(angle) * head + np.cos(angle) * tail) / np.sqrt(1 + max(alike, -0.5) * np.sin(2 * angle))
    loop = np.concatenate([cross, wave[:, seam:period]], axis=1)  # one period, from one seam's start to the next
    again = np.tile(loop, (1, -(-(samples - period) // period)))
    made = np.concatenate([wave[:, :period], again], axis=1)[:, :samples]
    return Sound(made, sound.sample_rate)
