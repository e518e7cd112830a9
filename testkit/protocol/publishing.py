"""The publishing half of the model: outbox, relays, and the broker's replies."""

from collections.abc import Iterable

from testkit.protocol.rules import Broken, Rule
from testkit.protocol.state import Batch, Event, Flight, Row, Scenario, State, Step, Steps

UNSENT = (Row.NEW, Row.IN_LANE, Row.HOLDING, Row.BEHIND)


def publishing(scenario: Scenario, broken: Broken, state: State) -> Steps:
    """Return the possible steps of the relays, of the broker's replies, and of retention."""
    for number, batch in enumerate(state.relays):
        if batch:
            yield from _answers(scenario, broken, state, number, batch)
            yield from _settlements(scenario, broken, state, number, batch)
        elif not (scenario.exclusive and any(state.relays)) and () not in state.relays[:number]:
            # Idle relays are interchangeable.
            yield from _claims(scenario, broken, state, number)
    for event, row in enumerate(state.outbox):
        if row is Row.NEW and any(state.outbox[e] is Row.IN_LANE for e in scenario.earlier[event]):
            if Rule.HOLD_EXCLUDES_RELEASE in broken:
                label = f"a relay finds that {scenario.name_of(event)} must wait"
                yield Step(label, _with_rows(state, [event], Row.HOLDING))
            else:
                yield _held(scenario, state, event)
        if row is Row.HOLDING:
            yield _held(scenario, state, event)
        if scenario.retention and (
            row is Row.SENT or (row in UNSENT and Rule.KEEP_UNSENT in broken)
        ):
            label = f"retention deletes {scenario.name_of(event)} from the outbox"
            yield Step(label, _with_rows(state, [event], Row.DELETED), is_optional=True)


def _held(scenario: Scenario, state: State, event: Event) -> Step:
    label = f"{scenario.name_of(event)} is put behind its order's earlier event"
    return Step(label, _with_rows(state, [event], Row.BEHIND))


def _claims(scenario: Scenario, broken: Broken, state: State, number: int) -> Steps:
    batch: list[Event] = []
    for event, row in enumerate(state.outbox):
        waits = any(state.outbox[e] in UNSENT for e in scenario.earlier[event])
        if row in (Row.NEW, Row.IN_LANE) and (not waits or Rule.ONE_PER_ORDER in broken):
            batch.append(event)
    if not batch:
        return
    after = _with_batch(state, number, tuple((event, Flight.ON_THE_WIRE) for event in batch))
    if Rule.MARK_AFTER_CONFIRM in broken:
        after = _with_rows(after, batch, Row.SENT)
    yield Step(f"a relay claims and publishes {_names(scenario, batch)}", after)


def _answers(scenario: Scenario, broken: Broken, state: State, number: int, batch: Batch) -> Steps:
    # The broker handles the messages of one channel in order.
    waiting = [i for i, (_, flight) in enumerate(batch) if flight is Flight.ON_THE_WIRE]
    if not waiting:
        return
    event, name = batch[waiting[0]][0], scenario.name_of(batch[waiting[0]][0])

    def answered(flight: Flight, services: Iterable[int], budget: State) -> State:
        changed = (*batch[: waiting[0]], (event, flight), *batch[waiting[0] + 1 :])
        return _stored(scenario, _with_batch(budget, number, changed), event, services)

    everywhere = range(scenario.services)
    yield Step(
        f"the broker stores and confirms {name}", answered(Flight.CONFIRMED, everywhere, state)
    )
    if state.budget.rejections:
        budget = state.budget._replace(rejections=state.budget.rejections - 1)
        left = state._replace(budget=budget)
        if Rule.MANDATORY in broken:
            label = f"the broker confirms {name}, which no queue receives"
            yield Step(label, answered(Flight.CONFIRMED, (), left), is_optional=True)
        else:
            label = f"the broker returns {name}"
            yield Step(label, answered(Flight.REJECTED, (), left), is_optional=True)
        # A refused message may have reached the other queues.
        label = f"the broker refuses {name}, after it has reached the queue of service 1"
        yield Step(label, answered(Flight.REJECTED, (0,), left), is_optional=True)


def _settlements(
    scenario: Scenario, broken: Broken, state: State, number: int, batch: Batch
) -> Steps:
    relay = f"the relay with {_names(scenario, (event for event, _ in batch))}"
    by_flight = {flight: [e for e, f in batch if f is flight] for flight in Flight}
    if by_flight[Flight.MARKED]:
        after = _released(scenario, state, by_flight[Flight.MARKED])
        yield Step(f"{relay} releases the events behind", _with_batch(after, number, ()))
    elif not by_flight[Flight.ON_THE_WIRE]:
        yield Step(
            f"{relay} marks the confirmed events", _marked(scenario, broken, state, number, batch)
        )
    if state.budget.crashes:
        budget = state.budget._replace(crashes=state.budget.crashes - 1)
        left = state._replace(budget=budget)
        yield Step(f"{relay} crashes", _with_batch(left, number, ()), is_optional=True)
        if by_flight[Flight.ON_THE_WIRE] and len(by_flight[Flight.ON_THE_WIRE]) < len(batch):
            answered = tuple((e, f) for e, f in batch if f is not Flight.ON_THE_WIRE)
            label = f"the connection of {relay} ends; it marks the confirmed events"
            yield Step(label, _marked(scenario, broken, left, number, answered), is_optional=True)


def _marked(scenario: Scenario, broken: Broken, state: State, number: int, batch: Batch) -> State:
    confirmed = [e for e, f in batch if f is Flight.CONFIRMED]
    rejected = [e for e, f in batch if f is Flight.REJECTED]
    if Rule.MARK_CONFIRMED_ONLY in broken:
        confirmed, rejected = confirmed + rejected, []
    after = _with_rows(state, rejected, Row.IN_LANE)
    after = _with_rows(after, confirmed, Row.SENT)
    if Rule.RELEASE_WITH_MARK in broken and confirmed:
        marked = tuple((event, Flight.MARKED) for event in confirmed)
        return _with_batch(after, number, marked)
    return _with_batch(_released(scenario, after, confirmed), number, ())


def _released(scenario: Scenario, state: State, events: Iterable[Event]) -> State:
    orders = {scenario.order_of[event] for event in events}
    behind = (
        event
        for event, row in enumerate(state.outbox)
        if row is Row.BEHIND and scenario.order_of[event] in orders
    )
    return _with_rows(state, behind, Row.NEW)


def _stored(scenario: Scenario, state: State, event: Event, services: Iterable[int]) -> State:
    reached, queued, violation = set(state.reached), list(state.queued), state.violation
    for service in services:
        if any((service, e) not in reached for e in scenario.earlier[event]):
            violation = f"{scenario.name_of(event)} is published before an earlier event"
        reached.add((service, event))
        if scenario.workers:
            queued.append((service, event, 1))
    return state._replace(
        reached=frozenset(reached), queued=tuple(sorted(queued)), violation=violation
    )


def _with_rows(state: State, events: Iterable[Event], row: Row) -> State:
    rows = list(state.outbox)
    for event in events:
        # Another relay may already have sent the event.
        if row in (Row.SENT, Row.DELETED) or rows[event] in UNSENT:
            rows[event] = max(row, rows[event]) if row is Row.SENT else row
    return state._replace(outbox=tuple(rows))


def _with_batch(state: State, number: int, batch: Batch) -> State:
    relays = list(state.relays)
    relays[number] = batch
    return state._replace(relays=tuple(sorted(relays)))


def _names(scenario: Scenario, events: Iterable[Event]) -> str:
    return " ".join(map(scenario.name_of, events))
