"""Evaluate: a folder of generated sounds, or a system on clips, with intervals and controls."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.metrics import truth as truth_metrics
from v2a_nb.metrics.statistics import bootstrap

SUFFIXES = (".wav", ".flac", ".mp3", ".m4a", ".ogg", ".mp4")


@dataclass
class Report:
    """Scores with intervals, per clip and per control.

    Attributes:
        clips: how many were scored.
        metrics: ``{"name", "extractor", "value", "low", "high", "n"}`` each.
        per_clip: one dictionary per clip.
        problems: ``{"id", "what"}`` of clips that could not be scored.
        controls: the same metrics for ground truth, codec round trip, shuffled ...
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
        raise KeyError(name)

    def to_dict(self) -> dict:
        """The JSON of ``v2a-nb evaluate``; NaN becomes null."""
        made = {
            "clips": self.clips,
            "metrics": self.metrics,
            "per_clip": self.per_clip,
            "problems": self.problems,
        }
        if self.controls:
            made["controls"] = self.controls
        return _clean(made)

    def save_json(self, path: str | Path) -> None:
        """Write :meth:`to_dict`, whole or not at all."""
        _write(path, json.dumps(self.to_dict(), indent=1) + "\n")

    def save_html(self, path: str | Path) -> None:
        """Write a page with the table."""
        style = "body{font:16px system-ui;margin:2em;color-scheme:light dark}td,th{padding:.3em .8em}"
        page = f"<!doctype html><meta charset=utf-8><title>v2a-nb evaluate</title><style>{style}</style>"
        _write(path, page + self._repr_html_())

    def _columns(self) -> list[tuple[str, dict[str, dict]]]:
        columns = [("value", {m["name"]: m for m in self.metrics})]
        for name, metrics in self.controls.items():
            columns.append((name, {m["name"]: m for m in metrics}))
        return columns

    def __repr__(self) -> str:
        columns = self._columns()
        lines = [f"{self.clips} clips" + (f", {len(self.problems)} problems" if self.problems else "")]
        head = "".join(f"{name:>24}" if i == 0 else f"{name:>16}" for i, (name, _) in enumerate(columns))
        lines.append(f"{'':24}{head}")
        for metric in self.metrics:
            name = metric["name"]
            cells = f"{_number(metric['value'])} [{_number(metric['low'])}, {_number(metric['high'])}]"
            row = f"{name:24}{cells:>24}"
            for _, values in columns[1:]:
                row += f"{_number(values[name]['value']) if name in values else '':>16}"
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
        caption = f"{self.clips} clips, 95 % intervals over recordings"
        problems = "".join(
            f"<li>{html.escape(str(p['id']))}: {html.escape(p['what'])}</li>" for p in self.problems
        )
        return (
            f"<table><caption>{caption}</caption><thead><tr><td></td>{head}</tr></thead>"
            f"<tbody>{''.join(rows)}</tbody></table>" + (f"<ul>{problems}</ul>" if problems else "")
        )


def summarize(scores: Sequence[truth_metrics.ClipScore], names: Sequence[str] | None = None) -> list[dict]:
    """Pooled metrics with 95 % bootstrap intervals over recordings."""
    from v2a_nb.metrics.material import shipped_classifier

    made = []
    for name in names or truth_metrics.NAMES:
        value = truth_metrics.pool(scores, name)
        low, high = bootstrap(
            scores, lambda rows, n=name: truth_metrics.pool(rows, n), [s.recording for s in scores]
        )
        extractor = "onsets" if name.startswith(("onset", "near")) else "level"
        if name == "material_accuracy":
            extractor = shipped_classifier().tag
        n = int(truth_metrics.count(scores, name))
        made.append(
            {"name": name, "extractor": extractor, "value": value, "low": low, "high": high, "n": n}
        )
    return made


def shuffled(clips: Sequence) -> list[int]:
    """For each clip the index of one of another recording (a fixed derangement)."""
    n = len(clips)
    for shift in range(n // 2, n + n // 2):
        order = [(i + shift) % n for i in range(n)]
        if all(clips[i].recording.id != clips[j].recording.id for i, j in enumerate(order)):
            return order
    raise UsageError("shuffling needs clips of at least two recordings, none with more than half of them")


def evaluate(
    clips: Sequence,
    system,
    *,
    seed: int = 0,
    controls: bool = True,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
    **options: object,
) -> Report:
    """Generate for Strike World clips and score, beside controls.

    Args:
        clips: :class:`~v2a_nb.world.WorldClip`, such as ``world.test``.
        system: has ``generate_batch``; ``options`` (guidance, temperature ...) go to it.
        seed: of the generation.
        controls: also score the true sound, the codec's round trip of it, and the generated sounds of
            other recordings' videos.
        batch: clips decoded side by side.
        progress: called with (done, total).
    """
    clips = list(clips)
    if not clips:
        raise UsageError("no clips to evaluate")
    sounds: list[Sound] = []
    for start in range(0, len(clips), batch):
        part = clips[start : start + batch]
        silent = [item.clip.silent() for item in part]
        seeds = [seed * 100_003 + start + i for i in range(len(part))]
        sounds += system.generate_batch(silent, seeds=seeds, **options)
        if progress:
            progress(len(sounds), len(clips))
    entries = [item.truth for item in clips]
    scores = [truth_metrics.score_clip(s, e) for s, e in zip(sounds, entries, strict=True)]
    report = Report(len(clips), summarize(scores), [s.row() for s in scores])
    if controls:
        true = [item.stems["mix"] for item in clips]
        columns = {"ground truth": true}
        if hasattr(system, "codec"):
            columns["codec round trip"] = [_round_trip(system, sound) for sound in true]
        order = shuffled(clips)
        columns["shuffled video"] = [sounds[j] for j in order]
        for name, heard in columns.items():
            rows = [truth_metrics.score_clip(s, e) for s, e in zip(heard, entries, strict=True)]
            report.controls[name] = summarize(rows)
    return report


def _round_trip(system, sound: Sound) -> Sound:
    codes = system.encode_sound(sound)
    n = int(round(sound.duration * system.sample_rate))
    return Sound(system.codec.decode(codes, n)[0].numpy(), system.sample_rate)


def evaluate_folder(
    generated: str | Path,
    reference: str | Path | None = None,
    videos: str | Path | None = None,
    truth: str | Path | None = None,
    metrics: Sequence[str] | None = None,
) -> Report:
    """Score ``generated/ID.wav`` against the clips of a ``truth.json``.

    Args:
        generated: folder; files are paired with clips by their name without suffix.
        reference: folder of true sounds ``ID.wav``, scored as the control "reference".
        videos: folder of videos; only checked for every id being there.
        truth: path of ``truth.json``.
        metrics: names out of :data:`v2a_nb.metrics.truth.NAMES`; left out, all.

    Missing, duplicate, unreadable, silent and too short files are listed in ``problems`` and counted;
    none is left out in silence.

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
    try:
        entries = json.loads(Path(truth).read_text())["clips"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise V2AError(f"{truth} is not a truth.json: {error}") from error
    problems: list[dict] = []
    scores = _score_folder(Path(generated), entries, problems)
    if videos is not None:
        there = {p.stem for p in _listing(Path(videos))}
        problems += [
            {"id": e["id"], "what": f"no video in {videos}"} for e in entries if e["id"] not in there
        ]
    if not scores:
        raise V2AError(f"{generated}: none of the {len(entries)} clips of {truth} could be scored")
    rows = [{k: v for k, v in s.row().items() if k == "id" or k in names} for s in scores]
    report = Report(len(scores), summarize(scores, names), rows, problems)
    if reference is not None:
        known = _score_folder(Path(reference), entries, problems)
        if known:
            report.controls["reference"] = summarize(known, names)
    return report


def _score_folder(
    folder: Path, entries: list[dict], problems: list[dict]
) -> list[truth_metrics.ClipScore]:
    from v2a_nb import media

    files: dict[str, list[Path]] = {}
    for path in _listing(folder):
        if path.suffix.lower() in SUFFIXES:
            files.setdefault(path.stem, []).append(path)
            if path.stem.endswith(".mix"):  # as Strike World names its own stems
                files.setdefault(path.stem.removesuffix(".mix"), []).append(path)
    scores = []
    for entry in entries:
        name = entry["id"]
        found = sorted(files.get(name, []), key=lambda p: SUFFIXES.index(p.suffix.lower()))
        same = [p for p in found if p.suffix == found[0].suffix]
        if not found:
            problems.append({"id": name, "what": f"no sound in {folder}"})
            continue
        if len(same) > 1:
            problems.append({"id": name, "what": f"{len(same)} files of that name; {same[0].name} was taken"})
        try:
            sound = media.open_sound(found[0])
        except V2AError as error:
            problems.append({"id": name, "what": str(error)})
            continue
        wanted = entry["duration_s"]
        if sound.duration < wanted - 0.05:
            problems.append({"id": name, "what": f"{sound.duration:.2f} s instead of {wanted:.2f} s"})
        if sound.peak < 1e-5:
            problems.append({"id": name, "what": "silent"})
        scores.append(truth_metrics.score_clip(sound, entry))
    return scores


def _listing(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise V2AError(f"{folder} is not a folder")
    return sorted(p for p in folder.iterdir() if p.is_file())


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
