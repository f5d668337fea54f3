"""Measurements of trained weights: tables of numbers that ``v2a-nb score`` writes to ``results.json`` beside them.

A number is a :class:`Row`: which metric, of what, with its interval, how many things were counted and by which
extractor. Rows of one command are a :class:`Table`; the tables of one folder of weights are its :class:`Results`.
Model cards and ``docs/results.md`` are rendered from these files (:mod:`v2a_nb.training.cards`): nobody types a number.

Examples:
    >>> from v2a_nb.hub import SHIPPED
    >>> row = Results.read(SHIPPED / "vaura")["scores"].row("onset_f1_50ms")
    >>> row.low < row.value < row.high
    True
"""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path

from v2a_nb import __version__
from v2a_nb.errors import V2AError
from v2a_nb.files import write_text

FILE = "results.json"
SHIPPED_WEIGHTS, RUN, REAL, PAIRS = "shipped weights", "run", "real clips", "counterfactual pairs"
MAPS = "saliency maps"
SOURCES = (SHIPPED_WEIGHTS, RUN, REAL, PAIRS, MAPS)
"""What a table was measured on: the weights of the folder, weights that a run trained anew, a folder of clips, pairs of
which the sounds are kept in a folder, or maps of where the weights looked."""
DIGITS = (
    ("*_mb", 0), ("steps", 0), ("clips", 0), ("*_rank", 0), ("codes_used", 0), ("perplexity", 0),
    ("vaas_*", 1), ("av_sync*", 1), ("*_dbfs", 1),
    ("*_ms", 2), ("*_db", 2), ("cpu_*", 2),
    ("*", 3),
)  # fmt: skip
"""Digits after the point by the name of a metric; the first pattern that fits counts."""


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes:
        metric: its name, as ``v2a-nb evaluate`` has it.
        subject: what was measured: the system, a control, one variant of an ablation.
        value: None where there was nothing to measure.
        low, high: the ends of its 95 % interval; None where it has none.
        n: how many things were counted: clips, events, pairs; None where nothing is counted.
        extractor: name and version of what the metric hears or sees with.
    """

    metric: str
    subject: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    extractor: str | None = None

    @classmethod
    def of(cls, subject: str, measured: dict, metric: str | None = None) -> Row:
        """A row of a dictionary with ``value`` and perhaps ``name``, ``low``, ``high``, ``n`` and ``extractor``.

        NaN, which says that there was nothing to measure, becomes None.
        """
        numbers = {k: measured.get(k) for k in ("value", "low", "high")}
        numbers = {k: None if v is None or math.isnan(v) else float(v) for k, v in numbers.items()}
        others = {k: measured.get(k) for k in ("n", "extractor")}
        return cls(metric or measured["name"], subject, **numbers, **others)

    @property
    def text(self) -> str:
        """The value alone, with the digits of its metric; a dash where there is none."""
        return number(self.metric, self.value)

    @property
    def text_with_interval(self) -> str:
        """``0.894 [0.845, 0.924]``."""
        if self.low is None or self.high is None:
            return self.text
        return f"{self.text} [{number(self.metric, self.low)}, {number(self.metric, self.high)}]"


@dataclass(frozen=True)
class Table:
    """What one part of ``v2a-nb score`` measured.

    Attributes:
        name: of the table, unique in its results.
        command: prints it again.
        rows: in the order in which they are shown.
        version: commit or release of the package that measured it.
        source: out of :data:`SOURCES`. What is not of the shipped weights is kept until it is measured again.
        down: what runs down the printed table: ``"metric"`` or ``"subject"``.
        controls: subjects that stand in the table for comparison; they are shown without intervals.
        about: settings by name, such as ``clips`` and the ``seed`` of the world.
    """

    name: str
    command: str
    rows: tuple[Row, ...]
    version: str = ""
    source: str = SHIPPED_WEIGHTS
    down: str = "metric"
    controls: tuple[str, ...] = ()
    about: dict[str, float | str] = field(default_factory=dict)

    @property
    def subjects(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row.subject for row in self.rows))

    @property
    def metrics(self) -> list[str]:
        """In the order of the rows."""
        return list(dict.fromkeys(row.metric for row in self.rows))

    @property
    def settings(self) -> dict[str, float | str]:
        """What the table says of its measurement: ``about``, the command and the version."""
        return {**self.about, "command": self.command, "version": self.version}

    def row(self, metric: str, subject: str | None = None) -> Row:
        """A number by its metric and by what was measured; left out, the first subject.

        Raises:
            KeyError: it was not measured.
        """
        for row in self.rows:
            if row.metric == metric and (subject is None or row.subject == subject):
                return row
        raise KeyError(f"{self.name} has no {metric} of {subject or 'anything'}")

    def __str__(self) -> str:
        return f"{self.command} ({self.version}): {self.name}\n\n{markdown(self)}\n"


@dataclass(frozen=True)
class Results:
    """The tables of one folder of weights.

    Attributes:
        name: of the weights, as ``v2a-nb score`` knows them.
        weights: :func:`digest_of` the folder when it was scored.
        tables: in the order in which they were measured.
    """

    name: str
    weights: str
    tables: tuple[Table, ...]

    def __getitem__(self, name: str) -> Table:
        for table in self.tables:
            if table.name == name:
                return table
        raise KeyError(f"{self.name} has no results {name!r}; there is {', '.join(t.name for t in self.tables)}")

    def __contains__(self, name: str) -> bool:
        return any(table.name == name for table in self.tables)

    def updated(self, tables: Iterable[Table]) -> Results:
        """These results with tables measured anew.

        What plain ``v2a-nb score`` measures is replaced as a whole; tables that needed a run or real clips stay
        unless they are among ``tables``.
        """
        tables = tuple(tables)
        new = {table.name for table in tables}
        kept = tuple(t for t in self.tables if t.source != SHIPPED_WEIGHTS and t.name not in new)
        return replace(self, tables=(*tables, *kept))

    @classmethod
    def read(cls, folder: str | Path) -> Results:
        """Read ``results.json`` of a folder of weights.

        Raises:
            V2AError: the folder has none, or it is damaged.
        """
        path = Path(folder) / FILE
        if not path.is_file():
            raise V2AError(f"{folder} has no {FILE}: its weights were not scored yet; run v2a-nb score")
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise V2AError(f"{path} is damaged: {error}; run v2a-nb score again") from error

    def write(self, folder: str | Path) -> Path:
        """Write ``results.json``, whole or not at all.

        Raises:
            V2AError: the results make no sense: two tables of one name, a number that is NaN, an empty interval.
        """
        return write_text(Path(folder) / FILE, self.dumps())

    def dumps(self) -> str:
        """The text of ``results.json``: one row a line, so that a new measurement can be read as a difference.

        Raises:
            V2AError: as :meth:`write`.
        """
        try:
            _check(self)
        except ValueError as error:
            raise V2AError(f"the results of {self.name} make no sense: {error}") from error
        config = _plain(asdict(self))
        texts = {}
        for i, table in enumerate(config["tables"]):
            rows = ",\n".join(f"    {json.dumps(row, ensure_ascii=False, allow_nan=False)}" for row in table["rows"])
            texts[f'"rows of table {i}"'], table["rows"] = f"[\n{rows}\n   ]", f"rows of table {i}"
        text = json.dumps(config, indent=1, ensure_ascii=False, allow_nan=False)
        for mark, rows in texts.items():
            text = text.replace(mark, rows)
        return text + "\n"

    @classmethod
    def from_dict(cls, config: dict) -> Results:
        """The results that :meth:`write` wrote.

        Raises:
                ValueError, TypeError, KeyError: something else.
        """
        tables = []
        for table in config["tables"]:
            rows = tuple(Row(**row) for row in table["rows"])
            tables.append(Table(**{**table, "rows": rows, "controls": tuple(table["controls"])}))
        made = cls(config["name"], config["weights"], tuple(tables))
        _check(made)
        return made


def _check(results: Results) -> None:
    names = [table.name for table in results.tables]
    if len(set(names)) < len(names):
        raise ValueError(f"two tables of one name among {', '.join(names)}")
    for table in results.tables:
        where = f"{results.name}, {table.name}"
        if table.source not in SOURCES or table.down not in ("metric", "subject") or not table.command:
            raise ValueError(f"{where}: source {table.source!r}, down {table.down!r}, command {table.command!r}")
        unknown = [name for name in table.controls if name not in table.subjects]
        if unknown or not table.rows:
            raise ValueError(f"{where}: {len(table.rows)} rows, controls without rows: {unknown}")
        if len({(row.metric, row.subject) for row in table.rows}) < len(table.rows):
            raise ValueError(f"{where}: one number stands there twice")
        for row in table.rows:
            numbers = [x for x in (row.value, row.low, row.high) if x is not None]
            if any(isinstance(x, bool) or not isinstance(x, int | float) or not math.isfinite(x) for x in numbers):
                raise ValueError(f"{where}: {row.metric} of {row.subject} is no number")
            if (row.low is None) != (row.high is None) or (row.low is not None and row.low > row.high):
                raise ValueError(f"{where}: {row.metric} of {row.subject} has the interval {row.low} to {row.high}")


def _plain(value: object) -> object:
    """Numbers to six significant digits, NaN as None, without the fields of rows that hold nothing."""
    if isinstance(value, dict):
        made = {k: _plain(v) for k, v in value.items()}
        return {k: v for k, v in made.items() if v is not None or k == "value"} if "subject" in value else made
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def number(metric: str, value: float | None) -> str:
    """A value with the digits of its metric (:data:`DIGITS`); a dash for None."""
    if value is None:
        return "–"
    digits = next(digits for pattern, digits in DIGITS if fnmatchcase(metric, pattern))
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def markdown(*tables: Table) -> str:
    """Tables as one in Markdown: the subjects of the second stand beside, or below, those of the first.

    A subject whose weights were trained anew gets an asterisk.
    """
    rows, names, controls = {}, {}, set()
    for table in tables:
        for row in table.rows:
            name = f"{row.subject} *" if table.source == RUN else row.subject
            rows.setdefault((row.metric, name), row)
            names[name] = None
            if row.subject in table.controls:
                controls.add(name)
    metrics = list(dict.fromkeys(metric for metric, _ in rows))

    def cell(metric: str, name: str) -> str:
        row = rows.get((metric, name))
        return "" if row is None else row.text if name in controls else row.text_with_interval

    if tables[0].down == "subject":
        head = ["", *(f"`{metric}`" for metric in metrics)]
        body = [[name, *(cell(metric, name) for metric in metrics)] for name in names]
    else:
        extractors = {metric: row.extractor for (metric, _), row in reversed(rows.items()) if row.extractor}
        head = ["metric", *names]
        labels = [f"`{m}` ({extractors[m]})" if m in extractors else f"`{m}`" for m in metrics]
        body = [[label, *(cell(metric, name) for name in names)] for label, metric in zip(labels, metrics, strict=True)]
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def digest_of(folder: str | Path) -> str:
    """Twelve hexadecimal digits of all safetensors in a folder of weights: which weights were scored.

    Windows of hits are left out: they follow from the weights, and are kept to save the time of taking them.
    """
    digest = hashlib.sha256()
    for path in sorted(Path(folder).rglob("*.safetensors")):
        if path.parent.name != "hit_windows":
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def package_version() -> str:
    """``commit abc1234`` in a checkout (with ``and changes`` where it has some), else the version of the package."""
    package = Path(__file__).parent.parent

    def git(*command: str) -> str:
        made = subprocess.run(["git", "-C", str(package), *command], capture_output=True, text=True, timeout=60)
        if made.returncode:
            raise OSError(made.stderr)
        return made.stdout.strip()

    try:
        if not git("ls-files", "--", __file__):
            return f"v2a-nb {__version__}"
        changed = git("status", "--porcelain", "--", "*.py", "*.safetensors")
        return f"commit {git('rev-parse', '--short', 'HEAD')}" + (" and changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return f"v2a-nb {__version__}"
