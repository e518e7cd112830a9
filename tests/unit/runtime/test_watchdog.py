"""The watchdog: the health file shows that a loop turns, and a loop that hangs ends its process."""

import os
import subprocess
import sys
from pathlib import Path

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


def test_a_process_ends_when_its_loop_hangs_and_not_before() -> None:
    process = subprocess.run(
        [sys.executable, "-c", HANGS], capture_output=True, text=True, timeout=60, check=False
    )

    assert process.returncode == os.EX_SOFTWARE
    assert process.stdout == "turned\n"
    assert "event loop stalled, process terminated" in process.stderr


def test_the_health_file_tells_what_keeps_a_worker_from_working(tmp_path: Path) -> None:
    # Given a watchdog that shows its state and, as it is not started, ends nothing
    file, state = tmp_path / "health" / "worker", ["ready"]
    watchdog = Watchdog(file, state=lambda: state[0])

    def assert_shown() -> None:
        watchdog.turned()
        assert file.exists()
        assert file.read_text() == f"{state[0]}\n"

    eventually(assert_shown)

    # When the worker pauses
    state[0] = "paused: the database takes no writes"

    # Then the file has the reason
    eventually(assert_shown)
