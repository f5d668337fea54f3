"""What an input of the campaign is: how it is written, and what is known of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hostile.films import EVENTS, PICTURES

if TYPE_CHECKING:
    from hostile.steps import Run


class CannotBeMade(Exception):
    """This machine or this FFmpeg cannot make the input; the message says why, and the input is skipped."""


@dataclass(frozen=True)
class Expect:
    """What reading the input must give; None is not checked.

    Attributes:
        opens: True: as a video; False: it is refused.
        pictures: how many, or (least, most).
        seconds: length of the clip, to within 1.5 pictures.
        flashes: seconds of the white pictures, to within half a picture.
        clicks: seconds of the clicks, to within 12 ms.
        size: (width, height) of the upright picture.
        sound: whether there is one.
        made: whether a soundtrack must be made for what opens.
        whole: pictures of the undamaged file: a clip of fewer must say so in ``problems``.
        whole_sound: the same for a file whose clicks may be missing.
    """

    opens: bool | None = True
    pictures: int | tuple[int, int] | None = PICTURES
    seconds: float | None = 2.0
    flashes: tuple[float, ...] | None = EVENTS
    clicks: tuple[float, ...] | None = EVENTS
    size: tuple[int, int] | None = None
    sound: bool | None = None
    made: bool = True
    whole: int | None = None
    whole_sound: bool = False


ANY = Expect(None, None, None, None, None, made=False)
"""Nothing is known but that it must be read or refused in one line."""
REFUSED = Expect(False, None, None, None, None)


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        name: unique.
        family: the kind that it belongs to.
        write: writes it into a folder and returns its path, which may be any file or folder.
        expect: what reading it must give.
        run: what is done with it instead of the six ways of :func:`hostile.steps.all_ways`.
        system: the system of ``generate``: the stand-in, or V-AURA.
        size: pixels of the short side at which it is opened; None: its own.
        relative: whether commands get its name alone, as typed in its folder, instead of its whole path.
        fast: whether ``make test`` runs it.
        limit_s: seconds of processor and of waiting after which it is given up.
        file_limit: bytes that any written file may have at most; None: any number.
        as_root: whether it keeps the rights of the user who runs the campaign, if that is root.
    """

    name: str
    family: str
    write: Callable[[Path], Path]
    expect: Expect = field(default=Expect())
    run: Callable[[Run], None] | None = None
    system: str = "beep"
    size: int | None = None
    relative: bool = False
    fast: bool = False
    limit_s: int = 30
    file_limit: int | None = None
    as_root: bool = False
