"""Long videos: blocks, their seams and their memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from v2a_nb.clip import Clip, Sound
from v2a_nb.hits import Hits
from v2a_nb.systems import long_videos
from v2a_nb.systems.long_videos import OVERLAP_S, DoneBlock, DoneBlocks, soundtrack


class Bright:
    """A stand-in for a system: each sample is the brightness of the picture at that moment."""

    def __init__(self, sample_rate: int = 8000) -> None:
        self.sample_rate, self.seeds, self.durations, self.options = sample_rate, [], [], []

    def generate(self, clip: Clip, *, seed: int, progress=None, **options) -> Sound:
        assert clip.sound is None
        self.seeds.append(seed)
        self.durations.append(clip.duration)
        self.options.append(options)
        n = round(clip.duration * self.sample_rate)
        which = np.searchsorted(clip.times, (np.arange(n) + 0.5) / self.sample_rate, side="right") - 1
        return Sound(clip.frames[which.clip(0), 0, 0, 0] / 255.0, self.sample_rate)

    def stream(self, clip: Clip, **how) -> Iterator[Sound]:
        """In pieces that know nothing of blocks."""
        samples = self.generate(clip, **how).samples
        for a in range(0, samples.shape[1], 1700):
            yield Sound(samples[:, a : a + 1700], self.sample_rate)

    def options_of_next_block(self, clip: Clip, options: dict) -> dict:
        return {**options, "ambient": clip.duration}


def flat(seconds: float, fps: float = 12.5) -> Clip:
    """A clip of even brightness that brightens from second to second."""
    times = np.arange(round(seconds * fps)) / fps
    return Clip(np.broadcast_to(np.floor(times).astype(np.uint8)[:, None, None, None], (len(times), 2, 2, 3)), fps=fps)


def blocks_of(clip: Clip, seconds: float) -> list[Clip]:
    starts = np.arange(0, clip.duration - 1e-6, seconds)
    return [clip.slice(a, min(a + seconds, clip.duration)) for a in starts]


@pytest.mark.parametrize(("seconds", "block"), [(7.0, 2.0), (7.04, 2.0), (6.0, 2.0), (9.2, 3.0), (4.16, 4.0)])
@pytest.mark.parametrize("rate", [8000, 11025])
def test_pieces_are_as_long_as_the_video_and_in_time(seconds, block, rate):
    clip = flat(seconds)
    system = Bright(rate)
    pieces = list(soundtrack(system, blocks_of(clip, block)))
    joined = np.concatenate([piece.samples for piece in pieces], axis=1)[0]
    assert len(joined) == round(clip.duration * rate)
    true = system.generate(clip, seed=0).samples[0]
    # where blocks meet, the same sound is there twice, of which constant power makes 3 dB more; noise would differ
    steps = np.flatnonzero(np.abs(np.diff(true)) > 1e-4)
    found = np.flatnonzero(np.abs(np.diff(joined)) > 1e-3)
    assert all(np.abs(found - step).min() <= 1 for step in steps)
    assert (joined >= true - 2e-3).all() and (joined <= true * 1.42 + 1e-6).all()


def test_one_block_is_what_the_system_makes():
    clip = flat(3.0)
    system = Bright()
    *pieces, last = soundtrack(system, [clip], seed=5, guidance=2.0)
    joined = np.concatenate([piece.samples for piece in (*pieces, last)], axis=1)
    assert len(pieces) == 10 and np.array_equal(joined, system.generate(clip, seed=5).samples)
    assert last.duration == OVERLAP_S and system.options[0] == {"guidance": 2.0} and system.seeds[0] == 5


def test_blocks_overlap_have_their_own_seeds_and_the_first_ones_condition(monkeypatch):
    monkeypatch.setattr(long_videos, "BLOCK_S", 2.0)
    system = Bright()
    list(soundtrack(system, blocks_of(flat(6.0), 2.0), seed=1, guidance=2.0))
    assert system.durations == pytest.approx([2.0, 2.0 + OVERLAP_S, 2.0 + OVERLAP_S])
    assert len(set(system.seeds)) == 3 and system.seeds[0] == 1
    assert system.options == [{"guidance": 2.0}, *2 * [{"guidance": 2.0, "ambient": 2.0}]]


def test_a_seam_of_noise_keeps_its_level():
    class Noise(Bright):
        def generate(self, clip, *, seed, **options):
            n = round(clip.duration * self.sample_rate)
            return Sound(0.1 * np.random.default_rng(seed).standard_normal(n), self.sample_rate)

    pieces = list(soundtrack(Noise(), blocks_of(flat(8.0), 2.0)))
    wave = np.concatenate([piece.samples for piece in pieces], axis=1)[0]
    levels = np.sqrt(np.square(wave.reshape(-1, 4000)).mean(1))
    assert np.abs(20 * np.log10(levels / 0.1)).max() < 0.5


def test_a_clip_shorter_than_the_overlap_and_a_short_last_block():
    system = Bright()
    assert sum(s.n for s in soundtrack(system, [flat(0.4)])) == 3200
    assert sum(s.n for s in soundtrack(system, blocks_of(flat(2.08), 2.0))) == 16640
    assert system.durations[-1] == pytest.approx(1.08)  # long enough for any system


def test_only_one_block_is_kept():
    clip, alive = flat(10.0), []

    def blocks():
        for block in blocks_of(clip, 1.0):
            block = replace(block, frames=block.frames.copy())
            alive.append(weakref.ref(block.frames.base if block.frames.base is not None else block.frames))
            yield block
            del block
            assert all(ref() is None for ref in alive)

    list(soundtrack(Bright(), blocks()))
    assert len(alive) == 10


class Counting(Bright):
    """Its sound is noise of its seed, it takes three steps a block, and expects a hit at every full second."""

    def generate(self, clip, *, seed, progress=None, **options):
        for _ in range(3):
            progress(1)
        super().generate(clip, seed=seed, **options)
        return Sound(0.1 * np.random.default_rng(seed).standard_normal(round(clip.duration * 8000)), 8000)

    def hits(self, clip, **how):
        return Hits(np.arange(0.25, clip.duration, 1.0).tolist())


class Ended(Exception):
    """The process was ended."""


@pytest.mark.parametrize(("at", "blocks"), [(0, 0), (5, 1), (11, 2), (17, 3)])
def test_a_soundtrack_that_was_ended_goes_on_and_is_the_same(monkeypatch, tmp_path, at, blocks):
    """Whenever it was ended: same samples, same hits, same steps of the bar; what was done is not done again."""
    monkeypatch.setattr(long_videos, "BLOCK_S", 2.0)
    clip, about = flat(9.0), {"seed": 3}

    def run(done, until=None):
        system, steps, hits, pieces = Counting(), [], [], []
        how = {"progress": steps.append, "followed": hits.append, "done": done, "seed": 3}
        for k, piece in enumerate(soundtrack(system, blocks_of(clip, 2.0), **how)):
            if k == until:
                raise Ended
            pieces.append(piece.samples)
        return np.concatenate(pieces, axis=1), [t for some in hits for t in some.times], sum(steps), len(system.seeds)

    whole, times, steps, made = run(None)
    folder = tmp_path / "blocks" / "x"
    with pytest.raises(Ended):
        run(DoneBlocks(folder, about), at)
    done = DoneBlocks(folder, about)
    assert done.count == blocks
    again, times_again, steps_again, made_again = run(done)
    assert np.array_equal(again, whole) and times_again == times and steps_again == steps == 15
    assert made_again == made - blocks
    assert run(DoneBlocks(folder, about))[3] == 1  # the last block, which is shorter, is always made
    done.remove()
    assert not folder.parent.exists()


def test_blocks_of_other_settings_and_damaged_ones_are_made_again(tmp_path):
    block = DoneBlock(np.ones((1, 5), np.float32), np.zeros((1, 2), np.float32), Hits([0.5]), 7)
    done = DoneBlocks(tmp_path / "b", {"seed": 1})
    for number in range(3):
        done.save(number, block)
    again = DoneBlocks(tmp_path / "b", {"seed": 1})
    assert again.count == 3 and again.load(1).new == Hits([0.5]) and again.load(1).steps == 7
    path = tmp_path / "b" / "00001.npz"
    for damaged in (path.read_bytes()[:100], b"", b"noise"):
        path.write_bytes(damaged)
        assert again.count == 1 and again.load(1) is None
    assert DoneBlocks(tmp_path / "b", {"seed": 2}).count == 0 and not (tmp_path / "b").exists()
    done.save(0, block)
    assert DoneBlocks(tmp_path / "b", {"seed": 1}, anew=True).count == 0
