"""Differences between a broker and a topology, each with the request that resolves it."""

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kombu.entity import Exchange, Queue

from common.kombu_topology import CONSUMERS, EVENTS
from console.broker.state import BrokerState, Object
from eventbus.topology.objects import Binding, Topology
from eventbus.topology.service import Service
from eventbus.topology.users import MONITOR_QUEUE, TASK_EVENTS

#: The problem of an object that does not exist.
MISSING = "missing"

#: The problem of a binding that this release does not have. A newer release may need the binding to
#: receive events, so it is removed only at an operator's request.
UNKNOWN = "not in the code"

#: The problem of a queue that receives events directly as well as through its parts.
SECOND_ROUTE = "a second route of its events"

_PRUNE = "orderctl topology apply --prune removes it, if no other release needs it"
#: The services whose queues can be replaced, by the name of the queue.
_REPLACEABLE = {service.queue: service for service in CONSUMERS}
_SPARE = {service.spare_queue for service in _REPLACEABLE.values()}


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to the management API."""

    method: str
    path: tuple[str, ...]
    body: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An object on the broker that differs from the code.

    A difference has the `request` that removes it, the service whose queue is to be replaced, or
    the `remedy` that is left to an operator.
    """

    kind: str
    name: str
    problem: str
    request: Request | None = None
    replaces: Service | None = None
    remedy: str | None = None

    def __str__(self) -> str:
        """Return the difference as one line."""
        line = f"{self.kind} {self.name}: {self.problem}"
        line += "; its messages are kept" * bool(self.replaces)
        return f"{line}; {self.remedy}" if self.remedy else line

    @property
    def is_harmless(self) -> bool:
        """Whether this release works despite the difference."""
        return self.problem == UNKNOWN

    @property
    def outcome(self) -> str:
        """The outcome of the difference's removal."""
        if self.replaces:
            return "replaced"
        if self.request is None:
            return "left"
        if self.request.method == "DELETE":
            return "removed"
        return "created" if self.problem == MISSING else "changed"


def differences(
    topology: Topology, state: BrokerState, *, prune: bool = False
) -> Iterator[Difference]:
    """Yield differences of the vhost's exchanges, queues and bindings, in the sequence of removal.

    `prune` removes the bindings that are not in the topology, which otherwise stay.
    """
    exchanges = [found for e in topology.exchanges for found in _exchange(e, state)]
    yield from exchanges
    queues = [found for queue in topology.queues for found in _queue(queue, state)]
    yield from (found for found in queues if not found.replaces)
    # An exchange of another type would route messages to the wrong queues.
    unusable = {e.name for e in exchanges if e.remedy}
    replaced = {found.name for found in queues if found.replaces}
    yield from _bindings(topology, state, unusable=unusable, replaced=replaced, prune=prune)
    # Queues are replaced last, when the objects to which the new queues refer exist.
    yield from (found for found in queues if found.replaces)


def changes(wanted: Mapping[str, Any], actual: Object) -> str:
    """Return a description of the values that differ on the broker, or an empty string."""
    return ", ".join(
        f"{name} is {actual.get(name)!r}, not {value!r}"
        for name, value in wanted.items()
        if actual.get(name) != value
    )


def _exchange(exchange: Exchange, state: BrokerState) -> Iterator[Difference]:
    wanted = {
        "type": exchange.type,
        "durable": exchange.durable,
        "auto_delete": exchange.auto_delete,
        "internal": False,
        "arguments": exchange.arguments or {},  # type: ignore[attr-defined]
    }
    path = ("exchanges", state.vhost, exchange.name)
    remedy = (
        "it cannot be changed in place: stop its publishers, delete it on the management page "
        "and apply again"
    )
    yield from _declared("exchange", wanted, state.exchanges.get(exchange.name), path, remedy)


def _queue(queue: Queue, state: BrokerState) -> Iterator[Difference]:
    wanted = {
        "durable": queue.durable,
        "auto_delete": queue.auto_delete,
        "arguments": queue.queue_arguments or {},  # type: ignore[attr-defined]
    }
    path = ("queues", state.vhost, queue.name)
    actual = state.queues.get(queue.name)
    if (service := _REPLACEABLE.get(queue.name)) and _is_replaced(service, wanted, actual, state):
        problem = changes(wanted, actual or {})
        if service.spare_queue in state.queues:
            problem = f"messages are in {service.spare_queue}"
        yield Difference(kind="queue", name=queue.name, problem=problem, replaces=service)
        return
    remedy = (
        "it cannot be changed in place: let it run empty, delete it on the management page "
        "and apply again"
    )
    yield from _declared("queue", wanted, actual, path, remedy)


def _is_replaced(
    service: Service, wanted: Mapping[str, Any], actual: Object | None, state: BrokerState
) -> bool:
    if service.spare_queue in state.queues:
        # The last run was interrupted.
        return True
    # A queue of another type was not declared by this project.
    unchanged = ("durable", "auto_delete")
    return (
        actual is not None
        and actual["arguments"] != wanted["arguments"]
        and actual["arguments"].get("x-queue-type") == "quorum"
        and all(actual[name] == wanted[name] for name in unchanged)
    )


def _declared(
    kind: str, wanted: Mapping[str, Any], actual: Object | None, path: tuple[str, ...], remedy: str
) -> Iterator[Difference]:
    name = path[-1]
    if actual is None:
        request = Request(method="PUT", path=path, body=wanted)
        yield Difference(kind=kind, name=name, problem=MISSING, request=request)
    elif problem := changes(wanted, actual):
        yield Difference(kind=kind, name=name, problem=problem, remedy=remedy)


def _bindings(
    topology: Topology,
    state: BrokerState,
    *,
    unusable: Collection[str],
    replaced: Collection[str],
    prune: bool,
) -> Iterator[Difference]:
    exchanges = {exchange.name for exchange in topology.exchanges}
    queues = {queue.name for queue in topology.queues}
    # A queue's binding to the default exchange, whose name is empty, comes with the queue.
    managed = [
        b
        for b in state.bindings
        if b["source"]
        and (b["source"] in exchanges or b["destination"] in queues)
        and b["destination"] not in _SPARE
        # Monitoring processes come and go, with their bindings.
        and not (b["source"] == TASK_EVENTS.name and re.fullmatch(MONITOR_QUEUE, b["destination"]))
    ]
    actual = {found for b in managed if (found := plain(b))}
    # Missing bindings come first, so that the replacement of a binding leaves no gap in which
    # events are lost.
    for binding in topology.bindings:
        # A queue that is replaced is bound during its replacement; an exchange is never replaced.
        can_be_bound = binding.exchange not in unusable and binding.queue not in replaced
        if binding not in actual and can_be_bound:
            yield _missing_binding(binding, state.vhost)
    for extra in managed:
        if plain(extra) not in topology.bindings:
            yield extra_binding(extra, topology, state.vhost, prune=prune)


def plain(binding: Object) -> Binding | None:
    """Return a broker's binding in the form of the topology, or None for other kinds of binding."""
    headers = {name: value for name, value in binding["arguments"].items() if name != "x-match"}
    target = "queue" if binding["destination_type"] == "queue" else "target_exchange"
    found = Binding(
        exchange=binding["source"],
        routing_key=binding["routing_key"],
        headers=tuple(sorted(headers.items())),
        **{target: binding["destination"]},
    )
    return found if found.arguments == binding["arguments"] else None


def _missing_binding(binding: Binding, vhost: str) -> Difference:
    kind, target = "q" if binding.queue else "e", binding.queue or binding.target_exchange
    path = ("bindings", vhost, "e", binding.exchange, kind, target)
    return Difference(
        kind="binding",
        name=_arrow(binding.exchange, _key(binding), target),
        problem=MISSING,
        request=Request(
            method="POST",
            path=path,
            body={"routing_key": binding.routing_key, "arguments": binding.arguments},
        ),
    )


def extra_binding(binding: Object, topology: Topology, vhost: str, *, prune: bool) -> Difference:
    """Return a binding that is not in the topology; `prune` removes it."""
    source, destination = binding["source"], binding["destination"]
    kind = "q" if binding["destination_type"] == "queue" else "e"
    path = ("bindings", vhost, "e", source, kind, destination, binding["properties_key"])
    problem, remedy = UNKNOWN, _PRUNE
    if service := _second_route(binding, topology):
        problem = SECOND_ROUTE
        remedy = f"orderctl topology scale {service.name} PARTS removes it"
    return Difference(
        kind="binding",
        name=_arrow(source, binding["routing_key"], destination),
        problem=problem,
        request=Request(method="DELETE", path=path) if prune else None,
        remedy=None if prune else remedy,
    )


def is_route(binding: Object, service: Service) -> bool:
    """Return whether a binding routes events of this release to a service's queue or its parts."""
    return (
        binding["source"] == EVENTS.name
        and binding["destination"] in (service.queue, service.part_exchange)
        # A binding of another type may belong to a newer release.
        and binding["routing_key"] in service.consumed_types
    )


def _second_route(binding: Object, topology: Topology) -> Service | None:
    """Return the service that receives the same events by another binding as well."""
    key = binding["routing_key"]
    routes = {
        wanted.queue or wanted.target_exchange
        for wanted in topology.bindings
        if (wanted.exchange, wanted.routing_key) == (EVENTS.name, key)
    } - {binding["destination"]}
    for service in CONSUMERS:
        if is_route(binding, service) and routes & {service.queue, service.part_exchange}:
            return service
    return None


def _key(binding: Binding) -> str:
    headers = ", ".join(f"{name}={value}" for name, value in binding.headers)
    return headers or binding.routing_key


def _arrow(exchange: str, routing_key: str, destination: str) -> str:
    return f"{exchange} -[{routing_key}]-> {destination}"
