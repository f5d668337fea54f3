"""A pool of sounds that can be searched by what they sound like and by what their clips looked like.

Action2Sound conditions on the sound of the training set that a silent video is most similar to (section 3.3,
equation 1), or on a quiet one. A pool holds unit vectors and where each sound can be had again: a place in a Strike
World recording or in a file, which costs a few bytes, or the samples themselves.

The search is exact: every vector is compared. 100,000 vectors of 256 channels take some 20 ms on one core
(``python benchmarks/retrieval.py``), so that nothing approximate is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError, WeightsError
from v2a_nb.hub import Pretrained, read_tensors

SIMILARITIES = ("sound", "look")
"""What a query is compared with: the pool's sounds (the paper's AV-Sim), or the clips they come from."""
QUIET_WINDOW_S, QUIET_STEP_S = 0.5, 0.1
DIGITAL_SILENCE_DBFS = -90.0
"""Under one step of 16 bits: such a sound is no ambience but none, and never a condition (section 3.3)."""
SHORTEST_S = 1.0
"""Parts of files that are shorter do not get into a pool."""
_AT_ONCE = 1 << 22  # similarities that are held at once: 16 MB


@dataclass(frozen=True)
class Source:
    """The origin of a sound, from which it can be read or rendered again.

    Attributes:
        recording: a name; sounds of one recording share it.
        start_s, duration_s: the part of it, seconds.
        world_seed: of the Strike World whose recording this is, named ``r`` and its number; or
        path: of a file that FFmpeg reads. Neither: the pool holds the samples.
        ambience_dbfs: of a recording of the world: its room is as loud as this, and not as the world drew it. No
            clip looks or sounds so, and no search finds it.
        variety, version: of a recording of the world, see :func:`v2a_nb.world.recording.draw`.
    """

    recording: str
    start_s: float
    duration_s: float
    world_seed: int | None = None
    path: str | None = None
    ambience_dbfs: float | None = None
    variety: str = "wide"
    version: int = 1


def quiet_dbfs(wave: np.ndarray, sample_rate: int) -> float:
    """The ambient level of a wave [n]: the lowest power of any half second (section 5.3), dBFS, at least -120.

    The released code steps by 0.1 s and sums squares; the same half second is found here, and named by its mean
    square in decibels. A wave shorter than half a second is measured whole.
    """
    window, step = round(QUIET_WINDOW_S * sample_rate), round(QUIET_STEP_S * sample_rate)
    window = min(window, len(wave))
    if not window:
        return -120.0
    sums = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    starts = np.arange(0, len(wave) - window + 1, step)
    power = float(max((sums[starts + window] - sums[starts]).min(), 0.0)) / window
    return 10 * float(np.log10(max(power, 1e-12)))


class Pool(Pretrained):
    """Vectors and sounds; row i of everything is sound i.

    Args:
        audio: vectors of the sounds [N, D].
        video: vectors of the clips they come from [N, D].
        sources: where each can be had again.
        quiet: level of each one's quietest half second, dBFS [N].
        sample_rate: of the sounds, Hz.
        waves: samples of each, int16 [n]; needed where the sources name neither world nor file.
        tag: of the encoders whose vectors these are: those of others cannot be compared with them.
        half: hold the vectors as float16, half the memory; searching takes longer.

    Raises:
        UsageError: lengths that differ, vectors that are zero or not numbers, sounds that could not be had again.
    """

    kind, title = "pool", "a pool of sounds"

    def __init__(
        self,
        audio: np.ndarray,
        video: np.ndarray,
        sources: Sequence[Source],
        quiet: np.ndarray,
        sample_rate: int = 16000,
        *,
        waves: Sequence[np.ndarray] | None = None,
        tag: str = "",
        half: bool = False,
    ) -> None:
        n = len(sources)
        if not n:
            raise UsageError("a pool needs at least one sound")
        if not (np.shape(audio) == np.shape(video) and len(audio) == len(quiet) == n) or np.ndim(audio) != 2:
            raise UsageError(
                f"vectors {np.shape(audio)} and {np.shape(video)}, {len(quiet)} levels and {n} sources are no pool"
            )
        homeless = [i for i, s in enumerate(sources) if s.world_seed is None and s.path is None]
        if homeless and waves is None:
            raise UsageError(f"{len(homeless)} sounds name neither a world nor a file, and no samples were given")
        if waves is not None and len(waves) != n:
            raise UsageError(f"samples of {len(waves)} sounds for a pool of {n}")
        kind = np.float16 if half else np.float32
        self._vectors = {"sound": _unit(audio).astype(kind), "look": _unit(video).astype(kind)}
        self.sources, self.sample_rate, self.tag = tuple(sources), int(sample_rate), tag
        self.quiet = np.array(quiet, np.float32)
        self.waves = None if waves is None else tuple(np.asarray(w, np.int16) for w in waves)
        self._aside = np.array([s.ambience_dbfs is not None for s in sources])
        self._recordings = np.array([f"{s.world_seed}/{s.recording}" for s in sources])
        self._spans = np.array([(s.start_s, s.start_s + s.duration_s) for s in sources])

    def __len__(self) -> int:
        return len(self.sources)

    def __repr__(self) -> str:
        places = len(set(self._recordings))
        return f"Pool({len(self)} sounds of {places} recordings, {self.dim} channels, vectors of {self.tag or '?'})"

    @property
    def dim(self) -> int:
        """D: channels of a vector."""
        return self._vectors["sound"].shape[1]

    @property
    def audio(self) -> np.ndarray:
        """Vectors of the sounds [N, D]."""
        return self._vectors["sound"]

    @property
    def video(self) -> np.ndarray:
        """Vectors of their clips [N, D]."""
        return self._vectors["look"]

    @property
    def searched(self) -> np.ndarray:
        """Rows that :meth:`search` may find, int64 [n]: all but those in rooms at another level."""
        return np.flatnonzero(~self._aside)

    # --- search -------------------------------------------------------------------------------------

    def search(
        self, queries: np.ndarray, k: int = 1, *, by: str = "sound", forbidden: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ``k`` most similar sounds to each query; exact.

        Args:
            queries: vectors [Q, D] or [D], such as :meth:`AudioVisualEmbedding.look` gives.
            k: how many.
            by: one of :data:`SIMILARITIES`.
            forbidden: bool [N], or [Q, N]: rows that must not be found; see :meth:`same_recording` and
                :meth:`overlapping`.

        Returns:
            cosines float32 [Q, k], falling, and rows int64 [Q, k]; [k] each for one query. Of equals, the lower row
            comes first.

        Raises:
            UsageError: another shape, vectors that are zero or not numbers, an unknown similarity, or fewer sounds
                than ``k`` that are allowed.
        """
        if by not in SIMILARITIES:
            raise UsageError(f"unknown similarity {by!r}; there is {' and '.join(SIMILARITIES)}")
        one = np.ndim(queries) == 1
        queries = _unit(np.atleast_2d(np.asarray(queries)))
        if queries.shape[1] != self.dim:
            raise UsageError(f"queries of {queries.shape[1]} channels cannot be compared with {self.dim}")
        n, q = len(self), len(queries)
        if forbidden is not None:
            forbidden = np.asarray(forbidden, bool)
            if forbidden.shape not in ((n,), (q, n)):
                raise UsageError(f"what is forbidden must be [{n}] or [{q}, {n}], not {forbidden.shape}")
        if self._aside.any():
            forbidden = self._aside if forbidden is None else forbidden | self._aside
        allowed = n if forbidden is None else int(n - forbidden.sum(-1).max(initial=0))
        if not 1 <= k <= allowed:
            raise UsageError(f"{k} sounds are asked for, {allowed} of {n} are allowed")
        vectors = self._vectors[by]
        step = max(1, _AT_ONCE // q)
        scores, rows = [], []
        for a in range(0, n, step):
            part = queries @ np.asarray(vectors[a : a + step], np.float32).T  # [Q, step]
            if forbidden is not None:
                part[np.broadcast_to(forbidden[..., a : a + step], part.shape)] = -np.inf
            best = [_top(row, k) for row in part]
            scores.append([row[b] for row, b in zip(part, best, strict=True)])
            rows.append([b + a for b in best])
        found = [np.concatenate(parts) for parts in zip(*rows, strict=True)]
        values = [np.concatenate(parts) for parts in zip(*scores, strict=True)]
        order = [_top(v, k) for v in values]
        values = np.stack([v[o] for v, o in zip(values, order, strict=True)]).astype(np.float32)
        found = np.stack([f[o] for f, o in zip(found, order, strict=True)]).astype(np.int64)
        return (values[0], found[0]) if one else (values, found)

    def same_recording(self, source: Source) -> np.ndarray:
        """Which sounds come from the recording of ``source``, bool [N]."""
        return self._recordings == f"{source.world_seed}/{source.recording}"

    def overlapping(self, source: Source) -> np.ndarray:
        """Which sounds share time with ``source``, bool [N]."""
        start, stop = source.start_s, source.start_s + source.duration_s
        together = (self._spans[:, 0] < stop - 1e-6) & (self._spans[:, 1] > start + 1e-6)
        return self.same_recording(source) & together

    # --- levels -------------------------------------------------------------------------------------

    def quietest(self) -> int:
        """The sound with the lowest ambient level that is not digital silence (section 3.3: zeros do not work).

        Raises:
            UsageError: all are silent.
        """
        return self.at_level(-np.inf)

    def at_level(self, dbfs: float) -> int:
        """The sound whose ambient level is nearest to ``dbfs``; never digital silence.

        Raises:
            UsageError: all are silent, or ``dbfs`` is not a number.
        """
        if np.isnan(dbfs):
            raise UsageError("an ambient level that is not a number")
        real = np.flatnonzero(self.quiet > DIGITAL_SILENCE_DBFS)
        if not len(real):
            raise UsageError(f"all {len(self)} sounds of this pool are silent")
        away = np.abs(self.quiet[real] - max(float(dbfs), -1e3))
        return int(real[away.argmin()])

    # --- sounds -------------------------------------------------------------------------------------

    def sound(self, row: int) -> Sound:
        """The sound of a row, mono, at :attr:`sample_rate`.

        Raises:
            UsageError: there is no such row.
            MediaError: its file cannot be read, or has become shorter.
        """
        if not -len(self) <= row < len(self):
            raise UsageError(f"no sound {row} in a pool of {len(self)}")
        source = self.sources[row]
        if self.waves is not None and source.world_seed is None and source.path is None:
            return Sound(self.waves[row].astype(np.float32) / 32767, self.sample_rate)
        if source.path is not None:
            return _part_of_file(source, self.sample_rate)
        first, n = (round(s * self.sample_rate) for s in (source.start_s, source.duration_s))
        index = int(source.recording.removeprefix("r"))
        wave = _recording(
            source.world_seed, index, self.sample_rate, source.ambience_dbfs, source.variety, source.version
        )
        return Sound(wave[first : first + n], self.sample_rate).fit(n=n)

    # --- making, keeping ----------------------------------------------------------------------------

    @classmethod
    def of(cls, model, clips: Iterable[tuple[Clip, Source]], *, sample_rate: int = 16000, half: bool = False) -> Pool:
        """A pool of clips that have sound.

        Args:
            model: an :class:`~v2a_nb.models.av_embedding.AudioVisualEmbedding`.
            clips: each with its source; samples are kept (16 bits) where that names neither world nor file.
            sample_rate: of the sounds that come out.
            half: see the class.

        Raises:
            UsageError: a clip without sound, or no clips.
        """
        audio, video, sources, quiet, waves = [], [], [], [], []
        for clip, source in clips:
            if clip.sound is None:
                raise UsageError(f"{clip.name}: has no sound, which a pool is made of")
            sound = clip.sound.mono().resample(sample_rate)
            audio.append(model.listen(sound))
            video.append(model.look(clip))
            sources.append(source)
            quiet.append(quiet_dbfs(sound.samples[0], sample_rate))
            held = source.world_seed is None and source.path is None
            waves.append(to_int16(sound.samples[0]) if held else np.zeros(0, np.int16))
        if not sources:
            raise UsageError("a pool needs at least one sound")
        kept = waves if any(len(w) for w in waves) else None
        return cls(
            np.stack(audio), np.stack(video), sources, np.array(quiet), sample_rate, waves=kept, tag=tag_of(model),
            half=half,
        )  # fmt: skip

    @classmethod
    def of_files(cls, model, paths: Sequence[str | Path], **options: object) -> Pool:
        """A pool of videos with sound, in parts as long as the encoders see at once.

        Args:
            model: an :class:`~v2a_nb.models.av_embedding.AudioVisualEmbedding`.
            paths: each file is a recording. They are read again when a sound is asked for.
            options: ``sample_rate`` and ``half`` as in :meth:`of`.

        Raises:
            MediaError: a file that cannot be read.
            UsageError: a file without sound.
        """
        from v2a_nb import media

        def parts() -> Iterable[tuple[Clip, Source]]:
            seconds = model.config.video.seconds
            for path in paths:
                for i, clip in enumerate(media.windows(path, seconds, size=model.size)):
                    if clip.duration >= SHORTEST_S:
                        yield clip, Source(Path(path).stem, i * seconds, clip.duration, path=str(path))

        return cls.of(model, parts(), **options)

    def tensors(self) -> tuple[dict, dict]:
        """Return what is saved: tensors by name, and the rest for JSON; see :meth:`from_tensors`."""
        import torch

        of = [
            (s.recording, s.world_seed, s.path, s.ambience_dbfs, s.variety, *([s.version] if s.version != 1 else []))
            for s in self.sources
        ]
        number = {r: i for i, r in enumerate(dict.fromkeys(of))}
        times = [(round(1e6 * s.start_s), round(1e6 * s.duration_s)) for s in self.sources]
        micro = [(number[r], *t) for r, t in zip(of, times, strict=True)]
        state = {
            "heard": torch.from_numpy(self.audio.copy()),
            "seen": torch.from_numpy(self.video.copy()),
            "quiet": torch.from_numpy(self.quiet),
            "places": torch.tensor(micro, dtype=torch.int64),
        }
        if self.waves is not None:
            state["waves"] = torch.from_numpy(np.concatenate(self.waves))
            state["lengths"] = torch.tensor([len(w) for w in self.waves])
        return state, {"tag": self.tag, "sample_rate": self.sample_rate, "recordings": list(number)}

    @classmethod
    def from_tensors(cls, state: dict, config: dict, half: bool = False) -> Pool:
        """The pool that :meth:`tensors` took apart.

        Raises:
            WeightsError: something is missing or does not fit.
        """
        try:
            names = config["recordings"]
            sources = [
                Source(names[r][0], start / 1e6, length / 1e6, *names[r][1:])
                for r, start, length in state["places"].tolist()
            ]
            waves = None
            if "waves" in state:
                ends = np.cumsum(state["lengths"].numpy())
                waves = np.split(state["waves"].numpy(), ends[:-1])
            audio, video, quiet = (state[name].float().numpy() for name in ("heard", "seen", "quiet"))
            rate = config["sample_rate"]
            return cls(audio, video, sources, quiet, rate, waves=waves, tag=config.get("tag", ""), half=half)
        except (KeyError, IndexError, TypeError, ValueError, UsageError) as error:
            raise WeightsError(f"what was read is no pool of sounds: {error}") from error

    def _tensors(self) -> dict:
        return self.tensors()[0]

    def _told(self) -> dict[str, Any]:
        return self.tensors()[1]

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any], half: bool = False) -> Pool:
        return cls.from_tensors(read_tensors(path), saved, half)


def tag_of(model) -> str:
    """What names the encoders of a pool's vectors."""
    from v2a_nb.hub import tag_of

    return tag_of(model, "av-sim")


def to_int16(wave: np.ndarray) -> np.ndarray:
    """A wave in [-1, 1] in 16 bits; what lies beyond is cut."""
    return np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length one, float32."""
    vectors = np.array(vectors, np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not (np.isfinite(length).all() and (length > 0).all()):
        raise UsageError("vectors that are zero, NaN or infinite point nowhere")
    return vectors / length


def _top(scores: np.ndarray, k: int) -> np.ndarray:
    """Places of the ``k`` largest, falling; of equals the first."""
    if k < len(scores):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        places = np.flatnonzero(scores >= least)
    else:
        places = np.arange(len(scores))
    return places[np.lexsort((places, -scores[places]))[:k]]


@lru_cache(maxsize=4)
def _recording(
    seed: int, index: int, sample_rate: int, ambience_dbfs: float | None, variety: str, version: int
) -> np.ndarray:
    """The whole sound of a Strike World recording."""
    from v2a_nb.world import sound
    from v2a_nb.world.recording import draw

    recording = draw(seed, index, variety=variety, version=version)
    if ambience_dbfs is not None:
        recording = recording.changed(ambience_dbfs=ambience_dbfs)
    return sound.render(recording, sample_rate)["mix"]


def _part_of_file(source: Source, sample_rate: int) -> Sound:
    """The sound of a part of a video, laid against its pictures.

    Raises:
        MediaError: the file cannot be read, or has become shorter.
    """
    from v2a_nb import media
    from v2a_nb.data.collection import SMALL

    try:
        clip = media.open(source.path, start=source.start_s, duration=source.duration_s, size=SMALL)
        missing_s = source.duration_s - clip.duration
    except UsageError:  # the file ends before the part begins
        missing_s = source.duration_s
    if missing_s > 0.1 or clip.sound is None:
        raise MediaError(
            f"{source.path}: has no sound up to {source.start_s + source.duration_s:.2f} s, where the pool has one; "
            "build the pool anew"
        )
    return clip.sound.mono().resample(sample_rate).fit(source.duration_s)
