"""Where weights come from: the package, a folder, or the Hugging Face Hub. Safetensors and JSON only.

:class:`Pretrained` is what everything with weights inherits: ``save_pretrained`` and ``from_pretrained``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, get_args, get_type_hints

from v2a_nb.errors import UsageError, WeightsError
from v2a_nb.files import atomic, write_text

if TYPE_CHECKING:
    import torch

Config = TypeVar("Config")

SHIPPED = Path(__file__).parent / "weights"
"""Folder of the trained ``tiny`` weights that come with the package."""


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
"""Published checkpoints by the short name that :func:`find_weights` knows them by."""


# --- finding ------------------------------------------------------------------------------------------


def shipped() -> list[str]:
    """Names of the weights that come with the package."""
    if not SHIPPED.is_dir():
        return []
    return sorted(p.name for p in SHIPPED.iterdir() if (p / "config.json").exists())


def find_weights(name: str | Path, revision: str | None = None) -> Path:
    """The folder with ``config.json`` and ``model.safetensors`` that a name means.

    A name of shipped weights never hides a folder of yours. In this order a name means:

    1. a path: a ``Path``, or text that starts with ``.``, ``/`` or ``~``;
    2. an existing folder that holds a ``config.json``, in the working directory or wherever the name leads;
    3. shipped weights (``"vaura"``), or a name of :data:`PUBLISHED`;
    4. another existing folder, which is then refused, because it has no ``config.json``;
    5. a Hub id (``"someone/some-model"``).

    Args:
        name: see above.
        revision: of the Hub repository; left out, the newest, or the recorded one of :data:`PUBLISHED`.

    Raises:
        WeightsError: nothing is found, the Hub cannot be reached, or the folder holds no safetensors.
    """
    path = Path(name).expanduser()
    is_path = isinstance(name, Path) or str(name).startswith((".", "/", "~"))
    if not (is_path or (path / "config.json").is_file()):
        if name in shipped():
            return _checked(SHIPPED / name, f"the shipped folder {SHIPPED / name}")
        known = PUBLISHED | {each.id: each for each in PUBLISHED.values()}
        if name in known:
            name, revision = known[name].id, revision or known[name].revision
    if path.is_dir():
        return _checked(path, str(path))
    if path.exists():
        raise WeightsError(f"{path} is a file; give the folder that holds config.json")
    if is_path or str(name).count("/") != 1:
        known = ", ".join([*shipped(), *PUBLISHED]) or "none"
        raise WeightsError(f"no weights {str(name)!r}: known are {known}; or give a folder or a Hub id")
    from huggingface_hub import snapshot_download

    try:
        folder = snapshot_download(name, revision=revision, allow_patterns=["*.json", "*.safetensors", "*.md"])
    except Exception as error:  # the Hub's client raises many kinds
        raise WeightsError(
            f"{name} could not be fetched from the Hub: {reason(error)}; check the name and the connection, or give a "
            "folder that holds config.json"
        ) from error
    return _checked(Path(folder), f"{name} on the Hub")


def reason(error: Exception) -> str:
    """The first line of what an error says, or its name."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _checked(path: Path, where: str) -> Path:
    """The folder, if it holds a configuration and safetensors."""
    if not (path / "config.json").exists():
        raise WeightsError(f"{where} has no config.json: not a folder of weights")
    if not list(path.glob("*.safetensors")):
        raise WeightsError(f"{where} has no .safetensors file; pickled weights are not read, for they can run code")
    return path


def read_config(path: Path) -> dict[str, Any]:
    """What ``config.json`` in a folder says.

    Raises:
        WeightsError: it is missing or damaged.
    """
    try:
        saved = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path / 'config.json'} cannot be read: {reason(error)}") from error
    if not isinstance(saved, dict):
        raise WeightsError(f"{path / 'config.json'} cannot be read: it holds no JSON object")
    return saved


def kind_of(saved: Mapping[str, Any]) -> object:
    """What a configuration says it is of: ``"kind"``, or in the layout of ``transformers`` ``"model_type"``."""
    return saved.get("kind", saved.get("model_type"))


def parts_of(path: Path, saved: Mapping[str, Any], names: Sequence[str] = ()) -> dict[str, str | Path]:
    """Paths of the parts of a folder of weights, by name.

    Args:
        path: the folder.
        saved: its configuration, whose ``"parts"`` may say where: a folder (perhaps relative to ``path``), or a name.
        names: of parts that lie in folders of their own names below ``path`` where nothing else is said.
    """
    parts = {name: name for name in names if (path / name).is_dir()} | dict(saved.get("parts", {}))
    found: dict[str, str | Path] = {}
    for part, where in parts.items():
        # a shipped name that a file says is no folder that the user happens to stand in
        places = [path / where, *([SHIPPED / where] if where in shipped() else [])]
        found[part] = next((place for place in places if place.is_dir()), where)
    return found


# --- configurations and tensors on disk ------------------------------------------------------------------


def later(default: Any) -> Any:
    """A field of a configuration that came after weights were published.

    While it has its default, :func:`tag_of` leaves it out, so that published tags stay valid.
    """
    return field(default=default, metadata={"later": True})


def config_to_json(config: Any) -> dict[str, Any]:
    """The fields of a dataclass for ``config.json``, under their names on disk."""
    names = getattr(config, "disk_names", {})
    values = {names.get(f.name, f.name): getattr(config, f.name) for f in fields(config)}
    return {name: config_to_json(value) if is_dataclass(value) else value for name, value in values.items()}


def config_from_json(kind: type[Config], saved: Mapping[str, Any]) -> Config:
    """The dataclass ``kind`` with what ``saved`` says of its fields; JSON's lists become tuples.

    Entries that are no fields are left aside: they are what a card adds.
    """
    hints, values = get_type_hints(kind), {}
    for name, on_disk in _fields_on_disk(kind).items():
        if on_disk in saved:
            values[name] = _value(hints[name], saved[on_disk])
    return kind(**values)


def _fields_on_disk(kind: type) -> dict[str, str]:
    names = getattr(kind, "disk_names", {})
    return {f.name: names.get(f.name, f.name) for f in fields(kind)}


def _value(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_value(None, each) for each in value)
    nested = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
    if isinstance(value, dict) and nested:  # of several the one that has most of these fields
        best = max(nested, key=lambda kind: len(value.keys() & set(_fields_on_disk(kind).values())))
        return config_from_json(best, value)
    return value


def tensors_on_disk(module: torch.nn.Module) -> dict[str, str]:
    """Names of a module's tensors, each with its name on disk.

    They differ where a module, or one inside of it, has ``disk_names``: names of its attributes -> names on disk.
    """
    names = {}
    for name in module.state_dict():
        owner, words = module, name.split(".")
        for i, word in enumerate(words):
            words[i] = getattr(owner, "disk_names", {}).get(word, word)
            owner = getattr(owner, word, None)
        names[name] = ".".join(words)
    return names


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of ``model.safetensors`` in a folder.

    Raises:
        WeightsError: the file is missing or damaged.
    """
    from safetensors.torch import load_file

    try:
        return load_file(str(path / "model.safetensors"))
    except Exception as error:  # safetensors raises its own untyped errors
        raise WeightsError(f"{path / 'model.safetensors'} cannot be read: {reason(error)}") from error


def read_published(path: str | Path, title: str) -> dict[str, torch.Tensor]:
    """All tensors of a published network that somebody converted to safetensors.

    Args:
        path: of the file, or of a folder with one such file.
        title: of the network, for errors.

    Raises:
        WeightsError: there is no such file, or it is damaged.
    """
    from safetensors.torch import load_file

    path = Path(path)
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    if len(files) != 1 or files[0].suffix != ".safetensors" or not files[0].is_file():
        raise WeightsError(f"{path}: {title} needs one .safetensors file with the published weights")
    try:
        return load_file(str(files[0]))
    except Exception as error:  # safetensors raises its own untyped errors
        raise WeightsError(f"{files[0]} cannot be read: {reason(error)}") from error


def load_weights(
    module: torch.nn.Module, folder: str | Path, optional: Sequence[str] = (), state: dict | None = None
) -> None:
    """Load ``model.safetensors`` of ``folder`` into ``module`` as fp32.

    Args:
        optional: names of tensors that may be missing.
        state: tensors that were read already.

    Raises:
        WeightsError: the file is damaged, or its tensors do not fit the module.
    """
    path = Path(folder)
    state = read_tensors(path) if state is None else state
    own, names = module.state_dict(), tensors_on_disk(module)
    shapes = {names[k]: v.shape for k, v in own.items()}
    wrong = [k for k, v in state.items() if shapes.get(k) != v.shape]
    missing = [names[k] for k in own if names[k] not in state and k not in optional]
    if wrong or missing:
        raise WeightsError(
            f"{path / 'model.safetensors'} does not fit {type(module).__name__}: {len(wrong)} tensors differ, "
            f"{len(missing)} are missing, the first is {(wrong or missing)[0]!r}"
        )
    found = {k: state[names[k]] for k in own if names[k] in state}
    module.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in found.items()}, strict=False)


def save_weights(
    folder: str | Path, state: Mapping[str, torch.Tensor], config: Mapping[str, Any], half: bool = True
) -> Path:
    """Write ``model.safetensors`` (floating point as fp16 if ``half``) and then ``config.json``."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        k: (v.half() if half and v.is_floating_point() else v).contiguous().cpu()
        for k, v in state.items()
        if isinstance(v, torch.Tensor)
    }
    path = folder / "model.safetensors"
    try:
        with atomic(path) as partial:
            save_file(tensors, str(partial))
            partial.chmod(0o644)  # safetensors makes files that only their owner can read
    except SafetensorError as error:  # its word for a full disk
        raise WeightsError(f"{path}: cannot be written: {error}") from error
    write_text(folder / "config.json", json.dumps(config, indent=1) + "\n")
    return folder


def as_shipped(model: torch.nn.Module) -> torch.nn.Module:
    """Round the model's tensors to fp16 and back, in place: what loading its weights will give."""
    state = {k: v.half().float() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    model.load_state_dict(state)
    return model


def tag_of(module: torch.nn.Module, name: str) -> str:
    """``name@`` and four hexadecimal digits of the module's settings and of its weights as they are shipped (fp16).

    Only values count, in the order of names on disk: a renamed class or attribute is the same extractor. What is
    not stored, such as what a codec counts while it is trained, does not count either.
    """
    digest = hashlib.sha256(json.dumps(_values(getattr(module, "config", None)), default=str).encode())
    state, stored = module.state_dict(), getattr(module, "_stored", lambda key: True)
    for key, _ in sorted(tensors_on_disk(module).items(), key=lambda names: names[1]):
        if stored(key):
            value = state[key].half() if state[key].is_floating_point() else state[key]
            digest.update(value.cpu().contiguous().numpy().tobytes())
    return f"{name}@{digest.hexdigest()[:4]}"


def _values(config: Any) -> Any:
    """The values of a configuration in order, without the names of its fields."""
    if not is_dataclass(config):
        return config
    values = [(f, getattr(config, f.name)) for f in fields(config)]
    return [_values(value) for f, value in values if not (f.metadata.get("later") and value == f.default)]


# --- saving and loading -----------------------------------------------------------------------------------


class Pretrained:
    """Something with weights that is saved to a folder and loaded from one.

    The folder holds ``config.json`` (what it is, its settings, where its parts are, and a card: what is known of its
    training) and ``model.safetensors`` (fp16). Parts, which have weights of their own, lie in folders below, or
    somewhere else by reference.

    A class says what it is by the attributes here. The methods with an underscore are for classes that depart from
    the rule: their tensors lie in another module, they have parts, or are no modules at all.

    Attributes:
        kind: ``"kind"`` in ``config.json``; ``other_kinds``: that :meth:`_read` understands as well.
        title: the same in words, for messages.
        config_class: a dataclass; the object's settings are one, in ``config``.
        default: weights that are loaded where none are named.
        part_names: of folders below that must be there; ``optional_parts``: that may be.
        disk_names: attributes whose tensors have another name on disk -> that name. A configuration may have the same
            for its fields.
        half: floating point is stored as fp16; otherwise as it is.
        card: what ``config.json`` says besides, such as seeds, steps and scores.
    """

    kind: ClassVar[str]
    other_kinds: ClassVar[tuple[str, ...]] = ()
    title: ClassVar[str]
    config_class: ClassVar[type | None] = None
    default: ClassVar[str | None] = None
    part_names: ClassVar[tuple[str, ...]] = ()
    optional_parts: ClassVar[tuple[str, ...]] = ()
    disk_names: ClassVar[dict[str, str]] = {}
    half: ClassVar[bool] = True

    def save_pretrained(self, folder: str | Path, **card: object) -> Path:
        """Write ``model.safetensors`` and ``config.json`` into a folder, and the parts into folders below.

        Args:
            folder: is made.
            card: goes to ``config.json``: preset, data seed, steps, versions, scores. Under the name of a part it says
                where that part is already, as :func:`find_weights` knows it, or relative to ``folder``: that part is
                referred to and not written.

        Raises:
            UsageError: a part that must be there is not, or the card has a field of the configuration with another
                value.
        """
        folder, named, card = Path(folder), {}, {**getattr(self, "card", {}), **card}
        parts = self._parts()
        references = {name: str(card.pop(name)) for name in parts if card.get(name) is not None}
        config = {} if self.config_class is None else config_to_json(self.config)
        taken = sorted(k for k in card.keys() & (config.keys() | {"kind", "parts"}) if card[k] != config.get(k))
        if taken:
            raise UsageError(f"the card cannot say {', '.join(taken)}: the configuration has fields of that name")
        for name, part in parts.items():
            if name in references or isinstance(part, str):
                named[name] = references.get(name, part)
            elif isinstance(part, Pretrained):
                named[name] = name
            elif part is not None or name not in self.optional_parts:
                what = f"there is no {name} to save" if part is None else f"a {type(part).__name__} cannot be saved"
                raise UsageError(f"{what}: say where it is with {name}=..., or make {self.title} with one")
        for name, part in parts.items():
            if named.get(name) == name and name not in references and isinstance(part, Pretrained):
                part.save_pretrained(folder / name)
        where = {"parts": named} if named else {}
        saved = {"kind": self.kind, **config, **where, **card, **self._told()}
        return save_weights(folder, self._tensors(), saved, self.half)

    @classmethod
    def from_pretrained(cls, name: str | Path | None = None, revision: str | None = None, **how: object) -> Self:
        """Load from a folder, by the name of shipped weights, or from the Hub.

        Args:
            name: see :func:`find_weights`; left out, what is shipped.
            revision: of the Hub repository.
            how: what the class takes besides.

        Raises:
            WeightsError: there are no such weights, or they are damaged or of another kind.
        """
        if name is None:
            name = SHIPPED / cls.default if cls.default in shipped() else cls.default
        return load_one_of(name, cls.title, cls, revision=revision, **how)

    # --- for classes that depart from the rule ---------------------------------------------------------

    @classmethod
    def _read(cls, path: Path, saved: dict[str, Any]) -> Self:
        """The object that a folder holds."""
        parts = parts_of(path, saved, (*cls.part_names, *cls.optional_parts))
        missing = [name for name in cls.part_names if name not in parts]
        if missing:
            raise WeightsError(f"{path} has no {missing[0]}: {cls.title} needs one")
        config = None if cls.config_class is None else config_from_json(cls.config_class, saved)
        loaded = cls._build(config, **cls._load_parts(parts))
        network = loaded._network()
        load_weights(network, path, optional=[k for k in network.state_dict() if not loaded._stored(k)])
        return loaded

    @classmethod
    def _build(cls, config: Any, **parts: Any) -> Self:
        """An object with these settings (None where the class has none) and parts."""
        return cls(config, **parts)

    @classmethod
    def _load_parts(cls, where: dict[str, str | Path]) -> dict[str, Any]:
        """Keywords of :meth:`_build`, from where the parts are."""
        return {}

    def _parts(self) -> dict[str, Pretrained | str | None]:
        """Parts by the name of their folder; text is a name by which a part is referred to."""
        return {}

    def _network(self) -> torch.nn.Module:
        """The module whose tensors lie in the folder itself."""
        return self

    def _stored(self, name: str) -> bool:
        """Whether a tensor of :meth:`_network` lies in the folder itself."""
        return True

    def _tensors(self) -> dict[str, torch.Tensor]:
        """What lies in the folder itself, by name on disk."""
        network = self._network()
        names = tensors_on_disk(network)
        return {names[k]: v for k, v in network.state_dict().items() if self._stored(k)}

    def _told(self) -> dict[str, Any]:
        """What ``config.json`` must say besides the settings, for :meth:`_read`."""
        return {}


def load_one_of(
    name: str | Path, title: str, *classes: type[Pretrained], revision: str | None = None, **how: object
) -> Any:
    """An object of whichever of several classes the weights are.

    Args:
        name, revision: see :func:`find_weights`.
        title: what all the classes are, in words, for the message.
        how: as for :meth:`Pretrained.from_pretrained`.

    Raises:
        WeightsError: there are no such weights, they are damaged, or of no such class.
    """
    path = find_weights(name, revision)
    saved = read_config(path)
    cls = next((each for each in classes if kind_of(saved) in (each.kind, *each.other_kinds)), None)
    if cls is None:
        raise WeightsError(f"{path} holds {kind_of(saved)!r} weights, not {title}")
    try:
        loaded = cls._read(path, saved, **how)
    except (UsageError, TypeError, KeyError) as error:
        raise WeightsError(f"{path / 'config.json'} does not describe {cls.title}: {reason(error)}") from error
    config = [] if cls.config_class is None else _fields_on_disk(cls.config_class).values()
    known = {"kind", "parts", *config, *loaded._told()}
    loaded.card = {k: v for k, v in saved.items() if k not in known}
    return loaded.eval() if hasattr(loaded, "eval") else loaded
