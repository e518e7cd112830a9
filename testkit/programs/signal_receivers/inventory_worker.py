"""The failing inventory's worker, whose team has connected receivers to Celery's signals.

One notes what it gets, a JSON line each in the file `$SIGNALS`; others raise.
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


def note(heard: SignalCall) -> None:
    """Add a line."""
    request = heard.request
    line = {
        "pid": os.getpid(),
        "signal": heard.name,
        "state": heard.state,
        "task": heard.task.name,
        "task_id": request.id,
        "order": request.kwargs["order"],
        "retries": request.retries,
        "hostname": request.hostname,
        "headers": sorted(vars(request).keys() & {"task", "id", "root_id", "argsrepr", "lang"}),
    }
    with Path(os.environ["SIGNALS"]).open("a") as lines:
        lines.write(json.dumps(line) + "\n")


connect(broken)
connect(note)


@signals.worker_process_init.connect(weak=False)
def in_each_child(**_: object) -> None:
    """Connect one more where APM agents do: in the child."""
    connect(broken)
