"""Do sounds follow hits that the user chose? ``python benchmarks/hits.py --system vaura --clips 100``.

Hits of Strike World clips are given as they are, with some of them removed, moved and added, and the onsets of what a
system makes of them are compared with the hits that were asked for. Times of hits that were removed are near none that
is left, and added ones lie where the system expects nothing. ``--real FOLDER`` does the first on clips with
``onsets.tsv`` (:mod:`v2a_nb.scores.real`), at the true onsets.
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # numpy and torch read it when they are loaded

import numpy as np

BATCH = 10
REMOVED = 0.3  # share of the hits
MOVED_S = 0.1
ALONE_S = 0.25  # what is removed, moved or added is so far from everything else
SILENT_S = 0.1
SENSITIVITIES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)


def main() -> int:
    """Print a row for each thing that was done to the hits."""
    from v2a_nb.systems.registry import load

    parser = argparse.ArgumentParser(description=__doc__.split("?")[0])
    parser.add_argument("--system", default="vaura")
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--seed", type=int, default=4200, help="of the world (default: %(default)s)")
    parser.add_argument("--real", metavar="FOLDER", help="clips with onsets.tsv instead of Strike World")
    args = parser.parse_args()
    system = load(args.system)
    if args.real:
        return real(system, args.system, args.real)
    return world(system, args.system, args.clips, args.seed)


def world(system, name: str, clips: int, seed: int) -> int:
    """Clips of Strike World."""
    from v2a_nb.hits import Hits
    from v2a_nb.metrics.truth import pool, score_clip
    from v2a_nb.world import strike_world

    items = list(strike_world(seed, clips, seconds=3.0, size=64, version=1))
    rng = np.random.default_rng(0)
    expected = [system.hits(item.clip.silent()) for item in items]
    doubts = [system.hits(item.clip.silent(), sensitivity=1.0).times for item in items]
    true = [Hits(e["time_s"] for e in _apart(item.truth["events"])) for item in items]
    print(
        f"{name}, {clips} clips of 3 s, seed {seed}, {sum(map(len, true))} true hits; "
        "F1 within 50 ms of the hits that were asked for"
    )

    def row(what: str, hits, wanted, **other: float) -> list:
        sounds = generated(system, items, hits=hits) if hits is not None else generated(system, items)
        words = "".join(f", {key} {value(sounds):.3f}" for key, value in other.items())
        print(f"  {what:32s} {f1(wanted, sounds):.3f}{words}", flush=True)
        return sounds

    def scored(name: str):
        return lambda sounds: pool([score_clip(s, i.truth) for s, i in zip(sounds, items, strict=True)], name)

    material = {"material": scored("material_accuracy")}
    row("nothing given, against the truth", None, [h.times for h in true], **material)
    row("true hits given", true, [h.times for h in true], **material)

    left, gone = [], []
    for hits in expected:
        alone = [k for k, time in enumerate(hits.times) if _alone(time, hits.times[:k] + hits.times[k + 1 :])]
        out = {k for k in alone if rng.random() < REMOVED}
        left.append(Hits(hit for k, hit in enumerate(hits) if k not in out))
        gone.append([hits[k].time_s for k in out])
    silent = {f"of {sum(map(len, gone))} removed silent": lambda sounds: 1 - near(gone, sounds, SILENT_S)}
    row("30 % of its own hits removed", left, [h.times for h in left], **silent)

    moved, places, before = [], [], []
    for hits, item in zip(expected, items, strict=True):
        for k, time in enumerate(hits.times):
            to = time + MOVED_S * rng.choice((-1, 1))
            others = hits.times[:k] + hits.times[k + 1 :]
            if 0.05 < to < item.clip.duration - 0.05 and _alone(to, others) and _alone(time, others):
                hits = hits.move(k, to)
        moved.append(hits)
        places.append([hit.time_s for hit in hits if hit.origin == "user"])
        before.append([hit.moved_from_s for hit in hits if hit.origin == "user"])
    row(
        "its own hits moved by 100 ms", moved, [h.times for h in moved],
        **{
            f"of {sum(map(len, places))} moved sound": lambda sounds: near(places, sounds, 0.05),
            "silent where they were": lambda sounds: 1 - near(before, sounds, 0.05),
            "material": lambda sounds: _moved_material(sounds, items, moved),
        },
    )  # fmt: skip

    added, places = [], []
    for hits, doubt, item in zip(expected, doubts, items, strict=True):
        events = [event["time_s"] for event in item.truth["events"]]
        new: list[float] = []
        for time in rng.uniform(0.1, item.clip.duration - 0.15, 50):
            if len(new) < 2 and _alone(time, [*events, *doubt, *new]):
                new.append(float(time))
        places.append(new)
        added.append(Hits([*hits, *new]))
    sound = {f"of {sum(map(len, places))} added sound": lambda sounds: near(places, sounds, 0.05)}
    row("hits added where nothing happens", added, [h.times for h in added], **sound)
    row(
        "no hits at all", [Hits()] * clips, [[] for _ in items], onsets=lambda s: sum(len(onsets(x)) for x in s) / clips
    )

    print("  sensitivity, F1 against the truth, near misses silent")
    for value in SENSITIVITIES:
        sounds = generated(system, items, sensitivity=value)
        scores = [score_clip(sound, item.truth) for sound, item in zip(sounds, items, strict=True)]
        print(f"  {value:4.1f} {pool(scores, 'onset_f1_50ms'):.3f} {pool(scores, 'near_miss_silent'):.3f}", flush=True)
    return 0


def real(system, name: str, folder: str) -> int:
    """Real clips, their true onsets given, and by sensitivity."""
    from v2a_nb.hits import Hits
    from v2a_nb.scores.onset_agreement import CONTROLS, WINDOWS_S, agreements, f1
    from v2a_nb.scores.real import RealSet

    clips = RealSet(folder)
    given = [{"hits": Hits(t for t in times if t < d)} for times, d in zip(clips.true, clips.durations, strict=True)]
    ways = {"nothing given": [{}] * len(given), "true onsets given": given}
    ways |= {f"sensitivity {value}": [{"sensitivity": value}] * len(given) for value in SENSITIVITIES}
    print(f"{name}, {len(given)} clips: F1 within 50 and 100 ms / the same against shifted onsets")
    for what, options in ways.items():
        sounds = [system.generate(clip.silent(), seed=0, **how) for clip, how in zip(clips.clips, options, strict=True)]
        found = agreements(clips.true, [[onsets(sound)] for sound in sounds], clips.durations, clips.scenes)
        pooled = [
            f1([clip.counts[round(1000 * window), control] for clip in found])
            for window in WINDOWS_S
            for control in ("", CONTROLS[0])
        ]
        print("  {:20s} {:.3f} / {:.3f}   {:.3f} / {:.3f}".format(what, *pooled), flush=True)
    return 0


def generated(system, items, **options) -> list:
    """The sounds of clips; ``hits`` is one list for each."""
    sounds = []
    for a in range(0, len(items), BATCH):
        some = {k: v[a : a + BATCH] if k == "hits" else v for k, v in options.items()}
        clips = [item.clip.silent() for item in items[a : a + BATCH]]
        sounds += system.generate_batch(clips, seeds=range(a, a + len(clips)), **some)
    return sounds


def onsets(sound) -> np.ndarray:
    """Times of a sound's onsets."""
    from v2a_nb.audio.onsets import detect_onsets

    return detect_onsets(sound)


def f1(wanted, sounds) -> float:
    """Pooled onset F1 within 50 ms of the times asked for."""
    from v2a_nb.audio.onsets import match_onsets

    found = [onsets(sound) for sound in sounds]
    matched = sum(len(match_onsets(np.array(a), b, 0.05)) for a, b in zip(wanted, found, strict=True))
    total = sum(map(len, wanted)) + sum(map(len, found))
    return 2 * matched / total if total else float("nan")


def near(times, sounds, within: float) -> float:
    """The share of times that have an onset within so many seconds."""
    found = [onsets(sound) for sound in sounds]
    return float(
        np.mean(
            [bool((np.abs(some - t) <= within).any()) for each, some in zip(times, found, strict=True) for t in each]
        )
    )


def _apart(events) -> list:
    """The sounding events, without those that follow another one within 5 ms."""
    kept: list = []
    for event in sorted((e for e in events if e["sounding"]), key=lambda e: e["time_s"]):
        if not kept or event["time_s"] - kept[-1]["time_s"] >= 0.005:
            kept.append(event)
    return kept


def _alone(time: float, others) -> bool:
    return all(abs(time - other) > ALONE_S for other in others)


def _moved_material(sounds, items, moved) -> float:
    """The share of moved hits that sound like the object that was struck."""
    from v2a_nb.metrics.material.metric import shipped_classifier

    right = []
    for sound, item, hits in zip(sounds, items, moved, strict=True):
        for hit in hits:
            events = [e for e in item.truth["events"] if e["sounding"] and e["kind"] != "scrape"]
            true = [e["material"] for e in events if abs(e["time_s"] - (hit.moved_from_s or -1.0)) < 0.03]
            if true and hit.time_s < item.clip.duration - 0.1:
                wave = sound.mono().resample(16000).samples[0]
                right.append(shipped_classifier().classify(wave, np.array([hit.time_s]))[0] == true[0])
    return float(np.mean(right))


if __name__ == "__main__":
    raise SystemExit(main())
