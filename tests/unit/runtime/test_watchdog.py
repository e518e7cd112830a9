"""The watchdog touches the health file while the loop runs, and terminates a process that hangs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eventbus.watchdog import Watchdog
from testkit.eventually import eventually

HANGS = """
import logging, sys, time
from eventbus import watchdog
logging.basicConfig()
watchdog.LIMIT, watchdog.INTERVAL = 0.5, 0.1
watched = watchdog.Watchdog(None, state=lambda: "ready")
watched.start()
for _ in range(20):
    time.sleep(0.1)
    watched.turned()
print("turned", flush=True)
time.sleep(60)
"""


def test_a_process_is_terminated_only_when_its_loop_hangs() -> None:
    process = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False
    )

    assert process.returncode == os.EX_SOFTWARE
    assert process.stdout == "turned\n"
    assert "event loop stalled, process terminated" in process.stderr


#: A process that hangs after its standard output, which no other process reads, is full.
HANGS_SILENTLY = """
import fcntl, os, sys, time
from eventbus import loop, watchdog
from eventbus.telemetry.logs import configure_logging
configure_logging("INFO")
flags = fcntl.fcntl(1, fcntl.F_GETFL)
fcntl.fcntl(1, fcntl.F_SETFL, flags | os.O_NONBLOCK)
try:
    while True:
        os.write(1, b"." * 4096)
except BlockingIOError:
    fcntl.fcntl(1, fcntl.F_SETFL, flags)
if sys.argv[1] == "event loop":
    watchdog.LIMIT, watchdog.INTERVAL = 0.5, 0.1
    watchdog.Watchdog(None, state=lambda: "ready").start()
else:
    loop.WATCH_INTERVAL = 0.05
    step = loop.Loop("ill", lambda until: time.sleep(3_600), limit=0.2)
    loop.Loops([step], health_file=None).start()
time.sleep(3_600)
"""


@pytest.mark.parametrize("kind", ["event loop", "loops"])
def test_a_process_whose_log_is_not_read_is_terminated(kind: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", HANGS_SILENTLY, kind], stdout=subprocess.PIPE)
    try:
        assert process.wait(60) == os.EX_SOFTWARE
    finally:
        process.kill()
        process.communicate()


def test_the_health_file_contains_the_state_of_the_worker(tmp_path: Path) -> None:
    # Given a watchdog with a state; it terminates nothing because it is not started
    file, state = tmp_path / "health" / "worker", ["ready"]
    watchdog = Watchdog(file, state=lambda: state[0])

    def assert_shown() -> None:
        watchdog.turned()
        assert file.exists()
        assert file.read_text() == f"{state[0]}\n"

    eventually(assert_shown)

    with file.open() as probe:
        # When the worker pauses
        state[0] = "paused: the database takes no writes"

        # Then the file has the reason
        eventually(assert_shown)

        # And a probe that opened it before reads the whole earlier state, never an empty file
        assert probe.read() == "ready\n"
