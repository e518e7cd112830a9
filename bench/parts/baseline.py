"""The comparison of the whole flow with its plain build, which alternate on one machine.

`ours` runs the services that the plain build also has, without mailer and observers. `full` runs
every program, and its price includes the emails, which favours the plain build.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

from bench.figures.ratios import comparable, ratios
from bench.figures.spread import merged
from bench.parts import curve, intake
from bench.plain import topology
from bench.plain.processes import consumers
from bench.system.full import Full
from bench.system.measured import ALIKE, Measured, ended, families, of
from bench.system.servers import PLENTY, SKUS
from common.kombu_topology import CONSUMERS, EVENTS, SERVICES, STREAM
from testkit.processes.stack import Stack
from testkit.servers.databases import Databases
from testkit.servers.vhosts import fresh_vhost

#: Orders per second at which prices and latencies are compared, if all systems sustain them.
RATES = (20, 50)

#: The rate of `latency_ratio`: far below the limit of every system.
RATE = "20"

#: A rate above this fraction of a system's limit is not compared: queues determine its latency.
_SUSTAINABLE = 0.9

#: The services of both builds.
_SHARED = ("order", "inventory", "notification")

Turn = Callable[[], AbstractContextManager[Measured]]
Turns = Mapping[str, Sequence[dict[str, Any]]]


def measure(stack: Stack, full: Full, repeat: int, seconds: int, log: curve.Log) -> dict[str, Any]:
    """Return the figures of each system, and the ratios of ours and of full to plain."""
    with ExitStack() as contexts:
        alike, plain = (contexts.enter_context(_fresh(stack, name)) for name in ("alike", "plain"))
        _unbind_others(alike)
        turns: dict[str, Turn] = {
            "ours": partial(_ours, alike),
            "full": full.running,
            "plain": partial(_plain, plain),
        }
        runs: dict[str, list[dict[str, Any]]] = {name: [] for name in turns}
        for number in range(1, repeat + 1):
            for name, turn in turns.items():
                with turn() as measured:
                    runs[name].append(one := _one(measured, seconds))
                log(f"baseline {number}/{repeat} {name}: {one['limit']['orders_per_s']:.0f}/s")
    return summary(runs)


def summary(turns: Turns) -> dict[str, Any]:
    """Return the ratios of the turns, and the spread of each system's figures."""
    compared = {name: ratios(turns[name], turns["plain"]) for name in ("ours", "full")}
    ours = compared["ours"]
    return {
        "orders_ratio": ours["orders"]["median"],
        "cpu_ratio": ours["cpu"]["limit"]["median"],
        "latency_ratio": ours["latency"].get(RATE, {}).get("median"),
        "baseline": {
            "ratios": compared,
            **{name: merged(comparable(repeats)) for name, repeats in turns.items()},
        },
    }


def _one(measured: Measured, seconds: int) -> dict[str, Any]:
    limit = curve.at_limit(measured, seconds)
    rates = [rate for rate in RATES if rate <= _SUSTAINABLE * limit["orders_per_s"]]
    at = {str(rate): curve.at_rate(measured, rate, seconds) for rate in rates}
    return {"limit": limit, "rates": at}


@contextmanager
def _ours(stack: Stack) -> Iterator[Measured]:
    stack.start(*ALIKE)
    try:
        yield of(stack, "ours", queues=tuple(f"{name}.queue" for name in _SHARED))
    finally:
        stack.stop()


@contextmanager
def _plain(stack: Stack) -> Iterator[Measured]:
    with (
        intake.plain_api(stack, stack.directory) as (url, api),
        consumers(stack, stack.vhost, stack.directory) as others,
    ):
        leaders = {"api": api, **others}
        yield of(
            stack,
            "plain",
            url=url,
            queues=tuple(topology.BINDINGS),
            pids=lambda: families(leaders),
            ended=lambda: ended(leaders),
        )


@contextmanager
def _fresh(stack: Stack, name: str) -> Iterator[Stack]:
    """Create a separate vhost and databases on the same servers."""
    directory = stack.directory / name
    directory.mkdir(exist_ok=True)
    databases = Databases.prepare(stack.servers)
    with (
        fresh_vhost(stack.servers) as vhost,
        databases.fresh() as database_of,
        Stack.on(stack.servers, database_of, vhost, stack.mailbox, directory) as fresh,
    ):
        fresh.stock(**dict.fromkeys(SKUS, PLENTY))
        yield fresh


def _unbind_others(stack: Stack) -> None:
    # These queues have no consumer here, and filling them would add to our price.
    types = [event_type for service in SERVICES for event_type in service.publishes]
    queues = [service.queue for service in CONSUMERS if service.name not in _SHARED]
    with stack.vhost.connect() as connection:
        for queue in (*queues, STREAM):
            for event_type in types:
                connection.default_channel.queue_unbind(queue, EVENTS.name, event_type)
