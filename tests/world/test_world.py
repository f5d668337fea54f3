"""Strike World: exact sums, determinism, truth that fits the sound, counterfactuals."""

from __future__ import annotations

import json
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.audio.onsets import detect_onsets, match_onsets
from v2a_nb.cli import main
from v2a_nb.errors import UsageError, V2AError
from v2a_nb.world import FACTORS, counterfactual, draw, sound, sounds, strike_world, write_world
from v2a_nb.world.counterfactual import level_difference
from v2a_nb.world.motion import actor_path


@pytest.fixture(scope="module")
def world():
    return strike_world(seed=5, clips=40, size=64)


def test_mix_is_the_exact_sum_of_the_stems_and_never_clips(world):
    for item in world:
        stems = {k: v.samples for k, v in item.stems.items()}
        total = stems["action"] + stems["ambient"] + stems["offscreen"]
        assert np.array_equal(stems["mix"], total)
        assert np.abs(stems["mix"]).max() < 1


def test_same_seed_same_bytes_other_seed_other_world(world):
    again = strike_world(seed=5, clips=2, size=64)
    for a, b in zip(world.clips[:2], again, strict=True):
        assert np.array_equal(a.clip.frames, b.clip.frames)
        assert np.array_equal(a.stems["mix"].samples, b.stems["mix"].samples)
        assert a.truth == b.truth
    other = strike_world(seed=6, clips=1, size=64)[0]
    assert not np.array_equal(other.clip.frames, world[0].clip.frames)


def test_splits_share_no_recording(world):
    parts = [{c.recording.id for c in part} for part in (world.train, world.val, world.test)]
    assert all(parts) and not (parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2])
    assert sum(len(p) for p in (world.train, world.val, world.test)) == len(world)


def test_true_sound_has_its_onsets_at_the_true_events(world):
    hits = events = onsets = 0
    offsets = []
    for item in world:
        true = np.array([e["time_s"] for e in item.truth["events"] if e["sounding"]])
        found = detect_onsets(item.stems["mix"])
        pairs = match_onsets(true, found, 0.05)
        offsets += [found[j] - true[i] for i, j in pairs]
        hits, events, onsets = hits + len(pairs), events + len(true), onsets + len(found)
    assert 2 * hits / (events + onsets) > 0.95
    assert abs(np.median(offsets)) < 0.002


def test_near_misses_make_no_sound():
    recording = draw(3, 0)
    serial = next(e for e in recording.events if not e.sounding).serial
    without = recording.changed(events=tuple(e for e in recording.events if e.serial != serial))
    from v2a_nb.world.sound import synthesize

    assert np.array_equal(synthesize(recording, 16000)["action"], synthesize(without, 16000)["action"])


def test_bounces_shrink_as_physics_says():
    for index in range(40):
        recording = draw(8, index)
        if recording.actor == "ball":
            break
    drops: dict[int, list] = {}
    for event in recording.events:
        if event.kind == "bounce":
            drops.setdefault(event.drop, []).append(event)
    chains = [d for d in drops.values() if len(d) >= 3]
    assert chains
    for chain in chains:
        gaps = np.diff([e.time_s for e in chain])
        speeds = [e.speed for e in chain]
        ratio = gaps[1:] / gaps[:-1]
        assert np.allclose(ratio, np.divide(speeds[2:], speeds[1:-1]), atol=0.01)
        assert (ratio < 1).all()


def test_actor_touches_at_contacts_and_moves_without_jumps():
    for index in range(30):
        recording = draw(11, index)
        path = actor_path(recording)
        t = np.arange(0, recording.duration_s, 0.002)
        x, y = path(t)
        assert max(np.abs(np.diff(x)).max(), np.abs(np.diff(y)).max()) < 0.06
        for event in recording.events:
            at_y = path(np.array([event.time_s]))[1][0]
            if event.sounding:
                assert abs(at_y - event.y) < 0.005
            elif not event.side:
                assert event.y - at_y > 0.05  # a near miss stays over the surface


def test_truth_fits_the_picture(world):
    for item in world.clips[:10]:
        times = [e["time_s"] for e in item.truth["events"]]
        assert times == sorted(times)
        for event in item.truth["events"]:
            x0, y0, x1, y1 = event["box"]
            assert 0 <= x0 < x1 <= 64 and 0 <= y0 < y1 <= 64
        heard = [e for e in item.truth["events"] if e["sounding"]]
        if heard:
            frame = min(int(np.ceil(heard[0]["time_s"] * 25)), 63)
            assert item.masks[frame].any()
        assert item.masks.shape == item.clip.frames.shape[:3]
        json.dumps(item.truth)


def test_ambience_level_is_what_the_truth_says(world):
    for item in world.clips[:8]:
        assert item.stems["ambient"].rms_dbfs == pytest.approx(item.truth["ambient"]["level_dbfs"], abs=0.01)


@pytest.mark.parametrize("factor", FACTORS)
def test_counterfactuals_change_one_thing(world, factor):
    pair = next(filter(None, (counterfactual(item, factor) for item in world)))
    a, b = pair
    assert a.id.endswith(".a") and b.id.endswith(".b")
    assert a.truth["pair"]["factor"] == factor
    assert np.array_equal(a.stems["ambient"].samples, b.stems["ambient"].samples)
    assert np.array_equal(a.stems["offscreen"].samples, b.stems["offscreen"].samples)
    expect = a.truth["pair"]["expect"]
    if "level_db" in expect:
        assert level_difference(a, b) == pytest.approx(expect["level_db"], abs=1.5)
    if factor == "removal":
        assert len(b.truth["events"]) == len(a.truth["events"]) - 1
    if factor == "shift":
        before = {e["time_s"] for e in a.truth["events"]}
        after = {e["time_s"] for e in b.truth["events"]}
        assert len(before ^ after) == 2
    if factor in ("distance", "damping", "size"):
        assert not np.array_equal(a.clip.frames, b.clip.frames)
    if factor in ("distance", "damping", "material"):
        assert [e["time_s"] for e in a.truth["events"]] == [e["time_s"] for e in b.truth["events"]]


def test_damping_shortens_the_ring(world):
    item = next(c for c in world if any(e["sounding"] and e["material"] == "metal" for e in c.truth["events"]))
    pair = counterfactual(item, "damping")
    tail = [c.stems["action"].samples.astype(float) for c in pair]
    spread = [np.sum(np.abs(t)) / np.abs(t).max() for t in tail]
    assert spread[1] < spread[0]


def test_mismatched_recordings_have_a_foreign_sound():
    fair = strike_world(seed=9, clips=4, size=16, per_recording=1)
    foul = strike_world(seed=9, clips=4, size=16, per_recording=1, mismatched=1.0)
    for a, b in zip(fair, foul, strict=True):
        assert b.truth["mismatched"] and not a.truth["mismatched"]
        assert np.array_equal(a.clip.frames, b.clip.frames)
        assert not np.array_equal(a.stems["mix"].samples, b.stems["mix"].samples)


def test_sounds_alone_are_the_sounds_of_the_world():
    made = sounds(4, 3)
    assert made.shape == (3, 40960) and made.dtype == np.float32 and np.abs(made).max() < 1
    assert np.array_equal(made, sounds(4, 3))


def test_written_world_reads_back(tmp_path):
    path = write_world(tmp_path / "w", 2, seed=3, size=64)
    truth = json.loads(path.read_text())
    assert truth["world"] == "strike" and truth["version"] == 1 and len(truth["clips"]) == 2
    entry = truth["clips"][0]
    clip = media.open(tmp_path / "w" / entry["video"])
    assert clip.duration == pytest.approx(2.56, abs=0.05) and clip.sound is not None
    parts = [media.open_sound(tmp_path / "w" / entry["stems"][s]).samples for s in ("action", "ambient", "offscreen")]
    mix = media.open_sound(tmp_path / "w" / entry["stems"]["mix"]).samples
    assert np.abs(sum(parts) - mix).max() < 2.1 / 32768
    with pytest.raises(V2AError, match="already holds a world"):
        write_world(tmp_path / "w", 2, seed=3, size=64)


def test_written_pairs(tmp_path):
    path = write_world(tmp_path / "w", 1, seed=3, size=64, pairs="speed")
    a, b = json.loads(path.read_text())["clips"]
    assert a["id"][:-2] == b["id"][:-2] and a["pair"]["of"] == b["pair"]["of"]


def test_dataset_has_one_row_per_clip():
    table = strike_world(seed=2, clips=2, size=16).as_dataset()
    assert len(table) == 2
    row = table[0]
    assert np.asarray(row["frames"]).shape == (64, 16, 16, 3) and len(row["audio"]) == 40960
    assert json.loads(row["truth"])["id"] == row["id"]


@pytest.mark.parametrize(
    "bad", [{"clips": 0}, {"size": 4}, {"seconds": 60}, {"variety": "odd"}, {"mismatched": 2}, {"fps": 0}]
)
def test_settings_out_of_range_are_refused(bad):
    with pytest.raises(UsageError):
        strike_world(**{"seed": 0, "clips": 1, **bad})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (["--size", "63"], "size=63"), (["--fps", "0"], "fps=0"), (["--fps", "nan"], "fps=nan"),
        (["--fps", "1/0"], "'1/0'"), (["--fps", "inf"], "fps=inf"), (["--seconds", "nan"], "seconds=nan"),
        (["--seconds", "0.2", "--fps", "1"], "no frame"), (["--clips", "0"], "clips=0"), (["--size", "-2"], "size=-2"),
        (["--mismatched", "nan"], "mismatched=nan"), (["--sample-rate", "0"], "sample_rate=0"), (["--fps", "x"], "'x'"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_one_line(tmp_path, capsys, wrong, said):
    try:
        status = main(["world", str(tmp_path / "w"), "--clips", "1", *wrong])
    except SystemExit as stop:
        status = stop.code
    lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line or line.startswith("v2a-nb: ")]
    assert status == 2 and len(lines) == 1 and said in lines[0] and not (tmp_path / "w").exists()


@pytest.mark.parametrize(
    ("text", "rate"),
    [("23.976", Fraction(24000, 1001)), ("30000/1001", Fraction(30000, 1001)), ("59.94", Fraction(60000, 1001)),
     ("24", Fraction(24)), ("12.5", Fraction(25, 2))],
)  # fmt: skip
def test_frame_rates_are_exact_in_files_and_truth(tmp_path, text, rate):
    words = ["--clips", "1", "--size", "64", "--seconds", "1", "--fps", text]
    assert main(["world", str(tmp_path), *words]) == 0
    truth = json.loads((tmp_path / "truth.json").read_text())
    assert truth["fps"] == float(rate)
    path = tmp_path / truth["clips"][0]["video"]
    with av.open(str(path)) as file:
        assert file.streams.video[0].guessed_rate == rate
        times = [frame.time for frame in file.decode(video=0)]
    assert np.allclose(np.diff(times), float(1 / rate), atol=1.2e-5)  # a tick of the clock is 1/90000 s


@pytest.mark.parametrize("rate", [24, 24000 / 1001, 25, 30000 / 1001, 120])
def test_truth_pictures_and_sounds_last_equally_long(tmp_path, rate):
    truth = json.loads(write_world(tmp_path, 1, size=64, seed=3, fps=rate).read_text())["clips"][0]
    written = media.open(tmp_path / truth["video"])
    assert truth["duration_s"] == pytest.approx(round(2.56 * rate) / rate, abs=1e-6)
    assert written.duration == pytest.approx(truth["duration_s"], abs=2e-5)  # a tick of the clock is 1/90000 s
    for path in truth["stems"].values():
        assert media.open_sound(tmp_path / path).n == round(truth["duration_s"] * 16000)
    assert all(event["time_s"] < truth["duration_s"] for event in truth["events"])
    assert rate != 25 or truth["duration_s"] == 2.56


def test_boxes_are_those_of_the_written_picture(tmp_path):
    truth = json.loads(write_world(tmp_path, 2, size=66, seed=5).read_text())
    for clip in truth["clips"]:
        assert media.info(tmp_path / clip["video"]).width == truth["size"] == 66
        assert all(0 <= v <= 66 for event in clip["events"] for v in event["box"])


def test_files_of_others_are_kept_and_an_unfinished_world_is_finished(tmp_path, monkeypatch):
    (tmp_path / "mine" / "clips").mkdir(parents=True)
    (tmp_path / "mine" / "clips" / "a.mp4").write_bytes(b"mine")
    with pytest.raises(V2AError, match="clips holds files that are of no world"):
        write_world(tmp_path / "mine", 1, size=64)
    assert [p.name for p in (tmp_path / "mine").rglob("*") if p.is_file()] == ["a.mp4"]

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_world(tmp_path / "w", 2, size=64, progress=stop)
    assert not (tmp_path / "w" / "truth.json").exists()
    write_world(tmp_path / "w", 2, size=64)
    assert {p.name for p in (tmp_path / "w").iterdir()} == {"clips", "stems", "truth.json"}


def test_sound_is_that_of_scipy_signal_without_its_import():
    """To the byte, with its filter alone and with a scipy that keeps the filter elsewhere."""
    import scipy.signal

    for index in (0, 2, 3, 6):  # rain, hum, hiss and traffic, with scrapes
        recording = draw(5, index, version=1 + index % 2)
        made = sound.render(recording, 8000)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sound, "_linear_filter", lambda: scipy.signal.lfilter)
            patch.setattr(sound, "_convolved", scipy.signal.fftconvolve)
            wanted = sound.render(recording, 8000)
        assert all(made[stem].tobytes() == wanted[stem].tobytes() for stem in (*sound.STEMS, "mix"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sound, "find_spec", lambda name: None)
        assert sound._linear_filter.__wrapped__() is scipy.signal.lfilter


def test_a_sound_is_rendered_without_scipy_signal():
    """Its import takes longer than the sound, and is what the first sound of a process would wait for."""
    code = (
        "import sys; from v2a_nb.world import sound; from v2a_nb.world.recording import draw; "
        "[sound.render(draw(5, i), 8000) for i in range(3)]; print('scipy.signal' in sys.modules)"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert made.stdout.strip() == "False"
