"""Sounds and clips become files: every kind, in pieces, and with a full disk."""

from __future__ import annotations

import os
import wave

import av
import numpy as np
import pytest
from film_parts import clicks, film, frames, heard_at

from v2a_nb import media
from v2a_nb.clip import Clip, Sound
from v2a_nb.errors import MediaError, UsageError
from v2a_nb.files import partial_of

RNG = np.random.default_rng(0)
NOISE = Sound(np.clip(0.3 * RNG.standard_normal((2, 40001)), -1, 1), 16000)


def pieces(sound: Sound, n: int = 999):
    return (Sound(sound.samples[:, a : a + n], sound.sample_rate) for a in range(0, sound.n, n))


def values(path) -> np.ndarray:
    """Samples [n, channels] as the file holds them."""
    with av.open(str(path)) as container:
        blocks = list(container.decode(audio=0))
    channels = blocks[0].layout.nb_channels
    flat = [b.to_ndarray().T if b.format.is_planar else b.to_ndarray().reshape(-1, channels) for b in blocks]
    return np.concatenate(flat)


def test_wav_is_what_pythons_own_module_writes(tmp_path):
    with wave.open(str(tmp_path / "b.wav"), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes(np.clip(np.round(NOISE.samples.T * 32767.0), -32768, 32767).astype("<i2").tobytes())
    wanted = (tmp_path / "b.wav").read_bytes()
    assert media.save_wav(NOISE, tmp_path / "a.wav").read_bytes() == wanted
    assert media.save_wav(pieces(NOISE), tmp_path / "c.wav").read_bytes() == wanted
    assert media.save_sound(list(pieces(NOISE)), tmp_path / "d.wav").read_bytes() == wanted


@pytest.mark.parametrize(
    ("name", "bits"), [("a.wav", 16), ("a.wav", 24), ("a.wav", 32), ("a.flac", 16), ("a.flac", 24)]
)
@pytest.mark.parametrize("channels", [1, 2])
def test_lossless_files_hold_every_sample(tmp_path, name, bits, channels):
    sound = Sound(NOISE.samples[:channels], 16000)
    one = media.save_sound(sound, tmp_path / name, bits=bits)
    two = media.save_sound(pieces(sound), tmp_path / f"2{name}", bits=bits)
    assert one.read_bytes() == two.read_bytes() and one.stat().st_size % 2 in (0, 1 if name.endswith("flac") else 0)
    full = {16: 2.0**15, 24: 2.0**31, 32: 1.0}[bits]  # 24 bits come in the upper part of 32
    assert np.abs(values(one) / full - sound.samples.T).max() <= {16: 1.6, 24: 1.6 / 256, 32: 0}[bits] / 2**15
    back = media.open_sound(one)
    assert (back.n, back.channels, back.sample_rate) == (sound.n, channels, 16000)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.m4a"])
@pytest.mark.parametrize("rate", [None, 44100, 48000])
def test_rate_and_channels_are_chosen(tmp_path, name, rate):
    sound = clicks((0.25, 0.75), 1.0, 16000)
    path = media.save_sound(pieces(sound), tmp_path / name, sample_rate=rate, channels=2)
    back = media.open_sound(path)
    assert (back.sample_rate, back.channels) == (rate or 16000, 2)
    assert all(abs(heard_at(back, t) - t) < 0.005 for t in (0.25, 0.75))
    assert back.duration == pytest.approx(1.0, abs=0.03 if name == "a.m4a" else 1e-4)
    if name == "a.wav":
        assert np.allclose(back.samples, sound.resample(rate or 16000).stereo().samples, atol=1e-4)


def test_beyond_full_scale(tmp_path):
    sound = Sound(np.array([0.0, 1.5, -1.5, 0.5]), 16000)
    for name, bits in (("a.wav", 16), ("a.wav", 24), ("a.flac", 16), ("a.flac", 24)):
        back = media.open_sound(media.save_sound(sound, tmp_path / name, bits=bits)).samples
        assert np.allclose(back, [[0, 1, -1, 0.5]], atol=1e-4)
    assert np.array_equal(values(media.save_sound(sound, tmp_path / "f.wav", bits=32))[:, 0], sound.samples[0])


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("a.ogg", {}, ".wav, .flac, .m4a"),
        ("a", {}, ".wav, .flac, .m4a"),
        ("a.wav", {"bits": 8}, "bits must be 16 or 24 or 32"),
        ("a.flac", {"bits": 32}, "bits must be 16 or 24"),
        ("a.m4a", {"bits": 24}, "bits must be 16"),
        ("a.wav", {"channels": 6}, "channels must be 1 or 2"),
        ("a.wav", {"sample_rate": 0}, "0 Hz is impossible"),
    ],
)
def test_what_there_is_not_is_said(tmp_path, name, options, words):
    with pytest.raises(UsageError, match=words):
        media.save_sound(NOISE, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.wav", "a.mp4"])
def test_pieces_must_be_alike(tmp_path, name):
    mixed = [clicks((), 1.0, 16000), clicks((), 1.0, 8000)]
    with pytest.raises(UsageError, match=r"16000 Hz.*8000 Hz"):
        if name == "a.wav":
            media.save_wav(mixed, tmp_path / name)
        else:
            media.save_mp4(Clip(np.zeros((50, 16, 16, 3), np.uint8)), mixed, tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "tag"), [((48, 64), 6), ((720, 1280), 1)])
def test_colours_come_back_and_are_tagged(tmp_path, size, tag):
    colours = np.zeros((3, *size, 3), np.uint8)
    third = size[1] // 3
    for k, colour in enumerate([(0, 255, 0), (255, 0, 0), (255, 255, 0)]):
        colours[:, :, k * third :] = colour
    frame = frames(media.save_mp4(Clip(colours, fps=10.0), None, tmp_path / "a.mp4", crf=5))[0]
    assert (frame.colorspace, frame.color_range) == (tag, 1)
    shown = frame.to_ndarray(format="rgb24").astype(int)
    for k in range(3):
        assert np.abs(shown[size[0] // 2, k * third + third // 2] - colours[0, 0, k * third + third // 2]).max() <= 3


def writers(folder):
    noise = Sound(0.3 * RNG.standard_normal(16000 * 4), 16000)
    clip = Clip(RNG.integers(0, 255, (20, 96, 128, 3), dtype=np.uint8), fps=10.0)
    original = film(folder / "original.mp4", n=200, options={"crf": "1"})
    return {
        "a.wav": lambda path: media.save_wav(noise, path),
        "a.flac": lambda path: media.save_sound(noise, path),
        "a.m4a": lambda path: media.save_sound(noise, path),
        "a.mp4": lambda path: media.save_mp4(clip, noise, path, crf=1),
        "copied.mp4": lambda path: media.dub(original, noise, path),
        "encoded.mp4": lambda path: media.dub(original, noise, path, start=0.5),
    }


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no device that is always full")
@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.m4a", "a.mp4", "copied.mp4", "encoded.mp4"])
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, name):
    write = writers(tmp_path)[name]
    out = tmp_path / "out"
    out.mkdir()
    partial_of(out / name).symlink_to("/dev/full")
    with pytest.raises(MediaError, match=f"{name}: cannot be written: No space left") as caught:
        write(out / name)
    assert "\n" not in str(caught.value) and not list(out.iterdir())


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.m4a", "a.mp4", "copied.mp4", "encoded.mp4"])
def test_a_disk_that_fills_up_in_the_middle(tmp_path, name):
    resource = pytest.importorskip("resource")
    write = writers(tmp_path)[name]
    out = tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, limits[1]))
    try:
        with pytest.raises(MediaError, match=f"{name}: cannot be written"):
            write(out / name)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(out.iterdir())


def test_a_sound_that_breaks_leaves_nothing(tmp_path):
    def breaking():
        yield NOISE
        raise MediaError("the generator broke")

    clip = Clip(np.zeros((100, 16, 16, 3), np.uint8))
    for write in (
        lambda: media.save_wav(breaking(), tmp_path / "a.wav"),
        lambda: media.save_sound(breaking(), tmp_path / "a.m4a"),
        lambda: media.save_mp4(clip, breaking(), tmp_path / "a.mp4"),
    ):
        with pytest.raises(MediaError, match="the generator broke"):
            write()
    assert not list(tmp_path.iterdir())
