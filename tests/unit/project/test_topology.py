"""The topology follows from what each service says and listens to, and nothing contradicts it."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import certifi
import pytest
from kombu.entity import Queue

from common.events import EVENTS as CONTRACTS
from common.kombu_topology import (
    ANALYTICS,
    BUS,
    CONSUMERS,
    DEAD_LETTERS,
    EVENTS,
    FRAUD,
    INVENTORY,
    NOTIFICATION,
    ORDER,
    SERVICES,
    STREAM,
    TICKS,
    topology,
)
from deploy.local.processes.programs import PROGRAMS
from eventbus.events.conversion import understood
from eventbus.events.versions import versions
from eventbus.topology.limits import DELIVERY_LIMIT, RETRY_TIERS, UNLIMITED
from eventbus.topology.objects import Binding, Topology, event_queue
from eventbus.topology.service import MISSED, PARKED, Service
from eventbus.topology.users import TASK_EVENTS, User

REPOSITORY = Path(__file__).parents[3]
PACKAGES = [service.package for service in SERVICES]
SOURCES = (
    "eventbus",
    "common",
    "celeryconfig",
    "monitor",
    "scheduler",
    "console",
    "deploy",
    *PACKAGES,
)

EVERY_TYPE = sorted(t for t in CONTRACTS if versions(t)[-1] == t)


@pytest.fixture(scope="module")
def whole() -> Topology:
    """The topology of the system."""
    return topology()


def queue(whole: Topology, name: str) -> dict[str, Any]:
    """Return the arguments of a queue."""
    (found,) = (q for q in whole.queues if q.name == name)
    arguments: dict[str, Any] = found.queue_arguments
    return arguments


def bindings_of(whole: Topology, queue: str) -> set[tuple[str, str]]:
    return {(b.exchange, b.routing_key) for b in whole.bindings if b.queue == queue}


# --- What is said, and who listens --------------------------------------------------------------


@pytest.mark.parametrize("event_type", EVERY_TYPE)
def test_an_event_is_published_by_exactly_one_service_and_consumed_by_another(
    event_type: str,
) -> None:
    publishers = {s.name for s in SERVICES if event_type in s.published_types}
    consumers = {s.name for s in SERVICES if event_type in s.consumed_types}

    assert len(publishers) == 1
    assert consumers - publishers == consumers != set()


def test_an_older_version_is_heard_only_if_it_is_published() -> None:
    for event_type in CONTRACTS.keys() - set(EVERY_TYPE):
        publishers = [s.name for s in SERVICES if event_type in s.published_types]
        assert len(publishers) == 1 or not any(event_type in s.consumed_types for s in SERVICES)


def test_services_speak_of_nothing_but_known_events_and_of_each_once() -> None:
    for service in SERVICES:
        assert set(service.published_types) | set(service.consumed_types) <= set(CONTRACTS)
        for types in (service.published_types, service.consumed_types, service.ticks):
            assert len(set(types)) == len(types)


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_a_service_has_a_handler_for_exactly_what_it_consumes(service: Service) -> None:
    handlers = importlib.import_module(f"{service.package}.handlers").HANDLERS

    taken = [event_type for contract in handlers for event_type in understood(contract)]
    assert set(taken) >= set(service.consumed_types)
    assert len(set(taken)) == len(taken)
    # in the newest version only, and none whose every version is unheard
    assert all(versions(contract.TYPE)[-1] == contract.TYPE for contract in handlers)
    assert all(set(understood(contract)) & set(service.consumed_types) for contract in handlers)
    assert all(CONTRACTS[contract.TYPE] is contract for contract in handlers)


@pytest.mark.parametrize("service", SERVICES, ids=lambda s: s.name)
def test_a_service_that_publishes_has_a_relay(service: Service) -> None:
    assert ("relay" in service.ticks) == bool(service.publishes)


# --- Queues -------------------------------------------------------------------------------------


def test_no_two_objects_have_one_name(whole: Topology) -> None:
    for kind in (whole.exchanges, whole.queues, whole.users):
        assert max(Counter(thing.name for thing in kind).values()) == 1
    assert len(set(whole.bindings)) == len(whole.bindings)


def test_every_object_survives_a_restart_and_is_declared_by_nobody_else(whole: Topology) -> None:
    for thing in (*whole.exchanges, *whole.queues):
        assert thing.durable
        assert not thing.auto_delete
        assert thing.no_declare


def test_every_queue_has_a_type(whole: Topology) -> None:
    # Celery asks for the right QoS only if it sees that a queue is a quorum queue.
    for found in whole.queues:
        expected = "stream" if found.name == STREAM else "quorum"
        assert found.queue_arguments["x-queue-type"] == expected


def test_every_binding_joins_what_exists_and_every_queue_has_one(whole: Topology) -> None:
    exchanges = {exchange.name for exchange in whole.exchanges}
    queues = {q.name for q in whole.queues}

    # Onlookers bind their own queues.
    assert {b.exchange for b in whole.bindings} == exchanges - {TASK_EVENTS.name}
    assert {b.queue for b in whole.bindings} == queues


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_an_event_queue_has_limits_and_nothing_in_it_expires(
    whole: Topology, service: Service
) -> None:
    arguments = queue(whole, service.queue)

    assert arguments["x-queue-type"] == "quorum"
    assert arguments["x-delivery-limit"] == DELIVERY_LIMIT > 0
    assert arguments["x-dead-letter-routing-key"] == service.name
    assert arguments["x-max-length"] > 0
    assert "x-message-ttl" not in arguments
    assert "x-expires" not in arguments


@pytest.mark.parametrize("service", [ORDER, INVENTORY], ids=lambda s: s.name)
def test_the_queue_of_an_essential_service_loses_nothing(whole: Topology, service: Service) -> None:
    arguments = queue(whole, service.queue)

    assert arguments["x-dead-letter-exchange"] == DEAD_LETTERS.name
    # At-least-once dead-lettering works with reject-publish only; otherwise it is at most once.
    assert arguments["x-dead-letter-strategy"] == "at-least-once"
    assert arguments["x-overflow"] == "reject-publish"


#: One that is added later gets the same without saying so.
GIFTS = Service(name="gifts", package="gifts_worker", bus=BUS, consumes=("order.created",))


@pytest.mark.parametrize("service", [NOTIFICATION, FRAUD, GIFTS], ids=lambda s: s.name)
def test_the_queue_of_any_other_service_refuses_nothing(service: Service) -> None:
    # given
    whole = topology((*SERVICES, GIFTS))
    arguments = queue(whole, service.queue)
    (exchange,) = (e for e in whole.exchanges if e.name == service.overflow)

    # then it drops its oldest message, and a marker records it
    assert arguments["x-overflow"] == "drop-head"
    assert "x-dead-letter-strategy" not in arguments
    assert arguments["x-dead-letter-exchange"] == service.overflow
    assert exchange.type == "headers"
    assert [b for b in whole.bindings if b.exchange == service.overflow] == [
        Binding(
            exchange=service.overflow,
            queue=service.overflow,
            headers=(("x-first-death-reason", "maxlen"),),
        )
    ]
    # RabbitMQ 4 would drop a marker that a killed process took too often
    assert queue(whole, service.overflow) == {
        "x-queue-type": "quorum",
        "x-max-length": 1,
        "x-delivery-limit": UNLIMITED,
    }
    # and everything else goes to the parking lot, as from every other queue
    assert exchange.arguments == {"alternate-exchange": DEAD_LETTERS.name}
    assert (DEAD_LETTERS.name, service.name) in bindings_of(whole, service.parking_lot)


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_an_event_queue_gets_exactly_what_its_service_consumes(
    whole: Topology, service: Service
) -> None:
    copies = set() if service.essential else {(service.retry_exchange, MISSED)}
    assert (
        bindings_of(whole, service.queue)
        == {(EVENTS.name, t) for t in service.consumed_types} | copies
    )


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_a_worker_consumes_from_the_queue_that_the_topology_declares(
    whole: Topology, service: Service
) -> None:
    consumed = event_queue(service)

    assert consumed.name == service.queue
    assert consumed.queue_arguments == queue(whole, service.queue)


@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_a_parking_lot_keeps_everything_for_ever(whole: Topology, service: Service) -> None:
    assert queue(whole, service.parking_lot) == {
        "x-queue-type": "quorum",
        "x-delivery-limit": UNLIMITED,
    }
    assert bindings_of(whole, service.parking_lot) == {
        (DEAD_LETTERS.name, service.name),
        (service.retry_exchange, PARKED),
    }


@pytest.mark.parametrize("tiers", [RETRY_TIERS, (0.4, 1.6)])
@pytest.mark.parametrize("service", CONSUMERS, ids=lambda s: s.name)
def test_each_retry_tier_leads_back_to_its_own_service_only(
    service: Service, tiers: tuple[float, ...]
) -> None:
    # given
    whole = topology(retry_tiers=tiers)
    names = {f"{service.retry_exchange}.{seconds:g}s": seconds for seconds in tiers}

    # then
    assert names.keys() == {
        q.name for q in whole.queues if q.name.startswith(f"{service.retry_exchange}.")
    }
    for name, seconds in names.items():
        # The default exchange: routed by the queue's name, past every binding.
        assert queue(whole, name) == {
            "x-queue-type": "quorum",
            "x-message-ttl": seconds * 1000,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": service.queue,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
        assert bindings_of(whole, name) == {(service.retry_exchange, f"{seconds:g}s")}


def test_retry_tiers_ascend() -> None:
    assert list(RETRY_TIERS) == sorted(set(RETRY_TIERS))


def test_ticks_that_wait_become_one(whole: Topology) -> None:
    for service in SERVICES:
        for tick in service.ticks:
            name = service.tick_queue(tick)
            assert queue(whole, name) == {
                "x-queue-type": "quorum",
                "x-max-length": 1,
                "x-message-ttl": 10_000,
            }
            assert bindings_of(whole, name) == {(TICKS.name, name)}


def test_a_new_subscriber_changes_nothing_for_the_others(whole: Topology) -> None:
    # when
    grown = topology((*SERVICES, GIFTS))

    # then what is new is all its own
    def names(found: Topology) -> set[Any]:
        queues: set[Any] = {(q.name, str(q.queue_arguments)) for q in found.queues}
        return queues | set(found.bindings) | set(found.users) | {e.name for e in found.exchanges}

    assert names(whole) - names(grown) == lookers(whole)
    new = names(grown) - names(whole) - lookers(grown)
    assert {
        "gifts.retry",
        Binding(exchange=EVENTS.name, queue="gifts.queue", routing_key="order.created"),
        Binding(exchange=EVENTS.name, queue="gifts.queue", routing_key="order.created.v2"),
    } < new
    for thing in new:
        name = thing[0] if isinstance(thing, tuple) else getattr(thing, "queue", None) or thing
        assert str(getattr(name, "name", name)).startswith("gifts")


def lookers(whole: Topology) -> set[User]:
    """Return the users who see every parking lot."""
    return {user for user in whole.users if user.name == "console"}


def test_a_service_that_only_speaks_has_no_queue_for_events() -> None:
    feed = Service(
        name="feed", package="feed", bus=BUS, publishes=("order.created",), ticks=("relay",)
    )

    alone = topology((feed,))

    assert [q.name for q in alone.queues] == ["feed.relay", STREAM]
    assert [b.queue for b in alone.bindings] == ["feed.relay"]


# --- The stream ---------------------------------------------------------------------------------


def test_the_stream_keeps_exactly_what_some_service_consumes(whole: Topology) -> None:
    consumed = {event_type for service in SERVICES for event_type in service.consumed_types}

    assert bindings_of(whole, STREAM) == {(EVENTS.name, t) for t in consumed}


def test_a_type_that_nobody_consumes_has_no_queue_at_all_so_that_the_broker_returns_it() -> None:
    # given
    feed = Service(
        name="feed", package="feed", bus=BUS, publishes=("price.changed",), ticks=("relay",)
    )

    # when
    grown = topology((*SERVICES, feed))

    # then
    keys = {b.routing_key for b in grown.bindings if b.exchange == EVENTS.name}
    assert keys
    assert not any(re.search("[#*]", key) for key in keys)
    assert "price.changed" not in keys


def test_the_stream_has_a_limit_in_bytes_and_in_age(whole: Topology) -> None:
    assert queue(whole, STREAM) == {
        "x-queue-type": "stream",
        "x-max-age": "14D",
        "x-max-length-bytes": 10_000_000_000,
        "x-stream-max-segment-size-bytes": 20_000_000,
    }


# --- Rights -------------------------------------------------------------------------------------


def allowed(pattern: str, names: set[str]) -> set[str]:
    # RabbitMQ looks for the pattern anywhere in the name.
    return {name for name in names if re.search(pattern, name)}


def every_name(whole: Topology) -> set[str]:
    """Return every name that exists, and for each some that nearly do."""
    names = {thing.name for thing in (*whole.exchanges, *whole.queues, *whole.users)}
    names |= {*CONTRACTS, ONLOOKER}
    near = {
        near
        for name in names
        for near in (f"x{name}", f"{name}x", name.replace(".", "x"), name.upper())
    }
    foreign = {"amq.default", "amq.topic", "amq.direct", "amq.fanout", "orders", "queue", "#"}
    return names | (near - names) | foreign


#: A queue that Flower or the exporter makes for itself.
ONLOOKER = f"{TASK_EVENTS.name}.{UUID(int=7)}"

#: User, to what it may write, read, and publish to the exchange of the events.
RIGHTS = {
    **{
        service.name: (
            ({service.retry_exchange, TASK_EVENTS.name} if service.consumes else set())
            | ({EVENTS.name} if service.publishes else set()),
            ({service.queue} if service.consumes else set())
            | ({STREAM} if service is ANALYTICS else set())
            | ({STREAM, service.overflow} if service in (NOTIFICATION, FRAUD) else set())
            | {service.tick_queue(tick) for tick in service.ticks},
            set(service.published_types),
        )
        for service in SERVICES
    },
    "scheduler": ({TICKS.name}, set(), set()),
    "monitor": ({ONLOOKER}, {ONLOOKER, TASK_EVENTS.name}, set()),
    # RabbitMQ's name for the exchange that has none.
    "console": ({"amq.default"}, {service.parking_lot for service in CONSUMERS}, set()),
    "replayer": ({"amq.default"}, {STREAM}, set()),
}


def test_there_are_no_other_users(whole: Topology) -> None:
    assert {user.name for user in whole.users} == set(RIGHTS)


@pytest.mark.parametrize("name", RIGHTS)
def test_a_user_may_do_exactly_what_it_needs(whole: Topology, name: str) -> None:
    # given
    (user,) = (user for user in whole.users if user.name == name)
    writes, reads, topics = RIGHTS[name]
    names = every_name(whole)

    # then
    assert allowed(user.configure, names) == ({ONLOOKER} if name == "monitor" else set())
    assert allowed(user.write, names) == writes
    assert allowed(user.read, names) == reads
    assert allowed(user.topics, names) == topics


def test_only_who_looks_has_a_tag_and_nobody_is_an_administrator(whole: Topology) -> None:
    assert {user.name: user.tags for user in whole.users if user.tags} == {
        "monitor": ("monitoring",),
        "console": ("monitoring",),
    }


# --- The source ---------------------------------------------------------------------------------


def test_no_other_module_spells_the_name_of_a_queue_or_an_exchange(whole: Topology) -> None:
    # given
    objects = {thing.name for thing in (*whole.exchanges, *whole.queues)}
    names = re.compile(rf"(?<![\w.])({'|'.join(map(re.escape, sorted(objects)))})(?![\w.])")
    suffixes = re.compile(r"\.(queue|dlq|retry|overflow|spare|relay|mailer|reader)(\.|$)")

    # when
    spelled = [
        f"{path.relative_to(REPOSITORY)}: {literal!r}"
        for package in SOURCES
        for path in (REPOSITORY / package).rglob("*.py")
        if path.name != "kombu_topology.py" and path.parent.name != "topology"
        for literal in literals(path)
        if names.search(literal) or suffixes.search(literal)
    ]

    # then
    assert spelled == []


def literals(path: Path) -> list[str]:
    """Return a module's string literals, without its docstrings and the modules it names."""
    tree = ast.parse(path.read_text())
    documentation = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in documentation
    ]


# --- The processes ------------------------------------------------------------------------------

#: Prints what the Celery app of each module consumes, runs and sends by the clock.
DESCRIBE = """
import importlib, json, sys

def describe(app):
    app.finalize()
    return {
        "queues": [q.name for q in app.conf.task_queues or ()],
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
    """What the Celery app of each process does, by its module."""
    modules = [re.search(r"-A (\S+)", program.command) for program in PROGRAMS]
    required = ("BROKER_USER", "BROKER_PASSWORD", "DATABASE_NAME", "DATABASE_USER")
    environment = dict.fromkeys((*required, "DATABASE_PASSWORD"), "some")
    environment["MAIL_FROM"] = "shop@example.com"
    environment |= dict.fromkeys(("BROKER_CA_FILE", "DATABASE_CA_FILE"), certifi.where())
    done = subprocess.run(
        [sys.executable, "-c", DESCRIBE, *(found[1] for found in modules if found)],
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
def test_a_services_worker_reads_its_own_queue_and_runs_what_it_consumes(
    processes: dict[str, dict[str, Any]], service: Service
) -> None:
    worker = processes[f"{service.package}.worker"]

    assert worker["queues"] == [service.queue]
    assert set(worker["tasks"]) >= set(service.consumed_types)
    assert worker["schedule"] == {}


def test_each_tick_has_one_process_that_runs_nothing_else(
    processes: dict[str, dict[str, Any]],
) -> None:
    ticks = {s.tick_queue(tick) for s in SERVICES for tick in s.ticks}
    tickers = [p for name, p in processes.items() if not name.endswith((".worker", ".beat"))]

    assert sorted(ticker["queues"] for ticker in tickers) == sorted([tick] for tick in ticks)
    assert all(ticker["tasks"] == ticker["queues"] for ticker in tickers)


def test_the_clock_ticks_exactly_what_the_services_wait_for(
    processes: dict[str, dict[str, Any]],
) -> None:
    ticks = {s.tick_queue(tick) for s in SERVICES for tick in s.ticks}

    schedule = processes["scheduler.beat"]["schedule"]

    # then each is sent once a second, by the clock that nothing steps
    assert schedule == {tick: [tick, 1.0, "uptime"] for tick in ticks}


def test_the_named_services_are_all_services() -> None:
    assert {ORDER, INVENTORY, NOTIFICATION, FRAUD, ANALYTICS} == set(SERVICES)
    assert all(isinstance(event_queue(service), Queue) for service in CONSUMERS)
