"""The examples in docstrings do what they show; ``clip``, ``sound`` and ``item`` are a clip of Strike World."""

from __future__ import annotations

import doctest
from importlib import import_module

import pytest
from paths import PACKAGE

from v2a_nb import media
from v2a_nb.world import strike_world

FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def names():
    item = strike_world(seed=0, clips=1, size=64).clips[0]
    return {"item": item, "clip": item.clip, "sound": item.stems["mix"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_examples(path, names, tmp_path, monkeypatch):
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    monkeypatch.chdir(tmp_path)  # an example may write files
    media.save_mp4(names["clip"], None, "my_video.mp4")
    result = doctest.testmod(
        import_module(module), extraglobs=names, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert not result.failed
