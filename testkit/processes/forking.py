"""PROCESS: loads the libraries of the system's programs, and forks into a program on request.

`python -m testkit.processes.forking FD` reads a line of JSON for each program from the socket with
this number, and writes a line when the program has started and another when it has exited. When the
socket is closed, or on SIGTERM, it kills all programs with their children, and exits. See
`launcher`.
"""

import gc
import json
import os
import runpy
import select
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import Any

from deploy.local import REPOSITORY
from eventbus.parent import exit_with
from testkit.processes.call_record import CallRecord

#: The imports of the programs from other projects.
_LIBRARIES = (
    "celery.bin.beat",
    "celery.bin.worker",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.concurrency.prefork",
    "celery.concurrency.solo",
    "celery.concurrency.thread",
    "celery.events.dispatcher",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "email.message",
    "email.policy",
    "flask_openapi3",
    "flask_sqlalchemy",
    "httpx",
    "jinja2",
    "kombu.transport.pyamqp",
    "msgspec",
    "opentelemetry.exporter.otlp.proto.http.trace_exporter",
    "opentelemetry.sdk.trace.export",
    "psycopg2.extras",
    "pydantic_settings",
    "smtplib",
    "sqlalchemy.dialects.postgresql.psycopg2",
    "sqlalchemy.orm",
    "yaml",
)

#: The packages of this project that all programs import. Their modules read no environment, and
#: each fork has its own random numbers.
_PACKAGES = ("eventbus", "common")

#: The signals that this process handles, and its programs do not.
_SIGNALS = (signal.SIGCHLD, signal.SIGTERM)

Request = dict[str, Any]


def main() -> None:
    """Serve requests until the socket is closed; in each fork, run the program."""
    requests = socket.socket(fileno=int(sys.argv[1]))
    # The exit of a child, or a SIGTERM, interrupts the wait for the next request.
    wakes, woken = socket.socketpair()
    woken.setblocking(False)
    signal.set_wakeup_fd(woken.fileno())
    for number in _SIGNALS:
        signal.signal(number, lambda *_: None)
    _load()
    running: set[int] = set()
    try:
        request = _serve(requests, wakes, running)
    finally:
        # Programs are killed with their children, which may be suspended, because no other signal
        # ends a suspended process.
        for pid in running:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
    if request:
        for connection in (requests, wakes, woken):
            connection.close()
        _run(request)


def _load() -> None:
    """Import the modules that the programs have in common."""
    for library in _LIBRARIES:
        import_module(library)
    for package in map(import_module, _PACKAGES):
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            # No program migrates, and Alembic itself runs the environment of its revisions.
            if ".migrations" not in module.name and not module.name.endswith(".__main__"):
                import_module(module.name)
    gc.collect()
    gc.freeze()


def _serve(requests: socket.socket, wakes: socket.socket, running: set[int]) -> Request | None:
    """Return a request in the forked process that runs it, and None when all programs must end.

    `running` receives the pids of the programs.
    """
    read = b""
    while True:
        ready, _, _ = select.select([requests, wakes], [], [])
        if wakes in ready:
            if signal.SIGTERM in wakes.recv(4096):
                return None
            _report_ended(requests, running)
        if requests in ready:
            received = requests.recv(65_536)
            if not received:
                return None
            *lines, read = (read + received).split(b"\n")
            for line in lines:
                # A signal that arrives before the program has its own handlers must wait.
                signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
                if (pid := os.fork()) == 0:
                    running.clear()
                    request: Request = json.loads(line)
                    return request
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                running.add(pid)
                _send(requests, pid, None)


def _report_ended(requests: socket.socket, running: set[int]) -> None:
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            running.discard(pid)
            _send(requests, pid, os.waitstatus_to_exitcode(status))


def _send(requests: socket.socket, pid: int, status: int | None) -> None:
    requests.sendall(json.dumps({"pid": pid, "status": status}).encode() + b"\n")


def _run(request: Request) -> None:
    """Run the program in this process."""
    signal.set_wakeup_fd(-1)
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    exit_with(os.getppid(), signal.SIGKILL)
    os.setsid()
    log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    for file in (1, 2):
        os.dup2(log, file)
    os.close(log)
    os.chdir(REPOSITORY)
    os.environ.clear()
    os.environ.update(request["environment"])
    script, *arguments = request["command"]
    if Path(script).is_absolute():
        os.execve(script, request["command"], os.environ)
    if record := CallRecord.of(os.environ):
        record.begin()
    option, module, *arguments = arguments
    if (script, option) != ("python", "-m"):
        raise SystemExit(f"not a program that can be forked: {request['command']}")
    sys.argv = [script, *arguments]
    # The module may be among the loaded modules, and is run as a program here.
    if module not in _PACKAGES:
        sys.modules.pop(module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
