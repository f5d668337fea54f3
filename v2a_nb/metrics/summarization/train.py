"""Recipe of video summarization on Strike World.

::

    v2a-nb train summary --data runs/vaas/takes --out runs/summary
    python -m v2a_nb.metrics.summarization.train --takes runs/vaas/takes --out runs/summary    # with more to choose
    python -m v2a_nb.metrics.summarization.train --score summary --takes runs/vaas/takes --system vaura

The takes are those of VAAS (:mod:`v2a_nb.data.clip_features`). One network is trained with the switch of
EgoSonics' supplement F thrown at random: half of the time it gets the true sound, half of the time zeros. So
what sound adds is measured in one network, and a network that was given no sound is not at a loss.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from v2a_nb import hub
from v2a_nb.clip import Clip, Sound
from v2a_nb.data.clip_features import (
    HELD_OUT,
    RECORDINGS,
    SHIPPED_ENCODER,
    ClipFeatures,
    add_arguments,
    clips_of,
    compute_clip_features,
    load_clip_features,
    told,
)
from v2a_nb.errors import UsageError
from v2a_nb.metrics.summarization.metric import predict, score_summaries
from v2a_nb.metrics.summarization.model import (
    NarrationText,
    Summarizer,
    SummaryConfig,
    codec_vectors,
    load_summarizer,
    save_summarizer,
)
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.training.loop import OptimConfig, fit
from v2a_nb.training.recipe import card_of, init_run, rounded, run, write_readme

STEPS = 2000
OFF = 0.5
"""Share of training clips whose sound is switched off."""


class SummaryTraining(nn.Module):
    """The network with its loss: squared error to the embedding, as in the paper."""

    def __init__(self, config: SummaryConfig) -> None:
        super().__init__()
        self.model = Summarizer(config)

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        made = self.model(batch["vectors"], batch["sound"], batch["on"])
        # summed over channels: the mean over 64 of a unit vector's channels would be a tiny number
        loss = (made - batch["target"]).square().sum(1).mean()
        with torch.no_grad():
            alike = F.cosine_similarity(made, batch["target"]).mean()
        return {"loss": loss, "cosine": alike}


def batches(takes: ClipFeatures, targets: np.ndarray, size: int, seed: int, noise: float = 0.1):
    """From a step to a batch: random takes, a little noise on the vectors, the switch thrown at random.

    Args:
        takes: of training.
        targets: float32 [N, text_dim], the embeddings of their narrations.
        size: takes in a batch.
        seed: of every choice.
        noise: deviation, in the place of unseen pictures.
    """

    def batch_of(step: int) -> dict[str, Tensor]:
        rng = np.random.default_rng([seed, step])
        which = rng.integers(0, len(takes), size)
        vectors = torch.from_numpy(takes.vectors[which].astype(np.float32))
        return {
            "vectors": vectors + noise * torch.from_numpy(rng.standard_normal(vectors.shape, dtype=np.float32)),
            "sound": torch.from_numpy(takes.latents[which].astype(np.float32)).transpose(1, 2),
            "on": torch.from_numpy((rng.random(size) >= OFF).astype(np.float32)),
            "target": torch.from_numpy(targets[which]),
        }

    return batch_of


def train_summarizer(
    takes: ClipFeatures,
    text: NarrationText,
    out: str | Path,
    *,
    steps: int = STEPS,
    batch_size: int = 48,
    seed: int = 0,
    config: SummaryConfig | None = None,
    **how: object,
) -> Summarizer:
    """Train on takes; returns the network in evaluation mode. ``out`` gets the log and the state.

    Args:
        how: ``resume``, ``eval_fn``, ``eval_every`` and ``until`` of :func:`~v2a_nb.training.loop.fit`.

    Raises:
        UsageError: takes whose channels do not fit ``config``.
    """
    config = replace(config or SummaryConfig(), text_dim=text.dim)
    if (takes.vectors.shape[2], takes.latents.shape[1]) != (config.vector_dim, config.sound_dim):
        raise UsageError(
            f"takes of {takes.vectors.shape[2]} and {takes.latents.shape[1]} channels do not fit a network of "
            f"{config.vector_dim} and {config.sound_dim}"
        )
    targets = text.encode([str(n) for n in takes.narrations])
    torch.manual_seed(seed)
    module = SummaryTraining(config)
    module.model.mean.copy_(torch.from_numpy(targets.mean(0)))
    heard = takes.latents.astype(np.float32)
    module.model.sound_mean.copy_(torch.from_numpy(heard.mean((0, 2))))
    module.model.sound_deviation.copy_(torch.from_numpy(heard.std((0, 2)) + 1e-3))
    plan = OptimConfig(steps=steps, lr=1.5e-3, warmup=100, weight_decay=5e-2, betas=(0.9, 0.999), seed=seed)
    return fit(module, batches(takes, targets, batch_size, seed), plan, out, **how).model


def told_of(takes: ClipFeatures, text: NarrationText) -> ClipFeatures:
    """The takes whose narration has an embedding: "nothing is touched" shares no word with any other."""
    return takes.where(np.array([text.knows(str(n)) for n in takes.narrations], bool))


def held_out_scores(
    model: Summarizer, text: NarrationText, takes: ClipFeatures, generated: Mapping[str, Sequence] | None = None
) -> list[dict]:
    """Rows of :func:`~v2a_nb.metrics.summarization.metric.score_summaries` on takes that training never saw.

    Args:
        model, text: trained.
        takes: held out.
        generated: by system's name, vectors [S, sound_dim] of its sound for each take.
    """
    targets = text.encode([str(n) for n in takes.narrations])
    true = [latents.T for latents in takes.latents]
    return score_summaries(model, takes.vectors, {"true": true, **(generated or {})}, targets, takes.recordings)


def sounds_of_system(
    system, takes: ClipFeatures, codec: nn.Module, clips: Sequence[Clip], *, seed: int = 0
) -> tuple[list[np.ndarray], list[Sound]]:
    """What a system makes of the takes' clips, as vectors for the summarizer, and to listen to.

    Args:
        system: anything with ``generate(clip, seed=...)``.
        takes: N takes, for checking.
        codec: whose latents the summarizer was trained on.
        clips: the N takes' pictures, in their order.
        seed: of generation.

    Raises:
        UsageError: not one clip per take.
    """
    if len(clips) != len(takes):
        raise UsageError(f"{len(clips)} clips for {len(takes)} takes")
    sounds = [system.generate(clip.silent(), seed=seed) for clip in clips]
    return [codec_vectors(codec, sound) for sound in sounds], sounds


def nearest(model: Summarizer, text: NarrationText, vectors: Sequence, sounds, narrations: Sequence[str]) -> list[str]:
    """The narration, of those given, whose embedding is nearest to each prediction: what it would say."""
    known = list(dict.fromkeys(narrations))
    made = predict(model, vectors, sounds)
    return [known[i] for i in (made @ text.encode(known).T).argmax(1)]


def train_summary(
    out: str | Path,
    *,
    takes: str | Path | None = None,
    recordings: int = RECORDINGS,
    held_out: int = HELD_OUT,
    steps: int = STEPS,
    seed: int = 0,
    dim: int = 64,
    encoder: str | Path = SHIPPED_ENCODER,
    codec: str | Path = "codec",
    resume: bool = False,
    say: Callable[[str], None] = print,
) -> Path:
    """Everything, from nothing to ``out/weights`` with its card.

    Args:
        out: folder.
        takes: folder of the takes; left out, ``out/takes``. Give the one of VAAS and nothing is rendered again.
        recordings, held_out: as in :func:`v2a_nb.metrics.vaas.train.train_vaas`.
        steps: of training.
        seed: of initialisation and batches.
        dim: channels of the text embedding.
        encoder, codec: folders of weights, or shipped names.
        resume: go on with what ``out`` holds.

    Raises:
        V2AError: ``out`` holds a run and ``resume`` is not set.
    """
    out = init_run(out, resume)
    folder = Path(takes or out / "takes")
    say(f"takes: {recordings} recordings")
    training, unseen = compute_clip_features(folder, encoder, codec, recordings=recordings).split(held_out)
    text = NarrationText.learn([str(n) for n in training.narrations], dim)
    left_out = len(training) + len(unseen)
    training, unseen = told_of(training, text), told_of(unseen, text)
    left_out -= len(training) + len(unseen)
    say(f"summarizer: {steps} steps on {len(training)} takes, {len(text.terms)} terms, {left_out} takes left out")
    model = train_summarizer(training, text, out, steps=steps, seed=seed, resume=resume)
    model = hub.as_shipped(model)
    text = NarrationText(text.terms, text.projection.astype(np.float16).astype(np.float32))
    rows = held_out_scores(model, text, unseen)
    about = json.loads((folder / "takes.json").read_text())
    card = card_of(
        data_seed=about["seed"], steps=steps, seed=seed, recordings=recordings - held_out, held_out=held_out,
        left_out=left_out, encoder=about["encoder"], codec=about["codec"], scores=rounded(rows),
    )  # fmt: skip
    weights = save_summarizer(model, text, out / "weights", **card)
    write_readme(weights, card_text(card, rows))
    say(table(rows))
    return weights


def table(rows: Sequence[dict]) -> str:
    """Rows of :func:`~v2a_nb.metrics.summarization.metric.score_summaries` as Markdown."""
    lines = ["| sound | cosine | gain over no sound |", "| :--- | ---: | ---: |"]
    for r in rows:
        gain = f"{r['gain']:+.3f} ({r['gain_low']:+.3f} to {r['gain_high']:+.3f})" if r["sound"] != "none" else ""
        lines.append(f"| {r['sound']} | {r['cosine']:.3f} ({r['low']:.3f} to {r['high']:.3f}) | {gain} |")
    return "\n".join(lines)


def card_text(card: dict, rows: Sequence[dict]) -> str:
    """The model card."""
    return f"""# Strike World summarizer

Predicts the embedding of a clip's one-line narration from frame vectors ({card["encoder"]}) and, if it is
given one, a sound ({card["codec"]}): EgoSonics, section 4.2 and supplement F. The text embedding is latent semantic
analysis of the training narrations (`v2a_nb/metrics/summarization.py`). fp16 safetensors, MIT licence.

Trained by `python -m v2a_nb.metrics.summarization.train` on {card["recordings"]} recordings of Strike World seed
{card["data_seed"]}, {card["steps"]} steps, training seed {card["seed"]}. It knows no other world and no other words.

## Scores

{rows[0]["n"]} clips of {card["held_out"]} recordings that training never saw; intervals are over recordings. The mean
predictor looks at nothing; shuffled is the true sound of another recording.

{table(rows)}
"""


def score_system(
    weights: str, takes: str | Path, name: str | None, *, held_out: int, recordings: int, say=print
) -> str:
    """The table of a trained summarizer on the held-out takes, with a system's sounds where one is named.

    Raises:
        UsageError: the takes were read by other weights than the summarizer was trained on.
    """
    model, text, card = load_summarizer(weights)
    about = json.loads((Path(takes) / "takes.json").read_text())
    if (about["encoder"], about["codec"]) != (card["encoder"], card["codec"]):
        raise UsageError(f"{takes} was read by {about['encoder']} and {about['codec']}, not by those of {weights}")
    every = load_clip_features(takes, recordings)
    unseen = told_of(every.split(held_out)[1], text)
    generated = {}
    if name is not None:
        from v2a_nb.systems.registry import load

        say(f"{name}: {len(unseen)} sounds")
        made, _ = sounds_of_system(
            load(name), unseen, TinyCodec.from_pretrained("codec"), clips_of(unseen, about["seed"])
        )
        generated[name] = made
    return table(held_out_scores(model, text, unseen, generated))


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The commands at the top of this file; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m v2a_nb.metrics.summarization.train", description=__doc__.split("\n")[0]
    )
    add_arguments(parser, "runs/summary", STEPS)
    parser.add_argument("--score", metavar="WEIGHTS", help="only score these weights on the held-out takes")
    parser.add_argument("--system", help="with --score: also score this system's sounds")
    args = parser.parse_args(argv)
    if args.system and not args.score:
        parser.error("--system needs --score")
    if not args.score:
        return run(lambda: train_summary(args.out, **told(args), say=say), say)
    takes, of = args.takes or Path(args.out) / "takes", {"held_out": args.held_out, "recordings": args.recordings}
    return run(lambda: score_system(args.score, takes, args.system, **of, say=say), say)


if __name__ == "__main__":
    raise SystemExit(main())
