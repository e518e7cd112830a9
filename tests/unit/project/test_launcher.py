"""The launcher of the tests: each program is a process that is identified by its id."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.local import REPOSITORY
from testkit.eventually import becomes, eventually
from testkit.processes.launcher import INTERPRETERS, Launched, Launcher, launcher
from testkit.processes.liveness import is_running

#: Starts a program whose log contains its id, and that of its suspended child.
RUN = """
import sys, time
from pathlib import Path
from testkit.processes.launcher import launcher
script = "sleep 600 & kill -STOP $!; echo $$; echo $!; wait"
launcher().start(["/bin/sh", "-c", script], {"PATH": "/usr/bin:/bin"}, Path(sys.argv[1]))
time.sleep(600)
"""

ENVIRONMENT = INTERPRETERS | {"PATH": os.environ["PATH"]}


def started(log: Path, *arguments: str) -> Launched:
    return launcher().start(["python", "-m", *arguments], ENVIRONMENT, log)


def pids(log: Path) -> list[int]:
    assert log.exists()
    assert len(log.read_text().split()) == 2
    program, child = log.read_text().split()
    return [int(program), int(child)]


def test_a_program_writes_its_log_and_reports_its_status(tmp_path: Path) -> None:
    log = tmp_path / "log"

    fine = started(log, "platform")
    failed = started(log, "no.such.module")

    assert (fine.wait(60), failed.wait(60)) == (0, 1)
    assert "Linux" in log.read_text()
    assert "no.such.module" in log.read_text()


def test_a_killed_program_reports_the_signal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    running = started(log, "http.server", "--bind", "127.0.0.1", "0")
    assert running.poll() is None

    os.kill(running.pid, signal.SIGKILL)

    assert running.wait(60) == -signal.SIGKILL


def test_a_suspended_child_does_not_outlive_a_killed_run(tmp_path: Path) -> None:
    # Given a run with a program that has a suspended child
    log = tmp_path / "log"
    with subprocess.Popen([sys.executable, "-c", RUN, str(log)], cwd=REPOSITORY) as run:
        try:
            program, child = eventually(lambda: pids(log))
            assert all(map(is_running, (program, child)))
        finally:
            # When the run is killed
            run.kill()

    # Then both exit
    becomes(lambda: [pid for pid in (program, child) if is_running(pid)], [])


def test_a_reused_process_id_is_not_taken_for_an_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Given a launcher, and the reports of two programs with the same id
    own = Launcher.__new__(Launcher)
    own._started, own._ended, own._read = [], {}, b""
    lines = [b'{"pid": 7, "status": null}\n{"pid": 7, "status": 0}\n{"pid": 7, "status": null}\n']
    own._socket = type("Socket", (), {"settimeout": None, "recv": lambda *_: lines.pop()})()  # type: ignore[assignment]
    monkeypatch.setattr(own._socket, "settimeout", lambda _: None, raising=False)

    # When the reports are read
    own._receive(0.0)

    # Then the second program is running
    assert own._started == [7, 7]
    assert own._ended == {}
