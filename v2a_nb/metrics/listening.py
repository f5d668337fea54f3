"""Blind listening tests: the analysis, with intervals over listeners and clips.

The papers give means only (Action2Sound, Table 3: votes of 20 participants on 30 questions) or standard deviations
(VTA-LDM, Table 5). Answers of one listener are alike, and so are answers on one clip, so neither can be counted as
independent; the intervals here resample both. The tests themselves are in ``listening_plan``.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from v2a_nb.errors import MediaError, UsageError
from v2a_nb.files import write_text
from v2a_nb.metrics.listening_plan import LETTERS, QUESTIONS, Plan, Trial, load, scores
from v2a_nb.metrics.report import plain
from v2a_nb.metrics.statistics import holm, wilson

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Analysis", "Plan", "Trial", "analyse", "deviations"]


@dataclass(frozen=True)
class Analysis:
    """Results of a listening test; shows itself as a table.

    Attributes:
        kind: ``choose`` (values are shares, 0 to 1) or ``rate`` (means, 1 to 100).
        reference: the system that the others are compared with.
        table: per question and system ``question, system, value, low, high, n`` (95 % interval; ``n`` answers);
            in ``choose`` ``chance, p_chance``; ``difference, difference_low, difference_high, p, p_holm, differs``
            against the reference (None for itself). ``p_holm`` is corrected for the systems of the question;
            ``differs`` is ``p_holm < 0.05``.
        listeners: per listener ``listener, trials, passed, controls, excluded, repeats, consistency``. The last is
            the share of equal choices in ``choose``, the mean absolute difference in points in ``rate``, on the
            repeated trials; None where nothing was repeated.
        positions: how often each letter was chosen (``choose``) or the mean rating at it (``rate``).
        notes: for the reader: who was excluded and why, and what the intervals do not cover.
    """

    kind: str
    reference: str
    table: list[dict]
    listeners: list[dict]
    positions: dict[str, float]
    notes: list[str]

    def __getitem__(self, key: tuple[str, str]) -> dict:
        """The row of (question, system)."""
        for row in self.table:
            if (row["question"], row["system"]) == key:
                return row
        raise UsageError(
            f"there is no {key!r}; questions: {', '.join(self.questions)}; systems: {', '.join(self.systems)}"
        )

    @property
    def questions(self) -> list[str]:
        return list(dict.fromkeys(row["question"] for row in self.table))

    @property
    def systems(self) -> list[str]:
        return list(dict.fromkeys(row["system"] for row in self.table))

    @property
    def alt(self) -> str:
        """The figure in words."""
        unit = "share of times chosen" if self.kind == "choose" else "mean rating, 1 to 100"
        parts = [
            f"{question}: "
            + ", ".join(f"{r['system']} {self._cell(r)}" for r in self.table if r["question"] == question)
            for question in self.questions
        ]
        return f"Listening test, {unit}, with 95 % intervals. " + "; ".join(parts) + "."

    def to_json(self, path: str | Path | None = None) -> str:
        """All of it as JSON (NaN becomes null); written where a path is given, whole or not at all.

        Raises:
            MediaError: it cannot be written.
        """
        text = json.dumps(plain(asdict(self)), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        if path is not None:
            try:
                write_text(path, text)
            except OSError as error:
                raise MediaError(f"{path}: the results cannot be written: {error}") from error
        return text

    def plot(self, ax: Axes | None = None) -> Figure:
        """Values with intervals, one group per question, chance as a dashed line.

        The figure has its text in ``.alt``: ``plots.show(fig, alt=fig.alt)``.
        """
        if ax is None:
            from matplotlib.figure import Figure as Canvas

            fig = Canvas(figsize=(9, 0.8 + 0.32 * len(self.table) + 0.25 * len(self.questions)), layout="constrained")
            ax = fig.add_subplot()
        else:
            fig = ax.figure
        colours = ["#2457c5", "#b3261e", "#0f7d74", "#9a4f0e", "#4046c8", "#3f6384", "#6a1b9a", "#33691e", "#37474f"]
        y, ticks, names = 0.0, [], []
        for question in self.questions:
            rows = [r for r in self.table if r["question"] == question]
            # in data units across, so that a name of any length stands over its group
            ax.text(0, y, f" {question}", weight="bold", va="center", transform=ax.get_yaxis_transform())
            for k, row in enumerate(rows):
                y += 1
                colour = colours[k % len(colours)]
                if math.isfinite(row["low"]):
                    ax.plot([row["low"], row["high"]], [y, y], color=colour, lw=2, solid_capstyle="butt")
                ax.plot(row["value"], y, "o", color=colour)
                ticks.append(y)
                names.append(_line(row["system"], 40).replace("$", r"\$"))
            if self.kind == "choose":
                ax.plot([rows[0]["chance"]] * 2, [y - len(rows) + 0.6, y + 0.4], color="#555555", ls="--", lw=1.2)
            y += 1.3
        ax.set_yticks(ticks, names)
        ax.set_ylim(y - 0.6, -0.7)
        if self.kind == "choose":
            ax.set(xlim=(-0.02, 1.02), xlabel="share of times chosen (dashed: by chance), 95 % interval")
        else:
            ax.set(xlim=(0, 101), xlabel="mean rating (1 to 100), 95 % interval")
        ax.grid(axis="x", alpha=0.3)
        fig.alt = self.alt
        return fig

    def _cell(self, row: dict) -> str:
        digits = 2 if self.kind == "choose" else 1
        inside = ", ".join(f"{row[k]:.{digits}f}" if math.isfinite(row[k]) else "?" for k in ("low", "high"))
        return f"{row['value']:.{digits}f} [{inside}]"

    def _against(self, row: dict) -> str:
        if row["difference"] is None:
            return "reference"
        mark = " *" if row["differs"] else ""
        return f"{row['difference']:+.{2 if self.kind == 'choose' else 1}f}, p = {row['p_holm']:.3f}{mark}"

    def _columns(self) -> tuple[str, list[tuple[str, str, list[str]]]]:
        what = "share chosen" if self.kind == "choose" else "mean rating, 1 to 100"
        head = f"{what} [95 % interval], and against {self.reference} (p after Holm; * below 0.05)"
        if self.kind == "choose":
            head += f"; by chance {self.table[0]['chance']:.2f}"
        return head, [(r["question"], r["system"], [self._cell(r), self._against(r)]) for r in self.table]

    def _people(self) -> list[tuple[str, str]]:
        people = []
        for p in self.listeners:
            words = [f"{p['trials']} trials"]
            if p["controls"]:
                words.append(f"{p['passed']} of {p['controls']} controls passed")
            if p["consistency"] is not None:
                unit = "of choices equal" if self.kind == "choose" else "points apart"
                value = f"{p['consistency']:.0%}" if self.kind == "choose" else f"{p['consistency']:.1f}"
                words.append(f"{value} {unit} on {p['repeats']} repeated trials")
            people.append((p["listener"], ", ".join(words) + ("; EXCLUDED" if p["excluded"] else "")))
        return people

    def __repr__(self) -> str:
        head, rows = self._columns()
        width = max(len(_line(s, 40)) for _, s, _ in rows)
        lines = [head]
        lines += [f"{q:10} {_line(s, 40):{width}}  {cells[0]:22} {cells[1]}" for q, s, cells in rows]
        lines += [_line(f"{name}: {words}") for name, words in self._people()]
        return "\n".join([*lines, *(_line(f"note: {t}") for t in self.notes)])

    def _repr_html_(self) -> str:
        head, rows = self._columns()
        body = "".join(
            f"<tr><th scope=row style='text-align:start'>{_safe(q)}</th><td style='text-align:start'>{_safe(s)}</td>"
            + "".join(f"<td style='text-align:start'>{_safe(c)}</td>" for c in cells) + "</tr>"
            for q, s, cells in rows
        )  # fmt: skip
        titles = ("question", "system", "value", "compared")
        columns = "".join(f"<th scope=col style='text-align:start'>{t}</th>" for t in titles)
        listed = "".join(f"<li>{_safe(name)}: {_safe(words)}</li>" for name, words in self._people())
        listed += "".join(f"<li>{_safe(t)}</li>" for t in self.notes)
        return (
            f"<table><caption>{_safe(head)}</caption><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>"
            f"<ul>{listed}</ul>"
        )


def analyse(
    csv: str | Path | Sequence[str | Path],
    key: str | Path | None = None,
    *,
    reference: str | None = None,
    exclude: bool = True,
    rounds: int = 2000,
    seed: int = 0,
) -> Analysis:
    """Results of a listening test from its answers.

    Args:
        csv: a file of answers or several, of one or more listeners.
        key: the key of the test; left out, ``NAME.key.json`` beside the (first) ``NAME.csv``.
        reference: the system that the others are compared with; left out, the first one of the test.
        exclude: leave out listeners who passed less than two thirds of their control trials. A control is passed
            in ``choose`` when the sound known to fit is (among) the most plausible, in ``rate`` when its ratings
            apart from audio quality are the highest; where only a shuffled sound was given, when that is not so of it.
        rounds: of the bootstrap.

    Returns:
        shares or means. Intervals and tests: listeners and clips are each resampled and the part of the variance
        that both carry is taken out (as in two-way clustering), widened for few listeners or clips as t is wider
        than the normal. For one listener in ``choose``: Wilson, exact binomial and sign tests over clips, and it
        says nothing about other listeners. Repeated and control trials count for nothing but themselves.

    Raises:
        UsageError: answers or key missing, damaged or of different tests; nobody left.

    Examples:
        >>> analyse(["anna.csv", "ben.csv"], key="test.key.json", reference="retrieval")  # doctest: +SKIP
    """
    csvs = [csv] if isinstance(csv, str | Path) else list(csv)
    if not csvs:
        raise UsageError("no files of answers to analyse")
    plan = Plan.from_key(Path(csvs[0]).with_suffix(".key.json") if key is None else key)
    systems = list(plan.tested)
    reference = systems[0] if reference is None else reference
    if reference not in systems:
        raise UsageError(f"{reference!r} is not in the test; it has {', '.join(systems)}")
    answers, notes = load(csvs, plan)
    people = [_listener(plan, name, given) for name, given in answers.items()]
    for person in people:
        if person["excluded"]:
            why = f"{person['listener']} passed {person['passed']} of {person['controls']} control trials"
            notes.append(f"{why}: {'left out of the results' if exclude else 'kept, because exclude=False'}")
    kept = [p["listener"] for p in people if p["trials"] and not (p["excluded"] and exclude)]
    if not kept:
        raise UsageError("no listener is left: " + ("; ".join(notes) or "there are no answers"))
    values, answered, chance, positions = _gather(plan, {name: answers[name] for name in kept})
    if len(kept) == 1:
        notes.append(f"one listener ({kept[0]}): intervals are over clips and say nothing about other listeners")
    table = []
    for q, question in enumerate(plan.questions):
        rows = _compare(plan, values[:, :, q], answered, systems.index(reference), chance[q], rounds, seed)
        table += [{"question": question, "system": s, **row} for s, row in zip(systems, rows, strict=True)]
    return Analysis(plan.kind, reference, table, people, positions, notes)


def deviations(values: np.ndarray, answered: np.ndarray, rounds: int = 2000, seed: int = 0) -> np.ndarray:
    """Deviations of means from what they estimate, resampled over listeners and clips.

    Args:
        values: [L, C, M]: listeners, clips, measures.
        answered: bool [L, C], where there are answers.

    Returns:
        [rounds, M], centred near 0. NaN where there is only one listener and one clip.
    """
    from scipy.stats import norm, t

    rng = np.random.default_rng(seed)
    count = max(1, int(answered.sum()))
    mean = np.where(answered[..., None], values, 0).sum((0, 1)) / count
    rest = np.where(answered[..., None], values - mean, 0)
    parts, variances = [], []
    for axis in (1, 0):  # sums over clips: listeners are drawn; then the other way round
        size, total = answered.sum(axis), rest.sum(axis)  # [G], [G, M]
        size, total = size[size > 0], total[size > 0]
        groups = len(size)
        if groups < 2:
            continue
        drawn = rng.multinomial(groups, np.full(groups, 1 / groups), rounds)  # [rounds, G]
        means = (drawn @ total) / (drawn @ size)[:, None] * math.sqrt(groups / (groups - 1))
        variances.append((means**2).mean(0))
        parts.append(means * float(t.ppf(0.975, groups - 1) / norm.ppf(0.975)))
    if not parts:
        return np.full((rounds, values.shape[2]), np.nan)
    if len(parts) == 1:
        return parts[0]
    # both ways contain the scatter of single answers: once is enough (Cameron, Gelbach and Miller 2011)
    both, single = variances[0] + variances[1], (rest**2).sum((0, 1)) / count**2
    wanted = np.maximum(both - single, np.maximum(*variances))
    return (parts[0] + parts[1]) * np.sqrt(wanted / np.maximum(both, 1e-300))


def _gather(plan: Plan, answers: dict[str, dict[int, dict]]):
    """Values [L, C, Q, S], where there are answers [L, C], chance by question, and means by letter."""
    clip_at = {clip: i for i, clip in enumerate(plan.clips)}
    questions, systems = list(plan.questions), list(plan.tested)
    values = np.zeros((len(answers), len(plan.clips), len(questions), len(systems)))
    answered = np.zeros(values.shape[:2], bool)
    picks, by_letter = np.zeros(len(questions)), np.zeros(len(systems))
    for i, (name, given) in enumerate(answers.items()):
        for trial in plan.trials(name):
            if trial.role != "test" or trial.number not in given:
                continue
            c = clip_at[trial.clip]
            answered[i, c] = True
            for (question, sound), value in scores(plan, trial, given[trial.number]).items():
                q = questions.index(question)
                values[i, c, q, systems.index(sound[1])] = value
                picks[q] += value
                by_letter[trial.candidates.index(sound)] += value
    n = max(1, answered.sum())
    means = by_letter / len(questions) / n if plan.kind == "rate" else by_letter
    positions = {letter: float(v) for letter, v in zip(LETTERS, means, strict=False)}
    return values, answered, picks / n / len(systems), positions


def _compare(plan: Plan, values, answered, reference: int, chance: float, rounds: int, seed: int) -> list[dict]:
    """One question: [L, C, S] to a row per system."""
    from scipy.stats import binomtest

    n, systems = int(answered.sum()), values.shape[2]
    both = np.concatenate([values, values - values[:, :, reference : reference + 1]], axis=2)
    mean = both[answered].mean(0)
    spread = deviations(both, answered, rounds, seed)
    with np.errstate(invalid="ignore"):
        low, high = mean + np.percentile(spread, [2.5, 97.5], axis=0)

    def p_of(column: int, distance: float) -> float:
        if np.isnan(spread[0, column]):
            return math.nan
        return float((1 + (np.abs(spread[:, column]) >= abs(distance) - 1e-12).sum()) / (1 + rounds))

    alone = plan.kind == "choose" and values.shape[0] == 1
    base = wilson(mean[reference] * n, n) if plan.kind == "choose" else None
    rows = []
    for s in range(systems):
        row = {"value": float(mean[s]), "low": float(low[s]), "high": float(high[s]), "n": n}
        if plan.kind == "choose":
            # never surer than as many independent answers: near 0 and 1 there is little scatter to resample
            sure = wilson(mean[s] * n, n)
            row["low"], row["high"] = sure if alone else (min(sure[0], low[s]), max(sure[1], high[s]))
            row["low"], row["high"] = max(0.0, float(row["low"])), min(1.0, float(row["high"]))
            row["chance"] = float(chance)
            hits = round(mean[s] * n)
            row["p_chance"] = float(binomtest(hits, n, chance).pvalue) if alone else p_of(s, mean[s] - chance)
        else:
            row["low"], row["high"] = max(1.0, row["low"]), min(100.0, row["high"])
        k = systems + s
        if s == reference:
            row |= dict.fromkeys(("difference", "difference_low", "difference_high", "p", "p_holm"))
        else:
            row |= {"difference": float(mean[k]), "difference_low": float(low[k]), "difference_high": float(high[k])}
            if plan.kind == "choose":  # likewise (Newcombe 1998, method 10)
                down = math.hypot(mean[s] - sure[0], base[1] - mean[reference])
                up = math.hypot(sure[1] - mean[s], mean[reference] - base[0])
                row["difference_low"] = float(min(low[k], mean[k] - down))
                row["difference_high"] = float(max(high[k], mean[k] + up))
            wins, losses = ((sign * both[answered][:, k] > 0).sum() for sign in (1, -1))
            if alone:
                row["p"] = float(binomtest(int(wins), int(wins + losses)).pvalue) if wins + losses else 1.0
            else:
                row["p"] = p_of(k, mean[k])
        rows.append(row)
    tested = [r for r in rows if r["p"] is not None]
    for row, p in zip(tested, holm([r["p"] for r in tested]), strict=True):
        row["p_holm"] = p
    for row in rows:
        row["differs"] = row["p_holm"] is not None and row["p_holm"] < 0.05
    return rows


def _listener(plan: Plan, name: str, given: dict[int, dict]) -> dict:
    """Controls passed and consistency of one listener."""
    trials = {t.number: t for t in plan.trials(name) if t.number in given}
    passed = controls = 0
    apart: list[float] = []
    for trial in trials.values():
        values = scores(plan, trial, given[trial.number])
        if trial.role == "control":
            controls += 1
            passed += _passes(plan, trial, values)
        elif trial.role == "repeat" and trial.of in trials:
            first = scores(plan, trials[trial.of], given[trial.of])
            if plan.kind == "rate":
                apart += [abs(value - first[place]) for place, value in values.items()]
            else:
                apart += [float(all(values[q, s] == first[q, s] for s in trial.candidates)) for q in plan.questions]
    ordinary = sum(t.role == "test" for t in trials.values())
    repeats = sum(t.role == "repeat" and t.of in trials for t in trials.values())
    excluded = bool(controls) and passed < 2 / 3 * controls - 1e-9
    consistency = float(np.mean(apart)) if apart else None
    return {
        "listener": name, "trials": ordinary, "passed": int(passed), "controls": controls, "excluded": excluded,
        "repeats": repeats, "consistency": consistency,
    }  # fmt: skip


def _passes(plan: Plan, trial: Trial, values: dict) -> bool:
    asked = ["plausible"] if plan.kind == "choose" else [q for q in QUESTIONS["rate"] if q != "audio"]
    total = {sound: sum(values[q, sound] for q in asked) for sound in trial.candidates}
    best = max(total.values())
    if plan.true:
        # rating everything the same is no pass
        return total[trial.clip, plan.true] == best and min(total.values()) < best
    return total[trial.clip, plan.shuffled] < best


def _line(text: str, most: int = 400) -> str:
    """Any text on one line."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    return line if len(line) <= most else line[: most - 1] + "…"


def _safe(text: str) -> str:
    """Any text as HTML; its direction stays inside."""
    return f"<bdi>{html.escape(str(text), quote=True)}</bdi>"
