"""Where weights come from: the package, a folder, or the Hugging Face Hub. Safetensors only."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from v2a_nb.errors import WeightsError

if TYPE_CHECKING:
    import torch

SHIPPED = Path(__file__).parent / "weights"
"""Trained ``tiny`` weights that come with the package."""


@dataclass(frozen=True)
class Published:
    """A checkpoint on the Hub that a ``paper`` preset loads."""

    id: str
    revision: str
    licence: str
    megabytes: int
    what: str


PUBLISHED = {
    "dac-44khz": Published("descript/dac_44khz", "main", "MIT", 307, "Descript Audio Codec, 9 codebooks, 44.1 kHz"),
}


def shipped() -> list[str]:
    """Names of the weights that come with the package."""
    if not SHIPPED.is_dir():
        return []
    return sorted(p.name for p in SHIPPED.iterdir() if (p / "config.json").exists())


def find_weights(name: str, revision: str | None = None) -> Path:
    """A folder with ``config.json`` and ``model.safetensors``.

    Args:
        name: a shipped name (``"vaura"``), a folder, or a Hub id (``"someone/some-model"``).
        revision: of the Hub repository.

    Raises:
        WeightsError: nothing is found, the Hub cannot be reached, or the folder holds no safetensors.
    """
    if name in shipped():
        return _checked(SHIPPED / name, f"the shipped folder {SHIPPED / name}")
    path = Path(name).expanduser()
    if path.is_dir():
        return _checked(path, str(path))
    if path.exists():
        raise WeightsError(f"{path} is a file; give the folder that holds config.json")
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        from huggingface_hub import snapshot_download

        try:
            folder = snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.md"])
        except Exception as error:  # the Hub's client raises many kinds
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise WeightsError(
                f"{name} could not be fetched from the Hub: {reason}; check the name and the connection, or give a "
                "folder that holds config.json"
            ) from error
        return _checked(Path(folder), f"{name} on the Hub")
    known = ", ".join(shipped()) or "none"
    raise WeightsError(f"no weights {name!r}: shipped are {known}; or give a folder or a Hub id")


def _checked(path: Path, where: str) -> Path:
    """The folder, if it holds a configuration and safetensors."""
    if not (path / "config.json").exists():
        raise WeightsError(f"{where} has no config.json: not a folder of weights")
    if not list(path.glob("*.safetensors")):
        raise WeightsError(f"{where} has no .safetensors file; pickled weights are not read, for they can run code")
    return path


def open_weights(name: str | Path, kind: str, what: str, revision: str | None = None) -> tuple[Path, dict]:
    """The folder of weights and what its ``config.json`` says.

    Args:
        name, revision: as for :func:`find_weights`.
        kind: what the configuration must say it is.
        what: the same in words, for the error.

    Raises:
        WeightsError: as :func:`find_weights`, or the configuration is damaged or of another kind.
    """
    path = find_weights(str(name), revision)
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path / 'config.json'} cannot be read: {error}") from error
    has = config.get("kind") if isinstance(config, dict) else None
    if has != kind:
        raise WeightsError(f"{path} holds {has!r} weights, not {what}")
    return path, config


def fields_of(kind: type, config: dict) -> dict:
    """What ``config`` says of the fields of a dataclass; JSON's lists as tuples."""
    known = {k: config[k] for k in kind.__dataclass_fields__ if k in config}
    return {k: tuple(v) if isinstance(v, list) else v for k, v in known.items()}


def parts_of(path: Path, config: dict, *names: str) -> dict[str, str | Path]:
    """Where a system's parts are: folders below ``path``, or what :func:`find_weights` knows.

    Args:
        path: of the system.
        config: its ``"parts"`` say otherwise, or name more.
        names: of folders that are there if nothing else is said.
    """
    parts = {name: name for name in names} | dict(config.get("parts", {}))
    return {part: path / where if (path / where).is_dir() else where for part, where in parts.items()}


def tag_of(module: torch.nn.Module, name: str) -> str:
    """``name@`` and four hexadecimal digits of the module's settings and of its weights as they are shipped (fp16).

    Only values count, not the names of settings, classes and tensors: a renamed class is the same extractor.
    What a codec counts while it is trained is not shipped and does not count here either.
    """
    digest = hashlib.sha256(json.dumps(_values(getattr(module, "config", None)), default=str).encode())
    for key, value in sorted(module.state_dict().items()):
        if not key.endswith((".counts", ".sums")):
            value = value.half() if value.is_floating_point() else value
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return f"{name}@{digest.hexdigest()[:4]}"


def _values(config: object) -> object:
    """The values of a configuration in order, without the names of its fields."""
    if is_dataclass(config):
        return [_values(getattr(config, field.name)) for field in fields(config)]
    return config


def save_weights(folder: str | Path, state: dict[str, torch.Tensor], config: dict) -> Path:
    """Write ``model.safetensors`` (floating point as fp16) and ``config.json``; config last."""
    import torch
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    half = {
        k: (v.half() if v.is_floating_point() else v).contiguous().cpu()
        for k, v in state.items()
        if isinstance(v, torch.Tensor)
    }
    partial = folder / "model.safetensors.part"
    save_file(half, str(partial))
    partial.chmod(0o644)  # safetensors makes files that only their owner can read
    os.replace(partial, folder / "model.safetensors")
    partial = folder / "config.json.part"
    partial.write_text(json.dumps(config, indent=1) + "\n")
    os.replace(partial, folder / "config.json")
    return folder


def as_shipped(model: torch.nn.Module) -> torch.nn.Module:
    """Round the model's saved tensors to fp16 and back, in place: what loading its weights will give."""
    state = {k: v.half().float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def load_weights(model: torch.nn.Module, folder: str | Path, optional: tuple[str, ...] = ()) -> torch.nn.Module:
    """Load ``model.safetensors`` of ``folder`` into ``model`` as fp32.

    Raises:
        WeightsError: the file is damaged, or its tensors do not fit the model.
    """
    from safetensors.torch import load_file

    path = Path(folder) / "model.safetensors"
    try:
        state = load_file(str(path))
    except Exception as error:  # safetensors raises its own untyped errors
        raise WeightsError(f"{path} cannot be read: {error}") from error
    state = {k: v.float() if v.is_floating_point() else v for k, v in state.items()}
    own = model.state_dict()
    wrong = [k for k in state if k not in own or own[k].shape != state[k].shape]
    missing = [k for k in own if k not in state and k not in optional]
    if wrong or missing:
        name = (wrong or missing)[0]
        raise WeightsError(
            f"{path} does not fit {type(model).__name__}: {len(wrong)} tensors differ, {len(missing)} are "
            f"missing, the first is {name!r}"
        )
    model.load_state_dict(state, strict=False)
    return model
