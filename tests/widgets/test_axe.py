"""What axe-core finds on the player and the explorers: nothing serious, light or dark.

``make axe`` brings it, or ``V2A_NB_AXE`` says where an ``axe.min.js`` is; without it this file is skipped.
``docs/look.py --axe`` asks the same of the pages of the site.
"""

from __future__ import annotations

import os
from pathlib import Path

import chromium_parts  # noqa: F401 (skips this file where there is no browser)
import numpy as np
import pytest
import torch
from ambience_parts import HITS, Follower
from hit_parts import Clicker
from look import AXE
from paths import ROOT
from player_parts import EVENTS, clip_of, tone
from saliency_parts import Lamp, flash, small_system, the_clip

import v2a_nb as v2a
from v2a_nb import media
from v2a_nb.metrics.evaluate import evaluate_folder
from v2a_nb.widgets.evaluation import EvaluationPage
from v2a_nb.widgets.explorers import explore_ambience

SCRIPT = Path(os.environ.get("V2A_NB_AXE") or ROOT / "build" / "node_modules" / "axe-core" / "axe.min.js")
if not SCRIPT.is_file():
    pytest.skip("axe-core is not there: make axe brings it", allow_module_level=True)


class TwoLevels:
    """A codec with two codebooks: a sound in steps of 0.1, and what is left in steps of 0.01."""

    hop, num_codebooks, codebook_size, frame_rate, sample_rate = 1, 2, 11, 50.0, 16000

    def encode(self, wave):
        coarse = (wave * 10).round()
        return torch.stack([coarse, ((wave - coarse / 10) * 100).round()], 1)

    def decode(self, codes, num_samples=None):
        return sum(codes[:, k] / 10 ** (k + 1) for k in range(codes.shape[1]))[..., :num_samples].float()


def evaluation(folder: Path) -> EvaluationPage:
    """The page of two sounds: one softer than the true one, and the other softer still."""
    for k, name in enumerate(("a", "b")):
        media.save_sound(tone(), folder / "true" / f"{name}.wav")
        media.save_sound(tone(level=0.1 + 0.05 * k), folder / "made" / f"{name}.wav")
    return EvaluationPage(evaluate_folder(folder / "made", folder / "true", metrics=["e_l1"]), worst=1, drawn=1)


def made(name: str, tmp_path: Path):
    clip, world = clip_of(), v2a.strike_world(seed=0, clips=3, size=64)
    if name == "player":
        looked = np.linspace(0, 1, 50 * 16, dtype=np.float32).reshape(50, 4, 4)
        return v2a.compare(clip, {"a": tone(), "b": tone(level=0.1)}, events=EVENTS, saliency=(looked, 25.0))
    return {
        "editor": lambda: v2a.edit_hits(Clicker(), clip.with_sound(tone())),
        "browser": lambda: v2a.browse(world.clips),
        "spectrogram": lambda: v2a.explore_spectrogram(tone(), [{}, {"mels": 16, "iterations": 2}]),
        "codec": lambda: v2a.explore_codec(tone(), TwoLevels()),
        "guidance": lambda: v2a.explore_guidance(Clicker(), clip, (1.0, 2.0), (0, 1), truth=[0.5]),
        "ambience": lambda: explore_ambience(Follower(), clip, (-60, -40), truth=HITS),
        "saliency": lambda: v2a.explore_saliency(
            small_system("vaura"), the_clip()[0], methods=("gradient", "attention"), starts=(0.1,)
        ),
        "hiding": lambda: v2a.explore_hiding(Lamp(), flash(), boxes=[(0, 0, 0.5, 1)]),
        "evaluation": lambda: evaluation(tmp_path),
        "listening": lambda: v2a.listening_test(
            {"c": (clip, {"one": tone(), "two": tone(level=0.2)})}, out=tmp_path / "a.csv", listener="anna"
        ),
    }[name]()


WIDGETS = [
    "player",
    "editor",
    "browser",
    "spectrogram",
    "codec",
    "guidance",
    "ambience",
    "saliency",
    "hiding",
    "listening",
]


@pytest.mark.parametrize("name", [*WIDGETS, "evaluation"])
def test_nothing_serious(browser, tmp_path, name):
    file = tmp_path / "page.html"
    page = made(name, tmp_path)
    if name == "evaluation":  # a page of its own
        page.save(file)
    else:
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>a page</title>'
        file.write_text(f"{head}<body><main><h1>a page</h1>{page._repr_html_()}</main>", encoding="utf-8")
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        page.wait_for_timeout(200)
        page.add_script_tag(path=str(SCRIPT))
        assert page.evaluate(AXE) == [], scheme
        page.close()
