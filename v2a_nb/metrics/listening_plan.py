"""The plan of a blind listening test, and its file of answers; the screen is in ``widgets/listening.py``.

Two designs, after the papers:

- ``choose``: Action2Sound, section 5.4 and supplement 7.5: 30 questions of five videos with the same picture and
  different sounds, 20 participants; they select the video(s) whose sound is most plausible in meaning and time, and
  those with the least ambient sound; Table 3 is the mean share of votes. There several may be selected
  (``several=True``); here one per question is the default, so that a guess has a known share, 1/5.
- ``rate``: VTA-LDM, section 4.3, 6.1 and appendix B: 1 to 100 for overall quality, audio quality, semantic and
  temporal alignment, 20 clips per system, the systems not named. How many participants, how candidates were laid
  out, and any interval are not reported there (Table 5 has standard deviations); here all candidates of a clip are
  rated side by side. Its training session with examples is left to whoever runs the test.

V-AURA and EgoSonics report no human study.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from v2a_nb.errors import MediaError, UsageError
from v2a_nb.files import write_text

LETTERS = "ABCDEFGHI"
COLUMNS = ("test", "listener", "trial", "question", "candidate", "answer", "seconds", "time")
QUESTIONS = {
    "choose": {
        "plausible": "Which sound is the most plausible: it fits what is seen, and when it happens?",
        "ambient": "Which sound has the least ambient noise: hum, hiss, wind, voices around?",
    },
    "rate": {
        "overall": "Overall: picture and sound as one, coherent and without jarring moments",
        "audio": "Audio quality: clear, natural, free from distortion, the sound alone",
        "semantic": "Semantic alignment: the sound is of what is seen",
        "temporal": "Temporal alignment: each sound comes when its cause is seen",
    },
}
"""The wording follows Action2Sound, Fig. 10, and VTA-LDM, appendix B, shortened."""
_FORMAT = "v2a-nb listening key 1"


@dataclass(frozen=True)
class Trial:
    """One screen: a picture with its candidates.

    Attributes:
        number: from 1, in the order in which the listener meets them.
        clip: the clip whose picture is shown.
        candidates: (clip, system) of each sound, in the order of the letters.
        role: ``test``, ``control`` (the answer is known) or ``repeat``.
        of: the number of the trial that a repeat repeats, else 0.
    """

    number: int
    clip: str
    candidates: tuple[tuple[str, str], ...]
    role: str = "test"
    of: int = 0


@dataclass(frozen=True)
class Plan:
    """A listening test. Each listener's trials follow from its seed and the listener's name alone.

    Attributes:
        kind: ``choose`` or ``rate``.
        clips, systems: names, 2 to 9 systems beside the controls.
        seed: any integer.
        several: whether a ``choose`` question takes more than one answer, as in Action2Sound.
        true: the system whose sound is known to fit. Asked for in control trials, among sounds of other clips. In
            ``choose`` it appears there only; in ``rate`` it is also rated, as in VTA-LDM, Table 5.
        shuffled: the system whose sound is known not to fit; appears in control trials only.
        controls, repeats: how many trials; left out, one for six clips each (controls: at least two, and none
            where neither ``true`` nor ``shuffled`` is given). At most a third of the clips can be repeated.
        content: a digest of pictures and sounds, so that answers about other sounds are not mixed in.

    Raises:
        UsageError: an impossible plan.

    Examples:
        >>> plan = Plan("choose", ("c1", "c2", "c3"), ("x", "y", "z"), seed=1)
        >>> [(t.role, len(t.candidates)) for t in plan.trials("anna")]
        [('test', 3), ('test', 3), ('test', 3), ('repeat', 3)]
    """

    kind: str
    clips: tuple[str, ...]
    systems: tuple[str, ...]
    seed: int = 0
    several: bool = False
    true: str | None = None
    shuffled: str | None = None
    controls: int | None = None
    repeats: int | None = None
    content: str = ""

    def __post_init__(self) -> None:
        n = len(self.clips)
        if self.kind not in QUESTIONS:
            raise UsageError(f"a listening test is of kind choose or rate, not {self.kind!r}")
        if not n or len(set(self.clips)) < n or len(set(self.systems)) < len(self.systems):
            raise UsageError("a listening test needs at least one clip, and every clip and system once")
        for name in filter(None, (self.true, self.shuffled)):
            if name not in self.systems or self.true == self.shuffled:
                raise UsageError(f"{name!r} cannot be the control: the systems are {', '.join(self.systems)}")
        if not 2 <= len(self.tested) <= len(LETTERS):
            raise UsageError(f"a trial compares 2 to {len(LETTERS)} systems, not {len(self.tested)}")
        known = self.true or self.shuffled
        if self.controls is None:
            object.__setattr__(self, "controls", max(2, n // 6) if known else 0)
        if self.repeats is None:
            object.__setattr__(self, "repeats", max(1, n // 6) if n > 2 else 0)
        if self.controls < 0 or (self.controls and not known):
            raise UsageError(f"controls={self.controls}: name the system that is known to fit with true=")
        if self.controls and self.true and n < 2 and not self.shuffled:
            raise UsageError("a control trial needs sounds of other clips: give more clips, or controls=0")
        if not 0 <= self.repeats <= n // 3:
            raise UsageError(f"repeats={self.repeats}: of {n} clips at most {n // 3} can be repeated")

    @property
    def tested(self) -> tuple[str, ...]:
        """The systems that results are about."""
        hidden = {self.shuffled} if self.kind == "rate" else {self.true, self.shuffled}
        return tuple(s for s in self.systems if s not in hidden)

    @property
    def questions(self) -> dict[str, str]:
        return QUESTIONS[self.kind]

    @property
    def test(self) -> str:
        """Ten hexadecimal digits that say which test this is; equal plans have equal ones."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]

    def trials(self, listener: str) -> tuple[Trial, ...]:
        """The listener's trials in order.

        In every block of as many trials as there are systems, each system has each letter once.
        """
        # only random() is promised to be the same in every Python, so everything is built on it
        rng = random.Random(json.dumps([self.test, listener_name(listener)]))
        n, clips = len(self.clips), _mixed(self.clips, rng)
        entries = [  # (place in the session, clip, candidates, role, index of the original)
            (float(i), clip, [(clip, s) for s in order], "test", -1)
            for i, (clip, order) in enumerate(zip(clips, _orders(self.tested, n, rng), strict=True))
        ]
        chosen = _mixed(range(max(1, n // 3)), rng)[: self.repeats]
        for i, order in zip(chosen, _orders(self.tested, len(chosen), rng), strict=True):
            # of the first third, shown again in the last: the first answer is forgotten by then
            entries.append((n - rng.random() * n / 3, clips[i], [(clips[i], s) for s in order], "repeat", i))
        for j in range(self.controls):
            place = max(0.5, (j + rng.random()) * n / self.controls)
            clip = clips[-1 - j % n]
            entries.append((place, clip, _mixed(self._control(clip, rng), rng), "control", -1))
        entries.sort(key=lambda e: e[0])
        where = {e[1]: number for number, e in enumerate(entries, 1) if e[3] == "test"}
        return tuple(
            Trial(number, clip, tuple(sounds), role, where[clips[i]] if i >= 0 else 0)
            for number, (_, clip, sounds, role, i) in enumerate(entries, 1)
        )

    def _control(self, clip: str, rng: random.Random) -> list[tuple[str, str]]:
        """As many candidates as in any trial, so that nobody can tell it from one."""
        wrong = [(clip, self.shuffled)] if self.shuffled else []
        if not self.true:
            return wrong + [(clip, s) for s in _mixed(self.tested, rng)][: len(self.tested) - 1]
        # recordings of other clips too: what tells the true sound is that it fits, not that it was recorded
        usual = [s for s in self.systems if s != self.shuffled]
        others = _mixed([(c, s) for c in self.clips if c != clip for s in usual], rng)
        return [(clip, self.true), *(wrong + others)[: len(self.tested) - 1]]

    def expected(self, trial: Trial) -> list[tuple[str, str]]:
        """(question, candidate) of every answer that a trial needs; the candidate is empty in ``choose``."""
        letters = LETTERS[: len(trial.candidates)] if self.kind == "rate" else [""]
        return [(question, letter) for letter in letters for question in self.questions]

    def save_key(self, path: str | Path) -> Path:
        """Write what turns letters into systems. It stays with the experimenter.

        Raises:
            UsageError: there is the key of another test.
            MediaError: it cannot be written.
        """
        path = Path(path)
        if path.exists() and Plan.from_key(path) != self:
            raise UsageError(f"{path} is the key of another listening test; choose another name, nothing was changed")
        text = json.dumps({"format": _FORMAT, "test": self.test, **asdict(self)}, indent=1) + "\n"
        try:
            return write_text(path, text)
        except OSError as error:
            raise MediaError(f"{path}: the key cannot be written: {error}") from error

    @classmethod
    def from_key(cls, path: str | Path) -> Plan:
        """Read a key.

        Raises:
            UsageError: it is missing, damaged, or no key.
        """
        try:
            given = json.loads(Path(path).read_text(encoding="utf-8"))
            wanted = given.pop("test")
            if given.pop("format") != _FORMAT:
                raise ValueError("another format")
            plan = cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"{path} is no key of a listening test ({error}); it is made beside the test") from error
        if plan.test != wanted:
            raise UsageError(f"{path}: this key was changed by hand: it says {wanted} and describes {plan.test}")
        return plan


def listener_name(name: str) -> str:
    """A name on one line: breaks and control characters become spaces.

    Raises:
        UsageError: nothing is left, or over 200 characters.
    """
    text = str(name).encode("utf-8", "replace").decode("utf-8")
    text = " ".join("".join(" " if ord(c) < 32 or c in "\x7f\x85\u2028\u2029" else c for c in text).split())
    if not 0 < len(text) <= 200:
        raise UsageError(f"a listener needs a name of 1 to 200 characters, not {str(name)[:40]!r}")
    return text


def _mixed(items: Iterable, rng: random.Random) -> list:
    items = list(items)
    keys = [rng.random() for _ in items]
    return [items[i] for i in sorted(range(len(items)), key=keys.__getitem__)]


def _orders(systems: Sequence[str], n: int, rng: random.Random) -> list[list[str]]:
    """``n`` orders; each block is a Latin square with rows, columns and systems mixed."""
    k, orders = len(systems), []
    while len(orders) < n:
        names, columns = _mixed(systems, rng), _mixed(range(k), rng)
        orders += [[names[(row + c) % k] for c in columns] for row in _mixed(range(k), rng)]
    return orders[:n]


# --- the file of answers ------------------------------------------------------------------------


def append_answers(
    path: str | Path, plan: Plan, listener: str, trial: Trial, answers: Iterable[Sequence], seconds: float
) -> None:
    """Append one trial's answers in one write and push them to the disk.

    Args:
        answers: (question, candidate, answer) each: letters in ``choose`` ("C"; with ``several`` also "AC") with
            an empty candidate; 1 to 100 in ``rate``.
        seconds: how long the trial took.

    Raises:
        UsageError: an answer is missing, doubled or impossible; nothing was written.
        MediaError: the file cannot be written.
    """
    given: dict[tuple[str, str], str] = {}
    for question, candidate, answer in answers:
        given[str(question), str(candidate)] = _valid(plan, trial, str(answer), f"trial {trial.number}, {question}")
    expected = plan.expected(trial)
    if set(given) != set(expected):
        odd = sorted(set(given) ^ set(expected))[0]
        raise UsageError(f"trial {trial.number}: the answer to {' '.join(odd).strip()} is missing or was not asked for")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    head = [plan.test, listener_name(listener), trial.number]
    rows = [[*head, q, c, given[q, c], f"{float(seconds):.1f}", now] for q, c in expected]
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            text = _lines(rows if file.tell() else [COLUMNS, *rows])
            file.write(text.encode("utf-8"))  # one write: a kill can only cut the end of it
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise MediaError(f"{path}: the answers cannot be written: {error}; former answers are untouched") from error


def _lines(rows: Iterable[Sequence]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def _valid(plan: Plan, trial: Trial, answer: str, where: str) -> str:
    if plan.kind == "rate":
        if answer.isascii() and answer.isdigit() and 1 <= int(answer) <= 100:
            return str(int(answer))
        raise UsageError(f"{where}: a rating is a whole number from 1 to 100, not {answer!r}")
    known = LETTERS[: len(trial.candidates)]
    once = len(set(answer)) == len(answer) and set(answer) <= set(known)
    if once and 1 <= len(answer) <= (len(known) if plan.several else 1):
        return "".join(sorted(answer))
    raise UsageError(f"{where}: the answer is {'letters' if plan.several else 'one letter'} of {known}, not {answer!r}")


def read_answers(path: str | Path) -> tuple[list[dict[str, str]], str]:
    """The rows of a file of answers, and the half-written end, if any.

    A last line without its end may be cut anywhere (75 to 7), so it is never taken for an answer.

    Raises:
        UsageError: no such file, or no file of answers; the message has the line.
    """
    try:
        text = Path(path).read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n")
    except OSError as error:
        raise UsageError(f"{path}: the answers cannot be read: {error}") from error
    lines, _, rest = text.rpartition("\n")
    head = ",".join(COLUMNS)
    if not lines and head.startswith(rest):
        return [], rest
    try:
        table = list(csv.reader(io.StringIO(lines)))
    except csv.Error as error:
        raise UsageError(f"{path} is no table of answers: {error}") from error
    if not table or tuple(table[0]) != COLUMNS:
        raise UsageError(f"{path} holds no answers of a listening test: its first line is not {head}")
    for number, row in enumerate(table[1:], 2):
        if len(row) != len(COLUMNS):
            raise UsageError(f"{path}, line {number}: {len(row)} fields, {len(COLUMNS)} are needed: {','.join(row)!r}")
    return [dict(zip(COLUMNS, row, strict=True)) for row in table[1:]], rest


def resume(path: str | Path, plan: Plan, listener: str) -> tuple[set[int], str]:
    """Which trials this listener has answered in full, ready to append to.

    Returns:
        their numbers, and a line on what was mended ("" where nothing was).

    Raises:
        UsageError: the file is of another test or no file of answers; it is left as it is.
    """
    path = Path(path)
    if not path.exists():
        return set(), ""
    rows, rest = read_answers(path)
    for row in rows:
        if row["test"] != plan.test:
            raise UsageError(
                f"{path} holds answers of test {row['test']}, and this is test {plan.test} (other clips, sounds, kind, "
                "seed or controls); give another out=, or the same test again. Nothing was changed"
            )
    notice = ""
    if rest:
        # answers are cut at a line's end only, and this line was never finished
        data = path.read_bytes()
        os.truncate(path, data.rfind(b"\n") + 1)
        notice = f"the last line of {path.name} was half-written and was taken out: {rest!r}"
    name, got = listener_name(listener), {}
    for row in rows:
        if row["listener"] == name:
            got.setdefault(row["trial"], set()).add((row["question"], row["candidate"]))
    trials = plan.trials(name)
    return {t.number for t in trials if got.get(str(t.number), set()) >= set(plan.expected(t))}, notice


def load(csvs: Sequence[str | Path], plan: Plan) -> tuple[dict[str, dict[int, dict]], list[str]]:
    """Answers by listener, trial number and (question, candidate), and what was odd.

    Raises:
        UsageError: a file of another test, a trial that does not exist, an impossible answer.
    """
    by_listener: dict[str, dict[int, dict]] = {}
    notes, again, trials = [], 0, {}
    for path in csvs:
        rows, rest = read_answers(path)
        notes += [f"{Path(path).name}: the last line is half-written and was not read: {rest!r}"] if rest else []
        for number, row in enumerate(rows, 2):
            where, name = f"{path}, line {number}", row["listener"]
            if row["test"] != plan.test:
                raise UsageError(f"{where}: an answer of test {row['test']}, and the key is of test {plan.test}")
            known = trials.setdefault(name, {str(t.number): t for t in plan.trials(name)})
            trial = known.get(row["trial"])
            if trial is None or (row["question"], row["candidate"]) not in plan.expected(trial):
                raise UsageError(f"{where}: there is no such trial, question or candidate in this test")
            answers = by_listener.setdefault(name, {}).setdefault(trial.number, {})
            again += (row["question"], row["candidate"]) in answers
            answers[row["question"], row["candidate"]] = _valid(plan, trial, row["answer"], where)
    if again:
        notes.append(f"{again} answers were given twice; the last one counts")
    for name, given in by_listener.items():
        full = {n: a for n, a in given.items() if set(a) >= set(plan.expected(trials[name][str(n)]))}
        if len(full) < len(trials[name]):
            notes.append(f"{name} answered {len(full)} of {len(trials[name])} trials in full; the others are left out")
        given.clear()
        given.update(full)
    return by_listener, notes


def scores(
    plan: Plan, trial: Trial, answers: Mapping[tuple[str, str], str]
) -> dict[tuple[str, tuple[str, str]], float]:
    """By question and candidate (clip, system): 1 or 0 for chosen or not, or the rating."""
    values = {}
    for question in plan.questions:
        for letter, sound in zip(LETTERS, trial.candidates, strict=False):
            if plan.kind == "rate":
                values[question, sound] = float(answers[question, letter])
            else:
                values[question, sound] = float(letter in answers[question, ""])
    return values
