"""What can go wrong, by name, and the check of the arguments of public functions.

Every error that a user can cause is a :class:`V2AError`.
"""

from __future__ import annotations

import builtins
import inspect
from argparse import ArgumentTypeError
from collections import ChainMap, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache, wraps
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin

F = TypeVar("F", bound=Callable)


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
    "Callable": "a function", "Clip": "a Clip, such as v2a.open(path) returns", "Integral": "a whole number",
    "Iterable": "a list", "Mapping": "a dictionary", "NoneType": "None", "Path": "a path", "Real": "a number",
    "Sound": "a Sound, such as v2a.open_sound(path) returns", "bool": "True or False", "str": "text",
}  # fmt: skip
_WIDER = {int: Integral, float: Real, Sequence: Iterable, None: NoneType}


def check_types(function: F) -> F:
    """Decorate a public function so that it refuses arguments of other types than its signature names.

    Numbers may be numpy's, any iterable but text is a list, and what a list or a dictionary holds is not looked at. A
    type that the function's module imports for type checkers alone is not checked.

    Raises:
        UsageError: from the decorated function, for the first argument of a wrong type, a missing one, or one that
            the function does not have.

    Examples:
        >>> @check_types
        ... def wait(seconds: float, how: str = "quietly") -> None:
        ...     pass
        >>> wait("a second")
        Traceback (most recent call last):
        ...
        v2a_nb.errors.UsageError: wait: seconds must be a number, not a str
    """
    signature, name = inspect.signature(function), function.__qualname__

    @cache
    def kinds_of(parameter: str) -> tuple[type, ...]:
        hint = signature.parameters[parameter].annotation
        names = ChainMap(function.__globals__, dict(vars(builtins)), defaultdict(lambda: object))
        try:
            return _kinds(eval(hint, {}, names) if isinstance(hint, str) else hint)
        except AttributeError:  # of a module that only type checkers import
            return (object,)

    @wraps(function)
    def checked(*args: object, **kwargs: object) -> object:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise UsageError(f"{name}: {error}; it takes {', '.join(signature.parameters)}") from error
        for key, value in given.items():
            parameter = signature.parameters[key]
            if parameter.kind is not parameter.VAR_KEYWORD and parameter.annotation is not parameter.empty:
                check_value(name, key, value, *kinds_of(key))
        return function(*args, **kwargs)

    return cast(F, checked)


def check_value(function: str, name: str, value: object, *kinds: type) -> None:
    """Raise :class:`UsageError` where ``value``, the argument ``name`` of ``function``, is of none of the kinds."""
    kinds = tuple(_WIDER.get(kind, kind) for kind in kinds)
    if not isinstance(value, kinds):
        words = " or ".join(_WORDS.get(kind.__name__) or _article(kind) for kind in kinds)
        raise UsageError(
            f"{function}: {name} must be {words}, not {'None' if value is None else _article(type(value))}"
        )


def whole_number(text: str) -> int:
    """The whole number that a text of the command line is.

    Raises:
        ArgumentTypeError: it is none.

    Examples:
        >>> whole_number("-3")
        -3
    """
    try:
        return int(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no whole number") from error


def count(text: str) -> int:
    """A whole number of at least 1 of the command line.

    Raises:
        ArgumentTypeError: it is none.

    Examples:
        >>> count("3")
        3
    """
    value = whole_number(text)
    if value < 1:
        raise ArgumentTypeError(f"{value} is too few; at least 1")
    return value


def _article(kind: type) -> str:
    """The name of a class with "a" or "an"."""
    return f"a{'n' if kind.__name__[0].lower() in 'aeiou' else ''} {kind.__name__}"


def _kinds(hint: object) -> tuple[type, ...]:
    """The classes of a type hint, without what they hold."""
    if hint is Any:
        return (object,)
    if isinstance(hint, UnionType):
        return tuple(kind for part in get_args(hint) for kind in _kinds(part))
    return (cast(type, get_origin(hint) or hint),)
