"""Try the way in through Colab in an environment of its shape: its versions, and the cell that its users run first.

``python tests/colab/shape.py [--python PROGRAM] [--folder build/colab] [--torch VERSION] [--made]`` makes an
environment of a Python and of ``shape.txt``, runs the cell of ``notebooks/install.py`` in it as Colab would, with a
copy of this checkout for the repository, and fails where anything that was there before has another version
afterwards, the environment check finds a problem, or a sound cannot be made. ``make colab`` runs it. Colab has Python
3.13.

``--torch`` takes another version where that of Colab is not to be had; ``--made`` takes the folder as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SHAPE = Path(__file__).with_name("shape.txt")
KEPT = ("numpy", "torch", "pandas", "ipython", "ipykernel", "ipywidgets")

USE = """
import v2a_nb as v2a
report = v2a.check_environment()
print(report)
assert report.ok, "the environment check found a problem"
item = v2a.strike_world(seed=0, clips=1, size=64)[0]
sound = v2a.load("vaura").generate(item.clip.silent(), seed=0)
assert sound.duration == item.clip.duration and sound.rms_dbfs > -70
page = v2a.play(item.clip, sound)._repr_html_()
assert "<video" in page and "https://" not in page
print(sound, "and its player,", len(page) // 1000, "kB")
"""


def python_of(folder: Path) -> Path:
    """The interpreter of an environment."""
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def there(python: Path) -> dict[str, str]:
    """Versions of what is installed, by name."""
    words = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    return {row["name"].lower(): row["version"] for row in json.loads(words.stdout)}


def make(folder: Path, program: str, torch: str | None) -> None:
    """An environment with Colab's versions."""
    lines = [line for line in SHAPE.read_text().splitlines() if not line.startswith("#")]
    if torch:
        lines = [f"torch=={torch}" if line.startswith("torch==") else line for line in lines]
    subprocess.run([program, "-m", "venv", "--clear", folder], check=True)
    subprocess.run([python_of(folder), "-m", "pip", "install", "-q", *lines], check=True)


def cell(folder: Path) -> str:
    """What Colab's users run first, with a copy in ``folder`` for the repository, after Colab's module was imported."""
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    shutil.copytree(ROOT / "v2a_nb", folder / "v2a_nb", ignore=shutil.ignore_patterns("__pycache__"))
    sync = runpy.run_path(str(ROOT / "notebooks" / "sync.py"))
    source = sync["COLAB"].replace(f"git+https://github.com/{sync['REPOSITORY']}", folder.as_uri())
    return "import sys, types\nsys.modules['google.colab'] = types.ModuleType('google.colab')\n" + source


def main() -> int:
    """Make, install, compare, use; returns 1 where something moved."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, metavar="PROGRAM")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "colab")
    parser.add_argument("--torch", metavar="VERSION")
    parser.add_argument("--made", action="store_true")
    args = parser.parse_args()
    if not args.made:
        make(args.folder, args.python, args.torch)
    python = python_of(args.folder).absolute()
    before = there(python)
    # somewhere else, so that the checkout is not what is imported
    run = {"cwd": args.folder, "check": True, "env": {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}}
    with tempfile.TemporaryDirectory() as copy:
        subprocess.run([python, "-c", cell(Path(copy))], **run)
    after = there(python)
    moved = {name: (version, after.get(name)) for name, version in before.items() if after.get(name) != version}
    print("Python", subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout.split()[1])
    print("new:", ", ".join(f"{name} {after[name]}" for name in sorted(after.keys() - before.keys())) or "nothing")
    print("moved:", moved or "nothing", "| kept:", ", ".join(f"{name} {after[name]}" for name in KEPT))
    if moved:
        return 1
    subprocess.run([python, "-c", USE], **run)
    return 0


if __name__ == "__main__":
    sys.exit(main())
