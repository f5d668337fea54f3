"""What can go wrong, by name. Every error that a user can cause is a :class:`V2AError`."""

from __future__ import annotations

from numbers import Integral, Real


class V2AError(Exception):
    """Base of all errors raised on purpose.

    The message is one line that says what was wrong, where, and what to do about it; the command
    line prints it as it is, without a traceback, and ends with exit status 1.
    """


class MediaError(V2AError):
    """A video or sound file that cannot be read or written; the message names the file."""


class WeightsError(V2AError):
    """Weights that are missing, damaged or made for another architecture."""


class UsageError(V2AError):
    """A request that makes no sense, such as an unknown system or a negative duration."""


_WORDS = {
    "Callable": "a function",
    "Clip": "a Clip, such as v2a.open(path) returns",
    "Mapping": "a dictionary",
    "NoneType": "None",
    "Path": "a path",
    "Sequence": "a list",
    "Sound": "a Sound, such as v2a.open_sound(path) returns",
    "bool": "True or False",
    "float": "a number",
    "int": "a whole number",
    "str": "a text",
}


def check_types(function: str, **arguments: tuple) -> None:
    """Check the types of a public function's arguments.

    Args:
        function: its name, for the message.
        arguments: by name, a tuple of the value and the types that it may have; None stands for itself, ``int`` for
            any whole number and ``float`` for any real one, numpy's among them.

    Raises:
        UsageError: the first argument that has none of its types; the message says what the function takes.

    Examples:
        >>> check_types("save_wav", sound=("a.wav", bytes), path=("b.wav", str))
        Traceback (most recent call last):
        ...
        v2a_nb.errors.UsageError: save_wav: sound must be a bytes, not a str
    """
    numbers = {int: Integral, float: Real, None: type(None)}
    for name, (value, *kinds) in arguments.items():
        if not isinstance(value, tuple(numbers.get(kind, kind) for kind in kinds)):
            names = [type(None).__name__ if kind is None else kind.__name__ for kind in kinds]
            if "Path" in names:
                names = [kind for kind in names if kind != "str"]
            words = " or ".join(_WORDS.get(kind, f"a {kind}") for kind in names)
            given = "None" if value is None else f"a {type(value).__name__}"
            raise UsageError(f"{function}: {name} must be {words}, not {given}")
