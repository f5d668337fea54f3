"""The scores of ambience control, with a system whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfilt

from v2a_nb.clip import Sound
from v2a_nb.scores import ambience
from v2a_nb.scores.base import Job
from v2a_nb.training.results import Results, markdown
from v2a_nb.world import strike_world

RATE = 16000


class Oracle:
    """Knows the clips: lays their true action over the condition; ``"low"`` and ``"retrieved"`` are its own."""

    def __init__(self, items, shrink: float = 1.0, loses: float = 0.0) -> None:
        self.items = {item.id: item for item in items}
        self.shrink, self.loses, self.calls = shrink, loses, []

    def generate_batch(self, clips, *, seeds, ambient):
        self.calls.append((tuple(clip.name for clip in clips), tuple(seeds)))
        assert all(clip.sound is None for clip in clips) and len(seeds) == len(clips)
        made = []
        for k, clip in enumerate(clips):
            stems = self.items[clip.name].stems
            if ambient == "low":
                steady, action = stems["ambient"].gain(-40), stems["action"].gain(-self.loses)
            elif ambient == "retrieved":
                steady, action = stems["ambient"], stems["action"]
            else:
                action, steady = stems["action"], ambient[k]
                steady = steady.gain((self.shrink - 1) * (steady.rms_dbfs + 55))
            made.append(Sound(steady.samples + action.samples, RATE))
        return made

    def round_trip(self, sound):
        return sound


class Deaf(Oracle):
    """Was trained without a condition, and refuses one."""

    class config:
        neighbour = False

    def generate_batch(self, clips, *, seeds):
        return super().generate_batch(clips, seeds=seeds, ambient="retrieved")


@pytest.fixture(scope="module")
def items():
    return strike_world(9402, 9, seconds=3.0, size=16, per_recording=2).clips


@pytest.fixture(scope="module")
def found(items):
    oracle = Oracle(items)
    levels = (-70.0, -55.0, -40.0)
    return ambience.measure(oracle, items, levels), oracle


def test_a_system_that_obeys_follows(found):
    scores, oracle = found
    level, back = scores["level"]["full"], scores["round_trip"]["full"]
    assert level["follows"] and level["slope"] == pytest.approx(1, abs=0.1) and level["span_db"] == 30
    assert back["slope"] == pytest.approx(1, abs=0.02) and back["r2"] > 0.99
    rows = scores["leakage"]
    assert rows["ambience_drop_db"]["value"] > 15 and abs(rows["hit_change_db"]["value"]) < 0.5
    assert rows["hits_kept"]["value"] > 0.98
    assert len(set(oracle.calls)) == 2  # one batch of 8 and one of 1: a clip has the same seed whatever it is given


def test_kinds_are_those_of_the_conditions(found):
    kinds = found[0]["kinds"]
    assert kinds["true mixes"]["clip"]["value"] == kinds["retrieved"]["clip"]["value"] >= 0.85
    assert kinds["neighbour"]["clip"]["value"] >= 0.85
    random = kinds["random"]
    assert random["condition"]["value"] >= 0.75 > random["clip"]["value"]


def test_shortcomings_are_seen(items):
    lazy = ambience.measure(Oracle(items, shrink=0.4, loses=15.0), items, (-70.0, -40.0), ["neighbour"], "retrieved")
    assert not lazy["level"]["full"]["follows"] and lazy["level"]["full"]["slope"] == pytest.approx(0.4, abs=0.15)
    assert lazy["leakage"]["hit_change_db"]["value"] < -10 and lazy["leakage"]["hits_kept"]["value"] < 0.2
    assert set(lazy["kinds"]) == {"true mixes", "neighbour"}


class Narrow(Oracle):
    """Keeps nothing under 125 Hz, as the mel spectrogram does not."""

    def generate_batch(self, clips, *, seeds, ambient):
        return [self.round_trip(s) for s in super().generate_batch(clips, seeds=seeds, ambient=ambient)]

    def round_trip(self, sound):
        made = sosfilt(butter(8, 125, "high", fs=RATE, output="sos"), sound.samples[0])
        return Sound(made, RATE)


def test_what_the_spectrogram_cannot_hold_is_not_held_against_the_model(items):
    scores = ambience.measure(Narrow(items), items, (-70.0, -40.0), ["neighbour"], "retrieved")
    most = scores["round_trip"]
    assert most["in_band"]["r2"] > 0.99 > most["full"]["r2"]
    assert most["in_band"]["slope"] == pytest.approx(1, abs=0.05)
    assert scores["level"]["in_band"]["follows"]


def test_a_system_without_condition_is_asked_once_and_stays_flat(items):
    deaf = Deaf(items)
    scores = ambience.measure(deaf, items, (-70.0, -40.0))
    assert len(deaf.calls) == 2 and scores["level"]["full"]["slope"] == pytest.approx(0, abs=1e-6)
    assert not scores["level"]["full"]["follows"] and scores["leakage"]["ambience_drop_db"]["value"] == 0


def test_conditions_have_the_level_that_is_asked_for(items):
    assert ambience.at(items[0].stems["mix"], -47.0).rms_dbfs == pytest.approx(-47, abs=0.01)


def test_known_rooms_are_found_by_their_looks(items):
    class Looks:
        """Knows a place by its colours."""

        class config:
            pass

        dim = 48

        def look(self, clip):
            assert clip.sound is None or clip.name.endswith(".near")
            tiles = clip.frames.mean(0)[: 4 * (clip.frames.shape[1] // 4), : 4 * (clip.frames.shape[2] // 4)]
            tiles = tiles.reshape(4, tiles.shape[0] // 4, 4, tiles.shape[1] // 4, 3).mean((1, 3))
            return (tiles - tiles.mean()).ravel() / 255 + 1e-3

        def listen(self, sound):
            return np.eye(48)[0]

        def state_dict(self):
            return {}

    class retrieval:
        model, by = Looks(), "look"

    found = ambience.in_known_rooms(retrieval, items)
    moments = {m.stems["mix"].samples.tobytes(): m for m in ambience.neighbours_of(items, seed=1)}
    heard = [moments[s.samples.tobytes()] for s in found]
    assert np.mean([m.recording == item.recording for m, item in zip(heard, items)]) > 0.8
    for moment, item in zip(heard, items):
        assert moment.recording != item.recording or abs(moment.start_s - item.start_s) >= 3.0
    assert not any("clip" in vars(item) for item in items)


def test_tables_have_a_column_for_each_model(items, tmp_path, monkeypatch):
    run = tmp_path / "run"
    (run / "ablations" / "no_condition" / "weights").mkdir(parents=True)
    monkeypatch.setattr(ambience, "load", lambda name, weights: (Deaf if "no_condition" in weights else Oracle)(items))
    monkeypatch.setattr(ambience, "strike_world", lambda *_, **__: type("W", (), {"clips": items})())
    job = Job("action2sound", "action2sound", run=run, say=lambda _: None)
    tables = {table.name: table for table in ambience.ambience(job)}
    assert len(tables) == 6
    level, flat = tables["ambience_level"], tables["ambience_level_without_condition"]
    assert level.row("level_slope_full").value > 0.9 > abs(flat.row("level_slope_full").value) + 0.8
    assert level.row("level_at_-40_dbfs", "round trip of the condition").value == pytest.approx(-40, abs=1)
    text = markdown(tables["ambience_pairs"], tables["ambience_pairs_without_condition"])
    assert text.splitlines()[0] == "| metric | conditioned | without condition * |"
    assert tables["ambience_kinds"].row("kind_of_clip_true_mixes").value >= 0.85
    Results("action2sound", "0", tuple(tables.values())).write(tmp_path)
    again = Results.read(tmp_path)["ambience_level"].row("level_r2_full")
    assert again.low <= again.value <= again.high and again.n == 7 * 9


def test_without_a_run_there_is_one_model(items, monkeypatch):
    monkeypatch.setattr(ambience, "load", lambda name, weights: Oracle(items))
    monkeypatch.setattr(ambience, "strike_world", lambda *_, **__: type("W", (), {"clips": items})())
    tables = ambience.ambience(Job("action2sound", "action2sound", say=lambda _: None))
    assert [table.name for table in tables] == ["ambience_level", "ambience_pairs", "ambience_kinds"]
