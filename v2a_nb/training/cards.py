"""Model cards and documents, rendered from templates and ``results.json``: prose is written, numbers are filled in.

A template is Markdown with fields of :meth:`str.format`, for example ``{tables[scores]}``:

``config[KEY]``
    what ``config.json`` says; ``config[train_config][clips]`` goes deeper, ``{config[steps]:,}`` formats;
``strike[KEY]``
    the same, but only of weights that were trained on Strike World: for paragraphs that are true of these alone;
``tables[NAME]``
    a table of the results; ``tables[ONE OTHER]`` joins two;
``cells[TABLE][METRIC]`` or ``cells[TABLE][METRIC][SUBJECT]``
    one number, of the first subject or of the one that is named;
``about[TABLE][KEY]``
    a setting of a measurement, such as ``clips``, ``seed``, ``command`` or ``version``;
``parameters[PART]``
    how many parameters a part of the weights has, by its name in ``config["parts"]``; ``parameters[.]`` are their own.

A card (:func:`write_card`) has a template file. Of that, the paragraphs are left out that name what was not measured,
or what ``config.json`` does not say: so one template serves shipped weights, which have a ``history``, and those of a
run that was never scored. A document such as the README is its own template: what stands between
``<!-- {FIELD} -->`` and ``<!-- / -->`` is put in anew by :func:`render_document`, whose fields begin with the name of
the weights: ``<!-- {vaura.cells[scores][onset_f1_50ms]} -->``.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from v2a_nb.errors import V2AError, WeightsError
from v2a_nb.files import write_text
from v2a_nb.hub import find_weights, parts_of
from v2a_nb.training.results import FILE, Results, markdown

CARD, SCORES = "README.md", "## Scores"
NOT_YET = "*Not scored yet.*"
"""Stands in documents where a table will be."""
_MARK = re.compile(r"<!-- (\{[^{}]+\}) -->.*?<!-- / -->", re.DOTALL)


class Fields:
    """What a template can say of some weights; see the top of this file.

    Args:
        folder: of the weights.
        results: theirs; left out, what lies in the folder, perhaps none.
    """

    def __init__(self, folder: str | Path, results: Results | None = None) -> None:
        folder = Path(folder)
        if results is None and (folder / FILE).exists():
            results = Results.read(folder)
        self.config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.strike = self.config if str(self.config.get("source")).startswith("strike:") else {}
        parts = {".": folder, **parts_of(folder, self.config)}
        self.parameters = _Lookup(lambda part: _parameters(find_weights(str(parts[part])) / "model.safetensors"))
        self.results = results = results or Results("these weights", "", ())
        self.tables = _Lookup(lambda names: _joined(results, names.split()))
        self.cells = _Lookup(lambda name: _Lookup(lambda metric: _cell(results, name, metric)))
        self.about = _Lookup(lambda name: results[name].settings)


class _Lookup:
    """A mapping whose values are made when they are asked for."""

    def __init__(self, get: Callable[[str], object]) -> None:
        self._get = get

    def __getitem__(self, key: str) -> object:
        return self._get(key)


class _Cell:
    """The number of a table's first subject as text; in brackets, that of another one."""

    def __init__(self, text: str, others: Mapping[str, str]) -> None:
        self._text, self._others = text, others

    def __str__(self) -> str:
        return self._text

    def __getitem__(self, subject: str) -> str:
        return self._others[subject]


def _joined(results: Results, names: list[str]) -> str:
    there = [results[name] for name in names if name in results]
    if not there:
        raise KeyError(" ".join(names))
    return markdown(*there)


def _cell(results: Results, table: str, metric: str) -> _Cell:
    texts = {row.subject: row.text for row in results[table].rows if row.metric == metric}
    return _Cell(results[table].row(metric).text, texts)


def _parameters(path: Path) -> str:
    """``3.6 M`` or ``0.61 M``: the numbers in a safetensors file, read from its header."""
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    sizes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
    millions = sum(_product(shape) for shape in sizes) / 1e6
    return f"{millions:.1f} M" if millions >= 1 else f"{millions:.2f} M"


def _product(shape: list[int]) -> int:
    return shape[0] * _product(shape[1:]) if shape else 1


def render_card(folder: str | Path, template: str | Path, results: Results | None = None) -> str:
    """A model card as Markdown.

    Paragraphs that cannot be filled in are left out, and so are headings with nothing below them. Where nothing was
    measured, the section "Scores" says so. Prose is wrapped at 120 characters.

    Args:
        folder: of weights, with ``config.json`` and perhaps ``results.json``.
        template: the file of the template.
        results: of the weights, where they do not lie in the folder.

    Raises:
        V2AError: the template is no format, or ``results.json`` is damaged.
    """
    fields = Fields(folder, results)
    text = Path(template).read_text(encoding="utf-8").strip()
    if SCORES in text and not fields.results.tables:
        text = f"{text[: text.index(SCORES)]}{SCORES}\n\nNot scored yet: run `v2a-nb score`."
    kept: list[str] = []
    for block in reversed(text.split("\n\n")):
        if block.startswith("#"):
            if kept and not (kept[-1].startswith("#") and _level(kept[-1]) <= _level(block)):
                kept.append(block)
            continue
        try:
            filled = block.format_map(vars(fields))
            kept.append(filled if filled.startswith("|") else _wrap(filled))
        except (KeyError, IndexError, WeightsError):
            continue  # not measured, or not said
        except (AttributeError, ValueError, TypeError) as error:
            raise V2AError(f"{template} cannot be rendered: {type(error).__name__}: {error}") from error
    return "\n\n".join(reversed(kept)) + "\n"


_wrap = partial(textwrap.fill, width=120, break_long_words=False, break_on_hyphens=False)


def _level(heading: str) -> int:
    return len(heading) - len(heading.lstrip("#"))


def write_card(folder: str | Path, template: str | Path, results: Results | None = None) -> Path:
    """Write :func:`render_card` as the ``README.md`` of a folder of weights, whole or not at all."""
    return write_text(Path(folder) / CARD, render_card(folder, template, results))


def render_document(text: str, fields: Mapping[str, object], where: str = "the document") -> str:
    """A document with the numbers between its marks put in anew.

    Args:
        text: Markdown with marks; see the top of this file.
        fields: by the name with which fields begin: :class:`Fields`, or texts.
        where: is named in errors.

    Raises:
        V2AError: a mark names something that is not there.
    """

    def put(found: re.Match) -> str:
        try:
            value = found[1].format_map(fields)
        except (KeyError, IndexError, AttributeError, ValueError, TypeError, WeightsError) as error:
            raise V2AError(f"{where}: {found[1]} names nothing: {type(error).__name__}: {error}") from error
        value = f"\n\n{value}\n\n" if "\n" in value else value
        return f"<!-- {found[1]} -->{value}<!-- / -->"

    return _MARK.sub(put, text)
