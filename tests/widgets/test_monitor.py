"""The training monitor: robust to whatever a run leaves behind, honest about time, quiet when it is over."""

from __future__ import annotations

import gc
import io
import json
import os
import threading
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from v2a_nb import media
from v2a_nb.clip import Sound
from v2a_nb.errors import UsageError
from v2a_nb.training.progress import look, pace, read_log, smooth, span
from v2a_nb.widgets import monitor as room
from v2a_nb.widgets.monitor import follow, monitor, sparkline

HOSTILE = "<script>alert(1)<img src=x onerror=alert(2)>\"'\u202eright to left"


def line(step: int, seconds: float | None = None, **more: float) -> str:
    made = {"step": step, "loss": round(3 / (1 + step / 100), 5), **more, "rate": 1e-3}
    return json.dumps(made if seconds is None else {**made, "seconds": seconds}) + "\n"


def run_in(folder: Path, steps: int = 200, total: int | None = 400, pace: float = 0.5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.jsonl").write_text("".join(line(k, k * pace) for k in range(20, steps + 1, 20)))
    if total is not None:
        (folder / "plan.json").write_text(json.dumps({"steps": total}))
    return folder


def test_a_run_is_read_as_it_stands(tmp_path):
    seen = look(run_in(tmp_path))
    assert (seen.state, seen.step, seen.total, seen.pace_s, seen.left_s) == ("training", 200, 400, 0.5, 100.0)
    assert seen.words()[0] == "training, step 200 of 400 (50 %)"
    assert seen.words()[1] == "1 min 40 s spent · about 1 min 40 s left · 0.5 s a step"
    assert seen.words()[2] == "loss 1 · rate 0.001" and len(seen.words()) == 3


def test_a_line_that_is_being_written_is_not_yet_one(tmp_path):
    path = run_in(tmp_path) / "log.jsonl"
    whole = path.read_text() + line(220, 110.0)
    for cut in range(len(path.read_text()) + 1, len(whole)):
        path.write_text(whole[:cut])
        lines, problems = read_log(path)
        # all but the line's end makes it whole
        assert lines[-1]["step"] == (220 if cut == len(whole) - 1 else 200) and not problems


def test_broken_lines_are_named_and_the_others_count(tmp_path):
    path = tmp_path / "log.jsonl"
    deep = "[" * 100_000
    path.write_bytes(
        b'{"loss": 1}\n[3]\n"text"\n\xff\xfe\nnull\n'
        b'{"step": true}\n{"step": -1}\n{"step": 1e400}\n{"step": 5, "loss": "x"}\n'
        + line(20, 1.0, extra=float("nan")).encode()
        + b"\n\n"
        + deep.encode()
        + b"\n"
        + line(40, 2.0).encode()
    )
    lines, problems = read_log(path)
    assert [entry["step"] for entry in lines] == [5, 20, 40] and "loss" not in lines[0]
    assert len(problems) == 9 and problems[0] == "log.jsonl, line 1: not a line of a training log"
    seen = look(tmp_path)
    assert seen.state == "training" and len(seen.problems) == 5 and seen.series("extra") == []
    assert "problem: log.jsonl, line 1" in "\n".join(seen.words())


@pytest.mark.parametrize(
    ("content", "state", "words"),
    [
        (None, "waiting", "no log.jsonl in it yet"),
        (b"", "waiting", "waiting for the first line"),
        (b'{"step": 20, "lo', "waiting", "waiting for the first line"),
        (b"\n\n", "waiting", "waiting for the first line"),
        (b"\x00\x01\x02\n\xff", "broken", "line 1: not a line"),
    ],
)
def test_empty_missing_and_broken_logs_are_one_clear_state(tmp_path, content, state, words):
    if content is not None:
        (tmp_path / "log.jsonl").write_bytes(content)
    made = monitor(tmp_path)
    seen = made.look()
    assert seen.state == state and words in seen.words()[0] and len(seen.words()) == 1
    assert words in made._repr_html_() and words in made.text(400) and words in repr(made)


def test_no_folder_yet(tmp_path):
    made = monitor(tmp_path / "later")
    assert "no such folder yet" in made._repr_html_()
    run_in(tmp_path / "later")
    assert "step 200 of 400" in made._repr_html_()


def test_time_left_after_a_resume(tmp_path):
    # killed at step 60, a night passes, resumed from 40 with the clock of step 40: the log's own seconds count
    first = [line(k, k * 0.5) for k in (20, 40, 60)]
    again = [line(k, k * 0.5) for k in (60, 80, 100)]
    (tmp_path / "log.jsonl").write_text("".join(first[:2] + again))
    assert look(tmp_path, steps=200).left_s == pytest.approx(50)
    # not cut back to the saved state: later lines win, and nothing is counted twice
    (tmp_path / "log.jsonl").write_text("".join(first + again))
    seen = look(tmp_path, steps=200)
    assert [entry["step"] for entry in seen.lines] == [20, 40, 60, 80, 100] and seen.left_s == pytest.approx(50)
    # a clock that began at zero again
    (tmp_path / "log.jsonl").write_text("".join(first) + line(80, 10.0) + line(100, 20.0))
    assert look(tmp_path, steps=200).left_s == pytest.approx(50)


def test_pace_is_of_the_last_lines_and_needs_two():
    assert pace([]) is None and pace([{"step": 20, "seconds": 4.0}]) is None
    assert pace([{"step": 20}, {"step": 40}]) is None
    slow = [{"step": k, "seconds": 10.0 * k} for k in range(0, 20)]
    fast = [{"step": k, "seconds": 190.0 + (k - 19)} for k in range(20, 60)]
    assert pace(slow + fast) == pytest.approx(1.0)
    assert pace([*fast, {"step": 60, "seconds": float("nan")}]) == pytest.approx(1.0)


def test_total_is_the_plans_or_the_callers_or_not_known(tmp_path):
    run_in(tmp_path, total=None)
    seen = look(tmp_path)
    assert seen.total is None and seen.left_s is None and "time left not known (no plan.json)" in seen.words()[1]
    assert look(tmp_path, steps=300).total == 300
    for plan, problem in (("[1]", "cannot be read"), ("{", "cannot be read"), ('{"steps": "many"}', "names no steps")):
        (tmp_path / "plan.json").write_text(plan)
        seen = look(tmp_path)
        assert seen.total is None and problem in seen.problems[0]
    (tmp_path / "plan.json").write_text('{"steps": 400, "last": 300}')  # told to stop earlier
    assert look(tmp_path).total == 300
    (tmp_path / "plan.json").write_text('{"steps": 100}')
    seen = look(tmp_path)
    assert seen.total is None and seen.state == "training" and "another run's" in seen.problems[0]


def test_done_and_quiet(tmp_path):
    run_in(tmp_path, 400)
    seen = look(tmp_path)
    assert seen.state == "done" and seen.left_s == 0 and "left" not in seen.words()[1]
    run_in(tmp_path, 200)
    written = (tmp_path / "log.jsonl").stat().st_mtime
    assert look(tmp_path, now=written + 59).state == "training"
    quiet = look(tmp_path, now=written + 300)
    assert quiet.state == "quiet" and "no news for 5 min 0 s: stopped, or busy" in quiet.words()[0]
    run_in(tmp_path, 200, pace=10.0)  # a line every 200 s is no silence
    assert look(tmp_path, now=(tmp_path / "log.jsonl").stat().st_mtime + 300).state == "training"


def test_the_stage_that_writes_is_shown_and_kept(tmp_path):
    for k, name in enumerate(("codec/cycle1", "vision")):
        log = run_in(tmp_path / name) / "log.jsonl"
        os.utime(log, (1000 + 30 * k, 1000 + 30 * k))
    assert look(tmp_path).name == "vision"
    made = monitor(tmp_path)
    made.look()
    os.utime(tmp_path / "codec/cycle1/log.jsonl", (1090, 1090))  # both write: the one that is shown stays
    assert made.look().name == "vision"
    os.utime(tmp_path / "codec/cycle1/log.jsonl", (1300, 1300))
    assert made.look().name == "codec/cycle1" and made.look().words()[0].startswith("codec/cycle1: ")


def test_newest_sample_with_its_age(tmp_path):
    run_in(tmp_path)
    assert "no sound sample yet" in monitor(tmp_path)._repr_html_()
    (tmp_path / "samples").mkdir()
    tone = Sound(0.25 * np.sin(np.arange(1600) * 0.1), 16000)
    for step, at in ((300, 1000), (100, 2000)):  # 300 is what a run that was since cut back left behind
        media.save_wav(tone, tmp_path / "samples" / f"{step}.wav")
        os.utime(tmp_path / "samples" / f"{step}.wav", (at, at))
    (tmp_path / "samples" / ".400.wav.123.part").write_bytes(b"RIFF")
    (tmp_path / "samples" / ".400.wav").write_bytes(b"RIFF")
    seen = look(tmp_path, now=2065)
    assert seen.sample[0].name == "100.wav" and seen.sample_age == "100.wav, 1 min 5 s old"
    page = monitor(tmp_path)._repr_html_()
    assert "newest sample: <bdi>100.wav</bdi>" in page and 'src="data:audio/wav;base64,' in page
    assert "newest sample: samples/100.wav," in monitor(tmp_path).text()
    (tmp_path / "samples" / "500.wav").write_bytes(b"no sound")
    page = monitor(tmp_path)._repr_html_()
    assert "500.wav: cannot be read" in page and "<audio" not in page


def test_smooth_is_not_pulled_to_zero_and_follows():
    assert smooth([2.0] * 50) == pytest.approx([2.0] * 50)
    rng = np.random.default_rng(0)
    noisy = 1 + rng.standard_normal(2000)
    assert np.std(smooth(list(noisy))[100:]) < 0.2
    assert smooth([0.0] * 500 + [1.0] * 500)[-1] > 0.99
    assert smooth([]) == []


def test_sparkline_and_span():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5, 5, 5]) == "▁▁▁" and sparkline([]) == "" and len(sparkline(list(range(1000)), 60)) == 60
    assert sparkline([1, 1, 0, 0], 2) == "█▁"
    assert [span(s) for s in (0, 59.4, 60, 3660, 90000)] == ["0 s", "59 s", "1 min 0 s", "1 h 1 min", "1 d 1 h"]
    assert span(float("inf")) == "an unknown time"


def test_static_display_has_curves_bar_and_words(tmp_path):
    page = monitor(run_in(tmp_path))._repr_html_()
    parser = HTMLParser()
    parser.feed(page)
    assert 'alt="loss over steps: 2.5 at 20, smoothed' in page and "data:image/png" in page
    assert '<progress aria-label="steps done" value="0.5"' in page and "about 1 min 40 s left" in page
    assert "http" not in page
    assert "There is no nothing in the log" in monitor(tmp_path, key="nothing")._repr_html_()


def test_hostile_names_are_text(tmp_path):
    folder = tmp_path / HOSTILE.replace("/", "")
    run_in(folder)
    text = line(220, 110.0, **{HOSTILE: 1.0})
    with (folder / "log.jsonl").open("a") as log:
        log.write(text)
    (folder / "samples").mkdir()
    (folder / "samples" / f"{HOSTILE}\x1b[2J\n.wav").write_bytes(b"no sound")
    for made in (monitor(folder), monitor(folder, key=HOSTILE)):
        page = made._repr_html_()
        assert "<script" not in page and "<img src=x" not in page and "&lt;script&gt;alert(1)" in page
        assert "\x1b" not in made.text(500) and "\u202e" not in made.text(500)
    assert "<script" not in monitor(tmp_path / "<script>")._repr_html_()


def test_text_fits_the_terminal(tmp_path):
    run_in(tmp_path, total=400)
    for width in (20, 40, 80, 200):
        lines = monitor(tmp_path).text(width).splitlines()
        assert max(map(len, lines)) <= width
    assert any(set(one) <= set("[#.]") and one.count("#") == 39 for one in monitor(tmp_path).text().splitlines())


def test_follow_once_and_to_the_end(tmp_path):
    run_in(tmp_path, 400)
    out = io.StringIO()
    follow(tmp_path, out, every=0.1)  # done already: one screen, and it returns
    assert out.getvalue().count("done, step 400 of 400 (100 %)") == 1 and "\x1b" not in out.getvalue()
    run_in(tmp_path, 200)
    out = io.StringIO()
    follow(tmp_path, out, once=True)
    assert "step 200 of 400" in out.getvalue()
    with pytest.raises(UsageError, match="no such folder"):
        follow(tmp_path / "nothing", out)
    with pytest.raises(UsageError, match=r"0\.1 is the least"):
        follow(tmp_path, out, every=0)


def test_follow_draws_a_screen_anew_until_the_run_ends(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        encoding = "ascii"

        def isatty(self) -> bool:
            return True

    run_in(tmp_path, 380)
    monkeypatch.setattr(room.time, "sleep", lambda s: run_in(tmp_path, 400))
    out = Terminal()
    follow(tmp_path, out, every=2.0)
    first, second = out.getvalue().split("\x1b[H\x1b[2J")[1:]
    assert "step 380" in first and "done, step 400" in second and out.getvalue().isascii()
    run_in(tmp_path, 380)

    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(room.time, "sleep", interrupt)
    follow(tmp_path, Terminal())  # Ctrl-C is how one leaves


def test_follow_of_a_dead_run_ends(tmp_path):
    run_in(tmp_path, 200)
    os.utime(tmp_path / "log.jsonl", (time.time() - 4000,) * 2)
    out = io.StringIO()
    follow(tmp_path, out, every=0.1)
    assert "no news for 1 h" in out.getvalue()


def test_a_stage_that_is_done_is_not_the_runs_end(tmp_path):
    run_in(tmp_path / "vision", 400)
    assert not room.over(look(tmp_path), tmp_path)
    (tmp_path / "weights").mkdir()
    assert room.over(look(tmp_path), tmp_path)


# --- live -----------------------------------------------------------------------------------------


def wait_for(what) -> bool:
    deadline = time.monotonic() + 30
    while not what() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(what())


def test_live_follows_the_run_and_its_thread_ends_with_it(tmp_path):
    run_in(tmp_path, 200)
    live = monitor(tmp_path).live(every=0.1)
    status = live.panel.children[0]
    assert "step 200 of 400" in status.value and live.thread.is_alive() and live.thread.daemon
    run_in(tmp_path, 300)
    assert wait_for(lambda: "step 300 of 400" in status.value)
    run_in(tmp_path, 400)
    assert wait_for(lambda: not live.thread.is_alive())
    assert "done, step 400" in status.value and "no longer watched" in live.panel.children[2].value


def test_live_stops_when_told_replaced_or_forgotten(tmp_path):
    run_in(tmp_path, 200)
    first = monitor(tmp_path).live(every=0.1)
    first.panel.children[-1].click()
    first.thread.join(30)
    assert not first.thread.is_alive()
    second = monitor(tmp_path).live(every=0.1)
    third = monitor(tmp_path).live(every=0.1)
    second.thread.join(30)
    assert not second.thread.is_alive() and third.thread.is_alive()
    thread = third.thread
    del third
    gc.collect()
    thread.join(30)
    assert not thread.is_alive(), "a panel that nobody holds is not watched for ever"
    assert not [thread for thread in threading.enumerate() if thread.name == "v2a-monitor"]


def test_live_keeps_the_sound_that_is_playing(tmp_path):
    run_in(tmp_path, 200)
    (tmp_path / "samples").mkdir()
    media.save_wav(Sound(np.zeros(160), 16000), tmp_path / "samples" / "100.wav")
    live = monitor(tmp_path).live(every=60)
    sound, told = live.panel.children[1], []
    assert "100.wav" in sound.value
    sound.observe(told.append, "value")
    live.update()
    assert told == []
    media.save_wav(Sound(np.zeros(160), 16000), tmp_path / "samples" / "200.wav")
    live.update()
    assert len(told) == 1 and "200.wav" in sound.value
    live.stop()


def test_live_says_what_went_wrong_inside_of_its_thread(tmp_path, monkeypatch):
    run_in(tmp_path, 200)
    live = monitor(tmp_path).live(every=0.1)

    def fail(*_):
        raise RuntimeError("<b>no</b>")

    monkeypatch.setattr(room, "status_html", fail)
    live.thread.join(30)
    assert not live.thread.is_alive()
    assert "no longer watched: RuntimeError: &lt;b&gt;no" in live.panel.children[2].value


def test_wrong_things_are_refused(tmp_path):
    with pytest.raises(UsageError, match="steps=0"):
        monitor(tmp_path, steps=0)
    with pytest.raises(UsageError, match=r"0\.1 is the least"):
        monitor(tmp_path).live(every=0)
    with pytest.raises(UsageError, match="cannot be read"):
        read_log(tmp_path / "nothing.jsonl")
