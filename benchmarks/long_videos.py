"""Does an hour need more memory than ten seconds, and is its sound right to the end?

    python benchmarks/long_videos.py --systems retrieval vaura --seconds 10 60 3600

The videos show three Strike World clips of 7 s over and over: the truth is known at any time, and a block begins
elsewhere in it every time. ``python -m v2a_nb generate`` runs on one core in a process of its own. A row says:

- the peak memory of the process, and by how much it exceeds that of the first length;
- seconds of the processor for each second of video;
- samples by which the wav, and pictures by which the mp4, differ from the video;
- onset F1 within 50 ms and the median of how late onsets are, in the first and in the last 5 minutes;
- whether clicks betray where blocks meet: how often the sharpest bend of the wave is sharper there than within 50 ms
  of it (0.5: no difference), and by how many decibels the level differs from that beside it. Both say nothing of
  retrieval, which plays much the same recording in each block.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the processes inherit it

import av
import numpy as np

from v2a_nb import media
from v2a_nb.audio.onsets import detect_onsets, match_onsets
from v2a_nb.clip import Clip
from v2a_nb.metrics.truth import GATE_S, nearest_pairs
from v2a_nb.systems.long_videos import BLOCK_S, OVERLAP_S
from v2a_nb.world import strike_world

CLIPS, CLIP_S, FPS = 3, 7.0, 25
PERIOD_S = CLIPS * CLIP_S
SCORED_S = 300.0
MEASURE = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)
"""
"""Runs a command from a small process: on Linux a child's peak is never under what its parent held at its start."""


def make_period(path: Path, seed: int) -> np.ndarray:
    """Write the clips in a row, without sound, and return the times of their sounding events, seconds."""
    items = list(strike_world(seed, CLIPS, seconds=CLIP_S, size=224))
    frames = np.concatenate([item.clip.frames for item in items])
    media.save_mp4(Clip(frames, fps=FPS), None, path)
    events = [CLIP_S * k + e["time_s"] for k, i in enumerate(items) for e in i.truth["events"] if e["sounding"]]
    return np.array(events)


def repeat(period: Path, path: Path, seconds: float) -> Path:
    """Write the packets of a video over and over, until it lasts ``seconds``."""
    with av.open(str(period)) as source:
        packets = [p for p in source.demux(video=0) if p.size]
        step, count = packets[1].pts - packets[0].pts, round(seconds * FPS)
        with av.open(str(path), "w") as file:
            stream = file.add_stream_from_template(source.streams.video[0])
            data = [(bytes(p), p.is_keyframe) for p in packets]
            for k in range(count):
                packet = av.Packet(data[k % len(data)][0])
                packet.pts = packet.dts = k * step
                packet.duration, packet.time_base, packet.stream = step, packets[0].time_base, stream
                packet.is_keyframe = data[k % len(data)][1]
                file.mux(packet)
    return path


def generate(system: str, video: Path, out: Path, extra: list[str]) -> tuple[float, float]:
    """Run the command; return its peak memory, MB, and its processor time, seconds."""
    command = [sys.executable, "-m", "v2a_nb", "generate", str(video), "--system", system, "--out", str(out), *extra]
    run = subprocess.run([sys.executable, "-c", MEASURE, *command], stdout=subprocess.PIPE, text=True)
    if run.returncode:
        raise SystemExit(f"{system}: could not generate")
    peak, cpu = map(float, run.stdout.split()[-2:])
    return peak, cpu


def samples_of(path: Path, start: float, stop: float) -> np.ndarray:
    """A part of a mono wav file, float32 [n], seconds."""
    with wave.open(str(path)) as file:
        rate = file.getframerate()
        file.setpos(round(start * rate))
        data = file.readframes(round(stop * rate) - round(start * rate))
    return np.frombuffer(data, "<i2").astype(np.float32) / 32768


def in_time(path: Path, events: np.ndarray, start: float, stop: float) -> tuple[float, float]:
    """F1 within 50 ms, and the median offset of onsets from events in ms, of a part of a sound."""
    hits, total, offsets = 0, 0, []
    for k in range(round(start / PERIOD_S), int(np.ceil(stop / PERIOD_S))):
        a, b = PERIOD_S * k, min(PERIOD_S * (k + 1), stop)
        true, found = events[events < b - a], detect_onsets(samples_of(path, a, b))
        hits += len(match_onsets(true, found, 0.05))
        total += len(true) + len(found)
        offsets += [found[j] - true[i] for i, j in nearest_pairs(true, found, GATE_S)]
    return 2 * hits / max(1, total), 1000 * float(np.median(offsets)) if offsets else float("nan")


def seams(path: Path, seconds: float) -> tuple[float, float]:
    """How often the sharpest bend at a border of blocks exceeds those within 50 ms, and how its level differs, dB."""
    more, levels, rng = [], [], np.random.default_rng(0)
    for border in np.arange(BLOCK_S, seconds - BLOCK_S, BLOCK_S):
        for at in (border - OVERLAP_S, border):
            around = samples_of(path, at - 0.1, at + 0.1)
            rate, bend = len(around) / 0.2, np.abs(np.diff(around, 2))
            others = rng.uniform(0.002, 0.05, 20) * rng.choice([-1, 1], 20)
            here, *there = (
                bend[round((0.1 + t - 0.0005) * rate) - 1 : round((0.1 + t + 0.0005) * rate)].max()
                for t in (0.0, *others)
            )
            more += [(here > t) + 0.5 * (here == t) for t in there]
        fade = samples_of(path, border - OVERLAP_S, border)
        beside = [samples_of(path, border + t, border + t + OVERLAP_S) for t in (-3 * OVERLAP_S, OVERLAP_S)]
        levels.append([np.square(x).mean() for x in (fade, *beside)])
    if not levels:
        return float("nan"), float("nan")
    fade, *beside = np.median(levels, axis=0)
    return float(np.mean(more)), 10 * float(np.log10(max(fade, 1e-12) / max(np.mean(beside), 1e-12)))


def pictures_of(path: Path) -> int:
    """Packets of the pictures of a file."""
    with av.open(str(path)) as file:
        return sum(1 for packet in file.demux(video=0) if packet.size)


def main() -> int:
    """Print a row for each system and length."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", default=["retrieval", "vaura", "egosonics", "action2sound"])
    parser.add_argument("--seconds", nargs="+", type=float, default=[10.0, 60.0, 3600.0])
    parser.add_argument("--seed", type=int, default=4242, help="of the world (default: %(default)s)")
    parser.add_argument("--out", help="keep the videos and results in this folder")
    parser.add_argument("--steps", help="steps of the samplers, where memory alone is asked for")
    args = parser.parse_args()
    print(
        f"{'':14}{'video':>7} {'peak':>8} {'more':>6} {'CPU':>8} {'length':>13} {'F1@50ms':>11} {'late, ms':>11} "
        f"{'seams':>13}\n{'':14}{'s':>7} {'MB':>8} {'':>6} {'s / s':>8} {'smp':>8} {'pics':>4} "
        f"{'first':>5} {'last':>5} {'first':>5} {'last':>5} {'clicks':>6} {'dB':>6}"
    )
    with tempfile.TemporaryDirectory() as folder:
        out = Path(args.out or folder)
        out.mkdir(parents=True, exist_ok=True)
        events = make_period(out / "period.mp4", args.seed)
        for system in args.systems:
            first = None
            for seconds in args.seconds:
                video = repeat(out / "period.mp4", out / f"{seconds:g}s.mp4", seconds)
                extra = ["--overwrite"]
                extra += ["--steps", args.steps] if args.steps and system in ("egosonics", "action2sound") else []
                peak, cpu = generate(system, video, out / system, extra)
                first = first or peak
                sound, film = (out / system / f"{video.stem}.{ending}" for ending in ("wav", "mp4"))
                with wave.open(str(sound)) as file:
                    short = file.getnframes() - round(seconds * file.getframerate())
                lost = pictures_of(film) - pictures_of(video)
                scores = [
                    in_time(sound, events, 0.0, min(SCORED_S, seconds)),
                    in_time(sound, events, max(0.0, seconds - SCORED_S), seconds),
                ]
                clicks, db = seams(sound, seconds)
                print(
                    f"{system:14}{seconds:7g} {peak:8.0f} {peak / first - 1:+6.1%} {cpu / seconds:8.3f} {short:+8d} "
                    f"{lost:+4d} {scores[0][0]:5.2f} {scores[1][0]:5.2f} {scores[0][1]:+5.0f} {scores[1][1]:+5.0f} "
                    f"{clicks:6.2f} {db:+6.1f}",
                    flush=True,
                )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
