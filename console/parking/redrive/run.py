"""The run of a redrive plan, in growing stages until one of them fails."""

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat

from common import kombu_topology
from console.errors import ActionError
from console.models import ItemState, PlanState
from console.parking.effects import Effects, effects
from console.parking.redrive import plans
from console.parking.redrive.lease import lease
from console.parking.redrive.plans import Plan
from console.parking.redrive.progress import Item, Progress
from console.parking.redrive.stage import OUTCOME_LIMIT, Outcome, Stage
from console.settings import ParkingSettings

#: Number of messages of each of the first stages. A handler that fails for all messages receives
#: one message, and a handler that fails for many usually receives six.
FIRST_STAGES = (1, 5, 50)

#: Duration of each later stage in seconds. A later stage has at least as many messages as the
#: third.
STAGE_SECONDS = 10.0

#: The default rate in messages per second. A worker handles several hundred, and orders continue to
#: arrive.
DEFAULT_RATE = 50.0

#: The rates that an operator can choose.
LOWEST_RATE, HIGHEST_RATE = 0.1, 10_000

#: The largest accepted share of a stage that fails again.
DEFAULT_MAX_FAILING = 0.1

#: Seconds between two checks of whether an operator has paused or aborted the plan.
_INTERRUPTION_POLL = 1.0

#: Maximum number of events that the reason of a stop names.
_NAMED = 10

#: A function that is called after each stage.
Report = Callable[[Outcome], object]


def run(
    settings: ParkingSettings,
    plan_id: int,
    *,
    run_by: str,
    rate: float = DEFAULT_RATE,
    max_failing: float = DEFAULT_MAX_FAILING,
    report: Report = lambda _outcome: None,
) -> Plan:
    """Redrive the messages of a plan in stages, at most `rate` per second, and return the plan.

    If a run was interrupted or has stopped, it is continued: messages that failed again are
    redriven first, and messages that are no longer parked take no stage. The size of the stages
    does not grow until a message of a stage has been redriven. The run ends early if an operator
    pauses or aborts the plan. A message that waits behind another message is redriven once that
    message is handled. Raises `ActionError` if the plan cannot run, if another run redrives
    messages of the service, if more than `max_failing` (a fraction) of a stage fail again, if a
    message has no outcome within `OUTCOME_LIMIT` seconds, if a message is not found, or if at the
    end messages wait behind messages that are still parked.
    """
    plan = plans.show(settings, plan_id)
    service = kombu_topology.service(plan.service)
    with lease(settings, plan.service) as own, effects(settings, service) as expected:
        progress = Progress(plan_id, own, run_by)
        if (state := progress.open()) is not PlanState.READY:
            raise ActionError(f"plan {plan_id} is {state}{_HINTS.get(state, '')}")
        interruption = _Interruption(progress)
        pace = _Pace(rate)
        stage = Stage(settings, service, progress, expected, interruption)
        if begun := progress.unfinished():
            _check(progress, stage.recover(begun), interruption, 1.0)
        progress.retry_failed()
        stage.settle_absent(progress.planned())
        sizes = _sizes(rate)
        size = next(sizes)
        rounds = _Rounds(progress)
        while not interruption() and (items := rounds.begin(size)):
            outcome = stage.run(items, pace)
            report(outcome)
            _check(progress, outcome, interruption, max_failing)
            rounds.end(outcome)
            # A stage whose messages are all gone does not show whether the cause is fixed.
            if outcome.redriven:
                size = next(sizes)
        if not interruption():
            _check_waiting(progress, expected)
            progress.end(PlanState.DONE)
    return plans.show(settings, plan_id)


_HINTS = {
    PlanState.PAUSED: "; see: orderctl parked resume",
    PlanState.FAILED: ": its preparation has failed; make another plan",
}


def _sizes(rate: float) -> Iterator[int]:
    return chain(FIRST_STAGES, repeat(max(FIRST_STAGES[-1], int(rate * STAGE_SECONDS))))


def _check(
    progress: Progress, outcome: Outcome, interruption: "_Interruption", max_failing: float
) -> None:
    """Store the reason and raise `ActionError` if the run must not continue."""
    reason = ""
    if outcome.failing > max_failing:
        reason = (
            f"{outcome.counts[ItemState.PARKED]} of {outcome.size} failed again, more than"
            f" {max_failing:.0%}: {outcome.failure}"
        )
    elif outcome.unknown and not interruption():
        reason = (
            f"{len(outcome.unknown)} of {outcome.size} neither handled nor parked within"
            f" {OUTCOME_LIMIT:g} seconds: is the worker running? {_named(outcome.unknown)}"
        )
    elif outcome.missing:
        reason = (
            f"{len(outcome.missing)} not found: another command reads the parking lot, or has taken"
            f" them; run again: {_named(outcome.missing)}"
        )
    if reason:
        progress.end(PlanState.READY, reason)
        raise ActionError(f"plan {progress.plan_id} stopped: {reason}")


def _check_waiting(progress: Progress, expected: Effects) -> None:
    """Store the reason and raise `ActionError` if messages still wait behind parked messages."""
    if not (items := progress.waiting()):
        return
    ahead = expected.waiting([item.inbox_id for item in items if item.inbox_id])
    first = sorted({str(event_id) for event_id in ahead.values()})
    reason = f"{len(items)} wait behind parked events; redrive or discard these: {_named(first)}"
    progress.end(PlanState.READY, reason)
    raise ActionError(f"plan {progress.plan_id} stopped: {reason}")


def _named(event_ids: Sequence[str]) -> str:
    more = len(event_ids) - _NAMED
    return ", ".join(event_ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")


class _Rounds:
    """The rounds of a run: in each, the first of the messages that wait behind one another.

    A plan without messages that wait is one round.
    """

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._has_released = False

    def begin(self, count: int) -> list[Item]:
        """Return the messages of the next stage, as `Progress.begin`; start a round if necessary.

        A round follows only a round that has released messages, so the rounds end.
        """
        if items := self._progress.begin(count):
            return items
        if not self._has_released:
            return []
        self._has_released = False
        self._progress.retry_waiting()
        return self._progress.begin(count)

    def end(self, outcome: Outcome) -> None:
        """Record the outcome of a stage."""
        self._has_released = self._has_released or outcome.has_released


class _Interruption:
    """Whether an operator has paused or aborted the plan, as of at most a second ago."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._next_query = 0.0
        self._is_interrupted = False

    def __call__(self) -> bool:
        if not self._is_interrupted and time.monotonic() >= self._next_query:
            self._is_interrupted = self._progress.state() is not PlanState.READY
            self._next_query = time.monotonic() + _INTERRUPTION_POLL
        return self._is_interrupted


class _Pace:
    """A limit of `rate` calls per second, by waiting."""

    def __init__(self, rate: float) -> None:
        self._interval = 1 / rate
        self._next = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if self._next > now:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._interval
