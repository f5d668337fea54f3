"""The description of a Strike World recording: its objects, actor, events, camera and ambience.

A :class:`Recording` is a plain, immutable description of one long take. Sound and pictures are both
rendered from it (:mod:`v2a_nb.world.sound`, :mod:`v2a_nb.world.picture`), so a clip's truth is
exact by construction, and a counterfactual is the same description with one field replaced.

Every factor has its own random stream, named by a word: changing one factor never shifts the random
numbers of another.

Units: world lengths are picture heights at distance 1 (``x`` to the right, ``y`` down, the
picture's centre at the origin), one of which is :data:`METRES` metres. Times are seconds from the
recording's start.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

METRES = 0.5
"""Metres of one picture height at distance 1, which turns speeds in the picture into m/s."""

MATERIALS = ("wood", "metal", "glass", "ceramic", "drum")
ACTORS = ("stick", "mallet", "hand", "hammer", "knife", "ball", "foot")
AMBIENCES = ("hum", "hiss", "rain", "traffic")
SHAPES = ("own", "slab", "wedge", "dome")
"""Silhouettes of objects: as the material has it, a rectangle, narrower or rounder towards the base."""
MANNERS = ("turn", "hover", "stop", "pass", "touch")
"""How near misses end: they turn abruptly, come down smoothly and wait, stop short, go past without slowing, or set the
tool down too gently to be heard."""
STYLES = ("camera", "game")
"""How a recording is drawn: as by a camera, or as flat game graphics. Sounds and truth do not depend on it."""

HARDNESS = {
    "stick": 0.8, "mallet": 0.45, "hand": 0.25, "hammer": 1.0, "knife": 1.0, "ball": 0.6, "foot": 0.3,
}  # fmt: skip
"""Hardness of each actor, 0 to 1: how strongly it excites the high modes."""


def stream(seed: int, recording: int, word: str, *more: int) -> np.random.Generator:
    """Return the random generator of one factor of one recording."""
    return np.random.default_rng([seed, recording, zlib.crc32(word.encode()), *more])


@dataclass(frozen=True)
class Thing:
    """An object on the table: ``x``, ``top`` and ``base`` place it, and ``width`` scales its picture and pitch."""

    index: int
    material: str
    x: float
    top: float
    base: float
    width: float
    pitch: float = 1.0
    """Factor of every mode's frequency: 1 / relative size."""
    decay: float = 1.0
    """Factor of every mode's decay time; below 1 where a hand rests on the object."""
    damped_by_hand: bool = False
    shape: str = "own"
    """One of :data:`SHAPES`; ``"own"`` is the one that the material has by itself."""
    face: float = 0.0
    """Height of the upper side in the picture, world lengths; contacts lie on it. 0: it is looked at from the side."""


@dataclass(frozen=True)
class Event:
    """One contact, or a near miss; ``serial`` names its own random stream."""

    serial: int
    time_s: float
    kind: str  # strike, scrape, bounce, near_miss
    thing: int
    speed: float  # m/s at contact (a near miss: the speed it would have had)
    x: float
    y: float
    sounding: bool = True
    duration_s: float = 0.0  # of a scrape
    lift: float = 0.2  # height of the wind-up, world lengths
    gap: float = 0.0  # height above the surface at which a near miss turns, world lengths
    side: float = 0.0  # distance beside the object of a near miss, world lengths
    drop: int = -1  # bounces of one drop share this serial
    slant: float = 0.0  # angle between the approach and the surface's normal, rad
    bend: float = 0.0  # bow of the approach to the side, as a share of the lift
    power: float = 2.0  # the way of a downswing grows as time to this power; 2 is even acceleration
    rebound: float = 0.45  # speed after the contact over speed before it
    leave: float = 0.0  # angle between the rebound and the surface's normal, rad
    rise_s: float = 0.0  # how long the actor rises afterwards; 0 follows from the speed
    rest_s: float = 0.0  # how long the actor stays where it arrived
    slide: float = 0.0  # way along the surface after a strike, in ``duration_s``, world lengths
    manner: str = "turn"  # how a near miss ends, one of MANNERS
    settle_s: float = 0.0  # of a near miss: how long it slows down


@dataclass(frozen=True)
class Camera:
    """Framing and movements of the camera, beside distance, roll and sway."""

    centre: tuple[float, float] = (0.0, 0.08)
    """The point of the world in the middle of the picture, world lengths."""
    squash: float = 1.0
    """Horizontal scale over vertical scale: 9/16 is a wide picture that was squeezed into a square."""
    pan: float = 0.0
    """Amplitude of a slow pan, picture sides."""
    zoom: float = 0.0
    """Amplitude of a slow zoom, as a share of the scale."""
    tremor: float = 0.0
    """Amplitude of the shaking of a hand at 3 to 9 Hz, picture sides."""
    jolts: tuple[tuple[float, float], ...] = ()
    """Times (s) and amplitudes (picture sides) of jolts."""


@dataclass(frozen=True)
class Look:
    """What light, lens, sensor and codec make of a picture."""

    exposure: float = 0.5
    """Share of the time between two frames in which the shutter is open."""
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 1.0
    saturation: float = 1.0
    """0 is grey."""
    white: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Factors of red, green and blue."""
    vignette: float = 0.0
    """Share of the light that the corners lose."""
    defocus: float = 0.0
    """Standard deviation of the blur, picture sides."""
    noise: float = 0.0
    """Standard deviation of the sensor's noise, in 255ths."""
    flicker: float = 0.0
    """Amplitude of the flickering of the exposure."""
    crf: int = 0
    """Constant rate factor of H.264, the worse the higher; 0: not compressed."""


@dataclass(frozen=True)
class Recording:
    """One recording; ``seed`` and ``index`` name its random streams, and :func:`draw` draws the rest."""

    seed: int
    index: int
    duration_s: float
    variety: str
    things: tuple[Thing, ...]
    actor: str
    actor_scale: float
    hand_angle: float
    ambience: str
    ambience_dbfs: float
    events: tuple[Event, ...]
    offscreen: tuple[tuple[float, int], ...] = ()
    distance: float = 1.0
    roll: float = 0.0
    sway: float = 0.004
    gravity: float = 6.0
    mismatched: bool = False
    style: str = "camera"
    version: int = 1
    camera: Camera = Camera()
    look: Look | None = None
    """None: grain and a weak flicker, as in version 1."""
    tool_length: float = 1.0
    arm: float = 0.0
    """Relative thickness of the forearm behind the tool; 0: none is visible."""
    restless: float = 0.0
    """How much the actor moves about between events, 0 to 1."""
    limbs: int = 0
    """Number of other limbs that move all the time."""
    occluders: int = 0
    """Number of still things before the scene."""
    passers: int = 0
    """Number of times at which something passes before the scene."""
    photographs: bool = False
    """Whether photographs are backgrounds and textures."""

    @property
    def id(self) -> str:
        return f"r{self.index:05d}"

    def rng(self, word: str, *more: int) -> np.random.Generator:
        """Return this recording's random generator of the factor ``word``."""
        return stream(self.seed, self.index, word, *more)

    def changed(self, **fields: object) -> Recording:
        """Return the same recording with some fields replaced."""
        return replace(self, **fields)


REBOUND_S = 0.09
"""Seconds for which an actor rises after a contact, before it can go elsewhere."""


def travel_time(way: float) -> float:
    """The least time in which an actor goes ``way`` world lengths to the side, seconds."""
    return 0.06 + 0.3 * abs(way)


def swing_time(speed: float, lift: float, power: float = 2.0) -> float:
    """Seconds of a downswing from rest over ``lift`` that arrives with ``speed`` (m/s)."""
    return power * lift / (speed / METRES)
