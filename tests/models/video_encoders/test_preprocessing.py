"""Frames are made ready as each library's own processor makes them ready.

``transformers`` 5 has processors without torchvision for CLIP, ViViT and VideoMAE. Those of V-JEPA 2 and TimeSformer
need torchvision; the reference is VideoMAE's processor with the settings that are read from the source of theirs.
PE-AV's has its settings on the Hub alone; the reference is plain PIL.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from v2a_nb.errors import UsageError
from v2a_nb.models.video_encoders.clip_frames import ClipFrames
from v2a_nb.models.video_encoders.preprocessing import Preprocessing
from v2a_nb.models.video_encoders.registry import small
from v2a_nb.models.video_encoders.transformer_encoders import PEVideo, TimeSformer, VideoMAE, ViViT, VJepa2

SIZES = [(240, 320), (320, 240), (301, 257), (64, 96), (256, 256)]
"""Heights and widths: larger and smaller than what is read, upright, odd, square."""


def pictures(height: int, width: int, n: int = 2) -> np.ndarray:
    """Smooth pictures with some noise, as a camera's are."""
    rng = np.random.default_rng(height + width)
    coarse = rng.integers(0, 255, (n, 6, 8, 3), dtype=np.uint8)
    smooth = np.stack(
        [np.asarray(Image.fromarray(c).resize((width, height), Image.Resampling.BICUBIC)) for c in coarse]
    )
    return np.clip(smooth + rng.integers(-20, 20, smooth.shape), 0, 255).astype(np.uint8)


def processor(name: str, **settings):
    import transformers

    return getattr(transformers, name)(**settings)


def square_of(size: int) -> dict:
    return {"height": size, "width": size}


def settings_in_source(module: str) -> dict:
    """The class attributes of a processor of transformers that cannot be imported without torchvision."""
    from transformers import image_utils

    tree = ast.parse(
        (Path(image_utils.__file__).parent / "models" / module / f"video_processing_{module}.py").read_text()
    )
    found = {}
    for node in next(n for n in tree.body if isinstance(n, ast.ClassDef)).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            code = compile(ast.Expression(node.value), module, "eval")
            found[node.targets[0].id] = eval(code, vars(image_utils) | {"int": int})
    return found


def assert_same(ours: torch.Tensor, theirs) -> None:
    theirs = torch.as_tensor(np.asarray(theirs)).float()
    assert ours.shape == theirs.shape and ours.dtype == torch.float32
    assert torch.allclose(ours, theirs, atol=2e-6)


@pytest.mark.parametrize("size", SIZES)
def test_clip(size):
    frames = pictures(*size)
    theirs = processor("CLIPImageProcessor")(list(frames), return_tensors="np").pixel_values
    assert_same(Preprocessing().pixels(frames), theirs)


@pytest.mark.parametrize("size", SIZES)
def test_vivit(size):
    frames = pictures(*size)
    theirs = processor("VivitImageProcessor")(list(frames), return_tensors="np").pixel_values[0]
    assert_same(ViViT.published.preprocessing.pixels(frames), theirs)
    assert theirs.min() < -1.0 and theirs.max() <= 1.0  # the library centres twice: from -3 to 1


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("encoder", [VideoMAE, TimeSformer])
def test_videomae_and_timesformer(encoder, size):
    """Their checkpoints say means of their own, TimeSformer's for VideoMAE's processor."""
    frames, ours = pictures(*size), encoder.published.preprocessing
    theirs = processor("VideoMAEImageProcessor", image_mean=list(ours.mean), image_std=list(ours.std))
    assert_same(ours.pixels(frames), theirs(list(frames), return_tensors="np").pixel_values[0])


@pytest.mark.parametrize("size", SIZES)
def test_v_jepa_2(size):
    frames, said = pictures(*size), settings_in_source("vjepa2")
    assert said["size"] == {"shortest_edge": 292} and said["crop_size"] == 256
    kept = {k: said[k] for k in ("resample", "image_mean", "image_std", "size")}
    theirs = processor("VideoMAEImageProcessor", crop_size=square_of(said["crop_size"]), **kept)
    ours = VJepa2.published.preprocessing
    assert_same(ours.pixels(frames), theirs(list(frames), return_tensors="np").pixel_values[0])


def test_timesformer_reads_as_much_of_a_picture_as_its_video_processor_says():
    said, ours = settings_in_source("timesformer"), TimeSformer.published.preprocessing
    assert (ours.short_side, ours.crop) == (said["size"]["shortest_edge"], said["crop_size"]["height"])
    assert Image.Resampling[ours.resize.upper()] == said["resample"]


def test_pe_av_squashes_the_whole_picture():
    frames, ours = pictures(60, 100), PEVideo.published.preprocessing
    squashed = [np.asarray(Image.fromarray(f).resize((336, 336), Image.Resampling.BILINEAR)) for f in frames]
    assert_same(ours.pixels(frames), (np.stack(squashed).transpose(0, 3, 1, 2) / 255 - 0.5) / 0.5)


@pytest.mark.parametrize(
    ("name", "settings", "encoder"),
    [
        ("CLIPImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": square_of(32)}, None),
        ("CLIPImageProcessor", {"do_normalize": False}, None),
        ("VivitImageProcessor", {}, ViViT),
        ("VivitImageProcessor", {"offset": False, "rescale_factor": 1 / 255}, ViViT),
        ("VideoMAEImageProcessor", {"image_mean": [0.1, 0.2, 0.3], "resample": 3}, VideoMAE),
    ],
)
def test_what_a_published_folder_says_is_done(name, settings, encoder, tmp_path):
    library = processor(name, **settings)
    library.save_pretrained(tmp_path)
    default = Preprocessing() if encoder is None else encoder.published.preprocessing
    ours, frames = default.of_folder(tmp_path), pictures(90, 120)
    theirs = np.asarray(library(list(frames), return_tensors="np").pixel_values)
    assert_same(ours.pixels(frames), theirs[0] if theirs.ndim == 5 else theirs)


def test_older_ways_to_say_a_size(tmp_path):
    """As the checkpoints of 2022 do: plain numbers; and a size without a cut."""
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": 64, "crop_size": 48, "resample": 3}))
    ours = VideoMAE.published.preprocessing.of_folder(tmp_path)
    assert (ours.short_side, ours.crop, ours.resize) == (64, 48, "bicubic")
    squashed = ours.as_published({"size": square_of(40), "do_center_crop": False})
    assert (squashed.short_side, squashed.crop) == (0, 40)
    assert VideoMAE.published.preprocessing.of_folder(tmp_path / "nowhere") == VideoMAE.published.preprocessing


def test_impossible_settings_are_refused():
    for wrong in (Preprocessing(crop=0), Preprocessing(crop=40, short_side=30), Preprocessing(resize="nearest")):
        with pytest.raises(UsageError):
            wrong.check()


def test_the_released_vta_ldm_does_not_normalise():
    frames = pictures(40, 40)
    plain = ClipFrames(small("clip").model, normalise=False).preprocessing.pixels(frames)
    assert plain.min() >= 0 and plain.max() <= 1
    assert torch.equal(plain, Preprocessing(32, 32, mean=(0, 0, 0), std=(1, 1, 1)).pixels(frames))
