"""What can go wrong, by name. Every error that a user can cause is a :class:`V2AError`."""

from __future__ import annotations


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
