"""Scores of the ``tiny`` codec, and the weights with their model card.

::

    python -m v2a_nb.scores.codec                        # print the scores of the shipped weights
    python -m v2a_nb.scores.codec --state runs/codec/cycle3/state/state.pt --out weights/codec
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from v2a_nb.clip import Sound
from v2a_nb.errors import WeightsError
from v2a_nb.metrics import truth
from v2a_nb.models.codec_report import codec_report
from v2a_nb.models.tiny_codec import TinyCodec
from v2a_nb.training.recipe import rounded, run, versions, write_readme

TEST_SEED, TEST_CLIPS = 2000, 200
LEVELS_DBFS = (-60, -55, -50, -45, -40, -35)


def score_codec(codec: TinyCodec, seed: int = TEST_SEED, clips: int = TEST_CLIPS) -> dict:
    """Round trip of Strike World sounds, beside the true sounds measured in the same way.

    Args:
        codec: at 16 kHz.
        seed: of a world that training never saw.
        clips: how many, 2.56 s each.

    Returns:
        what :func:`~v2a_nb.models.codec_report.codec_report` says, and under ``truth`` the truth metrics of
        ``original`` and ``decoded``, ``ambience_bias_db`` (decoded minus true, by its level in 5 dB bins)
        and ``decode_seconds`` of one 2.56 s clip.
    """
    from v2a_nb.world import strike_world

    items = list(strike_world(seed, clips, size=16))
    waves = np.stack([item.stems["mix"].samples[0] for item in items])
    times = [np.array([e["time_s"] for e in item.truth["events"] if e["sounding"]]) for item in items]
    report = codec_report(codec, waves, times)
    made = np.concatenate(
        [codec.decode(codec.encode(part), waves.shape[1]).numpy() for part in torch.from_numpy(waves).split(16)]
    )
    scores = {
        name: [truth.score_clip(Sound(w, 16000), item.truth) for w, item in zip(sounds, items, strict=True)]
        for name, sounds in (("original", waves), ("decoded", made))
    }
    report["truth"] = {k: {n: truth.pool(s, n) for n in truth.NAMES} for k, s in scores.items()}
    report["ambience_bias_db"] = _by_level(
        [item.truth["ambient"]["level_dbfs"] for item in items], scores["original"], scores["decoded"]
    )
    report["decode_seconds"] = _clock(codec, waves)
    return report


def _by_level(levels: Sequence[float], original: list, decoded: list) -> dict[str, float]:
    """Median of decoded minus original quiet level, dB, in 5 dB bins of the ambience's level."""
    gaps = np.array([d.ambience_error - o.ambience_error for o, d in zip(original, decoded, strict=True)])
    levels = np.asarray(levels)
    bins = {}
    for low, high in pairwise(LEVELS_DBFS):
        inside = gaps[(levels >= low) & (levels < high) & np.isfinite(gaps)]
        if len(inside):
            bins[f"{low} to {high}"] = float(np.median(inside))
    return bins


def _clock(codec: TinyCodec, waves: np.ndarray) -> float:
    """Processor seconds to decode one clip: median of seven."""
    codes = codec.encode(torch.from_numpy(waves[:1]))
    spent = []
    for _ in range(7):
        began = time.process_time()
        codec.decode(codes)
        spent.append(time.process_time() - began)
    return float(np.median(spent))


def codec_of_state(path: str | Path) -> TinyCodec:
    """The codec in a training state (``state/state.pt`` of a cycle) or in a saved ``state_dict``.

    Raises:
        WeightsError: the file is not there, or holds something else.
    """
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        state = saved.get("module", saved)
        own = {k.removeprefix("codec."): v for k, v in state.items() if k.startswith("codec.")} or state
        codec = TinyCodec()
        codec.load_state_dict(own)
    except Exception as error:  # torch raises many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{path} holds no tiny codec: {reason}") from error
    return codec.eval()


def write_codec(
    codec: TinyCodec,
    out: str | Path,
    *,
    test_seed: int = TEST_SEED,
    test_clips: int = TEST_CLIPS,
    **card: object,
) -> dict:
    """Save weights, score what was saved (they are fp16), and write the scores to the card.

    Args:
        codec: trained.
        out: folder.
        test_seed, test_clips: of :func:`score_codec`.
        card: data seed, steps and the like, for ``config.json``.
    """
    codec.save_pretrained(out, **card)
    saved = TinyCodec.from_pretrained(Path(out).resolve())
    report = score_codec(saved, test_seed, test_clips)
    card |= {"test_seed": test_seed, "test_clips": test_clips, "scores": rounded(report), "versions": versions()}
    codec.save_pretrained(out, **card)
    write_readme(out, _card(saved, report, card))
    return report


def table(report: dict) -> str:
    """The scores as a Markdown table."""
    original, decoded = report["truth"]["original"], report["truth"]["decoded"]
    rows = [("", "true sound", "decoded")]
    for name in truth.NAMES:
        rows.append((name, f"{original[name]:.3f}", f"{decoded[name]:.3f}"))
    rows.insert(1, ("---", "---:", "---:"))
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    books = ", ".join(f"{b['used']} used, perplexity {b['perplexity']:.0f}" for b in report["codebooks"])
    by_books = ", ".join(f"{x:.3f}" for x in report["mel_distance_by_codebooks"])
    f1_by_books = ", ".join(f"{x:.3f}" for x in report["onset_f1_50ms_by_codebooks"])
    ambience = ", ".join(f"{k} dBFS: {v:+.1f} dB" for k, v in report["ambience_bias_db"].items())
    lines += [
        "",
        f"- onset F1 at 50 ms, decoded against original: {report['onset_f1_50ms']:.3f} "
        f"(with the first 1, 2, ... codebooks: {f1_by_books}); shift {report['onset_shift_ms']:+.1f} ms, "
        f"jitter {report['onset_jitter_ms']:.1f} ms",
        f"- log10-mel distance: {report['mel_distance']:.3f} (with 1, 2, ... codebooks: {by_books})",
        f"- codebooks: {books}",
        f"- level: off by {report['level_error_db']:.2f} dB in the mean, bias {report['level_bias_db']:+.2f} dB",
        f"- ambience, decoded minus original, median by its level: {ambience}",
        f"- decoding 2.56 s takes {report['decode_seconds']:.3f} s of one processor core",
    ]
    return "\n".join(lines)


def _card(codec: TinyCodec, report: dict, card: dict) -> str:
    parameters = sum(p.numel() for p in codec.parameters()) / 1e6
    return f"""# The tiny codec

{codec.sample_rate} Hz, {codec.frame_rate:g} frames a second, {codec.num_codebooks} residual codebooks of \
{codec.codebook_size}; {parameters:.2f} M parameters, fp16 safetensors. Log-mel in, ConvNeXt blocks, residual
vector quantization, inverse STFT out (`v2a_nb/audio/tiny_codec.py`). MIT licence.

Trained by `v2a_nb.training.recipes.codec.train_codec` on {card.get("clips", "?")} sounds of Strike World seed \
{card.get("data_seed", "?")}, {card.get("steps", "?")} steps, training seed {card.get("seed", "?")}.

It knows Strike World's sounds: impacts of five materials, scrapes, bounces, four kinds of ambience. Phase is
not coded: what comes back matches in spectrum and timing, not sample by sample. Speech and music come back
as something else.

## Scores

{card["test_clips"]} clips of seed {card["test_seed"]}, which training never saw, by
`python -m v2a_nb.scores.codec --seed {card["test_seed"]} --clips {card["test_clips"]}`:

{table(report)}
"""


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """The command at the top of this file; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m v2a_nb.scores.codec", description=__doc__.split("\n")[0])
    parser.add_argument("--weights", default="codec", help="name or folder to score (default: the shipped ones)")
    parser.add_argument("--state", help="a training state to score, or to write with --out")
    parser.add_argument("--out", help="folder of weights to write from --state")
    parser.add_argument("--seed", type=int, default=TEST_SEED, help="of the world that is scored on")
    parser.add_argument("--clips", type=int, default=TEST_CLIPS)
    parser.add_argument("--card", default="{}", help="JSON for config.json: data_seed, clips, steps, seed")
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON")
    args = parser.parse_args(argv)
    if args.out and not args.state:
        parser.error("--out needs --state")

    def scores() -> str:
        codec = codec_of_state(args.state) if args.state else TinyCodec.from_pretrained(args.weights)
        if args.out:
            report = write_codec(codec, args.out, test_seed=args.seed, test_clips=args.clips, **json.loads(args.card))
        else:
            report = score_codec(codec, args.seed, args.clips)
        return json.dumps(rounded(report), indent=1) if args.json else table(report)

    return run(scores, say)


if __name__ == "__main__":
    raise SystemExit(main())
