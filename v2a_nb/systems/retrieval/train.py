"""Recipe of Action2Sound's audio-visual encoders on Strike World, and of the pool that is searched with them.

::

    v2a-nb train av_sim --out runs/av_sim                   # render, train, score, write weights and pool
    python -m v2a_nb.systems.retrieval.train --out runs/av_sim     # the same, with more to choose
    python -m v2a_nb.systems.retrieval.train --score av_sim        # print the scores of the shipped weights

Section 3.5: two encoders, InfoNCE. What the paper leaves open or a small world cannot give is ours: both directions
of the loss (the paper's is from sound to video), a temperature that is learned, :data:`ROOM`, and that what the video
encoder reads was seen by V-AURA's frozen encoder, as the paper's starts from EgoVLP.

In ``out`` lie, as in the package, ``weights``, the ``retrieval`` system with the training sounds, and its neighbours
``av_sim``, the encoders, and ``vaura/vision``.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from v2a_nb import hub
from v2a_nb.data.audio_visual_pairs import AudioVisualPairs, TrainConfig, gather_all, louder, relit
from v2a_nb.data.clip_features import SHIPPED_ENCODER
from v2a_nb.data.pool import SIMILARITIES, Pool, quiet_dbfs
from v2a_nb.errors import UsageError
from v2a_nb.metrics.retrieval import KS, ambience_found, ranks_of, recall, share
from v2a_nb.models.av_embedding import PRESETS, AudioVisualEmbedding, AudioVisualEmbeddingConfig, info_nce
from v2a_nb.models.video_encoders.strike import StrikeVision
from v2a_nb.systems.retrieval.system import Retrieval
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import card_of, init_run, rounded, run, write_readme

ROOM = 0.3
"""Weight of a second InfoNCE, between what two moments of one recording look like: a room must be known again.

Ours. The paper retrieves to get the ambience of such a place, and who was trained on a sound's *own* video alone
keeps of the place only what helps to tell hits apart."""
ROOM_TEMPERATURE = 0.1
VISION = "../vaura/vision"
"""Where the frozen encoder lies, from a folder of weights."""
POOL = 1000
"""Sounds of the pool, at most; 1 KB each."""
QUIET_ROOMS, QUIET_ROOM_DBFS = 20, -80.0
"""Of these sounds so many once more in rooms that are quieter than Strike World's: for action-focused sounds."""


def batches(shots: AudioVisualPairs, size: int, seed: int) -> Callable[[int], dict[str, Tensor]]:
    """From a step to parts of two shots each of ``size`` different recordings.

    Args:
        shots: of training, at least two of each recording.
        size: recordings in a batch.
        seed: of every choice.

    Raises:
        UsageError: at the first step: fewer recordings than ``size``, or one with a single shot.
    """

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which = shots.draw(size, 2, rng)
        start, seconds = shots.part(len(which), rng)
        vectors, place = shots.seen(which, start, seconds)
        bank = louder(shots.heard(which, start, seconds), rng)
        recording = torch.from_numpy(shots.recordings[which])
        return {"vectors": vectors, "place": relit(place, rng), "bank": bank, "recording": recording}

    return batch_of


class AvTraining(nn.Module):
    """The encoders with their loss, as the loop wants it.

    Args:
        config: of the encoders.
        room: see :data:`ROOM`; 0 is the paper.
        both: both directions; False is the paper, from sound to video.
    """

    def __init__(self, config: AudioVisualEmbeddingConfig | None = None, room: float = ROOM, both: bool = True) -> None:
        super().__init__()
        self.model, self.room, self.both = AudioVisualEmbedding(config), room, both

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        seen, heard = self.model.see(batch["vectors"], batch["place"]), self.model.hear(batch["bank"])
        pairs = info_nce(heard, seen, self.model.temperature, both=self.both, groups=batch["recording"])
        right = ((heard @ seen.T).argmax(1) == torch.arange(len(seen), device=seen.device)).float().mean()
        losses = {"loss": pairs, "pairs": pairs, "right": right, "temperature": self.model.temperature}
        if self.room:
            room = info_nce(*seen.chunk(2), ROOM_TEMPERATURE)
            losses |= {"loss": pairs + self.room * room, "room": room}
        return losses


# --- scores -----------------------------------------------------------------------------------------


@torch.no_grad()
def vectors_of(model: AudioVisualEmbedding, shots: AudioVisualPairs, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """What all shots look like and sound like: float32 [N, D] each."""
    model.eval()
    seen, heard = [], []
    for part in np.array_split(np.arange(len(shots)), -(-len(shots) // size)):
        seen.append(model.see(*(x.to(model.device) for x in shots.seen(part))).cpu().numpy())
        heard.append(model.hear(shots.heard(part).to(model.device)).cpu().numpy())
    return np.concatenate(seen), np.concatenate(heard)


def thinned(shots: AudioVisualPairs, most: int) -> AudioVisualPairs:
    """Of more shots than ``most`` those of every second recording, or third ..."""
    number = np.unique(shots.recordings, return_inverse=True)[1]
    return shots.where(number % -(-len(shots) // most) == 0)


def pool_of(model: AudioVisualEmbedding, shots: AudioVisualPairs, quiet: np.ndarray | None = None) -> Pool:
    """The shots as a pool, whose sounds are rendered again when they are asked for.

    Args:
        quiet: what :meth:`AudioVisualPairs.quiet_dbfs` gave; left out, the pool knows no levels.
    """
    seen, heard = vectors_of(model, shots)
    levels = np.full(len(shots), np.nan) if quiet is None else quiet
    return Pool(heard, seen, shots.sources(), levels, tag=hub.tag_of(model, "av-sim"))


def with_quiet_rooms(
    pool: Pool, model: AudioVisualEmbedding, count: int = QUIET_ROOMS, dbfs: float = QUIET_ROOM_DBFS
) -> Pool:
    """The pool, and ``count`` of its sounds once more, as they would be in rooms of another level.

    Strike World has no room under -64 dBFS, and its quietest sound would be all that an action-focused sound can be
    told. They are there for their levels: no search finds them.

    Args:
        pool: of sounds of Strike World.
        model: whose vectors it holds.
        dbfs: level of the rooms.

    Raises:
        UsageError: more sounds than there are, or some that are not of a Strike World.
    """
    if not 0 <= count <= len(pool):
        raise UsageError(f"{count} quiet rooms cannot be made of {len(pool)} sounds")
    rows = np.arange(count) * len(pool) // max(1, count)
    if any(pool.sources[i].world_seed is None for i in rows):
        raise UsageError("only the rooms of Strike World can be made quiet")

    def with_rows(heard: np.ndarray, quiet: np.ndarray) -> Pool:
        sources = (*pool.sources, *(replace(pool.sources[i], ambience_dbfs=float(dbfs)) for i in rows))
        heard, quiet = np.concatenate([pool.heard, heard]), np.concatenate([pool.quiet, quiet])
        return Pool(heard, np.concatenate([pool.seen, pool.seen[rows]]), sources, quiet, rate, tag=pool.tag)

    rate = pool.sample_rate
    silent = with_rows(pool.heard[rows], pool.quiet[rows])  # renders; its vectors are not yet those of its sounds
    sounds = [silent.sound(len(pool) + i) for i in range(count)]
    heard = [model.listen(sound) for sound in sounds]
    return with_rows(np.reshape(heard, (-1, pool.dim)), np.array([quiet_dbfs(s.samples[0], rate) for s in sounds]))


def held_out_report(
    model: AudioVisualEmbedding, training: AudioVisualPairs, unseen: AudioVisualPairs, most: int = POOL
) -> dict:
    """What a card says.

    Args:
        model: trained encoders.
        training: shots of the recordings that it was trained on, of which at most ``most`` are searched.
        unseen: shots of recordings that it was not.

    Returns:
        ``recall`` among the unseen shots; ``ambience``: accuracy of the kind in ``known_rooms`` (the pool has other
        moments of the query's recording, and what overlaps with the query is left out) and in ``unseen_rooms`` (the
        pool has training recordings alone); ``same_room``, how often the most alike of the other moments is of the
        query's recording.
    """
    names = [str(r) for r in unseen.recordings]
    mine = pool_of(model, unseen)
    seen, heard = mine.seen, mine.heard
    itself = np.stack([mine.overlapping(source) for source in mine.sources])
    some = thinned(training, most)
    theirs = pool_of(model, some)
    alike = mine.search(seen, 1, by="look", forbidden=itself)[1][:, 0]
    room = (unseen.recordings[alike] == unseen.recordings).astype(float)
    kinds = unseen.ambiences
    return {
        "recall": recall(seen, heard, names),
        "ambience": {
            "known_rooms": ambience_found(mine, seen, kinds, kinds, names, itself),
            "unseen_rooms": ambience_found(theirs, seen, kinds, some.ambiences, names),
        },
        "same_room": share(room, names),
    }


def table(report: dict) -> str:
    """The report as Markdown."""

    def cell(value: dict) -> str:
        return f"{value['value']:.1%} ({value['low']:.1%} to {value['high']:.1%})"

    r = report["recall"]
    lines = ["| among unseen clips | R@1 | R@5 | R@10 | median rank |", "| --- | ---: | ---: | ---: | ---: |"]
    for way in ("video_to_sound", "sound_to_video"):
        cells = " | ".join(cell(r[way][f"r{k}"]) for k in KS)
        lines.append(f"| {way.replace('_', ' ')} | {cells} | {r[way]['median_rank']:.0f} |")
    n = r["video_to_sound"]["r1"]["n"]
    chance = " | ".join(f"{r['chance'][f'r{k}']:.1%}" for k in KS)
    lines += [f"| chance, {n} clips | {chance} | {n // 2} |", ""]
    lines += ["| the sound found has the clip's kind of ambience | by sound | by look | random |"]
    lines += ["| --- | ---: | ---: | ---: |"]
    for place, told in report["ambience"].items():
        cells = " | ".join(cell(told[name]) for name in (*SIMILARITIES, "random"))
        lines.append(f"| {place.replace('_', ' ')} | {cells} |")
    lines += ["", f"The clip that looks most alike is of the same recording: {cell(report['same_room'])}."]
    return "\n".join(lines)


# --- all of it --------------------------------------------------------------------------------------


def train_encoders(
    shots: AudioVisualPairs,
    out: str | Path,
    *,
    steps: int,
    batch_size: int = 32,
    seed: int = 0,
    config: AudioVisualEmbeddingConfig | None = None,
    room: float = ROOM,
    both: bool = True,
    **how: object,
) -> AudioVisualEmbedding:
    """Train on shots; returns the encoders in evaluation mode. ``out`` gets the log and the state.

    Args:
        how: ``resume``, ``eval_fn``, ``eval_every`` and ``until`` of :func:`~v2a_nb.training.loop.fit`.
    """
    torch.manual_seed(seed)
    module = AvTraining(config, room, both)
    # the paper's Adam; weight decay since our recordings are few
    plan = OptimConfig(
        steps=steps, lr=1.5e-3, warmup=min(100, steps // 4), weight_decay=5e-2, betas=(0.9, 0.98), seed=seed,
        save_every=100,
    )  # fmt: skip
    return fit(module, batches(shots, batch_size, seed), plan, out, **how).model


def train_av_sim(
    out: str | Path,
    *,
    budget: TrainConfig | None = None,
    seed: int = 0,
    resume: bool = False,
    data: str | Path | None = None,
    config: AudioVisualEmbeddingConfig | None = None,
    room: float = ROOM,
    both: bool = True,
    eyes: str | Path = SHIPPED_ENCODER,
    say: Callable[[str], None] = print,
) -> Path:
    """Everything, from nothing to ``out/weights`` and ``out/av_sim`` with their cards.

    Args:
        out: folder.
        budget: how much.
        seed: of initialisation and batches.
        resume: go on with what ``out`` holds.
        data: folder of the rendered shots, which AV-Sync's recipe reads as well; left out, ``out/shots``.
        config: left out, ``tiny``.
        room, both: see :class:`AvTraining`.
        eyes: folder of the frozen ``StrikeVision``.

    Raises:
        V2AError: ``out`` holds a run and ``resume`` is not set.
        UsageError: ``data`` holds other shots.
        WeightsError: there are no such ``eyes``.
    """
    budget, out = budget or TrainConfig(), init_run(out, resume)
    training, watched, unseen = gather_all(data or out / "shots", budget, eyes, say)
    config = with_eyes(config or PRESETS["tiny"], training)

    def eval_fn(step: int, module: AvTraining) -> dict[str, float]:
        seen, heard = vectors_of(module.model, watched)
        return {f"watched_r{k}": round(float((ranks_of(seen, heard) < k).mean()), 4) for k in (1, 10)}

    say(f"encoders: {budget.steps} steps of {2 * budget.batch_size} shots, {len(training)} to learn from")
    trained = train_encoders(
        training, out, steps=budget.steps, batch_size=budget.batch_size, seed=seed, config=config, room=room,
        both=both, resume=resume, eval_fn=eval_fn, eval_every=100,
    )  # fmt: skip
    model = AudioVisualEmbedding(config, StrikeVision.from_pretrained(eyes))
    model.load_state_dict(trained.state_dict())
    hub.as_shipped(model).eval()
    report = held_out_report(model, training, unseen)
    card = card_of(**asdict(budget), seed=seed, room=room, both=both, scores=rounded(report))
    keep_vision(out, eyes)
    known = report["ambience"]["known_rooms"]
    sounds = thinned(training, POOL)
    pool = pool_of(model, sounds, sounds.quiet_dbfs())
    pool = with_quiet_rooms(pool, model, min(QUIET_ROOMS, len(pool)))
    system = Retrieval(model, pool, best_of(known))
    model.save_pretrained(out / "av_sim", vision=VISION, **card)
    system.save_pretrained(out / "weights", encoder="../av_sim", **card)
    for folder in ("av_sim", "weights"):
        write_readme(out / folder, card_text(hub.tag_of(model, "av-sim"), card, report, system))
    say(table(report))
    return out / "weights"


def with_eyes(config: AudioVisualEmbeddingConfig, shots: AudioVisualPairs) -> AudioVisualEmbeddingConfig:
    """The configuration, which names what saw the shots.

    Raises:
        UsageError: it names another encoder.
    """
    if config.video.encoder not in ("", shots.encoder):
        raise UsageError(f"the shots were seen by {shots.encoder or 'unknown eyes'}, not by {config.video.encoder}")
    return replace(config, video=replace(config.video, encoder=shots.encoder))


def keep_vision(out: Path, eyes: str | Path) -> None:
    """The frozen encoder where :data:`VISION` finds it from a folder of weights in ``out``."""
    shutil.copytree(hub.find_weights(str(eyes)), out / "vaura" / "vision", dirs_exist_ok=True)


def best_of(known: dict) -> str:
    """The similarity that finds a clip's kind of ambience most often."""
    return max(SIMILARITIES, key=lambda by: known[by]["value"])


def card_text(tag: str, card: dict, report: dict, system: Retrieval) -> str:
    """The model card, of the encoders and of the pool."""
    quiet = sum(source.ambience_dbfs is not None for source in system.pool.sources)
    one_way = "" if card["both"] else " (from sound to video alone)"
    return f"""# {tag}

Says how well a sound goes with a video: AV-Sim, the video and audio encoders of Action2Sound (section 3.5) in the
small form of `v2a_nb/systems/av_sim.py`. fp16 safetensors, MIT licence.

`av_sim` holds the encoders, which read the frozen vision encoder {system.model.config.video.encoder} of `vaura`.
`retrieval` holds {len(system.pool)} training sounds by their place in Strike World, and finds them by `{system.by}`.
The last {quiet} are sounds of these in rooms of {QUIET_ROOM_DBFS:g} dBFS, which no search finds: Strike World has
none under -64, and action-focused sounds are told the quietest.

Trained by `python -m v2a_nb.systems.retrieval.train` on {card["recordings"] - card["watched"]} recordings of Strike
World seed {card["data_seed"]}, two clips of each, {card["steps"]} steps of {2 * card["batch_size"]} clips, training
seed {card["seed"]}: InfoNCE{one_way}, and with weight {card["room"]} that another moment of a room looks alike. It
knows no other world.

## Scores

{card["unseen"]} recordings of seed {card["unseen_seed"]}, four clips of each, which training never saw; intervals are
over recordings.

{table(report)}

*Known rooms*: the pool holds other moments of the clip's own recording. *Unseen rooms*: it holds training recordings
alone. In Strike World the kind of ambience is drawn independently of how a room looks, so in unseen rooms nothing can
do better than chance.
"""


def scores_on_card(weights: str | Path) -> str:
    """What the card of trained encoders says.

    Raises:
        UsageError: it has no scores.
    """
    model = AudioVisualEmbedding.from_pretrained(weights)
    if "scores" not in model.card:
        raise UsageError(f"{weights}: the card has no scores")
    return f"{hub.tag_of(model, 'av-sim')}\n\n{table(model.card['scores'])}"


def add_arguments(parser: argparse.ArgumentParser, out: str, budget: TrainConfig) -> None:
    """What the commands of AV-Sim and AV-Sync have in common.

    Args:
        out, budget: the defaults.
    """
    parser.add_argument("--out", default=out, help="folder (default: %(default)s)")
    parser.add_argument("--data", help="folder of the rendered shots (default: OUT/shots)")
    parser.add_argument("--eyes", default=str(SHIPPED_ENCODER), help="folder of the frozen vision encoder")
    parser.add_argument("--seed", type=int, default=0, help="of initialisation and batches")
    parser.add_argument("--resume", action="store_true", help="go on with what --out holds")
    parser.add_argument("--score", metavar="WEIGHTS", help="only print what the card of these weights says")
    for name, value in asdict(budget).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value)


def told(args: argparse.Namespace) -> dict[str, object]:
    """What :func:`add_arguments` was given, but for the folder, as the recipes take it."""
    budget = TrainConfig(**{field.name: getattr(args, field.name) for field in fields(TrainConfig)})
    return {"budget": budget} | {name: getattr(args, name) for name in ("data", "eyes", "seed", "resume")}


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The commands at the top of this file; returns the exit status."""
    about = __doc__.split("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m v2a_nb.systems.retrieval.train", description=about)
    add_arguments(parser, "runs/av_sim", TrainConfig())
    parser.add_argument("--room", type=float, default=ROOM, help="weight of the room term; 0 is the paper")
    parser.add_argument("--one-way", action="store_true", help="InfoNCE from sound to video alone, as in the paper")
    args = parser.parse_args(argv)
    if args.score:
        return run(lambda: scores_on_card(args.score), say)
    how = {"room": args.room, "both": not args.one_way, "say": say}
    return run(lambda: train_av_sim(args.out, **told(args), **how), say)


if __name__ == "__main__":
    raise SystemExit(main())
