"""Evaluation: a system on clips of Strike World, or a folder of generated sounds, by any metrics, beside controls."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, V2AError, check_types
from v2a_nb.metrics import registry
from v2a_nb.metrics.base import Metric, ScoredClip, load
from v2a_nb.metrics.pairing import flaws, names_in, pair_files, read_sound, read_truth, shuffled
from v2a_nb.metrics.report import Report
from v2a_nb.metrics.truth import NAMES as TRUTH_METRICS
from v2a_nb.world import WorldClip

Metrics = Sequence[str | Metric] | None
_CANNOT_SHUFFLE = "this control is left out: one recording has more than half of the clips"
SHORT_SIDE = 256
"""Pixels of the short side of videos that are scored: more than any metric reads, however large the video is."""


@check_types
def evaluate(
    clips: Iterable[WorldClip],
    system,
    *,
    metrics: Metrics = None,
    seed: int = 0,
    controls: bool = True,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
    **options: object,
) -> Report:
    """Generate a sound for each clip of a Strike World, once, and score all of them by every metric.

    Args:
        clips: such as ``world.test``, or a whole world.
        system: has ``generate(clip, seed=...)`` and, to be faster, ``generate_batch(clips, seeds=...)``.
        metrics: names that ``v2a-nb evaluate --help`` lists, or :class:`~v2a_nb.metrics.base.Metric` objects; left
            out, the truth metrics. References are the true sounds of the clips.
        seed: of the generation.
        controls: also score the true sounds (the ceiling of the metrics), what the system's codec or autoencoder
            leaves of them (the ceiling of the system, where it has ``round_trip``), and the sounds generated for videos
            of other recordings (chance).
        batch: at most so many clips are generated side by side.
        progress: called with (done, total) after each batch.
        options: guidance, temperature ...: go to the system. A list has one value for each clip (``ambient``).

    Raises:
        UsageError: arguments of other kinds, no clips, an unknown metric, or a list of another length.

    Examples:
        >>> from v2a_nb import load
        >>> report = evaluate([item], load("retrieval"), metrics=["onset_f1_50ms", "near_miss_silent"])
        >>> 0 <= report["onset_f1_50ms"] <= 1
        True
    """
    clips = _world_clips(clips)
    if isinstance(system, str) or not hasattr(system, "generate"):
        raise UsageError(
            f"evaluate: system must have generate(clip, seed=...), such as v2a.load('vaura'); not {_called(system)}"
        )
    for name, value in options.items():
        if isinstance(value, list) and len(value) != len(clips):
            raise UsageError(f"{name}: {len(value)} values for {len(clips)} clips")
    if batch < 1:
        raise UsageError(f"batch={batch}: at least one clip at a time")
    tally = _Tally(TRUTH_METRICS if metrics is None else metrics, registry.NEEDS)
    scored = [
        ScoredClip(c.id, c.truth["recording"], None, c.truth, c.stems["mix"], c.narration, lambda c=c: c.clip.silent())
        for c in clips
    ]
    sounds: list[Sound] = []
    while len(sounds) < len(clips):
        start, stop = len(sounds), len(sounds) + 1
        while stop < min(start + batch, len(clips)) and scored[stop].duration == scored[start].duration:
            stop += 1  # clips of a batch must be equally long
        with _pictures(clips[start:stop]) as silent:
            part = {k: v[start:stop] if isinstance(v, list) else v for k, v in options.items()}
            sounds += _generate(system, silent, seed * 100_003 + start, part)
            for clip, sound in zip(scored[start:stop], sounds[start:stop], strict=True):
                tally.problems += [{"id": clip.id, "what": what} for what in flaws(sound, clip.duration)]
                tally.score(clip, sound)
                if controls and clip.reference is not None:
                    tally.score(clip, clip.reference, "ground truth", "true")
                    if hasattr(system, "round_trip"):
                        name = f"{system.round_trip_of} round trip"
                        tally.score(clip, system.round_trip(clip.reference), name, "round trip")
        if progress:
            progress(len(sounds), len(clips))
    order = shuffled([clip.recording for clip in scored]) if controls else None
    if order is not None:
        for clip, other in zip(scored, order, strict=True):
            tally.score(clip, sounds[other], "shuffled video", "shuffled")
    elif controls:
        tally.problems.append({"id": "shuffled video", "what": _CANNOT_SHUFFLE})
    return tally.report()


@check_types
def evaluate_folder(
    generated: str | Path,
    reference: str | Path | None = None,
    videos: str | Path | None = None,
    truth: str | Path | None = None,
    metrics: Metrics = None,
    *,
    text: str | Path | None = None,
    controls: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Score the sounds in a folder.

    Args:
        generated: folder of sounds, or of videos with sound. Their names without suffix are the ids of the clips, by
            which everything else is found.
        reference: folder of true sounds ``ID.wav`` (or ``ID.mix.wav``, or videos); also scored, as control "reference".
        videos: folder of the clips' videos.
        truth: path of a ``truth.json`` of Strike World; left out, the clips are what ``generated`` holds.
        metrics: as for :func:`evaluate`; left out, all that need no more than is given and that are quick.
        text: a CSV with the columns ``id`` and ``text``, one line for each clip; left out, the narrations of ``truth``.
        controls: also score each sound as if it were that of a clip of another recording, as control "shuffled".
        progress: called with (done, total) after each clip.

    What is missing, there twice, unreadable, NaN, silent, of another length, without a clip or cannot be scored by
    a metric is listed in ``problems``; nothing is left out in silence. A clip without a readable sound is not in the
    scores; one whose sound is silent or short is.

    Raises:
        UsageError: a metric is unknown, or needs what is not given.
        V2AError: a folder, ``text`` or ``truth.json`` cannot be read, or no clip could be scored.
    """
    given = {"reference": reference, "video": videos, "truth": truth, "text": text or truth}
    tally = _Tally(metrics, [need for need, where in given.items() if where is not None])
    problems, generated = tally.problems, Path(generated)
    entries = [{"id": name} for name in names_in(generated)] if truth is None else read_truth(truth, problems)
    ids = [entry["id"] for entry in entries]
    files = pair_files(generated, ids, problems)
    references = {} if reference is None else pair_files(Path(reference), ids, problems, extra=False)
    video_files = {} if videos is None else pair_files(Path(videos), ids, problems, extra=False, video=True)
    if text is not None:
        texts = _read_texts(Path(text), ids, problems)
        entries = [{**entry, "narration": texts.get(entry["id"], entry.get("narration"))} for entry in entries]
        problems += [{"id": e["id"], "what": f"no text in {text}"} for e in entries if not e["narration"]]
    # a clip's video is read once for all metrics, and forgotten for the next one
    open_video = lru_cache(maxsize=1)(lambda path: media.open(path, sound=False, size=SHORT_SIDE))
    entries = [entry for entry in entries if entry["id"] in files]
    recordings = [entry.get("recording", entry["id"]) for entry in entries]
    order = shuffled(recordings) if controls else None
    for k, entry in enumerate(entries):
        name, path = entry["id"], files[entry["id"]]
        sound = read_sound(path, name, problems)
        if sound is not None:
            video = _opener(video_files.get(name), open_video, name, problems) if tally.needs("video") else None
            clip = ScoredClip(
                name, recordings[k], sound, None if truth is None else entry,
                read_sound(references.get(name), name, problems), entry.get("narration"), video,
            )  # fmt: skip
            problems += [{"id": name, "what": f"{path}: {what}"} for what in flaws(sound, clip.duration)]
            tally.score(clip, sound)
            if clip.reference is not None:
                tally.score(clip, clip.reference, "reference", "true")
            # read again rather than held: a folder may have thousands
            other = None if order is None else read_sound(files[entries[order[k]]["id"]], name, [])
            if other is not None:
                tally.score(clip, other, "shuffled", "shuffled")
        if progress:
            progress(k + 1, len(entries))
    if not tally.clips:
        why = f"; {problems[0]['id']}: {problems[0]['what']}" if problems else ""
        none = f"none of the {len(ids)} clips could be scored" if ids else "no sounds in this folder"
        raise V2AError(f"{generated}: {none}{why}")
    return tally.report()


class _Tally:
    """What the metrics counted, clip by clip, for the generated sounds and for each control.

    Args:
        metrics: names, objects, or None for every quick metric that needs no more than ``given``.
        given: out of :data:`~v2a_nb.metrics.registry.NEEDS`.
    """

    def __init__(self, metrics: Metrics, given: Collection[str]) -> None:
        self.named = metrics is not None
        self.metrics = _choose(metrics, given)
        self.problems: list[dict] = []
        self.clips: list[ScoredClip] = []
        self.refused = 0
        self._rows: dict[str, list[list]] = defaultdict(lambda: [[] for _ in self.metrics])
        self._recordings: dict[str, list[list]] = defaultdict(lambda: [[] for _ in self.metrics])
        self._per_clip: list[dict] = []

    def needs(self, need: str) -> bool:
        """Whether a metric needs it."""
        return any(need in metric.needs for metric, _ in self.metrics)

    def score(self, clip: ScoredClip, sound: Sound, control: str = "", kind: str = "") -> None:
        """Score a sound of a clip by every metric that has what it needs; ``control`` is empty for the generated."""
        scored = clip.with_sound(sound)
        values: dict[str, object] = {"id": clip.id}
        for k, (metric, names) in enumerate(self.metrics):
            if control and kind not in metric.controls:
                continue
            row = None
            if all(scored.has(need) for need in metric.needs):
                try:
                    row = metric.score(scored)
                except V2AError as error:
                    where = f"{names[0]} of {control}" if control else names[0]
                    self.problems.append({"id": clip.id, "what": f"{where}: {error}"})
            if row is not None:
                self._rows[control][k].append(row)
                self._recordings[control][k].append(clip.recording)
            if metric.per_clip:
                for name in names:
                    values[name] = metric.pool([row], name.partition("[")[0]) if row is not None else float("nan")
        if not control:
            self.clips.append(clip)
            self._per_clip.append(values)

    def report(self) -> Report:
        """Everything, pooled. A metric that refuses the sample as too small has NaN, and is among the problems.

        Raises:
            V2AError: a metric that was named could score no clip, or all metrics refuse.
        """
        for (_, names), rows in zip(self.metrics, self._rows[""], strict=True):
            if self.named and not rows:
                why = f"; {self.problems[0]['id']}: {self.problems[0]['what']}" if self.problems else ""
                raise V2AError(f"{names[0]} could score none of {len(self.clips)} clips{why}")
        columns = {control: self._results(control) for control in self._rows}
        if self.refused == len(self.metrics):
            raise V2AError(f"{self.problems[-1]['id']}: {self.problems[-1]['what']}")
        return Report(
            len(self.clips), columns.pop(""), self._per_clip, self.problems,
            {control: rows for control, rows in columns.items() if rows},
            recordings=len({clip.recording for clip in self.clips}),
        )  # fmt: skip

    def _results(self, control: str) -> list[dict]:
        """Rows of a report, in the order of the metrics."""
        results = []
        parts = zip(self.metrics, self._rows[control], self._recordings[control], strict=True)
        for (metric, names), rows, recordings in parts:
            if not rows and control:
                continue
            try:
                results += metric.results(rows, recordings, names)
            except V2AError as error:
                nan = float("nan")
                empty = {"extractor": metric.extractor, "value": nan, "low": nan, "high": nan, "n": len(rows)}
                results += [{"name": name, **empty} for name in names]
                if not control:  # controls are as many
                    self.refused += 1
                    self.problems.append({"id": ", ".join(names), "what": str(error)})
        return results


def _choose(metrics: Metrics, given: Collection[str]) -> list[tuple[Metric, list[str]]]:
    """Metrics with those of their names that are asked for."""
    if metrics is None:
        metrics = [e.name for e in registry.METRICS.values() if e.default and set(e.needs) <= set(given)]
    if isinstance(metrics, str):
        raise UsageError(f"metrics is a list of names and Metric objects: give [{metrics!r}]")
    chosen: dict[object, tuple[Metric, list[str]]] = {}
    for asked in metrics:
        if isinstance(asked, str):
            (entry,) = registry.entries([asked])
            where, names, needs = (entry.where, entry.extractor), [entry.asked], entry.needs
        elif isinstance(asked, Metric):
            where, names, needs = asked, list(asked.names), asked.needs
        else:
            what = f"the class {asked.__name__}" if isinstance(asked, type) else _called(asked)
            raise UsageError(f"metrics is a list of names and Metric objects; it holds {what}")
        missing = [need for need in needs if need not in given]
        if missing:
            raise UsageError(f"{names[0]} needs {' and '.join(registry.NEEDS[need] for need in missing)}")
        if where not in chosen:
            chosen[where] = (load(entry) if isinstance(asked, str) else asked, [])
        chosen[where][1].extend(names)
    every = [name for _, names in chosen.values() for name in names]
    if not every or len(set(every)) < len(every):
        raise UsageError(f"each metric once, and at least one, and not {', '.join(every) or 'none'}")
    return list(chosen.values())


def _world_clips(clips: Iterable) -> list[WorldClip]:
    """The clips, checked."""
    items: list = [clips] if isinstance(clips, str) else list(clips)
    other = [item for item in items if not isinstance(item, WorldClip)]
    if other:
        raise UsageError(
            f"evaluate: clips must be clips of a Strike World, such as world.test, and not {_called(other[0])}; "
            "v2a-nb evaluate scores the sounds in a folder"
        )
    if not items:
        raise UsageError("no clips to evaluate")
    return items


def _called(value: object) -> str:
    """A value in an error message: its kind, and text in full."""
    return repr(value) if isinstance(value, str) else f"a {type(value).__name__}"


def _read_texts(path: Path, ids: Sequence[str], problems: list[dict]) -> dict[str, str]:
    """The line of text of each clip. What is there twice or of no clip is appended to ``problems``.

    Raises:
        V2AError: it is no CSV with the columns ``id`` and ``text``.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            lines = [(row["id"], (row["text"] or "").strip()) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise V2AError(f"{path} cannot be read as a table: {error}") from error
    except KeyError as error:
        raise V2AError(f"{path} is no table of texts: there is no column {error}") from error
    texts: dict[str, str] = {}
    for name, line in lines:
        if name not in ids:
            problems.append({"id": name or "no id", "what": f"{path} has a text of it, and there is no such clip"})
        elif name in texts:
            problems.append({"id": name, "what": f"twice in {path}; the first was taken"})
        elif line:
            texts[name] = line
    return texts


def _opener(path: Path | None, open_video: Callable, name: str, problems: list[dict]) -> Callable[[], Clip] | None:
    """How to open a clip's video; None where it cannot be read. That, and damage to it, are problems."""
    if path is None:
        return None  # already among the problems
    try:
        problems += [{"id": name, "what": f"{path}: {line}"} for line in open_video(path).problems]
    except V2AError as error:
        problems.append({"id": name, "what": str(error)})
        return None
    return lambda: open_video(path)


@contextmanager
def _pictures(part: Sequence[WorldClip]) -> Iterator[list[Clip]]:
    """Silent clips; afterwards, a world clip holds no pictures that it did not hold before: hundreds are too many."""
    kept = ["clip" in vars(item) for item in part]
    try:
        yield [item.clip.silent() for item in part]
    finally:
        for item, keep in zip(part, kept, strict=True):
            if not keep:
                vars(item).pop("clip", None)


def _generate(system, silent: Sequence[Clip], first_seed: int, options: dict) -> list[Sound]:
    seeds = [first_seed + i for i in range(len(silent))]
    if hasattr(system, "generate_batch"):
        return list(system.generate_batch(silent, seeds=seeds, **options))
    return [system.generate(clip, seed=s, **options) for clip, s in zip(silent, seeds, strict=True)]
