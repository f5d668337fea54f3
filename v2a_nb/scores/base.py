"""What every part of ``v2a-nb score`` is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from v2a_nb.training.results import SHIPPED_WEIGHTS, Row, Table, package_version


@dataclass(frozen=True)
class Job:
    """A request to score some weights.

    Attributes:
        name: of the weights, as :data:`v2a_nb.scores.registry.SCORES` has it.
        weights: name or folder of what is scored; the shipped ones have the same name.
        clips: at most so many in each part; None is the published number.
        run: folder of a run whose ablations are scored as well.
        samples: sounds that are generated for each clip of an ablation; None is the published number.
        say: receives one line per part.
    """

    name: str
    weights: str
    clips: int | None = None
    run: Path | None = None
    samples: int | None = None
    say: Callable[[str], None] = print

    def count(self, published: int) -> int:
        """How many clips a part measures whose published number is given: never more."""
        return published if self.clips is None else min(self.clips, published)

    def table(self, name: str, rows: list[Row], *, source: str = SHIPPED_WEIGHTS, **fields: object) -> Table:
        """A table of this job; ``fields`` are those of :class:`~v2a_nb.training.results.Table`."""
        command = f"v2a-nb score {self.name}" + (f" --run {self.run}" if source != SHIPPED_WEIGHTS else "")
        return Table(name, command, tuple(rows), package_version(), source, **fields)
