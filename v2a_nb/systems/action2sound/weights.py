"""Action2Sound on disk and from the Hub: one folder with a folder for each part.

| folder | what |
|---|---|
| ``.`` | the UNet with its time bias, video tokens, audio tokens |
| ``autoencoder/`` | the autoencoder |
| ``vocoder/`` | HiFi-GAN; without it, Griffin-Lim |
| ``vision/`` | the frame encoder |
| ``retrieval/`` | the pool of sounds with its encoders; without it, conditions are given as sounds |
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import fields_of, load_weights, open_weights, parts_of, save_weights
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.clip_frames import check_encoder, load_frame_encoder
from v2a_nb.models.vocoder import Vocoder, load_vocoder
from v2a_nb.systems.action2sound.ambient import Ambients
from v2a_nb.systems.action2sound.model import PRESETS, Action2SoundConfig

if TYPE_CHECKING:
    from v2a_nb.systems.action2sound.system import Action2Sound

STABLE_DIFFUSION = "CompVis/stable-diffusion-v1-4"
OWN = ("unet.", "video_tokens.", "audio_tokens.")
"""Tensors that lie in the folder itself."""


def save(
    system: Action2Sound,
    folder: str | Path,
    *,
    vision: str | None = None,
    autoencoder: str | None = None,
    vocoder: str | None = None,
    retrieval: str | None = None,
    **card: object,
) -> Path:
    """Write ``system``.

    Args:
        vision, autoencoder, vocoder, retrieval: names of weights that :func:`v2a_nb.hub.find_weights` knows, or
            folders; given, that part is referred to and not written. A folder may be relative to this one. A pool is
            only ever referred to.
        card: goes to ``config.json``: preset, data seed, steps, versions, scores.

    Raises:
        UsageError: there is no frame encoder to write, or the card has a field of the configuration.
    """
    folder, config = Path(folder), asdict(system.config)
    taken = sorted(card.keys() & (config.keys() | {"kind", "parts"}))
    if taken:
        raise UsageError(f"the card cannot say {', '.join(taken)}: the configuration has fields of that name")
    if vision is None:
        if system.encoder is None:
            raise UsageError("there is no frame encoder to save: name one, or make Action2Sound with one")
        system.encoder.save_pretrained(folder / "vision")
    if autoencoder is None:
        system.autoencoder.save_pretrained(folder / "autoencoder")
    if vocoder is None:
        if isinstance(system.vocoder, Vocoder):
            system.vocoder.save_pretrained(folder / "vocoder")
        else:
            vocoder = "griffin-lim"
    named = {"vision": vision or "vision", "autoencoder": autoencoder or "autoencoder", "vocoder": vocoder or "vocoder"}
    if retrieval is not None:
        named["retrieval"] = retrieval
    own = {k: v for k, v in system.state_dict().items() if k.startswith(OWN)}
    return save_weights(folder, own, {"kind": system.name, **config, "parts": named, **card})


def load(cls: type[Action2Sound], name: str | Path, revision: str | None = None) -> Action2Sound:
    """Read what :func:`save` wrote; the pool is opened when it is needed.

    Raises:
        WeightsError: no such weights, weights of another kind, damaged ones, or a frame encoder that is not the one
            that they were trained with.
    """
    path, config = open_weights(name, cls.name, "action2sound", revision)
    try:
        fields = Action2SoundConfig(**fields_of(Action2SoundConfig, config))
    except (UsageError, TypeError) as error:
        raise WeightsError(f"{path / 'config.json'} does not describe an Action2Sound: {error}") from error
    parts = parts_of(path, config, "vision", "autoencoder", "vocoder")
    eyes = load_frame_encoder(parts["vision"])
    check_encoder(eyes, parts["vision"], config.get("encoder"), path)
    system = cls(
        fields, eyes, ImageAutoencoder.from_pretrained(parts["autoencoder"]),
        load_vocoder(parts["vocoder"], front_end=fields.stft.front_end.name), _ambients(parts.get("retrieval")),
    ).eval()  # fmt: skip
    load_weights(system, path, optional=tuple(k for k in system.state_dict() if not k.startswith(OWN)))
    system.card = config
    return system


def _ambients(where: str | Path | None) -> Ambients:
    if where is None:
        return Ambients()
    from v2a_nb.systems.retrieval.system import Retrieval

    return Ambients(partial(Retrieval.from_pretrained, where))


def published(
    cls: type[Action2Sound],
    stable_diffusion: str | Path | None = None,
    *,
    encoder: nn.Module | None = None,
    vocoder: Vocoder | None = None,
    config: Action2SoundConfig | None = None,
) -> Action2Sound:
    """``paper`` with the UNet and the autoencoder of Stable Diffusion 1.4, where the paper's training starts.

    The video and audio tokens are new; the paper's own vocoder and audio-visual encoders were not released in full.

    Args:
        stable_diffusion: a Hub id or a folder in diffusers' layout with ``unet`` and ``vae``; left out,
            :data:`STABLE_DIFFUSION` (3.8 GB, CreativeML Open RAIL-M).
        encoder: of frames, such as the ``paper`` space-time transformer behind the interface of ``StrikeVision``.
        vocoder: left out, Griffin-Lim.
        config: left out, ``paper``.

    Raises:
        WeightsError: they cannot be had, or do not fit the configuration.
    """
    from diffusers import UNet2DConditionModel

    name = str(stable_diffusion or STABLE_DIFFUSION)
    system = cls(config or PRESETS["paper"], encoder, ImageAutoencoder.from_diffusers(name), vocoder).eval()
    try:
        unet = UNet2DConditionModel.from_pretrained(name, subfolder="unet", use_safetensors=True)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{name}: no UNet there: {str(error).strip().splitlines()[0]}") from error
    theirs, own = unet.state_dict(), system.unet.state_dict()
    wrong = [k for k in theirs if k not in own or own[k].shape != theirs[k].shape]
    missing = [k for k in own if k not in theirs and ".processor." not in k]  # the time bias is ours
    if wrong or missing:
        raise WeightsError(f"{name}: its UNet has another size; {(wrong + missing)[0]} is the first that differs")
    system.unet.load_state_dict(theirs, strict=False)
    return system
