"""Fingerprints of what the commands make: the same seed must give the same result after every change of the code.

``python tests/golden_parts.py record FOLDER`` writes ``tests/golden.json`` from a folder that commands of
``test_golden.py`` filled, all of them or some: other parts stay as they are, and each says which machine recorded it.
It is run on purpose, when behaviour is meant to change, and never by a test.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).with_name("golden.json")
SYSTEMS = ("vaura", "egosonics", "action2sound", "vta_ldm", "retrieval")
WORLD = ["world", "w", "--clips", "3", "--seconds", "2.56", "--seed", "5"]
RECIPES = (
    "vaura", "egosonics", "action2sound", "vta_ldm", "vocoder", "av_sim", "av_sync", "vaas", "summary", "material",
    "ambience",
)  # fmt: skip
PROBES = 64


def train(recipe: str) -> list[str]:
    """The command whose weights are compared: four steps of the last stage."""
    return ["train", recipe, "--steps", "4", "--seed", "1", "--out", f"train/{recipe}"]


def machine() -> dict[str, str]:
    """What the bytes hang on: another processor or another torch may round otherwise."""
    import torch

    lines = [line.split(":", 1) for line in _cpu().splitlines() if ":" in line]
    known = {name.strip(): value.strip() for name, value in reversed(lines)}
    # processors of one name compute with other instructions, and so round otherwise
    kind = [known[name] for name in ("model name", "cpu family", "model", "stepping") if name in known]
    return {
        "cpu": ", ".join(kind) or platform.processor(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


def _cpu() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def fingerprint(values: np.ndarray) -> dict:
    """Hash, size, root mean square, and values at evenly spaced places."""
    values = np.ascontiguousarray(values)
    flat = values.ravel().astype(np.float64)
    places = np.linspace(0, max(0, flat.size - 1), min(PROBES, flat.size)).astype(int)
    return {
        "sha256": hashlib.sha256(values.tobytes()).hexdigest(),
        "shape": list(values.shape),
        "rms": float(np.sqrt(np.mean(flat**2))) if flat.size else 0.0,
        "probes": [float(v) for v in flat[places]],
    }


def of_wav(path: Path) -> dict:
    """Of a wav's int16 samples."""
    with wave.open(str(path)) as file:
        return fingerprint(np.frombuffer(file.readframes(file.getnframes()), "<i2"))


def of_weights(folder: Path) -> dict:
    """Of all tensors of a folder of weights, in the order of their names."""
    from safetensors.numpy import load_file

    parts = []
    for path in sorted(folder.rglob("*.safetensors")):
        state = load_file(path)
        parts += [state[name].astype(np.float32).ravel() for name in sorted(state)]
    return fingerprint(np.concatenate(parts))


def of_video(path: Path) -> dict:
    """Of a video's frames: every fifth pixel."""
    from v2a_nb import media

    return fingerprint(media.open(path).frames[:, ::5, ::5])


def of_world(folder: Path) -> dict:
    """Of everything that ``v2a-nb world`` writes."""
    made = {f"stems/{p.name}": of_wav(p) for p in sorted((folder / "stems").glob("*.wav"))}
    made |= {f"clips/{p.name}": of_video(p) for p in sorted((folder / "clips").glob("*.mp4"))}
    return made | {"truth": json.loads((folder / "truth.json").read_text())["clips"]}


def of_sounds(folder: Path) -> dict:
    """Of the sounds that ``v2a-nb generate`` writes."""
    return {p.name: of_wav(p) for p in sorted(folder.glob("*.wav"))}


def of_scores(path: Path) -> dict:
    """Values and intervals that ``v2a-nb evaluate`` writes, by name."""
    told = json.loads(path.read_text())
    return {m["name"]: [m["value"], m["low"], m["high"], m["n"]] for m in told["metrics"]}


def check(made: dict, wanted: dict, same_machine: bool, what: str, quantum: float = 0.0) -> None:
    """The same bytes on the machine that recorded them, elsewhere the same up to rounding.

    Args:
        quantum: a difference that is allowed elsewhere beside 2 % of the root mean square.
    """
    assert made["shape"] == wanted["shape"], what
    if same_machine:
        assert made["sha256"] == wanted["sha256"], f"{what}: other bytes than were recorded on this machine"
    assert np.isclose(made["rms"], wanted["rms"], rtol=0.02, atol=quantum), what
    near = np.isclose(made["probes"], wanted["probes"], rtol=0.02, atol=max(quantum, 0.02 * wanted["rms"]))
    assert near.mean() > 0.9, f"{what}: {1 - near.mean():.0%} of the probes moved"


def record(folder: Path) -> list[str]:
    """Write what the folder holds; returns the names of the parts."""
    golden, recorded = json.loads(GOLDEN.read_text()), []

    def put(part: str, path: Path, of: Callable[[Path], dict]) -> None:
        if path.exists():
            *section, name = part.split("/")
            (golden[section[0]] if section else golden)[name] = of(path)
            golden["machines"][part] = machine()
            recorded.append(part)

    put("world", folder / "w", of_world)
    put("evaluate", folder / "eval.json", of_scores)
    for name in SYSTEMS:
        put(f"generate/{name}", folder / "made" / name, of_sounds)
    for name in RECIPES:
        put(f"train/{name}", folder / "train" / name / "weights", of_weights)
    GOLDEN.write_text(json.dumps(golden) + "\n")
    return recorded


if __name__ == "__main__" and sys.argv[1:2] == ["record"]:
    print("recorded:", *record(Path(sys.argv[2])))
