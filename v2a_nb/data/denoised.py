"""Targets without their ambience, for the ablation that Action2Sound trains on denoised sounds (section 5.1).

If the ambience is what stands in the way, one could take it out of the training sounds and need no neighbour. The
paper tries that with an off-the-shelf noise reducer; ours is the ``noisereduce`` package, an optional extra.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from v2a_nb.data.latent_dataset import PART, PER_RECORDING, SECONDS, LatentDataset, write_json
from v2a_nb.errors import UsageError
from v2a_nb.parallel import parallel_map


def denoise(waves: np.ndarray, sample_rate: int) -> np.ndarray:
    """Waves [B, n] with their stationary noise gated away, float32.

    Spectral gating against the noise that each wave itself shows (``noisereduce``, stationary).

    Raises:
        UsageError: the package is not installed.
    """
    try:
        import noisereduce
    except ImportError as error:
        raise UsageError("this ablation needs the noisereduce package: pip install 'v2a-nb[denoise]'") from error
    made = [noisereduce.reduce_noise(y=wave, sr=sample_rate, stationary=True) for wave in waves]
    return np.stack(made).astype(np.float32)


def denoised_dataset(scenes: LatentDataset, folder: str | Path) -> LatentDataset:
    """The same scenes with pictures of denoised sounds; made once, kept in ``folder``.

    Raises:
        UsageError: ``folder`` holds those of other scenes, or ``noisereduce`` is not installed.
    """
    denoise(np.zeros((1, 4096), np.float32) + 1e-3, scenes.stft.sample_rate)  # says what is missing before work begins
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    about = folder / "denoised.json"
    levels = None if scenes.ambience_dbfs is None else list(scenes.ambience_dbfs)
    recordings = scenes.recordings[::PER_RECORDING].tolist()
    told = {"seed": scenes.seed, "recordings": [recordings[0], len(recordings)], "ambience_dbfs": levels}
    if about.exists() and json.loads(about.read_text()) != told:
        raise UsageError(f"{folder} holds other sounds: {about.read_text().strip()}; give another folder")
    if not about.exists():
        np.lib.format.open_memmap(
            folder / "images.npy", mode="w+", dtype=np.float16, shape=scenes.images.shape
        )  # fmt: skip
        for path in folder.glob("part-*.json"):
            path.unlink()
        write_json(about, told)
    parts = range(0, len(recordings), PART)
    jobs = [(str(folder), a, _without_maps(scenes)) for a in parts if not (folder / f"part-{a:05d}.json").exists()]
    parallel_map(_render, jobs)
    return replace(scenes, images=np.load(folder / "images.npy", mmap_mode="r"))


def _without_maps(scenes: LatentDataset) -> LatentDataset:
    """What another process needs to render the sounds again."""
    return replace(scenes, images=np.zeros(0), vectors=None)


def _render(job: tuple) -> None:
    folder, begin, scenes = job
    torch.set_num_threads(1)
    images = np.load(Path(folder) / "images.npy", mmap_mode="r+")
    which = np.arange(begin * PER_RECORDING, min((begin + PART) * PER_RECORDING, len(scenes.recordings)))
    rate = scenes.stft.sample_rate
    for row, wave in zip(which, scenes.waves(which), strict=True):
        heard = denoise(wave[None, : round(SECONDS * rate)], rate)
        images[row] = scenes.stft.to_image(torch.from_numpy(heard)).numpy()[0]
    images.flush()
    write_json(Path(folder) / f"part-{begin:05d}.json", {"clips": len(which)})
