"""Action2Sound on the published weights that its training starts from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from v2a_nb.errors import WeightsError
from v2a_nb.hub import reason
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.vocoder import Vocoder
from v2a_nb.systems.action2sound.model import PRESETS, Action2SoundConfig
from v2a_nb.systems.action2sound.system import Action2Sound

STABLE_DIFFUSION = "CompVis/stable-diffusion-v1-4"


def from_published(
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
    system = Action2Sound(config or PRESETS["paper"], encoder, ImageAutoencoder.from_diffusers(name), vocoder).eval()
    try:
        unet = UNet2DConditionModel.from_pretrained(name, subfolder="unet", use_safetensors=True)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{name}: no UNet there: {reason(error)}") from error
    theirs, own = unet.state_dict(), system.unet.state_dict()
    wrong = [k for k in theirs if k not in own or own[k].shape != theirs[k].shape]
    missing = [k for k in own if k not in theirs and ".processor." not in k]  # the time bias is ours
    if wrong or missing:
        raise WeightsError(f"{name}: its UNet has another size; {(wrong + missing)[0]} is the first that differs")
    system.unet.load_state_dict(theirs, strict=False)
    return system
