"""Evaluation: a system on clips of Strike World, or a folder of generated sounds, by any metrics, beside controls."""

from __future__ import annotations

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple, overload

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, V2AError, check_types, check_value
from v2a_nb.metrics import registry
from v2a_nb.metrics.base import ScoredClip
from v2a_nb.metrics.compare import compare
from v2a_nb.metrics.feature_cache import FeatureCache, digest_of_file
from v2a_nb.metrics.ladder import plan_others, read_ladder, rungs
from v2a_nb.metrics.pairing import flaws, names_in, pair_files, read_sound, read_truth, shuffled, stems_in
from v2a_nb.metrics.protocols import Plan, plan
from v2a_nb.metrics.report import Comparison, Ladder, Report
from v2a_nb.metrics.tally import Chosen, Metrics, Tally, choose, described
from v2a_nb.metrics.truth import NAMES as TRUTH_METRICS
from v2a_nb.metrics.validity import controls_of, doubts, looks
from v2a_nb.world import WorldClip

_CANNOT_SHUFFLE = "this control is left out: one recording has more than half of the clips"
SHORT_SIDE = 256
"""Pixels of the short side of videos that are scored: more than any metric reads, however large the video is."""


@overload
def evaluate(
    clips: str | Path,
    *,
    metrics: Metrics = None,
    controls: bool = True,
    protocol: str | None = None,
    weights: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Report: ...
@overload
def evaluate(
    clips: Mapping[str, str | Path],
    *,
    metrics: Metrics = None,
    controls: bool = True,
    protocol: str | None = None,
    weights: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Comparison: ...
@overload
def evaluate(
    clips: Iterable[WorldClip],
    system: object,
    *,
    metrics: Metrics = None,
    seed: int = 0,
    controls: bool = True,
    batch: int = 8,
    protocol: str | None = None,
    weights: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Report: ...
@check_types
def evaluate(
    clips: Any,
    system: Any = None,
    *,
    metrics: Metrics = None,
    seed: int = 0,
    controls: bool = True,
    batch: int = 8,
    protocol: str | None = None,
    weights: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Report | Comparison:
    """Generate a sound for each clip of a Strike World, once, and score all of them by every metric.

    Without a system, sounds that are in folders are scored: ``evaluate("made", reference="true")`` is
    :func:`evaluate_folder`, ``evaluate({"mine": "a", "theirs": "b"}, reference="true")`` is :func:`compare_folders`.

    Args:
        clips: such as ``world.test``, or a whole world; a folder, or a dictionary of folders by name.
        system: has ``generate(clip, seed=...)`` and, to be faster, ``generate_batch(clips, seeds=...)``. Left out for
            folders.
        metrics: names that ``v2a-nb evaluate --help`` lists, or :class:`~v2a_nb.metrics.base.Metric` objects; left
            out, the truth metrics. References are the true sounds of the clips.
        seed: of the generation.
        controls: also score the true sounds (the ceiling of the metrics), what the system's codec or autoencoder
            leaves of them (the ceiling of the system, where it has ``round_trip``), and the sounds generated for videos
            of other recordings (chance).
        batch: at most so many clips are generated side by side.
        protocol: instead of ``metrics``, those of a paper or a tool on sounds that are prepared as there: a name of
            :data:`~v2a_nb.metrics.protocols.PROTOCOLS`. The report says what was left out and what differs.
        weights: for a protocol, extractors that may be read: ``["vggish=FILE.safetensors", "ast-audioset"]``; without a
            place, the published weights are downloaded.
        progress: called with (done, total) after each batch.
        options: guidance, temperature ...: go to the system. A list has one value for each clip (``ambient``). For
            folders, what else is given of the clips: ``reference``, ``videos``, ``truth``, ``text``; ``cache``.

    Raises:
        UsageError: arguments of other kinds, no clips, an unknown metric or protocol, metrics beside a protocol, or a
            list of another length.

    Examples:
        >>> from v2a_nb import load
        >>> report = evaluate([item], load("retrieval"), metrics=["onset_f1_50ms", "near_miss_silent"])
        >>> 0 <= report["onset_f1_50ms"] <= 1
        True
    """
    if system is None and isinstance(clips, str | Path | Mapping):
        score: Callable = compare_folders if isinstance(clips, Mapping) else evaluate_folder
        return score(
            clips, metrics=metrics, controls=controls, protocol=protocol, weights=weights, progress=progress, **options
        )
    clips = _world_clips(clips)
    if isinstance(system, str) or not hasattr(system, "generate"):
        raise UsageError(
            f"evaluate: system must have generate(clip, seed=...), such as v2a.load('vaura'); not {described(system)}"
        )
    for name, value in options.items():
        if isinstance(value, list) and len(value) != len(clips):
            raise UsageError(f"{name}: {len(value)} values for {len(clips)} clips")
    if batch < 1:
        raise UsageError(f"batch={batch}: at least one clip at a time")
    planned = _plan(protocol, weights, metrics, registry.NEEDS)
    chosen = _chosen(planned, TRUTH_METRICS if metrics is None else metrics, registry.NEEDS)
    tally = Tally(chosen, metrics is not None)
    model: Any = system
    whole = [scored_clip(clip) for clip in clips]
    scored = whole if planned is None else [planned.protocol.clip(clip) for clip in whole]
    sounds: list[Sound] = []
    while len(sounds) < len(clips):
        start, stop = len(sounds), len(sounds) + 1
        while stop < min(start + batch, len(clips)) and whole[stop].duration == whole[start].duration:
            stop += 1  # clips of a batch must be equally long
        with _pictures(clips[start:stop]) as silent:
            part = {k: v[start:stop] if isinstance(v, list) else v for k, v in options.items()}
            sounds += _generate(model, silent, seed * 100_003 + start, part)
            for clip, raw, sound in zip(scored[start:stop], whole[start:stop], sounds[start:stop], strict=True):
                tally.problems += [{"id": clip.id, "what": what} for what in flaws(sound, raw.duration)]
                tally.score(clip, _prepared(planned, sound))
                if controls and clip.reference is not None and raw.reference is not None:
                    tally.score(clip, clip.reference, "ground truth", "true")
                    if hasattr(model, "round_trip"):
                        name, kept = f"{model.round_trip_of} round trip", model.round_trip(raw.reference)
                        tally.score(clip, _prepared(planned, kept), name, "round trip")
        if progress:
            progress(len(sounds), len(clips))
    order = shuffled([clip.recording for clip in scored]) if controls else None
    if order is not None:
        for clip, other in zip(scored, order, strict=True):
            tally.score(clip, _prepared(planned, sounds[other]), "shuffled video", "shuffled")
    elif controls:
        tally.problems.append({"id": "shuffled video", "what": _CANNOT_SHUFFLE})
    return _report(tally, planned)


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
    ladder: bool = False,
    protocol: str | None = None,
    weights: Sequence[str] = (),
    cache: str | Path | None = None,
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
        controls: also score each sound as if it were that of a clip of another recording, as control "shuffled", and
            ask metrics of picture and sound whether they hold on these clips.
        ladder: also score the control ladder of the true sounds, see :mod:`v2a_nb.metrics.ladder`.
        protocol, weights: as for :func:`evaluate`; what needs something that is not given is left out, and said.
        cache: folder where features of sounds and videos are kept: an evaluation that was interrupted is taken up, and
            one with other metrics or other systems computes only what is new.
        progress: called with (done, total) after each clip.

    What is missing, there twice, unreadable, NaN, silent, of another length, without a clip or cannot be scored by
    a metric is listed in ``problems``; nothing is left out in silence. A clip without a readable sound is not in the
    scores; one whose sound is silent or short is. A metric of picture and sound that does not put these clips' true
    sounds over worse ones is listed too, see :mod:`v2a_nb.metrics.validity`.

    Raises:
        UsageError: a metric or a protocol is unknown, or needs what is not given; metrics beside a protocol; a ladder
            without references, or of too few.
        V2AError: a folder, ``text`` or ``truth.json`` cannot be read, or no clip could be scored.
    """
    if ladder and reference is None:
        raise UsageError(f"the control ladder needs {registry.NEEDS['reference']}")
    given = _Given(reference, videos, truth, text)
    needs = given.needs
    planned = _plan(protocol, weights, metrics, needs)
    chosen, named = _chosen(planned, metrics, needs), metrics is not None
    tally, steps = _score_folder(generated, given, chosen, named, planned, controls, ladder, cache, progress)
    report = _report(tally, planned)
    report.sources = given.sources(generated)
    if steps is not None:
        report.ladder = read_ladder(steps)
    return report


@check_types
def compare_folders(
    generated: Mapping[str, str | Path],
    reference: str | Path | None = None,
    videos: str | Path | None = None,
    truth: str | Path | None = None,
    metrics: Metrics = None,
    *,
    text: str | Path | None = None,
    controls: bool = True,
    ladder: bool = False,
    protocol: str | None = None,
    weights: Sequence[str] = (),
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Score the sounds in several folders, and test each two of them against each other on their common clips.

    Args:
        generated: a folder for each system, by its name; at least two.
        reference, videos, truth, metrics, text, controls: as for :func:`evaluate_folder`.
        ladder: it is about the true sounds, and in the report of the first system.
        protocol, weights: as for :func:`evaluate`; what differs is in the report of the first system.
        cache: as for :func:`evaluate_folder`; one folder serves all systems.
        progress: called with (done, total) after each clip of each folder.

    Raises:
        UsageError, V2AError: as :func:`evaluate_folder`; fewer than two folders; two that have no clip in common.

    Examples:
        >>> scores = compare_folders({"mine": "a", "theirs": "b"}, truth="truth.json")  # doctest: +SKIP
        >>> scores.comparisons[0]["p_holm"]  # doctest: +SKIP
        0.012
    """
    if len(generated) < 2:
        raise UsageError(f"a comparison needs at least two folders by name, not {len(generated)}")
    if ladder and reference is None:
        raise UsageError(f"the control ladder needs {registry.NEEDS['reference']}")
    given = _Given(reference, videos, truth, text)
    needs = given.needs
    planned = _plan(protocol, weights, metrics, needs)
    chosen, named = _chosen(planned, metrics, needs), metrics is not None
    tallies: dict[str, Tally] = {}
    reports: dict[str, Report] = {}
    for name, folder in generated.items():
        first = not tallies
        tallies[name], steps = _score_folder(
            folder, given, chosen, named, planned, controls, ladder and first, cache, progress
        )
        reports[name] = _report(tallies[name], planned)
        reports[name].sources = given.sources(folder)
        if not first:
            reports[name].protocol = None
        if steps is not None:
            reports[name].ladder = read_ladder(steps)
    return Comparison(reports, compare(tallies))


@check_types
def evaluate_ladder(
    clips: Iterable[WorldClip],
    metrics: Metrics = None,
    *,
    round_trips: Mapping[str, Callable[[Sound], Sound]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Ladder:
    """Score the control ladder of clips of a Strike World: which metrics order sounds that are known to be worse.

    Args:
        clips: such as ``world.test``.
        metrics: as for :func:`evaluate`; left out, the truth metrics.
        round_trips: from a sound to what a codec or a vocoder leaves of it, by its name, such as
            ``{"codec round trip": codec.round_trip}``.
        progress: called with (done, total) after each clip.

    Raises:
        UsageError: arguments of other kinds, an unknown metric, or fewer clips than
            :data:`~v2a_nb.metrics.ladder.LEAST_CLIPS`.

    Examples:
        >>> ladder = evaluate_ladder(world.test, ["onset_f1_50ms"])  # doctest: +SKIP
        >>> ladder.flags  # doctest: +SKIP
        []
    """
    items = _world_clips(clips)
    tally = Tally(choose(TRUTH_METRICS if metrics is None else metrics, registry.NEEDS))
    others = plan_others([item.truth for item in items])
    for k, item in enumerate(items):
        sounds = {name: items[j].stems["mix"] for name, other in others.items() if (j := other[k]) is not None}
        with _pictures([item]):
            clip = scored_clip(item)
            for name, sound in rungs(clip, sounds, round_trips):
                tally.score(clip, sound, name)
            tally.clips.append(clip)
        if progress:
            progress(k + 1, len(items))
    return read_ladder(tally)


def scored_clip(clip: WorldClip) -> ScoredClip:
    """A clip of a Strike World as metrics see it, without a sound to score."""
    return ScoredClip(
        clip.id, clip.truth["recording"], None, clip.truth, clip.stems["mix"], clip.narration,
        lambda: clip.clip.silent(), clip.stems,
    )  # fmt: skip


class _Given(NamedTuple):
    """Folders and files beside the scored sounds: arguments of :func:`evaluate_folder`, None where left out.

    Attributes:
        reference: folder of the true sounds.
        videos: folder of the videos.
        truth: ``truth.json`` of a Strike World.
        text: table of narrations.
    """

    reference: str | Path | None
    videos: str | Path | None
    truth: str | Path | None
    text: str | Path | None

    @property
    def needs(self) -> list[str]:
        """Names of these in :data:`v2a_nb.metrics.registry.NEEDS`: metrics that need nothing else can be scored."""
        given = {
            "reference": self.reference, "video": self.videos, "truth": self.truth, "text": self.text or self.truth,
            "stems": self.reference,
        }  # fmt: skip
        needs = [need for need, where in given.items() if where is not None]
        if self.truth is not None:
            factors = [entry["pair"]["factor"] for entry in read_truth(self.truth, []) if "pair" in entry]
            needs += dict.fromkeys(f"{factor} pairs" for factor in factors)
        return needs

    def sources(self, generated: str | Path) -> dict[str, str | Path]:
        """Where a page finds the clips: :attr:`Report.sources`."""
        places = {"generated": generated, **self._asdict()}
        return {name: place for name, place in places.items() if place is not None and name != "text"}


def _plan(protocol: str | None, weights: Sequence[str], metrics: Metrics, given: Collection[str]) -> Plan | None:
    """What of a protocol can be scored; None where none is asked for.

    Raises:
        UsageError: metrics beside a protocol, weights without one, or as :func:`~v2a_nb.metrics.protocols.plan`.
    """
    if isinstance(weights, str):
        raise UsageError(f"weights is a list of extractors: give [{weights!r}]")
    if protocol is None:
        if weights:
            raise UsageError("weights are for a protocol; a metric names its extractor, as in fad[vggish=FILE]")
        return None
    if metrics is not None:
        raise UsageError(f"the protocol {protocol} says which metrics are scored: give one of both")
    return plan(protocol, given, weights)


def _chosen(planned: Plan | None, metrics: Metrics, given: Collection[str]) -> Chosen:
    """The metrics of a protocol, or else those that are asked for."""
    return choose(metrics if planned is None else planned.metrics, given)


def _prepared(planned: Plan | None, sound: Sound) -> Sound:
    """A sound as the protocol scores it."""
    return sound if planned is None else planned.protocol.sound(sound)


def _report(tally: Tally, planned: Plan | None) -> Report:
    """Make the report of a tally, with what the protocol says about it."""
    if planned is None:
        return tally.report()
    tally.problems += planned.problems(tally.clips)
    report = tally.report()
    report.protocol = planned.to_dict(report.metrics)
    return report


def _score_folder(
    generated: str | Path,
    given: _Given,
    chosen: list,
    named: bool,
    planned: Plan | None,
    controls: bool,
    ladder: bool,
    cache: str | Path | None,
    progress: Callable[[int, int], None] | None,
) -> tuple[Tally, Tally | None]:
    """Return what was counted of the sounds in a folder and, with ``ladder``, of the controls of their references."""
    tally, steps = Tally(chosen, named), Tally(chosen) if ladder else None
    problems, generated, (reference, videos, truth, text) = tally.problems, Path(generated), given
    entries = [{"id": name} for name in names_in(generated)] if truth is None else read_truth(truth, problems)
    ids = [entry["id"] for entry in entries]
    files = pair_files(generated, ids, problems)
    references = {} if reference is None else pair_files(Path(reference), ids, problems, extra=False)
    stems = stems_in(Path(reference), ids) if reference is not None and (ladder or tally.needs("stems")) else {}
    video_files = {} if videos is None else pair_files(Path(videos), ids, problems, extra=False, video=True)
    if text is not None:
        texts = _read_texts(Path(text), ids, problems)
        entries = [{**entry, "narration": texts.get(entry["id"], entry.get("narration"))} for entry in entries]
        problems += [{"id": e["id"], "what": f"no text in {text}"} for e in entries if not e["narration"]]
    if tally.needs("stems"):
        problems += [{"id": name, "what": f"no stems in {reference}"} for name in ids if name not in stems]
    kept = None if cache is None else FeatureCache(cache)
    # a clip's video is read once for all metrics, and forgotten for the next one
    open_video = lru_cache(maxsize=1)(lambda path: media.open(path, sound=False, size=SHORT_SIDE))
    entries = [entry for entry in entries if entry["id"] in files]
    recordings = [entry.get("recording", entry["id"]) for entry in entries]
    order = shuffled(recordings) if controls else None
    others = plan_others(entries) if steps is not None else {}
    for k, entry in enumerate(entries):
        name, path = entry["id"], files[entry["id"]]
        sound = read_sound(path, name, problems)
        if sound is not None:
            video = _opener(video_files.get(name), open_video, name, problems) if tally.needs("video") else None
            parts = {stem: read_sound(file, name, problems) for stem, file in stems.get(name, {}).items()}
            clip = ScoredClip(
                name, recordings[k], sound, None if truth is None else entry,
                read_sound(references.get(name), name, problems), entry.get("narration"), video,
                {stem: part for stem, part in parts.items() if part is not None} or None,
                kept, None if video is None else partial(digest_of_file, video_files[name]),
            )  # fmt: skip
            problems += [{"id": name, "what": f"{path}: {what}"} for what in flaws(sound, clip.duration)]
            clip = clip if planned is None else planned.protocol.clip(clip)
            tally.score(clip, _prepared(planned, sound))
            if clip.reference is not None:
                tally.score(clip, clip.reference, "reference", "true")
            # read again rather than held: a folder may have thousands
            other = None if order is None else read_sound(files[entries[order[k]]["id"]], name, [])
            if other is not None:
                tally.score(clip, _prepared(planned, other), "shuffled", "shuffled")
            if controls and video is not None and clip.reference is not None:
                foreign = None if order is None else read_sound(references.get(entries[order[k]]["id"]), name, [])
                for control, worse in controls_of(clip, None if foreign is None else _prepared(planned, foreign)):
                    tally.score(clip, worse, control, of=looks)
            if steps is not None and clip.reference is not None:
                foreign = {
                    control: read_sound(references.get(entries[j]["id"]), name, [])
                    for control, which in others.items()
                    if (j := which[k]) is not None
                }
                others_sounds = {c: _prepared(planned, s) for c, s in foreign.items() if s is not None}
                for control, step in rungs(clip, others_sounds):
                    steps.score(clip, step, control)
                steps.clips.append(clip)
        if progress:
            progress(k + 1, len(entries))
    problems += doubts(tally)
    if not tally.clips:
        why = f"; {problems[0]['id']}: {problems[0]['what']}" if problems else ""
        none = f"none of the {len(ids)} clips could be scored" if ids else "no sounds in this folder"
        raise V2AError(f"{generated}: {none}{why}")
    return tally, steps


def _world_clips(clips: Iterable) -> list[WorldClip]:
    """The clips, checked."""
    check_value("evaluate", "clips", clips, Iterable)
    items: list = [clips] if isinstance(clips, str) else list(clips)
    other = [item for item in items if not isinstance(item, WorldClip)]
    if other:
        raise UsageError(
            f"evaluate: clips must be clips of a Strike World, such as world.test, and not {described(other[0])}; "
            "v2a-nb evaluate scores the sounds in a folder"
        )
    if not items:
        raise UsageError("no clips to evaluate")
    return items


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
