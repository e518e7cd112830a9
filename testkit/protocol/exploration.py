"""The exhaustive exploration of the model, breadth first, for a shortest counterexample."""

from collections import deque
from dataclasses import dataclass

from testkit.protocol.consuming import consuming
from testkit.protocol.publishing import publishing
from testkit.protocol.rules import NONE_BROKEN, Broken
from testkit.protocol.state import Scenario, State

#: The largest number of states that a scenario may have.
MOST_STATES = 300_000


class TooLarge(Exception):
    """A scenario has more states than can be explored."""


@dataclass(frozen=True)
class Exploration:
    """The result: the number of states, and the shortest counterexample, if any."""

    scenario: Scenario
    states: int
    violation: str = ""
    steps: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return the counterexample as a numbered list of steps."""
        if not self.violation:
            return f"{self.scenario.name}: {self.states} states, no violation"
        lines = [f"{number:3} {step}" for number, step in enumerate(self.steps, start=1)]
        return "\n".join([f"{self.scenario.name}: {self.violation}", *lines])


def explore(scenario: Scenario, broken: Broken = NONE_BROKEN) -> Exploration:
    """Explore every state that a scenario can reach, until an invariant is violated.

    Raises `TooLarge` beyond `MOST_STATES` states.
    """
    start = scenario.start()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    pending = deque([start])
    while pending:
        state = pending.popleft()
        steps = [*publishing(scenario, broken, state), *consuming(scenario, broken, state)]
        violation = state.violation
        if not violation and all(step.is_optional for step in steps):
            violation = _violation_at_rest(scenario, state)
        if violation:
            return Exploration(scenario, len(came_from), violation, _path(came_from, state))
        for step in steps:
            if step.state not in came_from:
                came_from[step.state] = state, step.label
                pending.append(step.state)
        if len(came_from) > MOST_STATES:
            raise TooLarge(f"{scenario.name}: more than {MOST_STATES} states")
    return Exploration(scenario, len(came_from))


def _violation_at_rest(scenario: Scenario, state: State) -> str:
    """Return the violation if an event is lost or stuck although no step is pending."""
    for copy, effects in zip(scenario.copies, state.effects, strict=True):
        is_complete = effects == 1 or copy in state.parked
        if not (is_complete if scenario.workers else copy in state.reached):
            name = scenario.name_of(copy[1])
            return f"at rest, {name} has no effect in service {copy[0] + 1} and is not parked"
    return ""


def _path(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    labels: list[str] = []
    while (origin := came_from[state]) is not None:
        state, label = origin
        labels.append(label)
    return tuple(reversed(labels))
