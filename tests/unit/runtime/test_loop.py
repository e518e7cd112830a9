"""Loops repeat their steps, and a process whose loop stalls exits."""

import logging
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from threading import Event

import pytest

from eventbus import loop as loops_module
from eventbus.loop import Loop, Loops
from testkit.eventually import eventually


@pytest.fixture
def running() -> Iterator[Callable[[Loop], Loop]]:
    """A function that starts a loop, which ends with the test."""
    started: list[Loop] = []

    def start(loop: Loop) -> Loop:
        loop.start()
        started.append(loop)
        return loop

    yield start
    for loop in started:
        loop.stop()
        loop.join(30)


def _more_than(count: int, steps: list[float]) -> None:
    assert len(steps) > count


def test_a_loop_repeats_its_step_at_its_interval(running: Callable[[Loop], Loop]) -> None:
    steps: list[float] = []

    running(Loop("work", steps.append, interval=0.01))

    eventually(lambda: _more_than(3, steps))


def test_the_deadline_of_a_step_is_the_interval(running: Callable[[Loop], Loop]) -> None:
    left: list[float] = []

    running(Loop("work", lambda until: left.append(until - time.monotonic()), interval=30))

    eventually(lambda: _more_than(0, left))
    assert 0 < left[0] <= 30


def test_a_loop_that_is_woken_starts_its_next_step_at_once(running: Callable[[Loop], Loop]) -> None:
    # Given a loop with a long interval
    steps: list[float] = []
    loop = running(Loop("work", steps.append, interval=3_600))
    eventually(lambda: _more_than(0, steps))

    # When it is woken
    loop.wake()

    # Then the next step starts
    eventually(lambda: _more_than(1, steps))


def test_a_wall_clock_that_steps_back_does_not_stop_a_loop(
    running: Callable[[Loop], Loop], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a wall clock that steps back an hour at each reading
    right, behind = time.time, count(3_600, 3_600)
    monkeypatch.setattr(time, "time", lambda: right() - next(behind))
    steps: list[float] = []

    # When a loop runs by this clock
    loop = running(Loop("work", steps.append, interval=0.01))

    # Then it repeats its step, and is not stalled
    eventually(lambda: _more_than(3, steps))
    assert 0 <= loop.stands_still_for() < 60


def test_a_step_that_raises_is_logged_once_and_repeated(
    running: Callable[[Loop], Loop], caplog: pytest.LogCaptureFixture
) -> None:
    # Given a step that fails three times
    caplog.set_level(logging.INFO, "eventbus.loop")
    steps: list[float] = []

    def step(until: float) -> None:
        steps.append(until)
        if len(steps) <= 3:
            raise RuntimeError("a surprise")

    # When a loop runs it
    loop = running(Loop("work", step, interval=0.01))

    # Then the failure and the recovery are logged once each
    eventually(lambda: _more_than(4, steps))
    assert caplog.messages.count("loop step failed") == 1
    assert caplog.messages.count("loop recovered") == 1
    assert loop.stands_still_for() < 10


def test_a_loop_that_hangs_or_fails_is_stalled(
    running: Callable[[Loop], Loop],
) -> None:
    # Given a loop that hangs, one that fails and one that waits
    held = Event()

    def fail(_until: float) -> None:
        raise RuntimeError("a surprise")

    hanging = Loop("hanging", lambda _: held.wait(60))
    failing = Loop("failing", fail, interval=0.01)
    waiting = Loop("waiting", lambda _: None, interval=3_600)

    # When all of them run
    for each in (hanging, failing, waiting):
        running(each)

    # Then the first two are stalled, and the last one is not
    def stand_still() -> None:
        assert hanging.stands_still_for() > 0.2
        assert failing.stands_still_for() > 0.2

    eventually(stand_still)
    assert waiting.stands_still_for() == 0
    held.set()


def test_the_health_file_is_touched_while_all_loops_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a loop with a health file
    monkeypatch.setattr(loops_module, "WATCH_INTERVAL", 0.01)
    file = tmp_path / "health" / "process"
    loops = Loops([Loop("work", lambda _: None, interval=0.01)], health_file=file)

    # When it runs
    loops.start()

    # Then the file is touched again and again
    eventually(lambda: _exists(file))
    first = file.stat().st_mtime_ns
    eventually(lambda: _newer(file, first))

    # And it is deleted when the loops stop
    loops.stop()
    loops.join()
    assert not file.exists()


def test_an_unwritable_health_file_does_not_stop_a_loop(tmp_path: Path) -> None:
    (tmp_path / "health").write_text("not a directory")
    steps: list[float] = []
    loops = Loops(
        [Loop("work", steps.append, interval=0.01)], health_file=tmp_path / "health" / "process"
    )

    loops.start()

    eventually(lambda: _more_than(3, steps))
    loops.stop()
    loops.join()


def test_stopping_waits_for_the_current_step() -> None:
    # Given a loop whose step is under way
    begun, held, ended = Event(), Event(), []

    def step(_until: float) -> None:
        begun.set()
        held.wait(60)
        ended.append(True)

    loops = Loops([Loop("work", step)], health_file=None)
    loops.start()
    assert begun.wait(60)

    # When it is stopped, and the step may go on
    loops.stop()
    held.set()
    loops.join()

    # Then the step has ended
    assert ended == [True]


#: The step of a loop, and the log message with which its process exits.
FATAL = {
    "hangs": ("time.sleep(3_600)", "loop stalled"),
    "always fails": ("raise RuntimeError('a surprise')", "loop stalled"),
    "exits": ("raise SystemExit(0)", "loop crashed"),
}


@pytest.mark.parametrize("fault", FATAL)
def test_a_process_exits_with_an_error_when_a_loop_stalls(fault: str) -> None:
    # Given a process whose main thread is busy
    step, message = FATAL[fault]
    program = f"""
        import logging, time
        from eventbus import loop
        logging.basicConfig()
        loop.WATCH_INTERVAL = 0.05
        def step(until):
            {step}
        loop.Loops([
            loop.Loop("well", lambda until: None, interval=0.01),
            loop.Loop("ill", step, interval=0.01, limit=0.2),
        ], health_file=None).start()
        time.sleep(3_600)
    """

    # When a loop of the process fails
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )

    # Then the process exits with an error
    assert ended.returncode == 70
    assert message in ended.stderr


def _exists(file: Path) -> None:
    assert file.exists()


def _newer(file: Path, than: int) -> None:
    assert file.stat().st_mtime_ns > than
