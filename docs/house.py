"""The house: the floors of ``v2a_nb``, what each room imports as its files say, and a drawing of both.

The tests hold every file to the floors; the documentation draws them.
"""

from __future__ import annotations

import ast
import re
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "v2a_nb"
FLOORS = (
    ("errors", "files", "clip", "hits", "parallel"),
    ("audio", "hub"),
    ("media",),
    ("world",),
    ("models",),
    ("sampling",),
    ("data",),
    ("training",),
    ("metrics",),
    ("systems",),
    ("scores", "saliency"),
    ("widgets", "plots"),
    ("doctor", "pipeline"),
    ("cli",),
    ("__main__", "__init__"),
)
"""Rooms, ground floor first. A file may import files of its own floor and of those below."""


class Room(NamedTuple):
    """A folder or a file right below ``v2a_nb/``.

    Attributes:
        name: as it is imported.
        floor: 0 is the ground.
        what: the first paragraph of its docstring.
        files, lines: Python files and their lines.
        uses: names of the rooms that it imports.
    """

    name: str
    floor: int
    what: str
    files: int
    lines: int
    uses: frozenset[str]


def room_of(path: Path) -> str:
    """The room that a file of the package stands in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(path: Path) -> int:
    """The floor of a file of the package.

    Raises:
        LookupError: its room is in none of :data:`FLOORS`.
    """
    found = [i for i, rooms in enumerate(FLOORS) if room_of(path) in rooms]
    if not found:
        raise LookupError(f"{path.relative_to(PACKAGE)}: {room_of(path)} stands on no floor")
    return found[0]


def file_of(name: str) -> Path | None:
    """The file of a module ``v2a_nb...``; None where there is none of that name."""
    path = ROOT.joinpath(*name.split("."))
    made = [p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()]
    return made[0] if made else None


def imports(path: Path, everywhere: bool = True) -> set[Path]:
    """The package's files that a file imports: everywhere in it, or only when it is imported itself.

    Raises:
        LookupError: a relative import, or one of a module that is not there.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        names = []
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise LookupError(f"{path}: imports are absolute here")
            module = node.module or ""
            names = [f"{module}.{a.name}" if file_of(f"{module}.{a.name}") else module for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found |= {file_of(name) for name in names if name.split(".")[0] == "v2a_nb"}
    if None in found:
        raise LookupError(f"{path} imports a module that is not there")
    return found - {path, PACKAGE / "__init__.py"}


def rooms() -> list[Room]:
    """All rooms as they are now, top floor first."""
    files: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        files.setdefault(room_of(path), []).append(path)
    made = []
    for name, paths in files.items():
        uses = {room_of(other) for path in paths for other in imports(path)} - {name}
        first = next((p for p in paths if p == PACKAGE / name / "__init__.py"), paths[0])
        words = (ast.get_docstring(ast.parse(first.read_text(encoding="utf-8"))) or "").split("\n\n")[0]
        lines = sum(path.read_text(encoding="utf-8").count("\n") for path in paths)
        what = re.sub(r":\w+:`[~.]?([^`]+)`", r"`\1`", " ".join(words.split())).replace("``", "`")
        made.append(Room(name, floor(paths[0]), what, len(paths), lines, frozenset(uses)))
    # `__init__` loads its names lazily, by their modules' names
    public = {room_of(file) for file in map(file_of, _public_modules()) if file}
    made = [room._replace(uses=frozenset(public)) if room.name == "__init__" else room for room in made]
    return sorted(made, key=lambda room: (-room.floor, FLOORS[room.floor].index(room.name)))


def _public_modules() -> list[str]:
    """Where the public names are, as ``v2a_nb/__init__.py`` says."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    where = next(n for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "_WHERE")
    return list(ast.literal_eval(where.value).values())


WIDTH, ROW, BOX, LEFT = 720, 60, 34, 60


def places(house: list[Room]) -> dict[str, tuple[float, float, float]]:
    """Where each room is drawn: left, top and width. Rooms alone on a floor stand in turn to the left and the right."""
    top, found, turn = max(room.floor for room in house), {}, 1
    for level in range(top + 1):
        row = [room for room in house if room.floor == level]
        # the more lines, the wider
        widths = [66 + 1.2 * room.lines**0.5 for room in row]
        free = WIDTH - LEFT - sum(widths)
        gap = free / (len(row) + 1)
        x = LEFT + gap
        if len(row) == 1:
            x, turn = x + turn * free / 4, -turn
        for room, width in zip(row, widths, strict=True):
            found[room.name] = (round(x, 1), 10 + (top - level) * ROW, round(width, 1))
            x += width + gap
    return found


def lead(start: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    """The path of an import from one place to another: down, or along the floor below both."""
    (x, y, wide), (to_x, to_y, to_wide) = start, end
    x, to_x = round(x + wide / 2), round(to_x + to_wide / 2)
    if to_y == y:
        return f"M{x} {y + BOX} q{(to_x - x) / 2:.0f} 18 {to_x - x} 0"
    fall = to_y - y - BOX
    return f"M{x} {y + BOX} c0 {fall / 2:.0f} {to_x - x} {fall / 2:.0f} {to_x - x} {fall}"


def drawing(house: list[Room]) -> str:
    """The house as SVG: a row for each floor, a box for each room, a line for each import between two rooms.

    Pointing at a room, or moving to it with the Tab key, shows what it imports and who imports it. It needs no script.
    """
    top, where = max(room.floor for room in house), places(house)
    svg, rules = [], []
    for level in range(top + 1):
        y = 10 + (top - level) * ROW
        svg.append(f'<line class="ground" x1="0" x2="{WIDTH}" y1="{y + BOX + 13}" y2="{y + BOX + 13}"/>')
        svg.append(f'<text class="floor" x="2" y="{y + BOX / 2 + 5:.0f}">{level or "ground"}</text>')
    for room in house:
        for other in sorted(room.uses):
            path = lead(where[room.name], where[other])
            svg.append(f'<path class="import f-{room.name} t-{other}" d="{path}"/>')
        chosen = f".house:has(.r-{room.name}:is(:hover, :focus))"
        rules.append(f"{chosen} .f-{room.name} {{ stroke: var(--down); opacity: 1; }}")
        rules.append(f"{chosen} .t-{room.name} {{ stroke: var(--up); opacity: 1; }}")
    for room in house:
        x, y, wide = where[room.name]
        uses = ", ".join(sorted(room.uses)) or "nothing"
        words = f"{room.name}: {room.files} file{'s' * (room.files > 1)}, {room.lines} lines; imports {uses}"
        svg.append(
            f'<g class="room r-{room.name}" tabindex="0" role="img" aria-label="{escape(words)}">'
            f'<title>{escape(words)}</title><rect x="{x}" y="{y}" width="{wide}" height="{BOX}" rx="4"/>'
            f'<text x="{x + wide / 2:.1f}" y="{y + BOX / 2 + 5:.0f}">{room.name}</text></g>'
        )
    title = f"{len(house)} rooms on {top + 1} floors; imports lead down, or stay on their floor"
    return (
        f"<style>{' '.join(rules)}</style>\n"
        f'<svg class="house" viewBox="0 0 {WIDTH} {20 + (top + 1) * ROW}" role="group" aria-label="{title}">\n'
        + "\n".join(svg)
        + "\n</svg>"
    )


def table(house: list[Room]) -> str:
    """The same as a table in Markdown: a row for each room, top floor first."""
    lines = ["| floor | room | what lives there | files | lines | imports |", "|---:|---|---|---:|---:|---|"]
    for room in house:
        uses = " ".join(f"`{name}`" for name in sorted(room.uses)) or "nothing"
        what = room.what.replace("|", "\\|")
        lines.append(f"| {room.floor} | `{room.name}` | {what} | {room.files} | {room.lines} | {uses} |")
    return "\n".join(lines)
