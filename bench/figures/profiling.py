"""Profiles of each process while orders are placed as fast as the API accepts them."""

import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.parts import flow
from bench.system import measured
from deploy.local.problem import Problem, last_words
from testkit.processes.stack import Stack

PROGRAMS = ("api", "order-relay", "inventory-worker", "inventory-relay", "order-worker")

#: The number of functions of each program in the table.
SHOWN = 6

#: Samples per second of each process; each sample pauses the process for a moment.
_RATE = 100


def profile(stack: Stack, seconds: int, directory: Path) -> dict[str, list[tuple[str, float]]]:
    """Return each program's top functions with their share of its self time, in percent.

    The profiles are written to the directory, a file for each program, for https://speedscope.app.
    Only CPU time counts. The programs must be running.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    pids = {name: pids for name, pids in stack.pids().items() if name in PROGRAMS}
    with ExitStack() as recordings:
        for name, family in pids.items():
            recordings.enter_context(_recording(min(family), directory / f"{name}.json"))
        flow.throughput(measured.of(stack), seconds)
    return {name: _top(directory / f"{name}.json") for name in pids}


def top(recorded: Mapping[str, Any], shown: int = SHOWN) -> list[tuple[str, float]]:
    """Return the functions of a speedscope file with the most self time, in percent."""
    frames = [_name(frame) for frame in recorded["shared"]["frames"]]
    own: Counter[str] = Counter()
    for thread in recorded["profiles"]:
        for stack, weight in zip(thread["samples"], thread["weights"], strict=True):
            # A frame without a file is a whole process, not a function.
            if stack and recorded["shared"]["frames"][stack[-1]].get("file"):
                own[frames[stack[-1]]] += weight
    total = sum(own.values()) or 1
    return [(name, round(100 * weight / total, 1)) for name, weight in own.most_common(shown)]


@contextmanager
def _recording(pid: int, path: Path) -> Iterator[None]:
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid)]
    command += ["--subprocesses", "--rate", str(_RATE), "--format", "speedscope"]
    log = path.with_suffix(".log")
    with log.open("w") as output:
        running = subprocess.Popen(
            # Without a duration, py-spy records until it is interrupted or the process exits.
            [*command, "--output", str(path)],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield
        finally:
            running.send_signal(signal.SIGINT)
            running.wait(timeout=60)
    if not path.exists():
        # py-spy uses ptrace, which requires root or kernel.yama.ptrace_scope = 0.
        raise Problem(f"py-spy recorded no profile of {path.stem}: {last_words(log)}; see {log}")


def _top(path: Path) -> list[tuple[str, float]]:
    return top(json.loads(path.read_text()))


def _name(frame: Mapping[str, Any]) -> str:
    return f"{frame['name']} ({'/'.join(Path(frame['file'] or '').parts[-2:])})"
