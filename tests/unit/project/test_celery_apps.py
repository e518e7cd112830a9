"""Each Celery app consumes the queues of its service, and runs no other task."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import certifi
import pytest

from common.kombu_topology import (
    CONSUMERS,
    SERVICES,
)
from deploy.local.processes.programs import PROGRAMS
from eventbus.consumer.prefetch import BATCH_LIMIT
from eventbus.topology.service import Service

REPOSITORY = Path(__file__).parents[3]

#: Prints the queues, prefetch, tasks and schedule of the Celery app of each module.
DESCRIBE = """
import importlib, json, sys

def describe(app):
    app.finalize()
    return {
        "queues": [q.name for q in app.conf.task_queues or ()],
        "prefetch": app.conf.worker_prefetch_multiplier,
        "tasks": [name for name in app.tasks if not name.startswith("celery.")],
        "schedule": {
            name: [entry["task"], s.run_every.total_seconds(), s.nowfun.__name__]
            for name, entry in app.conf.beat_schedule.items() for s in [entry["schedule"]]
        },
    }

print(json.dumps({m: describe(importlib.import_module(m).app) for m in sys.argv[1:]}))
"""


@pytest.fixture(scope="module")
def processes() -> dict[str, dict[str, Any]]:
    """The queues, tasks and schedules of all Celery apps by their modules."""
    modules = [re.search(r"-A (\S+)", program.command) for program in PROGRAMS]
    required = ("BROKER_USER", "BROKER_PASSWORD", "DATABASE_NAME", "DATABASE_USER")
    environment = dict.fromkeys((*required, "DATABASE_PASSWORD"), "some")
    environment["MAIL_FROM"] = "shop@example.com"
    environment |= dict.fromkeys(("BROKER_CA_FILE", "DATABASE_CA_FILE"), certifi.where())
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE, *(match[1] for match in modules if match)],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    described: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return described


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_a_worker_consumes_its_queue_and_runs_its_types(
    processes: dict[str, dict[str, Any]], service: Service
) -> None:
    worker = processes[f"{service.package}.worker"]

    assert worker["queues"] == [service.queue]
    # The next full batch of each child is prefetched.
    assert worker["prefetch"] == 2 * BATCH_LIMIT
    assert set(worker["tasks"]) >= set(service.consumed_types)
    assert worker["schedule"] == {}


def test_each_tick_has_its_own_process(
    processes: dict[str, dict[str, Any]],
) -> None:
    ticks = {s.tick_queue(tick) for s in SERVICES for tick in s.ticks}
    tickers = [p for name, p in processes.items() if not name.endswith((".worker", ".beat"))]

    assert sorted(ticker["queues"] for ticker in tickers) == sorted([tick] for tick in ticks)
    assert all(ticker["tasks"] == ticker["queues"] for ticker in tickers)


def test_the_scheduler_sends_exactly_the_ticks_of_the_services(
    processes: dict[str, dict[str, Any]],
) -> None:
    ticks = {s.tick_queue(tick) for s in SERVICES for tick in s.ticks}

    schedule = processes["scheduler.beat"]["schedule"]

    # Then each is sent once a second, by a monotonic clock
    assert schedule == {tick: [tick, 1.0, "uptime"] for tick in ticks}
