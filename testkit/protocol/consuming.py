"""The consuming half of the model: queues, workers, retries, the parking lot and the inbox."""

from collections.abc import Iterable

from testkit.protocol.rules import Broken, Rule
from testkit.protocol.state import (
    Copy,
    Flight,
    Held,
    Message,
    Phase,
    Row,
    Scenario,
    State,
    Step,
    Steps,
)


def consuming(scenario: Scenario, broken: Broken, state: State) -> Steps:
    """Return the possible steps of workers, of the operator, and of the inbox's retention."""
    for number, held in enumerate(state.workers):
        if held is None:
            yield from _deliveries(scenario, state, number)
            # Idle workers are interchangeable, and come last.
            break
        yield from _handling(scenario, broken, state, number, held)
        if state.budget.crashes:
            label = f"the worker with {_name(scenario, held[0])} crashes"
            yield Step(label, _crashed(broken, state, number, held), is_optional=True)
    yield from _redrives(scenario, broken, state)
    if scenario.retention:
        for copy in state.inbox:
            if Rule.WINDOW_COVERS_COPIES in broken or not _has_copies(state, copy):
                label = f"retention deletes {_name(scenario, copy)} from the inbox"
                yield Step(label, state._replace(inbox=state.inbox - {copy}), is_optional=True)


def _deliveries(scenario: Scenario, state: State, number: int) -> Steps:
    # Any message may be the next, because the model does not depend on the ordering of a queue.
    for message in sorted(set(state.queued)):
        queued = _without(state.queued, message)
        after = _with_worker(state._replace(queued=queued), number, (message, Phase.RECEIVED))
        yield Step(f"a worker receives {_name(scenario, message)}", after)


def _handling(scenario: Scenario, broken: Broken, state: State, number: int, held: Held) -> Steps:
    message, phase = held
    name = _name(scenario, message)
    worker = f"the worker with {name}"
    copy: Copy = message[:2]

    def at(new: Phase, after: State = state) -> State:
        return _with_worker(after, number, (message, new))

    if phase is Phase.RECEIVED:
        is_duplicate = copy in state.inbox and Rule.DEDUP not in broken
        if is_duplicate:
            yield Step(f"{worker} drops it as a duplicate", at(Phase.COMMITTED))
            return
        if _waits(scenario, broken, state, copy):
            is_recorded = Rule.WAITING_IS_RECORDED not in broken
            after = _with_record(state, copy) if is_recorded else state
            yield Step(f"{worker} finds that it must wait", at(Phase.RECORDED, after))
            return
        if Rule.ROW_DELETED_WITH_EFFECT in broken and copy in state.recorded:
            after = state._replace(recorded=state.recorded - {copy})
            yield Step(f"{worker} deletes its record alone", at(Phase.RECEIVED, after))
            return
        yield from _commits(scenario, broken, state, number, held)
        if state.budget.failures:
            budget = state.budget._replace(failures=state.budget.failures - 1)
            failed = at(Phase.FAILED, state._replace(budget=budget))
            yield Step(f"{worker} fails to handle it", failed, is_optional=True)
    elif phase is Phase.HALF_COMMITTED:
        if Rule.EFFECT_WITH_INBOX_ROW in broken:
            after = _with_effect(scenario, state, copy)
            yield Step(f"{worker} commits its effect", at(Phase.COMMITTED, after))
        else:
            after = state._replace(inbox=state.inbox | {copy})
            yield Step(f"{worker} commits its inbox row", at(Phase.COMMITTED, after))
    elif phase in (Phase.COMMITTED, Phase.COPIED):
        yield Step(f"{worker} acknowledges it", _with_worker(state, number, None))
    elif phase is Phase.UNRECORDED:
        yield Step(f"{worker} records it", at(Phase.COPIED, _with_record(state, copy)))
    elif phase is Phase.RECORDED:
        yield Step(f"{worker} parks it", at(Phase.COPIED, _parked(scenario, state, copy)))
    elif phase is Phase.FAILED and scenario.in_sequence and message[2] >= scenario.attempts:
        if Rule.RECORD_BEFORE_COPY in broken:
            yield Step(f"{worker} parks it", at(Phase.UNRECORDED, _parked(scenario, state, copy)))
        else:
            yield Step(f"{worker} records it", at(Phase.RECORDED, _with_record(state, copy)))
    elif phase is Phase.FAILED and Rule.ACK_AFTER_COPY in broken:
        yield Step(f"{worker} acknowledges it before its copy", at(Phase.ACKNOWLEDGED))
    else:
        label, after = _copied(scenario, broken, state, message)
        is_done = phase is Phase.ACKNOWLEDGED
        new = _with_worker(after, number, None) if is_done else at(Phase.COPIED, after)
        yield Step(f"{worker} {label}", new)


def _commits(scenario: Scenario, broken: Broken, state: State, number: int, held: Held) -> Steps:
    message, _ = held
    name = _name(scenario, message)
    worker = f"the worker with {name}"
    copy: Copy = message[:2]
    half = (message, Phase.HALF_COMMITTED)
    recorded = state._replace(inbox=state.inbox | {copy})
    if Rule.EFFECT_WITH_INBOX_ROW in broken:
        after = _with_worker(recorded, number, half)
        yield Step(f"{worker} commits its inbox row alone", after)
    elif Rule.INBOX_ROW_WITH_EFFECT in broken:
        after = _with_worker(_with_effect(scenario, state, copy), number, half)
        yield Step(f"{worker} commits its effect alone", after)
    else:
        after = _with_effect(scenario, recorded, copy)
        after = after._replace(recorded=after.recorded - {copy}, overdue=after.overdue - {copy})
        done = _with_worker(after, number, (message, Phase.COMMITTED))
        yield Step(f"{worker} commits its effect", done)


def _copied(
    scenario: Scenario, broken: Broken, state: State, message: Message
) -> tuple[str, State]:
    service, event, attempt = message
    if attempt < scenario.attempts:
        services = range(scenario.services) if Rule.RETRY_TO_OWN_QUEUE in broken else [service]
        copies = [(s, event, attempt + 1) for s in services]
        leaks = len(copies) > 1
        return "sends it to a retry tier", state._replace(
            queued=tuple(sorted((*state.queued, *copies))),
            violation="a service receives another service's retry" if leaks else state.violation,
        )
    if Rule.PARK_AFTER_LAST_ATTEMPT in broken:
        return "drops it after its last attempt", state
    return "parks it", _parked(scenario, state, (service, event))


def _waits(scenario: Scenario, broken: Broken, state: State, copy: Copy) -> bool:
    service, event = copy
    ahead = {(service, earlier) for earlier in scenario.earlier[event]} & state.recorded
    return bool(ahead - state.inbox) and Rule.WAIT_BEHIND not in broken


def _with_record(state: State, copy: Copy) -> State:
    return state._replace(recorded=state.recorded | {copy})


def _parked(scenario: Scenario, state: State, copy: Copy) -> State:
    overdue = {copy} if scenario.in_sequence and copy not in state.inbox else set()
    return state._replace(
        parked=tuple(sorted((*state.parked, copy))), overdue=state.overdue | overdue
    )


def _crashed(broken: Broken, state: State, number: int, held: Held) -> State:
    message, phase = held
    budget = state.budget._replace(crashes=state.budget.crashes - 1)
    after = _with_worker(state._replace(budget=budget), number, None)
    if phase is Phase.ACKNOWLEDGED or Rule.ACK_AFTER_COMMIT in broken:
        return after
    # The broker delivers an unacknowledged message again.
    return after._replace(queued=tuple(sorted((*after.queued, message))))


def _redrives(scenario: Scenario, broken: Broken, state: State) -> Steps:
    removes_first = Rule.REDRIVE_ACK_AFTER_CONFIRM in broken
    if state.redriven is None:
        if state.budget.redrives:
            budget = state.budget._replace(redrives=state.budget.redrives - 1)
            for copy in sorted(set(state.parked)):
                after = state._replace(redriven=(copy, False), budget=budget)
                if removes_first:
                    after = after._replace(parked=_without(state.parked, copy))
                yield Step(
                    f"the operator redrives {_name(scenario, copy)}", after, is_optional=True
                )
        return
    copy, is_copied = state.redriven
    name = _name(scenario, copy)
    if not is_copied:
        queued = tuple(sorted((*state.queued, (*copy, 1))))
        following = None if removes_first else (copy, True)
        after = state._replace(queued=queued, redriven=following)
        yield Step(f"the redrive of {name} is confirmed", after)
    else:
        after = state._replace(parked=_without(state.parked, copy), redriven=None)
        yield Step(f"the redrive removes {name} from the parking lot", after)
    if state.budget.crashes:
        budget = state.budget._replace(crashes=state.budget.crashes - 1)
        after = state._replace(redriven=None, budget=budget)
        yield Step("the redrive crashes", after, is_optional=True)


def _has_copies(state: State, copy: Copy) -> bool:
    event = copy[1]
    in_flight = any(e == event and f is not Flight.MARKED for b in state.relays for e, f in b)
    return (
        state.outbox[event] not in (Row.SENT, Row.DELETED)
        or in_flight
        or any(message[:2] == copy for message in state.queued)
        or any(held is not None and held[0][:2] == copy for held in state.workers)
        or copy in state.parked
        or (state.redriven is not None and state.redriven[0] == copy)
    )


def _with_effect(scenario: Scenario, state: State, copy: Copy) -> State:
    effects = list(state.effects)
    effects[scenario.copies.index(copy)] += 1
    is_doubled = effects[scenario.copies.index(copy)] > 1
    violation = f"{_name(scenario, copy)} has two effects" if is_doubled else state.violation
    for earlier in scenario.earlier[copy[1]]:
        if (copy[0], earlier) in state.overdue:
            violation = f"{_name(scenario, copy)} passes {scenario.name_of(earlier)}"
    return state._replace(effects=tuple(effects), violation=violation)


def _with_worker(state: State, number: int, held: Held | None) -> State:
    workers = list(state.workers)
    workers[number] = held
    # Equal workers are interchangeable.
    workers.sort(key=lambda w: (w is None, w or ()))
    return state._replace(workers=tuple(workers))


def _without(items: Iterable[Message] | Iterable[Copy], item: Message | Copy) -> tuple:  # type: ignore[type-arg]
    remaining = list(items)
    remaining.remove(item)
    return tuple(remaining)


def _name(scenario: Scenario, message: Message | Copy) -> str:
    suffix = f" of service {message[0] + 1}" if scenario.services > 1 else ""
    return scenario.name_of(message[1]) + suffix
