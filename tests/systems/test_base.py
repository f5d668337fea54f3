"""What all systems share: parts, batches, seeds, options, bars and round trips."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from action2sound_parts import small_system as small_action2sound
from egosonics_parts import small_system
from system_parts import Eyes, clip_of
from vaura_parts import fake_system

from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError, WeightsError, count
from v2a_nb.files import atomic, write_text
from v2a_nb.hub import SHIPPED
from v2a_nb.systems.action2sound.system import Action2Sound
from v2a_nb.systems.base import Option, System, check_fit, evaluating, given, part_of, seeded, switched
from v2a_nb.systems.egosonics.system import EgoSonics
from v2a_nb.systems.registry import honest, load
from v2a_nb.systems.retrieval.system import Retrieval
from v2a_nb.systems.vaura.system import VAura
from v2a_nb.world import strike_world


class Hiss(System):
    """The least that a system is: noise of the clip's seed, as loud as the picture is bright."""

    name = "hiss"
    options: ClassVar[dict[str, Option]] = {"guidance": Option("how loud"), "steps": Option("how often", count, "N")}
    switches = ("upside_down",)
    sample_rate = 8000

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.dropout = Eyes(), torch.nn.Dropout(0.5)

    def encode_video(self, clip):
        return self.encoder.features(clip)[None]

    def generate(self, clip, *, seed=0, guidance=None, steps=4, start=0.0, duration=None, progress=None, **switches):
        clips, seeds, samples = self._batch(clip, seed, start, duration)
        with evaluating(self):
            loud = self.dropout(self.encode_videos(clips)).mean((1, 2))
            for _ in range(steps):
                if progress:
                    progress(1)
            noise = torch.stack([torch.randn(samples + 5, generator=g) for g in seeded(seeds)])
            waves = noise * loud[:, None]  # longer than asked for, and too loud
        return self._sounds(waves, samples, clip)

    def _steps(self, samples, steps=4, **options):
        return steps


def test_a_video_from_a_file_is_warned_of_once(monkeypatch, recwarn):
    monkeypatch.setattr("v2a_nb.systems.base.WARNED", set())
    hiss, drawn = Hiss(), clip_of(1.0)
    film = replace(drawn, file="mine.mp4").silent()
    hiss.generate(film)  # its weights come from elsewhere
    hiss.warning = load("vaura").warning
    assert "drawn world" in hiss.warning
    hiss.generate(drawn)
    assert not recwarn.list
    hiss.generate(film, start=0.2)
    hiss.generate([drawn, film], seed=[0, 1])
    (given,) = recwarn.list
    assert str(given.message) == hiss.warning and given.filename == __file__


def test_what_a_page_has_shown_is_not_warned_of_again(monkeypatch, recwarn):
    monkeypatch.setattr("v2a_nb.systems.base.WARNED", set())
    hiss = Hiss()
    hiss.warning = honest()
    hiss.generate(replace(clip_of(1.0), file="mine.mp4"))
    assert not recwarn.list


def test_two_places_of_weights_are_one_too_many():
    with pytest.raises(UsageError, match="are both weights: give one of them"):
        load(SHIPPED / "vaura", weights="runs/mine")


def test_a_system_must_say_how_it_makes_sound():
    class Mute(System):
        name = "mute"

    with pytest.raises(TypeError, match="abstract"):
        Mute()


def test_every_clip_has_its_own_seed_and_length_of_sound():
    system, clips = Hiss(), [clip_of(1.0, seed=s) for s in range(3)]
    made = system.generate_batch(clips, seeds=[5, 6, 7])
    assert [(s.n, s.sample_rate, s.channels) for s in made] == [(8000, 8000, 1)] * 3
    assert max(s.peak for s in made) == 1.0  # never over full scale
    for clip, seed, sound in zip(clips, (5, 6, 7), made, strict=True):
        alone = system.generate_batch([clip], seeds=[seed])[0]
        assert alone.samples.tobytes() == sound.samples.tobytes()
    assert made[0].samples.tobytes() != made[1].samples.tobytes()


def test_frame_times_that_differ_by_a_rounding_fit_in_one_batch():
    system = Hiss()
    tracks = {1.0: torch.zeros(1, 50, 2), 1.01: torch.ones(1, 51, 2)}
    system.encode_video = lambda clip: tracks[clip.duration]
    assert system.encode_videos([clip_of(1.0), clip_of(1.01)]).shape == (2, 50, 2)


@pytest.mark.parametrize(
    ("clips", "how", "message"),
    [
        ((1.0,), {"seeds": [0, 1]}, "2 seeds for 1 clips"),
        ((), {"seeds": []}, "0 seeds for 0 clips"),
        ((0.25,), {"seeds": [0]}, r"0\.250 s is too short; 0\.3 s is the least"),
        ((2.0,), {"seeds": [0], "duration": 0.2}, "too short"),
        ((1.0, 1.5), {"seeds": [0, 1]}, r"lasts 1\.500 s .* 1\.000 s: .*equally long"),
        ((2.0,), {"seeds": [0], "start": 1.5, "duration": 1.0}, r"1\.5 s to 2\.5 s is not a part"),
        ((1.0,), {"seeds": [0], "tempo": 3}, "unknown options of hiss: tempo; there are guidance, steps, upside_down"),
    ],
)
def test_batches_that_cannot_be_are_refused(clips, how, message):
    system = Hiss()
    with pytest.raises(UsageError, match=message):
        system.generate_batch([clip_of(s) for s in clips], **how)


def test_one_clip_gives_a_sound_and_several_give_a_list():
    system, clip = Hiss(), clip_of(1.0)
    alone = system.generate(clip, seed=np.int64(5))
    assert isinstance(alone, Sound)
    for seeds in ([5], range(5, 6), np.array([5])):
        (listed,) = system.generate([clip], seed=seeds)
        assert listed.samples.tobytes() == alone.samples.tobytes()
    for wrong in ("clip.mp4", Path("clip.mp4"), None, 3):
        with pytest.raises(UsageError, match=r"Hiss.generate: clip must be a Clip, such as"):
            system.generate(wrong)
    with pytest.raises(UsageError, match=r"the WorldClip has one: give its \.clip"):
        system.generate(strike_world(clips=1, seconds=0.5, size=16)[0])
    for seed in (1.5, None, "1"):
        with pytest.raises(UsageError, match=r"Hiss.generate: seed must be "):
            system.generate(clip, seed=seed)


def test_what_is_left_out_is_not_an_option():
    assert given(guidance=None, steps=2, upside_down=False) == {"steps": 2, "upside_down": False}


def test_switches_hold_for_once():
    system = small_system()
    before = system.config
    with switched(system, {"fps": None, "no_syncronet": True}):
        assert system.config.no_syncronet and system.config.fps is None
    assert system.config is before
    with pytest.raises(ZeroDivisionError), switched(system, {"no_syncronet": True}):
        _ = 1 / 0
    assert system.config is before
    with pytest.raises(
        UsageError,
        match="unknown options of egosonics: tempo; there are guidance, steps, sampler, guidance_interval, hits, sen",
    ):
        system.generate(clip_of(0.4), tempo=3)


def test_parts_of_a_clip():
    clip = clip_of(3.0)
    assert part_of(clip) is clip
    assert part_of(clip, 1.0, 0.8).duration == pytest.approx(0.8)
    assert part_of(clip, 2.0).duration == pytest.approx(1.0)
    for start, duration in ((-1.0, None), (3.0, None), (0.0, float("nan")), (0.0, 3.1), (float("nan"), None)):
        with pytest.raises(UsageError, match="not a part"):
            part_of(clip, start, duration)


def test_training_mode_is_put_aside_and_put_back():
    system, clip = Hiss(), clip_of(1.0)
    system.eval()
    expected = system.generate_batch([clip], seeds=[0])[0]
    system.train()
    system.encoder.eval()
    assert system.generate_batch([clip], seeds=[0])[0].samples.tobytes() == expected.samples.tobytes()
    assert system.training and system.dropout.training and not system.encoder.training
    with pytest.raises(ZeroDivisionError), evaluating(system):
        assert not system.training
        _ = 1 / 0
    assert system.dropout.training


@pytest.mark.parametrize(
    ("make", "seconds", "options"),
    [
        (fake_system, 0.3, {}),
        (fake_system, 0.9, {"guidance": 1.0}),
        (fake_system, 2.0, {"start": 0.5, "duration": 0.7}),  # several windows
        (small_system, 0.5, {}),
        (small_system, 3.0, {"steps": 2, "no_syncronet": True}),
        (small_action2sound, 0.5, {"ambient": "low"}),
        (small_action2sound, 7.3, {"steps": 2, "null": "zero"}),
        (Hiss, 1.0, {"steps": 9}),
    ],
)
def test_the_bar_is_as_long_as_the_work(make, seconds, options):
    system, clip, done = make(), clip_of(seconds), []
    wanted = system.steps_of(clip, **options)
    system.generate_batch([clip], seeds=[0], progress=done.append, **options)
    assert done == [1] * wanted and wanted > 0


@pytest.mark.parametrize("kind", [VAura, EgoSonics, Action2Sound, Retrieval])
def test_generate_says_by_name_what_there_is(kind):
    import inspect

    taken = inspect.signature(kind.generate).parameters
    common = {"self", "clip", "seed", "start", "duration", "progress"}
    named = {name for name, p in taken.items() if p.kind is not p.VAR_KEYWORD}
    assert set(kind.options) <= named - common <= {*kind.options, *kind.switches}
    for name in (*kind.options, *kind.switches):
        assert f"{name}" in kind.generate.__doc__


@pytest.mark.parametrize("kind", [VAura, EgoSonics, Action2Sound, Retrieval])
def test_generate_reads_as_numbered_steps(kind):
    import inspect
    import re

    numbers = re.findall(r"^ +# (\d)\. |, and (2)\. ", inspect.getsource(kind.generate), re.MULTILINE)
    assert [int(a or b) for a, b in numbers] == [1, 2, 3, 4, 5]


FROZEN = {
    "vaura": (
        "models/codec.py", "models/held_weights.py", "models/video_encoders/registry.py",
        "models/video_encoders/strike.py",
    ),
    "egosonics": (
        "models/autoencoder.py", "models/lean_unet.py", "models/video_encoders/clip_frames.py",
        "models/video_encoders/registry.py", "sampling/solvers.py",
    ),
    "action2sound": (
        "models/autoencoder.py", "models/lean_unet.py", "models/video_encoders/clip_frames.py",
        "models/video_encoders/registry.py", "models/vocoder.py", "sampling/solvers.py", "systems/retrieval/system.py",
    ),
    "vta_ldm": (
        "models/autoencoder.py", "models/lean_unet.py", "models/optical_flow.py", "models/text_encoders.py",
        "models/video_encoders/clip_frames.py", "models/video_encoders/registry.py", "models/vocoder.py",
        "sampling/solvers.py",
    ),
}  # fmt: skip
"""What is loaded frozen, trained elsewhere, and says what it takes and gives; and what stands in for a library's own
networks and solvers, as these compute, to the bit."""


@pytest.mark.parametrize(("kind", "most"), [("vaura", 4), ("egosonics", 5), ("action2sound", 7), ("vta_ldm", 6)])
def test_few_files_have_to_be_opened_to_understand_a_system(kind, most):
    """All of systems/, sampling/ and models/ that it imports, at once or inside of a function, but for frozen parts."""
    from test_house import PACKAGE, imports

    frozen = {PACKAGE / name for name in FROZEN[kind]}
    opened, left, used = set(), {PACKAGE / "systems" / kind / "system.py"}, set()
    while left:
        opened |= left
        imported = {other for path in left for other in imports(path)}
        used |= imported & frozen
        rooms = {p for p in imported if p.relative_to(PACKAGE).parts[0] in ("systems", "sampling", "models")}
        left = rooms - frozen - opened
    assert used == frozen and len(opened) <= most, sorted(str(path.relative_to(PACKAGE)) for path in opened)


@pytest.mark.parametrize(
    ("make", "of"),
    [(fake_system, "codec"), (small_system, "autoencoder"), (small_action2sound, "autoencoder and vocoder")],
)
def test_a_round_trip_is_as_long_as_the_sound_and_of_one_channel(make, of):
    system = make()
    sound = Sound(0.1 * np.random.default_rng(0).standard_normal((2, 22050)), 44100)
    made = system.round_trip(sound)
    assert (made.n, made.sample_rate, made.channels) == (8000, 16000, 1) and system.round_trip_of == of
    assert made.samples.tobytes() == system.round_trip(sound).samples.tobytes()


def test_parts_that_do_not_fit():
    check_fit({"channels": (3, 3)}, "hiss")
    with pytest.raises(WeightsError, match="the parts do not fit: 4 channels, and hiss wants 3"):
        check_fit({"rate": (1, 1), "channels": (4, 3)}, "hiss")


# --- files --------------------------------------------------------------------------------------------


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = write_text(tmp_path / "new" / "a.json", json.dumps({"ä": 1}, ensure_ascii=False))
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": 1}
    with pytest.raises(ZeroDivisionError), atomic(path) as partial:
        partial.write_text("half")
        assert path.read_text(encoding="utf-8") != "half"
        _ = 1 / 0
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "other")
    assert json.loads(path.read_text(encoding="utf-8")) == {"ä": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
