"""The usage of a process includes that of its children."""

import os
import subprocess

from deploy.local.processes.leftovers import family
from deploy.local.processes.usage import usage
from testkit.eventually import eventually

#: Starts another shell and waits for it.
PARENT = "sh -c 'while :; do :; done' & wait"


def test_the_usage_of_a_process_includes_its_children() -> None:
    # Given a process that waits for a busy child
    with subprocess.Popen(["/bin/sh", "-c", PARENT], start_new_session=True) as parent:
        try:
            # Then both of them count
            def child_counts() -> None:
                assert len(family({parent.pid})) == 2
                assert usage(parent.pid).cpu >= 0.1
                assert usage(parent.pid).memory > 0

            eventually(child_counts)
        finally:
            os.killpg(parent.pid, 9)


def test_the_usage_of_an_ended_process_is_zero() -> None:
    # Given a process that has exited
    with subprocess.Popen(["/bin/true"]) as ended:
        ended.wait()

    # Then its usage is zero
    assert usage(ended.pid).cpu == 0
    assert usage(ended.pid).memory == 0
