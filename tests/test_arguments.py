"""Wrong arguments get words: every parameter of every public function says what it takes, before anything is done."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import v2a_nb as v2a
from v2a_nb.errors import MediaError, UsageError

SOUND = v2a.Sound(np.zeros(16000), 16000)
CLIP = v2a.Clip(np.zeros((25, 8, 8, 3), np.uint8), sound=SOUND)


class Generator:
    """Stands in for a system."""

    name, options = "generator", ("guidance", "temperature", "ambient", "hits")

    def hits(self, clip, **options):
        return v2a.Hits([0.5])

    def generate(self, clip, **options):
        return SOUND


NEEDED = {
    "Clip": {"frames": CLIP.frames},
    "Hits": {},
    "Sound": {"samples": SOUND.samples, "sample_rate": 16000},
    "Vaas": {},
    "browse": {"source": [CLIP]},
    "check_environment": {},
    "compare": {"clip": CLIP, "tracks": {"a": SOUND}},
    "edit_hits": {"system": Generator(), "clip": CLIP},
    "explore_ambience": {"system": Generator(), "clip": CLIP},
    "explore_codec": {"sound": SOUND},
    "explore_guidance": {"system": Generator(), "clip": CLIP},
    "explore_hiding": {"system": Generator(), "clip": CLIP},
    "explore_saliency": {"systems": v2a.load("retrieval"), "clip": CLIP},
    "explore_spectrogram": {"sound": SOUND},
    "listening_test": {"trials": {"a": (CLIP, {"x": SOUND, "y": SOUND.gain(-6)})}},
    "load": {"name": "vaura"},
    "monitor": {"folder": "runs"},
    "open": {"path": "a.mp4"},
    "open_sound": {"path": "a.wav"},
    "play": {"clip": CLIP},
    "Saliency": {"map": np.ones((2, 2, 2)), "fps": 25.0, "window": (0.0, 0.1)},
    "saliency": {"system": v2a.load("retrieval"), "clip": CLIP},
    "save_mp4": {"clip": CLIP, "sound": SOUND, "path": "a.mp4"},
    "save_wav": {"sound": SOUND, "path": "a.wav"},
    "strike_world": {},
    "train": {"name": "vaura"},
    "your_video": {},
}
"""Of each public function, what it cannot do without."""
ELSEWHERE = {"V2AError", "__version__", "evaluate"}
"""Public names that are no functions, and ``evaluate``, whose arguments are tested with the metrics."""
PARAMETERS = [
    (name, parameter.name)
    for name in sorted(set(v2a.__all__) - ELSEWHERE)
    for parameter in inspect.signature(getattr(v2a, name)).parameters.values()
    if parameter.kind is not parameter.VAR_KEYWORD
]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_complete():
    assert set(NEEDED) == set(v2a.__all__) - ELSEWHERE


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_a_wrong_type_is_named(name, parameter):
    arguments = {**NEEDED[name], parameter: object()}
    if name == "Vaas" and parameter != "net":
        arguments["net"] = v2a.Vaas.from_pretrained("vaas").net
    with pytest.raises((UsageError, MediaError)) as caught:
        getattr(v2a, name)(**arguments)
    said = str(caught.value)
    assert parameter.rstrip("s") in said.replace(" ", "_") and "\n" not in said, said


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: v2a.compare(CLIP, [SOUND]), "tracks must be a dictionary, not a list"),
        (lambda: v2a.compare(CLIP, {"a": "a.wav"}), "track 'a' is a str, not a Sound"),
        (lambda: v2a.play("a.mp4"), "clip must be a Clip, such as v2a.open(path) returns, not a str"),
        (lambda: v2a.play(CLIP, CLIP), "sound must be a Sound"),
        (lambda: v2a.save_mp4("a.mp4", CLIP, SOUND), "clip must be a Clip, such as v2a.open(path) returns, not a str"),
        (lambda: v2a.save_mp4(CLIP, "a.mp4", None), "path must be text or a path, not None"),
        (lambda: v2a.save_mp4(CLIP, SOUND, None), "path must be text or a path, not None"),
        (lambda: v2a.save_wav("a.wav", SOUND), "path must be text or a path, not a Sound"),
        (lambda: v2a.save_wav(iter([CLIP]), "a.wav"), "sound must be a Sound"),
        (lambda: v2a.save_wav([], "a.wav"), "at least one Sound"),
        (lambda: v2a.save_wav(CLIP, "a.wav"), "not a Clip"),
        (lambda: v2a.open(CLIP), "path must be text or a path, not a Clip"),
        (lambda: v2a.open("a.mp4", duration="2"), "duration must be a number or None, not a str"),
        (lambda: v2a.open_sound(None), "path must be text or a path, not None"),
        (lambda: v2a.load(Generator()), "name must be text or a path, not a Generator"),
        (lambda: v2a.strike_world("0"), "seed must be a whole number, not a str"),
        (lambda: v2a.strike_world(clips=2.5), "clips must be a whole number, not a float"),
        (lambda: v2a.browse(3), "a world, a list of clips or a folder"),
        (lambda: v2a.monitor(["runs"]), "folder must be text or a path, not a list"),
        (lambda: v2a.listening_test([CLIP]), "trials must be a dictionary, not a list"),
        (lambda: v2a.Hits([0.5]).move(0, None), "time_s must be a number, not None"),
        (lambda: CLIP.with_sound("a.wav"), "sound must be a Sound"),
        (lambda: CLIP.slice("0", 1), "start must be a number"),
        (lambda: CLIP.at_fps(None), "fps must be a number, not None"),
        (lambda: CLIP.at_fps(0), "0 frames per second"),
        (lambda: CLIP.resize(8, 8.5), "width must be a whole number"),
        (lambda: CLIP.resize(0, 8), "0x8"),
        (lambda: SOUND.slice(0, "1"), "end must be a number"),
        (lambda: SOUND.resample("8000"), "sample_rate must be a whole number"),
        (lambda: SOUND.resample(0), "0 Hz"),
        (lambda: SOUND.gain("loud"), "db must be a number"),
        (lambda: SOUND.fit("1"), "seconds must be a number"),
        (lambda: SOUND.fit(n=-1), "-1 samples"),
        (lambda: v2a.Sound("a.wav", 16000), "samples"),
        (lambda: v2a.Clip("a.mp4"), "frames"),
    ],
)
def test_likely_mistakes_get_words(call, words):
    with pytest.raises((UsageError, MediaError)) as caught:
        call()
    assert words in str(caught.value) and "\n" not in str(caught.value)
