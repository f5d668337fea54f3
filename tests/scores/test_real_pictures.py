"""The pictures of ``docs/`` that are drawn from the results on real clips."""

from __future__ import annotations

import runpy

from paths import ROOT
from PIL import Image


def test_the_committed_picture_is_that_of_the_committed_results():
    """After a change of the results, ``python benchmarks/real_pictures.py FOLDER``."""
    module = runpy.run_path(str(ROOT / "benchmarks" / "real_pictures.py"))
    with Image.open(ROOT / "docs" / "real_scores.png") as picture:
        assert picture.text["Description"] == module["scores_picture"]().alt
    with Image.open(ROOT / "docs" / "real_clips.png") as picture:
        assert picture.text["Description"].count("true onsets") == len(module["SHARES"])
