"""The commands. Each calls one function of the library; none has logic of its own."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from v2a_nb import __version__
from v2a_nb.errors import UsageError, V2AError, count, whole_number
from v2a_nb.metrics import protocols
from v2a_nb.metrics.registry import listing

if TYPE_CHECKING:
    from v2a_nb.systems.base import Option

MAPS = (
    "gradient_attention", "place_and_time", "gradient", "integrated_gradients", "smoothgrad",
    "occlusion", "token_ablation", "grad_cam", "motion_grad_cam", "attention", "motion_attention", "rollout",
    "gradient_rollout",
)  # fmt: skip
"""Methods of ``saliency``, named here so that help needs no torch; a test compares them."""
TARGETS = ("log_likelihood", "denoising_loss", "control_energy")
"""Targets of ``saliency``, likewise."""
Options: TypeAlias = "dict[str, dict[str, Option]]"
"""Options of ``generate`` by name, of each system that has one by its name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0, 1 (could not do it) or 2 (wrong usage)."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # a name that is no text is printed as its bytes
    options = {}
    if argv[:1] == ["generate"]:  # only then are the systems imported
        from v2a_nb.systems.registry import options_by_system

        options = options_by_system()
    args = _parser(options).parse_args(_joined(argv, options))
    try:
        return args.run(args)
    except UsageError as error:
        _complain(error)
        return 2
    except V2AError as error:
        _complain(error)
        return 1
    except KeyboardInterrupt:
        _complain("interrupted")
        return 1
    except BrokenPipeError:  # the reader, such as head, has left: nothing more can be said on that pipe
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - stays open until the interpreter's last flush
        return 1
    except OSError as error:  # a full disk, a file where a folder should be, no permission
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"{where}{error.strerror or error}")
        return 1


def _demo(args: argparse.Namespace) -> int:
    from v2a_nb.pipeline import demo
    from v2a_nb.systems.registry import honest, with_weights

    _threads()
    note = honest()
    files = demo(
        args.video, args.out, system=args.system, seed=args.seed, start=args.start, duration=args.duration,
        overwrite=args.overwrite, report=_complain,
    )  # fmt: skip
    if args.video and args.system in (None, *with_weights()):
        print(f"Note: {note}")
    names = {"mp4": "video with its new sound", "wav": "sound", "page": "page to open in a browser"}
    print("   ".join(f"{words}: {files[name]}" for name, words in names.items() if name in files))
    return 0 if "page" in files else 1


def _world(args: argparse.Namespace) -> int:
    from v2a_nb.world import write_world

    path = write_world(
        args.out, args.clips, seconds=args.seconds, seed=args.seed, size=args.size, fps=args.fps,
        sample_rate=args.sample_rate, mismatched=args.mismatched, pairs=args.pairs, variety=args.variety,
        style=args.style, progress=_bar("clips"),
        **({} if args.world_version is None else {"version": args.world_version}),
    )  # fmt: skip
    print(path)
    return 0


def _generate(args: argparse.Namespace) -> int:
    from v2a_nb.media import Output
    from v2a_nb.pipeline import generate_files
    from v2a_nb.systems.registry import honest, is_shipped

    _threads()
    note = honest()
    output = Output(args.format, args.bits, args.sample_rate, args.channels, args.keep_original, args.mix)
    given = {name: getattr(args, name) for name in args.options if getattr(args, name) is not None}
    made, failed = generate_files(
        args.videos, args.out, system=args.system, weights=args.weights, device=args.device, seed=args.seed,
        start=args.start, duration=args.duration, audio_track=args.audio_track, output=output,
        save_hits=args.save_hits, stream=args.stream, overwrite=args.overwrite, report=_complain, **given,
    )  # fmt: skip
    for path in made:
        print(path)
    if made and is_shipped(args.system, args.weights):
        print(f"Note: {note}", file=sys.stderr)
    return 1 if failed else 0


def _saliency(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from v2a_nb.pipeline import explain_video
    from v2a_nb.systems.registry import honest, is_shipped

    _threads()
    note = honest()
    # of a pass: a version of the clip, some of it hidden or changed, goes through the system
    with tqdm(desc="passes through the system", unit="pass", leave=False, delay=2.0, file=sys.stderr) as bar:
        made, files = explain_video(
            args.video, args.out, system=args.system, weights=args.weights, device=args.device, method=args.method,
            baseline=args.baseline, window=args.window, target=args.target, prompt=args.prompt, seed=args.seed,
            overwrite=args.overwrite, progress=bar.update, report=_complain,
        )  # fmt: skip
    print(f"{made.title}: peak at {made.peak_s:.2f} s; {made.verdict}")
    for path in files.values():
        print(path)
    if is_shipped(args.system, args.weights):
        print(f"Note: {note}", file=sys.stderr)
    return 0


def _settings(args: argparse.Namespace) -> dict[str, str]:
    """The values of ``--set`` by name.

    Raises:
        UsageError: a name that is an option of the command itself.
    """
    settings = dict(setting.partition("=")[::2] for setting in args.set)
    for name in settings.keys() & vars(args).keys():
        raise UsageError(f"--set {name}: that is an option of this command: --{name.replace('_', '-')}")
    return settings


def _train(args: argparse.Namespace) -> int:
    from v2a_nb.training.registry import train

    _threads()
    path = train(
        args.name, preset=args.preset, data=args.data, steps=args.steps, seed=args.seed, out=args.out,
        resume=args.resume, ablation=args.ablation, cache=args.cache, dry_run=args.dry_run, **_settings(args),
    )  # fmt: skip
    if not args.dry_run:
        print(path)
    return 0


def _evaluate(args: argparse.Namespace) -> int:
    from v2a_nb.metrics.evaluate import compare_folders, evaluate_folder
    from v2a_nb.metrics.pairing import by_name
    from v2a_nb.metrics.report import Report

    Report.check_paths(args.json, args.html)
    names = None if args.metrics is None else [n.strip() for n in args.metrics.split(",") if n.strip()]
    score: Callable
    if len(args.generated) > 1:
        generated, score = by_name(args.generated), compare_folders
    else:
        generated, score = args.generated[0], evaluate_folder
    report = score(
        generated, args.reference, args.videos, args.truth, names, text=args.text, ladder=args.ladder, cache=args.cache,
        protocol=args.protocol, weights=args.weights, progress=_bar("clips"),
    )  # fmt: skip
    print(report)
    if args.json:
        report.save_json(args.json)
    if args.html:
        from v2a_nb.widgets.evaluation import EvaluationPage

        EvaluationPage(report).save(args.html)
    return 0


def _score(args: argparse.Namespace) -> int:
    from v2a_nb.scores import registry
    from v2a_nb.systems.registry import honest

    _threads()
    honest()  # the scores themselves say how well systems know real video
    if args.render:
        for path in registry.render():
            print(path)
    else:
        registry.score(
            args.name, args.folder, weights=args.weights, clips=args.clips, run=args.of_run, keep=args.keep,
            systems=args.systems, part=args.part, samples=args.samples, json=args.json,
        )  # fmt: skip
    return 0


def _study(args: argparse.Namespace) -> int:
    from v2a_nb.scores.study import METRICS, study

    _threads()
    metrics = METRICS if args.metrics is None else [n.strip() for n in args.metrics.split(",") if n.strip()]
    study(
        args.grid, args.out, data=args.data, steps=args.steps, seed=args.seed, clips=args.clips, metrics=metrics,
        keep=args.keep, **_settings(args),
    )  # fmt: skip
    if args.keep:
        from v2a_nb.scores.registry import render

        render()
    return 0


def _convert(args: argparse.Namespace) -> int:
    from v2a_nb.systems.registry import convert

    print(convert(args.system, args.files, args.out))
    return 0


def _curate(args: argparse.Namespace) -> int:
    from v2a_nb.data.curation import curate_file

    _threads()
    report = curate_file(
        args.source, args.filters, args.out, media_root=args.media, about=args.about, clap=args.clap,
        progress=_bar("judgements"),
    )  # fmt: skip
    print(report)
    print(args.out)
    return 0


def _monitor(args: argparse.Namespace) -> int:
    from v2a_nb.widgets.monitor import follow

    follow(args.folder, every=args.every, steps=args.steps, once=args.once)
    return 0


def _check(args: argparse.Namespace) -> int:
    from v2a_nb.doctor import check_environment

    report = check_environment()
    print(report)
    return 0 if report.ok else 1


def _threads() -> None:
    """A thread for every second logical core, unless the user has said otherwise (OMP_NUM_THREADS)."""
    import torch

    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 2) // 2))


def _complain(line: object) -> None:
    """A problem, as one line on standard error, above a progress bar and not inside of it."""
    from tqdm import tqdm

    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(line))
    tqdm.write(f"v2a-nb: {text}", file=sys.stderr)


def _bar(unit: str):
    from tqdm import tqdm

    bar = None  # made with the first result, so that an error before it stands on a line of its own

    def update(done: int, total: int) -> None:
        nonlocal bar
        if bar is None:
            bar = tqdm(desc=unit, unit=unit.rstrip("s"), total=total, file=sys.stderr)
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return update


def _seed(text: str) -> int:
    value = whole_number(text)
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"{value} is no seed; 0 to {2**63 - 1}")
    return value


def _rate(text: str) -> float:
    """A frame rate, perhaps as a fraction."""
    try:
        above, _, below = text.partition("/")
        return float(above) / float(below or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no frame rate") from error


def _decibels(text: str) -> float:
    """A level such as ``-6dB``."""
    number = text.strip().lower().removesuffix("db").strip()
    try:
        return float(number)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no level, such as -6dB") from error


def _flag(name: str) -> str:
    """An option of ``generate`` as the command line has it."""
    return f"--{name.replace('_', '-')}"


def _joined(argv: list[str], options: Options) -> list[str]:
    """``--ambient -40dB`` as ``--ambient=-40dB``: argparse takes a value that begins with a dash for an option."""
    types = {_flag(name): next(iter(systems.values())).type for name, systems in options.items()}
    types["--mix"] = _decibels
    words: list[str] = []
    for text in argv:
        if words and text.startswith("-") and words[-1] in types and _fits(types[words[-1]], text):
            words[-1] += f"={text}"
        else:
            words.append(text)
    return words


def _fits(type: Callable[[str], object], text: str) -> bool:
    """Whether a text is a value of that type."""
    try:
        type(text)
    except (ValueError, argparse.ArgumentTypeError):
        return False
    return True


def _parser(options: Options) -> argparse.ArgumentParser:
    from v2a_nb.systems.registry import CONVERTERS, SYSTEMS
    from v2a_nb.training.registry import RECIPES

    parser = argparse.ArgumentParser(
        prog="v2a-nb",
        description="A silent video goes in; a soundtrack that fits it comes out.",
        epilog="example: v2a-nb demo my_video.mp4 --out demo",
    )
    parser.add_argument("--version", action="version", version=f"v2a-nb {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run, help: str, example: str) -> argparse.ArgumentParser:
        subparser = commands.add_parser(name, help=help, description=help, epilog=f"example: {example}")
        subparser.set_defaults(run=run)
        return subparser

    p = command("demo", _demo, "make a soundtrack for a clip and a page that plays it", "v2a-nb demo clip.mp4")
    p.add_argument("video", nargs="?", help="left out, a Strike World clip")
    p.add_argument("--out", default="demo", help="folder (default: %(default)s)")
    p.add_argument(
        "--system", help=f"{', '.join(SYSTEMS)}, or a folder or Hub id (default: what scores best on real video)"
    )  # fmt: skip
    p.add_argument("--seed", type=_seed, default=0)
    p.add_argument("--start", type=float, default=0.0, help="seconds")
    p.add_argument("--duration", type=float, help="seconds")
    p.add_argument("--overwrite", action="store_true", help="replace files of the same names, whoever made them")

    p = command("world", _world, "write Strike World clips with their truth", "v2a-nb world w --clips 16 --seed 1")
    p.add_argument("out", help="folder to make")
    p.add_argument("--clips", type=int, default=16)
    p.add_argument("--seconds", type=float, default=2.56)
    p.add_argument("--seed", type=_seed, default=0)
    p.add_argument("--size", type=int, default=112, help="pixels, an even number (default: %(default)s)")
    p.add_argument("--fps", type=_rate, default=25.0, help="such as 30, 29.97 or 30000/1001 (default: %(default)s)")
    p.add_argument("--sample-rate", type=int, default=16000)
    p.add_argument("--mismatched", type=float, default=0.0, help="share of recordings with a foreign sound")
    p.add_argument("--pairs", metavar="FACTOR", help="write pairs in which one factor differs")
    p.add_argument("--variety", choices=("wide", "plain"), default="wide")
    p.add_argument("--style", default="camera", help="camera, or game: flat game graphics (default: %(default)s)")
    p.add_argument(
        "--world-version", type=int, metavar="N",
        help="1, or 2: strikes, near misses and pictures as varied as in real video (default: the weights' own)",
    )  # fmt: skip

    p = command(
        "generate", _generate, "make soundtracks for videos",
        "v2a-nb generate a.mp4 holiday/ --system vaura --out made --seed 1",
    )  # fmt: skip
    p.add_argument(
        "videos", nargs="+", metavar="VIDEO", help="file, or folder whose videos are taken, with its sub-folders"
    )  # fmt: skip
    p.add_argument(
        "--system",
        default="vaura",
        help=f"{', '.join(SYSTEMS)}, or a folder or Hub id (default: %(default)s)",
    )
    p.add_argument("--weights", help="folder or Hub id (default: the shipped tiny weights)")
    p.add_argument("--out", required=True, help="folder for STEM.wav and STEM.mp4")
    p.add_argument(
        "--overwrite", action="store_true", help="make again what is there, and replace files of others (never a VIDEO)"
    )  # fmt: skip
    p.add_argument("--seed", type=_seed, default=0)
    p.add_argument("--start", type=float, default=0.0, help="seconds")
    p.add_argument("--duration", type=float, help="seconds")
    p.add_argument("--device", default="cpu")
    group = p.add_argument_group("the files that are written")
    group.add_argument("--format", choices=("wav", "flac", "m4a"), default="wav", help="of the sound (default: wav)")
    group.add_argument("--bits", type=int, choices=(16, 24), default=16, help="of wav and flac (default: 16)")
    group.add_argument("--sample-rate", type=int, metavar="R", help="Hz (default: the system's)")
    group.add_argument("--channels", type=int, choices=(1, 2), help="(default: the system's, 1)")
    group.add_argument("--keep-original", action="store_true", help="the video keeps its own sound as a second track")
    group.add_argument(
        "--mix", type=_decibels, metavar="LEVELdB", help="add the new sound, amplified so, to the video's own sound"
    )  # fmt: skip
    group.add_argument("--audio-track", type=int, metavar="N", help="which own sound that is, from 0")
    group.add_argument(
        "--save-hits", action="store_true", help="also write STEM.hits.json: when something sounds, to edit for --hits"
    )
    group.add_argument(
        "--stream", action="store_true", help="STEM.stream.wav can be played while the sound is made; then it goes"
    )
    p.set_defaults(options=tuple(options))
    group = p.add_argument_group("options of a system", "left out, what is best with its weights")
    for name, systems in options.items():
        helps: dict[str, list[str]] = {}  # what it does -> in which systems
        for system, option in systems.items():
            helps.setdefault(option.help, []).append(system)
        text = "; ".join(f"{', '.join(names)}: {what}" for what, names in helps.items())
        group.add_argument(_flag(name), dest=name, type=option.type, metavar=option.metavar, help=text)

    p = command(
        "saliency", _saliency, "show where and when a system looked for a part of its sound, and whether to believe it",
        "v2a-nb saliency clip.mp4 --system vaura --window 0.4 0.7 --out looked",
    )  # fmt: skip
    p.add_argument("video")
    p.add_argument("--system", default="vaura", help="vaura, egosonics, action2sound, vta_ldm, or a folder or Hub id")
    p.add_argument("--weights", help="folder or Hub id (default: the shipped tiny weights)")
    p.add_argument("--method", metavar="M", help=f"{', '.join(MAPS)} (default: {MAPS[0]})")
    p.add_argument(
        "--baseline", default="blur", help="blur, mean or black: what pixels are compared with (default: blur)"
    )
    p.add_argument(
        "--window", type=float, nargs=2, metavar=("A", "B"),
        help="seconds of the sound that are explained (default: around the hit that the system is surest of in the "
        "first 20 s)",
    )  # fmt: skip
    p.add_argument(
        "--target", choices=TARGETS, metavar="T",
        help=f"what of the sound is explained: {', '.join(TARGETS)} (default: what the system has of the first two)",
    )  # fmt: skip
    p.add_argument("--prompt", metavar="TEXT", help="a text that the system reads beside the video (vta_ldm)")
    p.add_argument("--seed", type=_seed, default=0, help="of the sound of a silent video, and of noise")
    p.add_argument("--device", default="cpu")
    p.add_argument("--out", required=True, help="folder for overlay.mp4, saliency.npz, scores.json and index.html")
    p.add_argument("--overwrite", action="store_true", help="replace files of the same names, whoever made them")

    p = command(
        "train", _train, "train a system, or a network of the metrics, by its recipe",
        "v2a-nb train vaura --data folder:my_videos --out runs/mine",
    )  # fmt: skip
    p.add_argument("name", choices=RECIPES, metavar="NAME", help="; ".join(f"{k}: {v[1]}" for k, v in RECIPES.items()))
    p.add_argument(
        "--preset", choices=("tiny", "small", "paper"), default="tiny",
        help="small: of vaura; paper: of vaura and segment_avclip (default: %(default)s)",
    )  # fmt: skip
    p.add_argument(
        "--data", metavar="SOURCE",
        help="what to learn from: strike:seed=0,clips=5000,variety=wide, folder:PATH, or csv:FILE with columns video "
        "and text (default: the Strike World that the shipped weights learned from)",
    )  # fmt: skip
    p.add_argument("--steps", type=int, help="of the last stage; the others and the clips shrink with it")
    p.add_argument("--seed", type=_seed, help="(default: 0)")
    p.add_argument("--out", help="folder for weights/, log.jsonl and state/ (default: runs/NAME)")
    p.add_argument("--cache", metavar="DIR", help="folder for features of clips, which runs may share (default: OUT)")
    p.add_argument("--ablation", metavar="A", help="train only the last stage of the run anew, with this difference")
    p.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="a setting of the recipe")
    p.add_argument("--resume", action="store_true", help="go on with what --out holds, as it began")
    p.add_argument("--dry-run", action="store_true", help="only print the settings and, of larger presets, the memory")

    p = command(
        "evaluate", _evaluate, "score generated sounds by any metrics",
        "v2a-nb evaluate --generated made --truth world/truth.json --json scores.json",
    )  # fmt: skip
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.epilog += f"\n\n{protocols.listing()}\n\n{listing()}"
    p.add_argument(
        "--generated", required=True, metavar="DIR", action="append",
        help="sounds, or videos with sound, named by clip; twice or more: these folders are compared by paired tests",
    )  # fmt: skip
    p.add_argument("--reference", metavar="DIR", help="the clips' true sounds")
    p.add_argument("--videos", metavar="DIR", help="the clips' videos")
    p.add_argument("--truth", metavar="F", help="truth.json of a Strike World")
    p.add_argument("--text", metavar="F", help="a CSV with columns id and text, for metrics that need a narration")
    p.add_argument(
        "--metrics", metavar="A,B", help="names from the list below (default: all whose needs are given)"
    )  # fmt: skip
    p.add_argument(
        "--protocol", metavar="P",
        help=f"metrics, and preparation of sounds, of a paper or a tool: {', '.join(protocols.PROTOCOLS)}",
    )  # fmt: skip
    p.add_argument(
        "--weights", metavar="NAME[=PATH]", action="append", default=[],
        help="an extractor that the protocol may read, from a file or folder, or else from where it is published",
    )  # fmt: skip
    p.add_argument(
        "--ladder", action="store_true",
        help="also score the true sounds, shifted, of other clips, noise and silence: which metrics order them",
    )  # fmt: skip
    p.add_argument("--json", metavar="F", help="write the scores")
    p.add_argument(
        "--cache",
        metavar="DIR",
        help="keep features: an interrupted evaluation is taken up, a second is fast",
    )
    p.add_argument("--html", metavar="F", help="write a page: scores, drawn too, and the worst clips to play")

    p = command(
        "score", _score, "measure trained weights and write results.json and their model card",
        "v2a-nb score vaura; v2a-nb score real FOLDER; v2a-nb score physics FOLDER; v2a-nb score saliency",
    )  # fmt: skip
    p.add_argument(
        "name", nargs="?", help="of shipped weights, such as vaura, codec or vaas; or real, physics or saliency"
    )
    p.add_argument(
        "folder",
        nargs="?",
        help="with real: clips and onsets.tsv; with physics: keeps generated sounds; with saliency, if given: keeps "
        "what was measured of each clip, so that a run that was stopped goes on",
    )
    p.add_argument(
        "--weights", metavar="DIR",
        help="other weights of that kind (default: the shipped ones); of several systems: NAME=DIR,NAME=DIR",
    )  # fmt: skip
    p.add_argument("--systems", metavar="A,B", help="with real, physics and saliency: which systems (default: all)")
    p.add_argument("--clips", type=count, metavar="N", help="fewer than is published, for a look: writes no results")
    p.add_argument("--run", dest="of_run", metavar="DIR", help="a run whose ablations are measured as well")
    p.add_argument("--part", metavar="P", help="measure only this part, such as ablations, and keep the others")
    p.add_argument(
        "--samples", type=count, metavar="N", help="sounds for each clip of an ablation (default: as published)"
    )  # fmt: skip
    p.add_argument("--json", metavar="F", help="write the numbers to this file too")
    p.add_argument(
        "--keep", action="store_true", help="with real, physics and saliency: put the numbers into results.json"
    )
    p.add_argument("--render", action="store_true", help="only render cards, README and docs from results.json again")

    p = command(
        "study", _study, "VTA-LDM's study: train and score encoders, auxiliary embeddings and augmentations alike",
        "v2a-nb study table3 --out studies/aux; v2a-nb study encoder=strike,cavp augmentation=none,concat --out s",
    )  # fmt: skip
    p.add_argument(
        "grid", nargs="+", metavar="GRID",
        help="table2, table3, table4 of the paper; or encoder=A,B auxiliary=A,B augmentation=A,B, whose product is "
        "taken; auxiliary is text, vision, pe, flow, motion and augmentation none, filtered, concat, pretrain-video, "
        "pretrain-audio, joined by +",
    )  # fmt: skip
    p.add_argument("--out", required=True, help="folder; a study that was interrupted goes on, and rows can be added")
    p.add_argument("--data", metavar="SOURCE", help="what to learn from, as for train")
    p.add_argument("--steps", type=count, help="of each training; the clips shrink with it (default: the recipe's)")
    p.add_argument("--seed", type=_seed, default=0, help="of each training")
    p.add_argument("--clips", type=count, default=100, metavar="N", help="to score on (default: %(default)s)")
    p.add_argument("--metrics", metavar="A,B", help="columns (default: the paper's that need no download, and truth's)")
    p.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help="a setting of all trainings")
    p.add_argument("--keep", action="store_true", help="put the tables beside the shipped weights and into docs/")

    p = command(
        "convert", _convert, "published weights of a system into ours",
        "v2a-nb convert vta_ldm --from diffusion.safetensors audio.safetensors --out vta_ldm_paper",
    )  # fmt: skip
    p.add_argument("system", choices=CONVERTERS, metavar="SYSTEM", help=", ".join(CONVERTERS))
    p.add_argument(
        "--from", dest="files", nargs="+", required=True, metavar="FILE",
        help="safetensors files; vta_ldm: the diffusion model, and autoencoder with vocoder (its official.py says how)",
    )  # fmt: skip
    p.add_argument("--out", required=True, help="folder to make, for --weights")

    p = command(
        "curate", _curate, "put a collection through filters and write what is kept",
        "v2a-nb curate world --filters sound,correspondence --out kept.json",
    )  # fmt: skip
    p.add_argument("source", help="folder of a Strike World or of videos, a table of Ego4D-Sounds, or an earlier list")
    p.add_argument(
        "--filters", default="paper", metavar="A,B",
        help="sound, scenario, tags, energy, correspondence, audio_text, av_align, each perhaps with =LIMIT; paper is "
        "the first four (default: %(default)s)",
    )  # fmt: skip
    p.add_argument("--out", required=True, metavar="F", help="kept clips: .json with counts and reasons, or .csv")
    p.add_argument("--media", metavar="DIR", help="where the videos of a table are (default: beside it)")
    p.add_argument("--about", metavar="JSON", help="ego4d.json, for lengths and scenarios")
    p.add_argument("--clap", metavar="DIR|ID", help="CLAP model of the filter audio_text: a folder or a Hub id")

    p = command("monitor", _monitor, "watch a training run", "v2a-nb monitor runs/vaura")
    p.add_argument("folder", help="what train was given as --out")
    p.add_argument("--every", type=float, default=2.0, help="seconds (default: %(default)s)")
    p.add_argument("--steps", type=int, help="planned steps, where the run has not written plan.json")
    p.add_argument("--once", action="store_true", help="print one screen and end")

    command("check", _check, "look at this machine and say what is missing", "v2a-nb check")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
