"""Whether Action2Sound's ambience is the one that was asked for, and what is left without it (sections 5.3 and 5.5).

``python benchmarks/ambience.py [--weights FOLDER] [--other-weights FOLDER] [--clips 60] [--json FILE]``

Three tables, on clips of a Strike World seed that training never saw:

1. the level of what is made against the level of the condition, -70 to -40 dBFS: the ambient stem of another moment of
   the recording, rendered at that level. Beside it what the system's spectrogram and vocoder leave of those conditions,
   which is the most that can be had; and both lines against the level that a condition has between 125 and 7600 Hz,
   because the spectrogram has nothing else, and hum and traffic lose 6 dB and more by it whatever the model does;
2. pairs of action-ambient and action-focused sounds: what the ambience loses and what the action does;
3. whether the kind of ambience is right when the condition is the neighbour, what retrieval finds among other moments
   of the clips' own rooms, what it finds in the shipped pool (in Strike World a room's looks say nothing of its
   ambience, so that this cannot be better than chance), and an unrelated sound.

``--other-weights`` are those of the model that was trained without a condition. ``--measure`` checks the ruler itself:
:func:`~v2a_nb.metrics.ambience.metric.ambience_dbfs` against the stems of true sounds.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from scores import ROOT, put

from v2a_nb.clip import Sound
from v2a_nb.data.neighbours import neighbours_of
from v2a_nb.data.pool import Pool, Source, quiet_dbfs
from v2a_nb.metrics.ambience.kind import AmbienceKind, ambience_kind_accuracy
from v2a_nb.metrics.ambience.metric import (
    ambience_dbfs,
    in_band_dbfs,
    leakage,
    level_curve,
)
from v2a_nb.metrics.pairing import shuffled
from v2a_nb.world import WorldClip, draw, strike_world
from v2a_nb.world.sound import synthesize

LEVELS = tuple(float(level) for level in range(-70, -39, 5))
CONDITIONS = ("neighbour", "known rooms", "retrieved", "random")
SECONDS = 3.0
SEED = 10000
BATCH = 8


def main() -> int:
    """Print the tables, and keep their numbers with ``--json``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--system", default="action2sound")
    parser.add_argument("--weights", help="folder (default: the shipped ones)")
    parser.add_argument("--other-weights", help="of the model that was trained without a condition")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seed", type=int, default=SEED, help="of the world (default: %(default)s)")
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--pair", choices=("retrieved", "neighbour"), help="what action-focused is compared with")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--card", action="store_true", help="write the table into the model card and the README")
    parser.add_argument("--measure", action="store_true", help="only check the measure against true stems")
    args = parser.parse_args()
    import torch

    import v2a_nb as v2a

    torch.set_num_threads(1)
    if args.measure:
        print(measured(args.seed, args.clips))
        return 0
    world = strike_world(args.seed, args.clips, seconds=SECONDS, size=112, per_recording=2)
    found = {}
    for title, weights in (("conditioned", args.weights), ("without condition", args.other_weights)):
        if title == "conditioned" or weights:
            model = v2a.load(args.system, weights)
            found[title] = score(model, world.clips, conditions=args.conditions, pair=args.pair)
            print(f"{title}: {weights or args.system}\n{table(found[title])}\n", flush=True)
        if args.json:
            args.json.write_text(json.dumps(found, indent=1) + "\n")
    if args.card:
        made = "\n\n".join(f"**{title.capitalize()}**: {table(told)}" for title, told in found.items())
        put(ROOT / "v2a_nb" / "weights" / args.system / "README.md", f"ambience {args.system}", made)
        put(ROOT / "README.md", f"ambience {args.system}", brief(found))
    return 0


def score(
    model,
    items: Sequence[WorldClip],
    levels: Sequence[float] = LEVELS,
    conditions: Sequence[str] = CONDITIONS,
    pair: str | None = None,
    judge: AmbienceKind | None = None,
) -> dict:
    """The numbers of the three tables.

    Args:
        model: has ``generate_batch(clips, seeds=..., ambient=...)``; where its configuration has no neighbour, it is
            given none, and makes one sound a clip that stands for all.
        items: clips of recordings that are long enough for a neighbour.
        levels: that are asked for, dBFS.
        conditions: out of :data:`CONDITIONS`.
        pair: which of them action-focused sounds are compared with; left out, retrieved if it is there.
        judge: of kinds; left out, the shipped one.
    """
    pair = pair or ("retrieved" if "retrieved" in conditions else conditions[0])
    deaf = not getattr(getattr(model, "config", None), "neighbour", True)
    entries = [item.truth for item in items]
    recordings = [entry["recording"] for entry in entries]
    others = shuffled(recordings) or [(i + 1) % len(items) for i in range(len(items))]
    moments = neighbours_of(items)
    quiet = [moment.stems["ambient"] for moment in moments]
    asked: dict[object, object] = {level: [at(sound, level) for sound in quiet] for level in levels}
    near = [moment.stems["mix"] for moment in moments]
    given = {"neighbour": near, "retrieved": "retrieved", "random": [near[j] for j in others]}
    if getattr(model, "ambients", None) is None:  # nothing to retrieve with
        conditions = [name for name in conditions if name != "known rooms"]
    if "known rooms" in conditions:
        given["known rooms"] = in_known_rooms(model.ambients.retrieval, items)
    asked |= {name: given[name] for name in dict.fromkeys((*conditions, pair))} | {"low": "low"}
    made = _made(model, items, {None: None} if deaf else asked)
    if deaf:
        made = dict.fromkeys(asked, made[None])

    full = np.repeat(levels, len(items))  # [L * N], level by level
    band = [in_band_dbfs(sound) for level in levels for sound in asked[level]]

    def curve(sounds: Callable[[float], Sequence[Sound]], events: Sequence[Sequence]) -> dict:
        has = [ambience_dbfs(sound, e) for level in levels for sound, e in zip(sounds(level), events, strict=True)]
        means = np.reshape(has, (len(levels), -1)).mean(axis=1)
        made = {"mean_dbfs": {f"{level:g}": round(float(m), 2) for level, m in zip(levels, means, strict=True)}}
        for name, condition in (("full", full), ("in_band", band)):
            line = level_curve(condition, has, recordings * len(levels))
            made[name] = {**asdict(line), "follows": line.follows}
        return made

    kinds = [entry["ambient"]["kind"] for entry in entries]
    told = {"neighbour": kinds, "random": [kinds[j] for j in others]}
    heard = {"true mixes": [item.stems["mix"] for item in items], **{name: made[name] for name in conditions}}
    accuracy = {}
    for name, sounds in heard.items():
        accuracy[name] = {"of the clip": ambience_kind_accuracy(sounds, kinds, recordings, judge)}
        if name in told:
            accuracy[name]["of the condition"] = ambience_kind_accuracy(sounds, told[name], recordings, judge)
    back = None
    if hasattr(model, "round_trip"):
        back = curve(lambda level: [model.round_trip(sound) for sound in asked[level]], [[]] * len(items))
    stems = [item.stems for item in items]
    return {
        "clips": len(items),
        "level": curve(made.__getitem__, [entry["events"] for entry in entries]),
        "round_trip": back,
        "pair": pair,
        "leakage": leakage(made[pair], made["low"], entries, stems),
        "kinds": accuracy,
    }


def _made(model, items: Sequence[WorldClip], asked: dict) -> dict:
    """What the model makes for each condition: the same seed for a clip whatever it is given."""
    made: dict[object, list[Sound]] = {name: [] for name in asked}
    for first in range(0, len(items), BATCH):
        part = items[first : first + BATCH]
        clips, seeds = [item.clip.silent() for item in part], list(range(first, first + len(part)))
        for name, ambient in asked.items():
            if isinstance(ambient, list):
                ambient = ambient[first : first + BATCH]
            options = {} if ambient is None else {"ambient": ambient}
            made[name] += model.generate_batch(clips, seeds=seeds, **options)
        for item in part:
            vars(item).pop("clip")  # a world clip keeps its pictures: hundreds are too many
    return made


def in_known_rooms(retrieval, items: Sequence[WorldClip]) -> list[Sound]:
    """What retrieval finds for each clip where its pool has other moments of the clips' own rooms, and nothing else."""
    moments = neighbours_of(items, seed=1)
    sources = [
        Source(m.recording.id, m.start_s, m.take.settings.seconds, world_seed=m.recording.seed) for m in moments
    ]  # fmt: skip
    pool = Pool.of(retrieval.model, ((m.clip, s) for m, s in zip(moments, sources, strict=True)))
    found = []
    for item in items:
        own = Source(item.recording.id, item.start_s, item.take.settings.seconds, world_seed=item.recording.seed)
        looks = retrieval.model.look(item.clip.silent())
        row = pool.search(looks, 1, by=retrieval.by, forbidden=pool.overlapping(own))[1][0]
        found.append(pool.sound(int(row)))
    for moment in (*moments, *items):
        vars(moment).pop("clip", None)
    return found


def at(sound: Sound, dbfs: float) -> Sound:
    """A sound of the level ``dbfs``, RMS."""
    return sound.gain(dbfs - sound.rms_dbfs)


def table(found: dict) -> str:
    """The three tables as Markdown."""
    lines = [f"{found['clips']} clips; in brackets 95 % intervals over recordings", ""]
    lines += ["| asked for, dBFS | made | condition after the round trip |", "|---|---|---|"]
    made, back = found["level"], found["round_trip"]
    for level, mean in made["mean_dbfs"].items():
        lines.append(f"| {level} | {mean:.1f} | {back['mean_dbfs'][level] if back else float('nan'):.1f} |")
    for against, words in (("full", "the condition's level"), ("in_band", "its level in 125 to 7600 Hz")):
        both = [c[against] if c else None for c in (made, back)]
        for name in ("slope", "r2"):
            cells = [f"{c[name]:.3f} [{c[f'{name}_low']:.3f}, {c[f'{name}_high']:.3f}]" if c else "" for c in both]
            lines.append(f"| {name} against {words} | {' | '.join(cells)} |")
        told = [str(c["follows"]) if c else "" for c in both]
        lines.append(f"| follows (slope 0.8, R2 0.9, 30 dB) | {' | '.join(told)} |")
    lines += ["", f"| {found['pair']} to low | value | n |", "|---|---|---|"]
    lines += [f"| `{name}` | {_cell(row)} | {row['n']} |" for name, row in found["leakage"].items()]
    lines += ["", "| kind of ambience | the clip's | the condition's |", "|---|---|---|"]
    for name, row in found["kinds"].items():
        given = _cell(row["of the condition"]) if "of the condition" in row else ""
        lines.append(f"| {name} | {_cell(row['of the clip'])} | {given} |")
    return "\n".join(lines)


def brief(found: dict) -> str:
    """The same in a few lines of Markdown, a column for each model."""

    def line(words: str, value: Callable[[dict], str]) -> str:
        return f"| {words} | {' | '.join(value(told) for told in found.values())} |"

    def curve(told: dict, name: str) -> str:
        row = told["level"]["full"]
        return _cell({"value": row[name], "low": row[f"{name}_low"], "high": row[f"{name}_high"]})

    def kind(told: dict, name: str) -> str:
        return _cell(told["kinds"][name]["of the clip"]) if name in told["kinds"] else ""

    first = next(iter(found.values()))
    ends = [list(first["level"]["mean_dbfs"])[i] for i in (0, -1)]
    lines = [f"| {first['clips']} clips | {' | '.join(found)} |", "|---" * (1 + len(found)) + "|"]
    for end in ends:
        lines.append(line(f"asked for {end} dBFS, made", lambda t, e=end: f"{t['level']['mean_dbfs'][e]:.1f}"))
    lines.append(line("slope of made over asked", lambda t: curve(t, "slope")))
    lines.append(line("R² of that line", lambda t: curve(t, "r2")))
    for name, words in (
        ("ambience_drop_db", "the ambience falls by, dB"), ("onset_f1_change", "onset F1 changes by"),
    ):  # fmt: skip
        what = f"told the quietest sound, not a {first['pair']}: {words}"
        lines.append(line(what, lambda t, n=name: _cell(t["leakage"][n])))
    for name in first["kinds"]:
        lines.append(line(f"right kind of ambience: {name}", lambda t, n=name: kind(t, n)))
    return "\n".join(lines)


def _cell(row: dict) -> str:
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"


def measured(seed: int, clips: int, levels: Sequence[float] = tuple(range(-72, -35, 6))) -> str:
    """Errors of the measured level against that of the ambient stem of true sounds, one clip a recording."""
    rate, n = 16000, round(SECONDS * 16000)
    errors: dict[float, list[tuple[float, float]]] = {level: [] for level in levels}
    for index in range(clips):
        recording = draw(seed, index)
        raw = synthesize(recording, rate)
        first = int(recording.rng("cuts").integers(0, len(raw["action"]) - n))
        action, off, ambient = (raw[name][first : first + n] for name in ("action", "offscreen", "ambient"))
        inside = [e for e in recording.events if e.sounding and 0 <= e.time_s - first / rate < SECONDS]
        events = [
            {"time_s": e.time_s - first / rate, "duration_s": e.duration_s, "sounding": True} for e in inside
        ]  # fmt: skip
        for level in levels:
            steady = at(Sound(ambient, rate), level)
            mix = Sound(steady.samples[0] + action + off, rate)
            errors[level].append((ambience_dbfs(mix, events) - level, quiet_dbfs(mix.samples[0], rate) - level))
    lines = [
        f"{clips} clips of {SECONDS:g} s; error of the level, dB: median / mean / standard deviation",
        "| ambience, dBFS | away from events | quietest half second |", "|---|---|---|",
    ]  # fmt: skip
    for level, rows in errors.items():
        cells = [f"{np.median(e):.2f} / {np.mean(e):.2f} / {np.std(e):.2f}" for e in np.array(rows).T]
        lines.append(f"| {level:g} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
