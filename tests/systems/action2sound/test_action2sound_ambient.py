"""What ``ambient`` may be, at which level, and how a sound becomes as long as a condition."""

from __future__ import annotations

import numpy as np
import pytest
from action2sound_parts import LEVELS_DBFS, RATE, Finder, noise
from system_parts import clip_of

from v2a_nb import media
from v2a_nb.clip import Sound
from v2a_nb.data.pool import DIGITAL_SILENCE_DBFS, quiet_dbfs
from v2a_nb.errors import MediaError, UsageError, WeightsError
from v2a_nb.systems.action2sound.ambient import Ambients, at_level, fitting

CLIPS = [clip_of(0.5, seed=s) for s in range(4)]


def level(sound: Sound) -> float:
    return quiet_dbfs(sound.mono().samples[0], sound.sample_rate)


def with_a_knock(dbfs: float = -50.0, peak: float = 0.5) -> Sound:
    """Noise with one loud moment, which does not count as ambience."""
    wave = noise(dbfs).samples[0].copy()
    wave[20000:20400] += peak * np.hanning(400)
    return Sound(wave, RATE)


def same(a: Sound, b: Sound) -> bool:
    return a.sample_rate == b.sample_rate and np.array_equal(a.samples, b.samples)


# --- which ----------------------------------------------------------------------------------------------


def test_the_retrieved_sound_is_that_of_each_clip():
    finder = Finder()
    made = Ambients(lambda: finder).sounds("retrieved", CLIPS)
    rows = [int(finder.find(clip)[1][0]) for clip in CLIPS]
    assert len(set(rows)) > 1  # clips of which some have other sounds
    assert all(same(m, finder.pool.sound(row)) for m, row in zip(made, rows, strict=True))
    left_out = Ambients(Finder).sounds(None, CLIPS)
    assert all(same(a, b) for a, b in zip(made, left_out, strict=True))


def test_low_is_the_quietest_of_the_pool_and_never_silence():
    finder = Finder()
    assert finder.pool.quiet.min() < DIGITAL_SILENCE_DBFS  # there is a silent one
    made = Ambients(lambda: finder).sounds("low", CLIPS)
    assert len(made) == 4 and all(same(m, finder.pool.sound(LEVELS_DBFS.index(-60.0))) for m in made)
    assert level(made[0]) == pytest.approx(-60, abs=0.7) and finder.asked == 0
    silent = Finder()
    silent.pool.quiet[:] = -120.0
    with pytest.raises(UsageError, match="silent"):
        Ambients(lambda: silent).sounds("low", CLIPS)


@pytest.mark.parametrize("asked", [-70.0, -38, np.float32(-50.0), np.int64(-30)])
def test_a_level_is_that_of_the_retrieved_sound(asked):
    plain = Ambients(Finder).sounds("retrieved", CLIPS)
    for made, before in zip(Ambients(Finder).sounds(asked, CLIPS), plain, strict=True):
        assert level(made) == pytest.approx(float(asked), abs=1e-3)
        factor = made.samples.max() / before.samples.max()
        assert np.allclose(made.samples, factor * before.samples, rtol=1e-5, atol=1e-9)


def test_a_sound_is_meant_for_all_and_a_list_for_each():
    ambients = Ambients()
    one, sounds = noise(-40), [noise(-40, seed=s) for s in range(4)]
    assert ambients.sounds(one, CLIPS) == [one] * 4
    assert ambients.sounds(sounds, CLIPS) == sounds
    assert ambients.sounds(tuple(sounds), CLIPS) == sounds
    for wrong in (sounds[:3], [*sounds[:3], "low"], [-40.0] * 4, []):
        with pytest.raises(UsageError, match="one Sound each"):
            ambients.sounds(wrong, CLIPS)


def test_a_path_is_read(tmp_path):
    sound, path = with_a_knock(), tmp_path / "room.wav"
    media.save_wav(sound, path)
    for place in (path, str(path)):
        made = Ambients().sounds(place, CLIPS)
        assert len(made) == 4 and np.abs(made[0].mono().samples - sound.samples).max() < 1e-4
    (tmp_path / "noise.wav").write_bytes(b"no sound")
    with pytest.raises(MediaError):
        Ambients().sounds(tmp_path / "noise.wav", CLIPS)


@pytest.mark.parametrize("wrong", ["loud", "", "-40 dB", "nowhere.wav"])
def test_neither_a_word_nor_a_file(wrong: str):
    with pytest.raises((UsageError, MediaError)) as caught:
        Ambients(Finder).sounds(wrong, CLIPS)
    if wrong:
        assert wrong in str(caught.value) and "retrieved, low" in str(caught.value)


@pytest.mark.parametrize("wrong", [True, False, np.bool_(True), {}, object(), 3j, {1, 2}])
def test_what_says_nothing_is_refused(wrong):
    with pytest.raises(UsageError):
        Ambients(Finder).sounds(wrong, CLIPS)


def test_the_pool_is_opened_once_and_only_where_it_is_needed():
    opened = []
    ambients = Ambients(lambda: opened.append(Finder()) or opened[-1])
    ambients.sounds(noise(-40), CLIPS)
    assert opened == []
    ambients.sounds("low", CLIPS)
    ambients.sounds(-40.0, CLIPS)
    assert len(opened) == 1 and ambients.retrieval is opened[0] and opened[0].asked == 4


def test_without_a_pool_there_is_one_clear_error():
    for asked in (None, "retrieved", "low", -40.0):
        with pytest.raises(WeightsError, match="no pool of sounds"):
            Ambients().sounds(asked, CLIPS)


def test_a_clips_own_sound_is_not_looked_at():
    loud = [clip.with_sound(noise(-3, 0.5, seed=7)) for clip in CLIPS]
    for asked in ("retrieved", -40.0):
        made, wanted = (Ambients(Finder).sounds(asked, clips) for clips in (loud, CLIPS))
        assert all(same(a, b) for a, b in zip(made, wanted, strict=True))


# --- levels ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dbfs", [-120.0, -70.0, -55.5, -38.0, 0.0])
def test_a_level_is_that_of_the_quietest_half_second_exactly(dbfs: float):
    sound = with_a_knock()
    made = at_level(sound, dbfs)
    assert level(made) == pytest.approx(dbfs, abs=1e-3)
    change = made.rms_dbfs - sound.rms_dbfs  # all of it is louder, the knock as well
    assert change == pytest.approx(dbfs - level(sound), abs=1e-2) or dbfs == -120.0


def test_a_level_of_a_stereo_sound_is_that_of_its_mean():
    both = Sound(np.stack([noise(-40).samples[0], noise(-40, seed=1).samples[0]]), RATE)
    made = at_level(both, -50.0)
    assert made.channels == 2 and level(made) == pytest.approx(-50, abs=1e-3)


@pytest.mark.parametrize("dbfs", [0.1, 40.0, -121.0, float("nan"), float("inf"), float("-inf")])
def test_a_level_out_of_range_is_refused(dbfs: float):
    with pytest.raises(UsageError, match="-120 to 0 dBFS"):
        at_level(noise(-40), dbfs)
    with pytest.raises(UsageError, match="-120 to 0 dBFS"):
        Ambients(Finder).sounds(dbfs, CLIPS)


def test_a_silent_sound_has_no_level():
    partly = np.concatenate([noise(-20, 1.0).samples[0], np.zeros(RATE)])
    for silent in (noise(None), Sound(partly, RATE), Sound(np.zeros(0), RATE)):
        with pytest.raises(UsageError, match="silent sound"):
            at_level(silent, -40.0)


# --- as long as a condition -----------------------------------------------------------------------------


def test_of_a_longer_sound_the_quietest_part_is_taken():
    parts = [noise(dbfs, 2.0, seed=i).samples[0] for i, dbfs in enumerate((-20, -50, -50, -30))]
    sound = Sound(np.concatenate(parts), RATE)
    made = fitting(sound, 3 * RATE, RATE)
    assert made.n == 3 * RATE and made.rms_dbfs == pytest.approx(-50, abs=0.3)
    starts = np.arange(0, sound.n - 3 * RATE + 1, RATE // 10)
    powers = [np.square(sound.samples[0, a : a + 3 * RATE]).sum() for a in starts]
    best = starts[int(np.argmin(powers))]
    assert np.array_equal(made.samples[0], sound.samples[0, best : best + 3 * RATE])
    knocked = fitting(Sound(np.concatenate([with_a_knock().samples[0], noise(-50).samples[0]]), RATE), 3 * RATE, RATE)
    assert knocked.peak < 0.1


@pytest.mark.parametrize("seconds", [0.01, 0.4, 2.56, 3.0])
def test_a_shorter_sound_is_repeated(seconds: float):
    sound = noise(-40, seconds)
    made = fitting(sound, 49152, RATE)
    assert (made.n, made.channels, made.sample_rate) == (49152, 1, RATE)
    kept = sound.n - min(RATE // 10, sound.n // 2)
    assert np.array_equal(made.samples[0, :kept], sound.samples[0, :kept])
    if seconds > 0.1:
        assert level(made) == pytest.approx(level(sound), abs=1.5)


def test_any_rate_and_channels_fit():
    both = Sound(np.stack([noise(-40).samples[0]] * 2), 44100)
    made = fitting(both, 49152, RATE)
    assert (made.n, made.channels, made.sample_rate) == (49152, 1, RATE)
    exact = noise(-40, 3.072)
    assert np.array_equal(fitting(exact, 49152, RATE).samples, exact.samples)
    with pytest.raises(UsageError):
        fitting(Sound(np.zeros(0), RATE), 49152, RATE)
