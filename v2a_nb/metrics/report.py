"""Evaluate: a folder of generated sounds, or a system on clips, with intervals and controls."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.metrics import truth as truth_metrics
from v2a_nb.metrics.pairing import flaws, listing, pair_files, read_sound, read_truth, shuffled
from v2a_nb.metrics.statistics import bootstrap

if TYPE_CHECKING:
    from v2a_nb.metrics.frechet import StrikeAudio
    from v2a_nb.metrics.vaas.metric import Vaas

EXTRACTORS = {"onset": "mel-rise", "near": "mel-rise", "ambience": "quiet-level"}


@dataclass
class Report:
    """Scores with intervals, per clip and per control.

    Attributes:
        clips: how many were scored.
        metrics: ``{"name", "extractor", "value", "low", "high", "n"}`` each. ``low`` and ``high`` are a
            95 % bootstrap interval over recordings; ``n`` is how many things were counted (true events,
            matched onsets, near misses, hits, clips).
        per_clip: one dictionary per clip: ``id`` and each metric of this clip alone.
        problems: ``{"id", "what"}`` of everything that was missing or odd, scored or not.
        controls: by name, the same metrics for the ground truth, the codec's round trip, shuffled ...
    """

    clips: int
    metrics: list[dict]
    per_clip: list[dict] = field(default_factory=list)
    problems: list[dict] = field(default_factory=list)
    controls: dict[str, list[dict]] = field(default_factory=dict)

    def __getitem__(self, name: str) -> float:
        """The value of one metric."""
        for metric in self.metrics:
            if metric["name"] == name:
                return metric["value"]
        raise KeyError(f"{name}: there is {', '.join(m['name'] for m in self.metrics)}")

    def to_dict(self, controls: bool = False) -> dict:
        """The JSON of ``v2a-nb evaluate``: clips, metrics, per_clip and problems; NaN becomes null.

        Args:
            controls: add them, under ``"controls"``.
        """
        made = {
            "clips": self.clips,
            "metrics": self.metrics,
            "per_clip": self.per_clip,
            "problems": self.problems,
        }
        if controls:
            made["controls"] = self.controls
        return _clean(made)

    def save_json(self, path: str | Path, controls: bool = False) -> None:
        """Write :meth:`to_dict`, whole or not at all."""
        _write(path, json.dumps(self.to_dict(controls), indent=1, allow_nan=False) + "\n")

    def to_html(self, path: str | Path | None = None) -> str:
        """A page with the table, self-contained; written where a path is given, whole or not at all."""
        style = "body{font:16px system-ui;margin:2em;color-scheme:light dark}td,th{padding:.3em .8em}"
        page = (
            "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
            "<meta name=viewport content='width=device-width'>"
            f"<title>v2a-nb evaluate</title><style>{style}</style></head>\n"
            f"<body><h1>Scores</h1>{self._repr_html_()}</body></html>\n"
        )
        if path is not None:
            _write(path, page)
        return page

    def save_html(self, path: str | Path) -> None:
        """Write :meth:`to_html`."""
        self.to_html(path)

    def _columns(self) -> list[tuple[str, dict[str, dict]]]:
        columns = [("value", {m["name"]: m for m in self.metrics})]
        for name, metrics in self.controls.items():
            columns.append((name, {m["name"]: m for m in metrics}))
        return columns

    def __repr__(self) -> str:
        columns = self._columns()
        lines = [f"{self.clips} clips" + (f", {len(self.problems)} problems" if self.problems else "")]
        head = "".join(f"{name:>24}" if i == 0 else f"{name:>18}" for i, (name, _) in enumerate(columns))
        lines.append(f"{'':24}{head}")
        for metric in self.metrics:
            name = metric["name"]
            cells = f"{_number(metric['value'])} [{_number(metric['low'])}, {_number(metric['high'])}]"
            row = f"{name:24}{cells:>24}"
            for _, values in columns[1:]:
                row += f"{_number(values[name]['value']) if name in values else '':>18}"
            lines.append(row)
        lines += [f"problem: {p['id']}: {p['what']}" for p in self.problems]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        columns = self._columns()
        head = "".join(f"<th scope=col>{html.escape(name)}</th>" for name, _ in columns)
        rows = []
        for metric in self.metrics:
            name = metric["name"]
            cells = f"<td>{_number(metric['value'])} [{_number(metric['low'])}, {_number(metric['high'])}]</td>"
            for _, values in columns[1:]:
                cells += f"<td>{_number(values[name]['value']) if name in values else ''}</td>"
            rows.append(f"<tr><th scope=row style='text-align:left'>{name}</th>{cells}</tr>")
        caption = f"{self.clips} clips; in brackets 95 % intervals over recordings"
        problems = "".join(f"<li>{html.escape(str(p['id']))}: {html.escape(p['what'])}</li>" for p in self.problems)
        return (
            f"<table><caption>{caption}</caption><thead><tr><td></td>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>" + (f"<ul>{problems}</ul>" if problems else "")
        )


def summarize(scores: Sequence[truth_metrics.ClipScore], names: Sequence[str] | None = None) -> list[dict]:
    """Pooled metrics with 95 % bootstrap intervals over recordings."""
    from v2a_nb.metrics.material.metric import shipped_classifier

    made = []
    for name in names or truth_metrics.NAMES:
        value = truth_metrics.pool(scores, name)
        low, high = bootstrap(scores, lambda rows, n=name: truth_metrics.pool(rows, n), [s.recording for s in scores])
        extractor = EXTRACTORS.get(name.split("_")[0]) or shipped_classifier().tag
        n = truth_metrics.count(scores, name)
        made.append({"name": name, "extractor": extractor, "value": value, "low": low, "high": high, "n": n})
    return made


def evaluate(
    clips: Sequence,
    system,
    *,
    seed: int = 0,
    controls: bool = True,
    batch: int = 8,
    vaas: Vaas | None = None,
    embed: StrikeAudio | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: object,
) -> Report:
    """Generate for Strike World clips and score, beside controls.

    Args:
        clips: :class:`~v2a_nb.world.WorldClip`, such as ``world.test``.
        system: has ``generate(clip, seed=...)`` and, to be faster, ``generate_batch(clips, seeds=...)``.
        seed: of the generation.
        controls: also score the true sound (the metrics' ceiling), what the system's codec or autoencoder
            leaves of it (the system's ceiling, where it has ``round_trip``), and the generated sounds of other
            recordings' videos (chance).
        batch: clips decoded side by side.
        vaas: adds ``vaas_acc`` and ``vaas_score``, percent, see :mod:`v2a_nb.metrics.vaas.metric`.
        embed: adds ``fad``, the Fréchet distance to the true sounds of these clips, see
            :mod:`v2a_nb.metrics.frechet`.
        progress: called with (done, total).
        options: guidance, temperature ...: go to the system; a list has one value for each clip (``ambient``).

    Raises:
        UsageError: there are no clips, or a list is not as long as they are.
    """
    clips = list(clips)
    for name, value in options.items():
        if isinstance(value, list) and len(value) != len(clips):
            raise UsageError(f"{name}: {len(value)} values for {len(clips)} clips")
    if not clips:
        raise UsageError("no clips to evaluate")
    if batch < 1:
        raise UsageError(f"batch={batch}: at least one clip at a time")
    sounds: list[Sound] = []
    seen: list[np.ndarray] = []
    while len(sounds) < len(clips):
        start = len(sounds)
        same = clips[start].truth["duration_s"]  # clips of a batch must be equally long
        stop = start + 1
        while stop < min(start + batch, len(clips)) and clips[stop].truth["duration_s"] == same:
            stop += 1
        with _pictures(clips[start:stop]) as silent:
            told = {k: v[start:stop] if isinstance(v, list) else v for k, v in options.items()}
            sounds += _generate(system, silent, seed * 100_003 + start, told)
            seen += [vaas.vectors(clip).numpy() for clip in silent] if vaas else []
        if progress:
            progress(len(sounds), len(clips))
    entries = [item.truth for item in clips]
    problems = [
        {"id": entry["id"], "what": what}
        for sound, entry in zip(sounds, entries, strict=True)
        for what in flaws(sound, entry["duration_s"])
    ]
    columns = {"": sounds}
    if controls:
        columns["ground truth"] = true = [item.stems["mix"] for item in clips]
        if hasattr(system, "round_trip"):
            columns[f"{system.round_trip_of} round trip"] = [system.round_trip(sound) for sound in true]
        order = shuffled([entry["recording"] for entry in entries])
        if order is None:
            problems.append({"id": "shuffled video", "what": _CANNOT_SHUFFLE})
        else:
            columns["shuffled video"] = [sounds[j] for j in order]
    scored, rows = {}, {}
    if embed:
        from v2a_nb.metrics.frechet import frechet_with_interval

        like = [embed(item.stems["mix"]) for item in clips]
    for name, heard in columns.items():
        rows[name] = [truth_metrics.score_clip(s, e) for s, e in zip(heard, entries, strict=True)]
        scored[name] = summarize(rows[name]) + (_aligned(vaas, seen, heard, entries) if vaas else [])
        if embed:
            told = frechet_with_interval([embed(sound) for sound in heard], like)
            scored[name].append({"name": "fad", "extractor": embed.tag, **told})
    return Report(len(clips), scored.pop(""), [s.row() for s in rows[""]], problems, scored)


_CANNOT_SHUFFLE = "this control is left out: one recording has more than half of the clips"


@contextmanager
def _pictures(part: Sequence) -> Iterator[list[Clip]]:
    """Silent clips; outside, a world clip holds no pictures that it did not hold before: hundreds are too many."""
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


def _aligned(vaas: Vaas, seen: Sequence, heard: Sequence[Sound], entries: Sequence[dict]) -> list[dict]:
    """VAAS of each clip's frame vectors with a sound, in both conventions."""
    from v2a_nb.metrics.vaas.metric import conventions

    scores = [vaas.score(vectors, sound) for vectors, sound in zip(seen, heard, strict=True)]
    made = conventions(scores, [entry["recording"] for entry in entries])
    return [{"name": name, "extractor": vaas.tag, **values} for name, values in made.items()]


def evaluate_folder(
    generated: str | Path,
    reference: str | Path | None = None,
    videos: str | Path | None = None,
    truth: str | Path | None = None,
    metrics: Sequence[str] | None = None,
    *,
    controls: bool = True,
) -> Report:
    """Score ``generated/ID.wav`` against the clips of a ``truth.json``.

    Args:
        generated: folder; files (any sound, or a video with one) are paired with clips by their name
            without suffix.
        reference: folder of true sounds ``ID.wav`` (or ``ID.mix.wav``), scored as control "reference".
        videos: folder of videos; only checked for every id being there.
        truth: path of ``truth.json``.
        metrics: names out of :data:`v2a_nb.metrics.truth.NAMES`; left out, all.
        controls: also score each sound against a clip of another recording, as control "shuffled".

    What is missing, there twice, unreadable, NaN, silent, of another length or without a clip is listed
    in ``problems``; nothing is left out in silence. A clip without a readable sound is not in the
    scores; a silent or short one is, as it is.

    Raises:
        UsageError: no truth is given, or a metric is unknown.
        V2AError: a folder or ``truth.json`` cannot be read, or no clip could be scored.
    """
    if truth is None:
        raise UsageError("give --truth truth.json: the truth metrics need to know what happened")
    names = list(metrics) if metrics else list(truth_metrics.NAMES)
    unknown = [name for name in names if name not in truth_metrics.NAMES]
    if unknown:
        raise UsageError(f"unknown metric {unknown[0]!r}; known are {', '.join(truth_metrics.NAMES)}")
    problems: list[dict] = []
    entries = read_truth(truth, problems)
    files = pair_files(Path(generated), [e["id"] for e in entries], problems)
    paths, scores = [], []
    for entry in entries:
        sound = read_sound(files.get(entry["id"]), entry, problems)
        if sound is not None:
            scores.append(truth_metrics.score_clip(sound, entry))
            paths.append((files[entry["id"]], entry))
    if videos is not None:
        there = {p.stem for p in listing(Path(videos))}
        problems += [{"id": e["id"], "what": f"no video in {videos}"} for e in entries if e["id"] not in there]
    if not scores:
        raise V2AError(
            f"{generated}: none of the {len(entries)} clips of {truth} could be scored; "
            f"{problems[0]['id']}: {problems[0]['what']}"
        )
    rows = [{k: v for k, v in s.row().items() if k == "id" or k in names} for s in scores]
    report = Report(len(scores), summarize(scores, names), rows, problems)
    if reference is not None:
        true = pair_files(Path(reference), [e["id"] for e in entries], problems, extra=False)
        pairs = [(read_sound(true.get(e["id"]), e, problems), e) for e in entries]
        known = [truth_metrics.score_clip(sound, e) for sound, e in pairs if sound is not None]
        if known:
            report.controls["reference"] = summarize(known, names)
    order = shuffled([s.recording for s in scores]) if controls else None
    if order is not None:  # read again rather than held: a folder may have thousands
        wrong = [
            truth_metrics.score_clip(media.open_sound(paths[j][0]), entry)
            for j, (_, entry) in zip(order, paths, strict=True)
        ]
        report.controls["shuffled"] = summarize(wrong, names)
    return report


def _number(value: float) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"


def _clean(value):
    """JSON has no NaN; numpy numbers become Python's."""
    if isinstance(value, dict):
        return {k: _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(v) for v in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if math.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _write(path: str | Path, text: str) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_text(text)
    os.replace(partial, path)
