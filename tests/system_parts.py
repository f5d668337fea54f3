"""Small parts and checks that the tests of all systems are made with."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from v2a_nb.clip import Clip
from v2a_nb.errors import WeightsError


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Eyes(torch.nn.Module):
    """An encoder: brightness of the picture, 50 times a second."""

    rate, dim = 50.0, 12

    def features(self, clip: Clip) -> torch.Tensor:
        wanted = math.ceil(clip.duration * self.rate - 1e-6)
        bright = torch.tensor(clip.at_fps(self.rate).frames[:wanted].mean(axis=(1, 2, 3)) / 255)
        noise = 0.5 if self.training else 0.0  # as dropout would be: generate must not run in training mode
        return bright.float()[:, None] * torch.arange(12) + noise


def clip_of(seconds: float, fps: float = 25.0, seed: int = 0) -> Clip:
    n = max(1, math.ceil(seconds * fps - 1e-6))
    frames = np.random.default_rng(seed).integers(0, 255, (n, 8, 10, 3), dtype=np.uint8)
    return Clip(frames, fps=fps, duration=seconds)


def check_same(system, loaded) -> None:
    """What was loaded generates what was saved, to the byte, and is ready to."""
    clip = clip_of(0.4)
    assert loaded.generate(clip).samples.tobytes() == system.generate(clip).samples.tobytes()
    assert not loaded.training
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}


def check_named_parts(system, folder: Path, lean: Path, parts: tuple[str, ...]) -> None:
    """A system can refer to its parts, wherever they lie, instead of writing them."""
    made = system.save_pretrained(lean, **{part: str(folder / part) for part in parts})
    assert {p.name for p in made.iterdir()} == {"config.json", "model.safetensors"}
    check_same(system, type(system).from_pretrained(made))


def check_damaged(kind: type, folder: Path, broken: Path, cases: list[tuple[str | dict, str]]) -> None:
    """Copies of ``folder`` with another configuration (text, or changed fields) or half the weights are refused."""
    shutil.copytree(folder, broken)
    config = json.loads((broken / "config.json").read_text())
    for told, message in [("{", "cannot be read"), *cases]:
        text = told if isinstance(told, str) else json.dumps({**config, **told})
        (broken / "config.json").write_text(text)
        with pytest.raises(WeightsError, match=message):
            kind.from_pretrained(broken)
    (broken / "config.json").write_text(json.dumps(config))
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="cannot be read"):
        kind.from_pretrained(broken)
    with pytest.raises(WeightsError):
        kind.from_pretrained(broken / "nowhere")
