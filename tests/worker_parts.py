"""Work for other processes; imports nothing heavy, for they would import it, too."""

from __future__ import annotations

import os
from pathlib import Path


def note(job: tuple[str, int]) -> None:
    """Say in a file of the folder who worked on the number."""
    folder, number = job
    (Path(folder) / str(number)).write_text(str(os.getpid()))
