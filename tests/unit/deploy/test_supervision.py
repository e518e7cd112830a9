"""While the supervisor stops, each command reports that it does."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from deploy.local import __main__ as commands
from deploy.local import stack
from deploy.local.ports import free_ports
from deploy.local.problem import Problem
from deploy.local.processes import leftovers, supervision
from deploy.local.processes.health import runs
from deploy.local.processes.process import Process
from deploy.local.processes.supervision import Stopping, Supervision
from deploy.local.stack import INFRASTRUCTURE, Stack
from deploy.local.state import create_state, delete_state, only_one, open_state
from testkit.eventually import eventually

#: Ends only when a file exists, and ignores its stop signal.
SLOW = 'trap "" TERM; touch ready; while [ ! -e end ]; do sleep 0.1; done; touch ended'

#: A process that the supervisor does not know.
PROCESS = Process(name="other", command=("/bin/true",), check=runs, stop_seconds=0)


@dataclass
class SlowRun:
    """A run with one process, which does not end before the test permits it."""

    stack: Stack
    directory: Path
    supervisor: "subprocess.Popen[bytes]"

    def begin_to_stop(self) -> None:
        """Send the supervisor its stop signal, and wait until it stops the process."""
        eventually(lambda: self._assert_exists("ready"))
        self.supervisor.terminate()
        eventually(self._assert_stopping)

    def end(self) -> None:
        """Permit the process to end."""
        (self.directory / "end").touch()

    def _assert_exists(self, name: str) -> None:
        assert (self.directory / name).exists()

    def _assert_stopping(self) -> None:
        try:
            self.stack.supervision.reports()
        except Stopping:
            return
        raise AssertionError("the supervisor runs")


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[SlowRun]:
    """A run of which the process is running."""
    state = create_state(tmp_path / "run")
    process = Process(
        name="slow",
        command=("/bin/sh", "-c", SLOW),
        check=runs,
        directory=tmp_path,
        stop_seconds=120,
    )
    run = Stack(state=state, ports=free_ports(), infrastructure=(process,), application=())
    run.supervision.configure({INFRASTRUCTURE: (process,)})
    supervisor = run.supervision.launch_attached()
    slow = SlowRun(run, tmp_path, supervisor)
    try:
        run.supervision.start(INFRASTRUCTURE, (process,))
        yield slow
    finally:
        slow.end()
        supervisor.terminate()
        supervisor.wait()
        leftovers.stop(state)
        delete_state(tmp_path / "run")


def test_a_stopping_run_is_reported(slow: SlowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a supervisor that waits for its process to end
    slow.begin_to_stop()
    monkeypatch.setattr(commands, "STATE", slow.stack.state.path)
    monkeypatch.setattr(stack, "describe", lambda *_: slow.stack)

    # Then `status` reports it
    status = CliRunner().invoke(commands.main, ["status"])
    assert (status.exit_code, status.stdout) == (
        1,
        "the processes are stopping; wait until they have exited, and try again\n",
    )

    # And `up` starts nothing
    with pytest.raises(Problem, match="the processes are stopping"):
        stack.up(slow.stack)


def test_a_second_stop_waits_for_the_first(slow: SlowRun, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a supervisor that waits for its process, which ends as soon as a command waits
    slow.begin_to_stop()
    wait = leftovers.wait_for_end

    def end_and_wait(pids: Iterable[int], seconds: float) -> bool:
        slow.end()
        return wait(pids, seconds)

    monkeypatch.setattr(leftovers, "wait_for_end", end_and_wait)

    # When everything is stopped again
    stopped = stack.down(slow.stack.state)

    # Then it was not killed
    assert stopped >= 1
    assert (slow.directory / "ended").exists()
    assert not leftovers.find(slow.stack.state)


def test_a_supervisor_that_does_not_respond_counts_as_not_running(
    slow: SlowRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a supervisor that stands still
    monkeypatch.setattr(supervision, "CALL_PATIENCE", 0.5)
    os.kill(slow.supervisor.pid, signal.SIGSTOP)
    try:
        # When commands call it, then they do not wait for it
        assert slow.stack.supervision.reports() == {}
        assert not slow.stack.supervision.runs()
    finally:
        os.kill(slow.supervisor.pid, signal.SIGCONT)


@pytest.mark.parametrize(
    "command",
    [
        Supervision.is_outdated,
        Supervision.update,
        lambda supervision: supervision.start(INFRASTRUCTURE, [PROCESS]),
        lambda supervision: supervision.kill(INFRASTRUCTURE, PROCESS),
    ],
    ids=["is_outdated", "update", "start", "kill"],
)
def test_a_command_does_not_wait_for_a_supervisor_that_has_stopped_responding(
    slow: SlowRun, monkeypatch: pytest.MonkeyPatch, command: Callable[[Supervision], object]
) -> None:
    # Given a supervisor that stands still after it has responded
    monkeypatch.setattr(supervision, "CALL_PATIENCE", 0.5)
    monkeypatch.setattr(supervision, "STOP_PATIENCE", 0.5)
    os.kill(slow.supervisor.pid, signal.SIGSTOP)
    try:
        # Then a command fails in one line
        with pytest.raises(Problem, match="supervisord does not respond; see "):
            command(slow.stack.supervision)
    finally:
        os.kill(slow.supervisor.pid, signal.SIGCONT)


@pytest.mark.parametrize("seconds", ["0", "-1", "1e9"])
def test_a_duration_outside_of_its_limits_is_rejected(seconds: str) -> None:
    status = CliRunner().invoke(commands.main, ["status", "--over", seconds])

    assert status.exit_code == 2
    assert "Invalid value for '--over'" in status.stderr


def test_data_are_deleted_under_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a command that begins when another one deletes the data
    path = tmp_path / "run"
    state = create_state(path)
    others: list[str] = []

    def delete(deleted: Path) -> None:
        try:
            with only_one(state):
                others.append("admitted")
        except Problem as problem:
            others.append(problem.message)
        delete_state(deleted)

    monkeypatch.setattr(commands, "STATE", path)
    monkeypatch.setattr(commands, "delete_state", delete)

    # When the data are deleted
    reset = CliRunner().invoke(commands.main, ["reset"])

    # Then it is rejected, then and afterwards
    running = f"another command is running in {state.path}; wait for it"
    assert (reset.exit_code, others) == (0, [running]), reset.output
    assert open_state(path) is None
    with pytest.raises(Problem, match="another command is running"), only_one(state):
        pass
