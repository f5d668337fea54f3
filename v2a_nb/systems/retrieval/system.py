"""The ``retrieval`` baseline of Action2Sound (section 5.1): the sound of the training set that fits the video best.

Nothing is generated. What is found is a real recording, so it sounds natural and knows nothing of when things happen:
the paper's own retrieval has an FAD of 1.84 and is judged in sync for 12 % of the clips, where the truth is for 78 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from v2a_nb.audio.looping import looped
from v2a_nb.clip import Clip, Sound
from v2a_nb.data.pool import SIMILARITIES, Pool, Source, tag_of
from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import parts_of, read_tensors
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.systems.base import Progress, System


class Retrieval(System):
    """A pool of sounds and the encoders that its vectors are of.

    Args:
        model: embeds clips.
        pool: of training sounds.
        by: what a clip is compared with: ``"sound"``, each sound of the pool (the paper's AV-Sim), or ``"look"``, the
            clip that each sound comes from.

    Raises:
        WeightsError: the pool's vectors are of other encoders.
        UsageError: an unknown similarity.

    Examples:
        >>> system = Retrieval.from_pretrained("retrieval")
        >>> system.generate(clip)
        Sound(2.560 s, 16000 Hz, mono, peak ... dBFS, rms ... dBFS)
    """

    name = kind = default = "retrieval"
    title, part_names = "a pool with its encoders", ("encoder",)
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
        """Sample rate of the sounds in the pool, Hz."""
        return self.pool.sample_rate

    @property
    def device(self) -> torch.device:
        """Device of the encoders."""
        return self.model.device

    # --- generation ---------------------------------------------------------------------------------

    def generate(
        self,
        clip: Clip | Sequence[Clip],
        *,
        seed: int | Sequence[int] = 0,
        by: str | None = None,
        among: int = 1,
        leave_out: Source | None = None,
        start: float = 0.0,
        duration: float | None = None,
        progress: Progress = None,
    ) -> Sound | list[Sound]:
        """The sound that fits best, exactly as long as the clip (or as the part of it that is named).

        A longer one is cut, a shorter one is looped.

        Args:
            clip: any size, frame rate and length from 0.3 s; its own sound is not used. Or clips of one length.
            seed: which of ``among`` is taken; with one there is no choice. For several clips, one each.
            by, leave_out: see :meth:`find`.
            among: one of so many best is drawn; the best itself where there is one.
            start, duration: a part of the clip, seconds.
            progress: called with 1 once.

        Returns:
            a sound, mono, at the pool's rate; a list of them for several clips.

        Raises:
            UsageError: under 0.3 s, a part outside of the clip, or more sounds than there are.
        """
        clips, seeds, samples = self._batch(clip, seed, start, duration)
        waves = []
        for each, its_seed in zip(clips, seeds, strict=True):
            # 1. Encode the video, and 2. search the pool for the vectors nearest to it
            rows = self.find(each, among, by=by, leave_out=leave_out)[1]

            # 3. Draw one of the best
            row = rows[np.random.default_rng(its_seed).integers(len(rows))]

            # 4. Get its sound, as long as the clip
            waves.append(looped(self.pool.sound(int(row)), samples).samples[0])
        if progress:
            progress(1)

        # 5. Fit to the clip
        return self._sounds(torch.from_numpy(np.stack(waves)), samples, clip)

    def encode_video(self, clip: Clip) -> Tensor:
        """The vector of a clip's pictures, [1, 1, 256]; its sound is not used."""
        return torch.from_numpy(self.model.look(clip))[None, None]

    def _encoder(self, *, hits: bool) -> Any:
        if self.model.frame_encoder is None:
            raise UsageError("the encoders of this retrieval read whole pictures: they know no hits")
        return self.model.frame_encoder

    def find(
        self, clip: Clip, k: int = 1, *, by: str | None = None, leave_out: Source | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` sounds of the pool that fit a clip best.

        Args:
            clip: its own sound is not used.
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

    def _steps(self, samples: int, **options: object) -> int:
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
