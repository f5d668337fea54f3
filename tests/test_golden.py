"""The same seeds give what they gave when ``golden.json`` was recorded: bytes on those machines, numbers elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import golden_parts as parts
import numpy as np
import pytest

GOLDEN = json.loads(parts.GOLDEN.read_text())
MACHINE = parts.machine()


def same(part: str) -> bool:
    """Whether this machine is the one that recorded a part: it must give the same bytes."""
    return GOLDEN["machines"][part] == MACHINE


def v2a_nb(folder, *command: str) -> None:
    """The command line in a process of its own, on one thread."""
    command = (sys.executable, "-m", "v2a_nb", *command)
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    made = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("golden")
    v2a_nb(made, *parts.WORLD)
    return made


def test_world(folder):
    made = parts.of_world(folder / "w")
    assert made.keys() == GOLDEN["world"].keys()
    assert made.pop("truth") == GOLDEN["world"]["truth"]
    for name, values in made.items():
        parts.check(values, GOLDEN["world"][name], same("world"), name, quantum=1.0 if "stems" in name else 12.0)


@pytest.mark.parametrize("system", parts.SYSTEMS)
def test_generate(folder, system):
    """Shipped weights through the command line, no stand-ins."""
    videos = sorted(str(p.relative_to(folder)) for p in (folder / "w" / "clips").glob("*.mp4"))
    v2a_nb(folder, "generate", *videos, "--system", system, "--seed", "3", "--out", f"made/{system}")
    made = parts.of_sounds(folder / "made" / system)
    assert made.keys() == GOLDEN["generate"][system].keys()
    for name, values in made.items():
        # a token or a step that falls the other way elsewhere changes all that follows, so only level and length hold
        if same(f"generate/{system}"):
            parts.check(values, GOLDEN["generate"][system][name], True, f"{system} {name}")
        assert np.isclose(values["rms"], GOLDEN["generate"][system][name]["rms"], rtol=0.5)


def test_evaluate(folder):
    """Runs after ``test_generate``, whose sounds it scores."""
    if not (folder / "made" / "vaura").exists():
        test_generate(folder, "vaura")
    command = ["evaluate", "--generated", "made/vaura", "--reference", "w/clips", "--truth", "w/truth.json"]
    v2a_nb(folder, *command, "--json", "eval.json")
    made = parts.of_scores(folder / "eval.json")
    for name, wanted in GOLDEN["evaluate"].items():
        assert name in made
        if same("evaluate"):
            assert [v is None for v in made[name]] == [v is None for v in wanted], name
            assert [v or 0 for v in made[name]] == pytest.approx([v or 0 for v in wanted], rel=1e-5), name


@pytest.mark.golden
@pytest.mark.parametrize("recipe", parts.RECIPES)
def test_train(tmp_path, recipe):
    """A short training of every recipe; ``make golden`` runs these, since each takes some ten seconds to a minute."""
    v2a_nb(tmp_path, *parts.train(recipe))
    made = parts.of_weights(tmp_path / "train" / recipe / "weights")
    parts.check(made, GOLDEN["train"][recipe], same(f"train/{recipe}"), recipe)
