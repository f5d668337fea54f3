"""Scores of the audio-visual encoders and of the pool that is searched with them."""

from __future__ import annotations

import tempfile

import numpy as np

from v2a_nb.data.audio_visual_pairs import UNSEEN_SEED, AudioVisualPairs, compute_audio_visual_pairs
from v2a_nb.data.features import FeatureStore
from v2a_nb.data.pool import SIMILARITIES
from v2a_nb.data.recordings import StrikeRecordings
from v2a_nb.hub import tag_of
from v2a_nb.metrics.retrieval import KS, ambience_found, recall
from v2a_nb.metrics.statistics import accuracy_with_interval
from v2a_nb.models.av_embedding import AudioVisualEmbedding
from v2a_nb.scores.base import Job
from v2a_nb.systems.registry import load
from v2a_nb.systems.retrieval.system import Retrieval
from v2a_nb.systems.retrieval.train import overlaps, pool_of
from v2a_nb.training.results import Row, Table
from v2a_nb.world.recording import draw

CLIPS, PER_RECORDING = 400, 4
DIRECTIONS = {"video_to_sound": "video to sound", "sound_to_video": "sound to video"}


def unseen_pairs(job: Job, count: int) -> AudioVisualPairs:
    """About ``count`` clips of recordings that no encoder was trained on, four of each, computed anew."""
    recordings = max(2, count // PER_RECORDING)
    job.say(f"{job.name}: {recordings} recordings of seed {UNSEEN_SEED}, four clips of each")
    with tempfile.TemporaryDirectory() as folder:
        store, world = FeatureStore(folder), StrikeRecordings(UNSEEN_SEED)
        return compute_audio_visual_pairs(store, world, count=recordings, per_recording=PER_RECORDING).load()


def encoders(job: Job) -> list[Table]:
    """Recall of each clip's own sound, and of its video, among the unseen clips, beside chance."""
    model = AudioVisualEmbedding.from_pretrained(job.weights).eval()
    pairs = unseen_pairs(job, job.count(CLIPS))
    pool, names = pool_of(model, pairs), [str(r) for r in pairs.recording_ids]
    found, tag = recall(pool.video, pool.audio, names), tag_of(model, "av-sim")
    rows = []
    for direction, subject in DIRECTIONS.items():
        for k in KS:
            rows.append(Row.of(subject, {**found[direction][f"r{k}"], "extractor": tag}, f"recall_at_{k}"))
        rows.append(Row("median_rank", subject, found[direction]["median_rank"]))
    rows += [Row(f"recall_at_{k}", "chance", found["chance"][f"r{k}"]) for k in KS]
    rows.append(Row("median_rank", "chance", len(pairs) / 2))
    about = {"clips": len(pairs), "seed": UNSEEN_SEED}
    return [job.table("recall", rows, down="subject", controls=("chance",), about=about)]


def pool(job: Job) -> list[Table]:
    """What the pool finds for unseen clips, see :func:`places`."""
    system, pairs = load("retrieval", job.weights), unseen_pairs(job, job.count(CLIPS))
    about = {"clips": len(pairs), "seed": UNSEEN_SEED, "pool": len(system.pool)}
    return [job.table("places", places(system, pairs), down="subject", about=about)]


def places(system: Retrieval, pairs: AudioVisualPairs) -> list[Row]:
    """How often the sound that is found has the clip's kind of ambience, and what looks most alike is of its recording.

    In known rooms the clips themselves are the pool: it has other moments of each one's recording, and what overlaps
    with it is left out. In unseen rooms it is the system's own pool.
    """
    names, kinds = [str(r) for r in pairs.recording_ids], pairs.ambiences()
    known, shipped = pool_of(system.model, pairs), system.pool
    itself = overlaps(known)
    of_pool = np.array([draw(s.world_seed, int(s.recording.removeprefix("r"))).ambience for s in shipped.sources])
    quiet = np.isin(np.arange(len(shipped)), shipped.searched, invert=True)  # rooms that no search finds
    unsearched = np.tile(quiet, (len(kinds), 1))
    rows = []
    for subject, found in (
        ("known rooms", ambience_found(known, known.video, kinds, kinds, names, itself)),
        ("unseen rooms", ambience_found(shipped, known.video, kinds, of_pool, names, unsearched)),
    ):
        rows += [Row.of(subject, found[by], f"ambience_found_by_{by}") for by in (*SIMILARITIES, "random")]
    nearest = known.search(known.video, 1, by="look", forbidden=itself)[1][:, 0]
    same = (pairs.recording_ids[nearest] == pairs.recording_ids).astype(float)
    return [*rows, Row.of("known rooms", accuracy_with_interval(same, names), "same_recording_found")]
