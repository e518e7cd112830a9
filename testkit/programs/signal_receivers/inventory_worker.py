"""The failing inventory worker, with receivers of Celery's signals.

One receiver writes a line of JSON for each signal to the file `$SIGNALS`; others raise exceptions.
"""

import json
import os
from pathlib import Path

from celery import signals

from testkit.processes.signals import SignalCall, connect
from testkit.programs.failing.inventory_worker import app  # noqa: F401


def broken(_: SignalCall) -> None:
    """Raise, as a receiver with a bug does."""
    raise ValueError("a receiver has a bug")


def record(call: SignalCall) -> None:
    """Append a line for a signal."""
    request = call.request
    line = {
        "pid": os.getpid(),
        "signal": call.name,
        "state": call.state,
        "task": call.task.name,
        "task_id": request.id,
        "order": request.kwargs["order"],
        "retries": request.retries,
        "hostname": request.hostname,
        "headers": sorted(vars(request).keys() & {"task", "id", "root_id", "argsrepr", "lang"}),
    }
    with Path(os.environ["SIGNALS"]).open("a") as lines:
        lines.write(json.dumps(line) + "\n")


connect(broken)
connect(record)


@signals.worker_process_init.connect(weak=False)
def in_each_child(**_: object) -> None:
    """Connect another receiver in the child, as APM agents do."""
    connect(broken)
