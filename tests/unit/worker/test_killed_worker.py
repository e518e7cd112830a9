"""The children of a worker that is killed."""

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from subprocess import PIPE

from testkit.eventually import becomes
from testkit.processes.liveness import is_running

#: A worker with two processes, one of which has a job: prints their ids once both have started.
WORKER = """
import time
from testkit.processes.pool import RunningPool
worker = RunningPool(2)
for _ in range(2):
    worker.call(time.sleep, 0.1)
worker.until_ended(2)
worker.call(time.sleep, 600)
print(*worker.pids, flush=True)
while True:
    worker.hub.run_once()
"""


def kill_all(pids: list[int]) -> None:
    for pid in filter(is_running, pids):
        os.kill(pid, signal.SIGKILL)


def test_the_processes_of_a_killed_worker_exit() -> None:
    # Given a worker with a busy process and a suspended one
    worker = subprocess.Popen([sys.executable, "-c", WORKER], stdout=PIPE, text=True)
    with worker, ExitStack() as cleanup:
        cleanup.callback(worker.kill)
        pids = [int(pid) for pid in worker.stdout.readline().split()]
        cleanup.callback(kill_all, pids)
        os.kill(pids[1], signal.SIGSTOP)

        # When the worker is killed
        worker.kill()
        worker.wait()

        # Then both processes exit
        assert len(pids) == 2
        becomes(lambda: [pid for pid in pids if is_running(pid)], [])
