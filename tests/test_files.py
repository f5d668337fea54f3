"""Files that commands write: whole or not at all, and never over somebody else's."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from v2a_nb.errors import MediaError
from v2a_nb.files import LEDGER, Ledger, atomic, is_json_with, keep_others, noting, unchanged, write_text


def test_a_failed_write_leaves_what_was_there_and_names_the_file(tmp_path):
    path = write_text(tmp_path / "a.txt", "before")
    with pytest.raises(OSError) as full, atomic(path) as partial:
        partial.write_text("half")
        raise OSError(28, "No space left on device")
    assert full.value.filename == str(path) and full.value.strerror == "No space left on device"
    assert path.read_text() == "before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "take:1.txt", "a\nb", os.fsdecode(b"a\xff.txt"), "-a"])
def test_any_name_that_a_disk_takes(tmp_path, name):
    assert write_text(tmp_path / name, "text").read_text() == "text"
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_a_device_is_written_to_and_stays_a_device():
    before = os.stat("/dev/null").st_rdev
    write_text("/dev/null", "text")
    keep_others("/dev/null", lambda text: False)
    assert os.stat("/dev/null").st_rdev == before


@pytest.mark.parametrize("text", ["not json", "[1]", '{"clips": 3}', "\0"])
def test_only_what_looks_like_ours_is_replaced(tmp_path, text):
    path, ours = tmp_path / "a.json", is_json_with("clips", "metrics")
    keep_others(path, ours)
    path.write_text("")
    keep_others(path, ours)
    path.write_text(json.dumps({"clips": 1, "metrics": []}))
    keep_others(path, ours)
    path.write_text(text)
    with pytest.raises(MediaError, match=r"a\.json was not written by this command and is kept"):
        keep_others(path, ours)
    os.symlink(tmp_path / "nowhere", tmp_path / "link")
    with pytest.raises(MediaError, match="link"):
        keep_others(tmp_path / "link", ours)


def test_the_ledger_knows_its_files_until_they_change(tmp_path):
    (tmp_path / "sub").mkdir()
    path = write_text(tmp_path / "sub" / "a.wav", "sound")
    ledger = Ledger(tmp_path)
    assert ledger.origin(path) is None
    ledger.record(path, {"seed": 1})
    assert Ledger(tmp_path).origin(path) == {"seed": 1}
    os.utime(path, (1, 1))  # copied with another time: still the same bytes
    assert Ledger(tmp_path).origin(path) == {"seed": 1}
    path.write_text("SOUND")
    assert Ledger(tmp_path).origin(path) is None
    path.unlink()
    assert Ledger(tmp_path).origin(path) is None


def test_a_file_gets_its_name_after_its_note(tmp_path):
    path, ledger = tmp_path / "a.wav", Ledger(tmp_path)

    def note(path, partial):
        ledger.record(path, {"seed": partial.read_text()}, partial)
        if partial.read_text() == "third":
            raise KeyboardInterrupt

    with noting(note):
        write_text(path, "first")
        write_text(path, "second")
        with pytest.raises(KeyboardInterrupt):
            write_text(path, "third")
    assert path.read_text() == "second" and Ledger(tmp_path).origin(path) == {"seed": "second"}
    write_text(path, "fourth")
    assert Ledger(tmp_path).origin(path) is None


def test_half_a_line_in_the_ledger_harms_no_other(tmp_path):
    path = write_text(tmp_path / "a.wav", "sound")
    (tmp_path / LEDGER).write_bytes(b'{"name": "b.wav", "resu')
    Ledger(tmp_path).record(path, {"seed": 1})
    with (tmp_path / LEDGER).open("ab") as file:
        file.write(b'[1]\n{"name": 3}\n\xff{"na')
    assert Ledger(tmp_path).origin(path) == {"seed": 1}


def test_unchanged_of_no_file(tmp_path: Path):
    assert not unchanged(tmp_path / "no", {"size": 1, "mtime_ns": 1, "sha256": ""})
