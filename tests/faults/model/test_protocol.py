"""The protocol loses no event, has no effect twice, and needs each of its rules."""

import sys

import pytest

from testkit.protocol.exploration import explore
from testkit.protocol.rules import Rule
from testkit.protocol.state import Budget, Scenario

#: Two orders of which one has two events, two relays at once, and two crashes or cuts anywhere.
PUBLISHING = Scenario(
    "publishing", orders=(2, 1), workers=0, services=2, budget=Budget(crashes=2, rejections=2)
)

#: Two workers, retries, the parking lot, a redrive and retention, with two crashes anywhere.
CONSUMING = Scenario(
    "consuming",
    orders=(1,),
    relays=1,
    retention=True,
    budget=Budget(crashes=2, failures=2, redrives=1),
)

#: Two services: the failure of one must not reach the other.
SUBSCRIBING = Scenario(
    "subscribing", orders=(1,), services=2, relays=1, budget=Budget(crashes=1, failures=1)
)

#: Two orders, two relays, two workers, and two crashes anywhere.
WHOLE = Scenario(
    "whole",
    orders=(1, 1),
    exclusive=True,
    budget=Budget(crashes=2, rejections=1, failures=1),
)

#: An order with three events, of which one is parked in sequence, with a crash anywhere.
IN_SEQUENCE = Scenario(
    "in sequence",
    orders=(3,),
    relays=0,
    attempts=1,
    in_sequence=True,
    is_published=True,
    budget=Budget(crashes=1, failures=1, redrives=2),
)

SCENARIOS = (PUBLISHING, CONSUMING, SUBSCRIBING, IN_SEQUENCE, WHOLE)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_protocol_violates_no_invariant(scenario: Scenario) -> None:
    result = explore(scenario)

    sys.stdout.write(f"{result}\n")
    assert result.violation == "", str(result)


@pytest.mark.parametrize("rule", Rule, ids=lambda rule: rule.name.lower())
def test_each_rule_is_necessary(rule: Rule) -> None:
    # When one rule is broken
    results = (explore(scenario, frozenset({rule})) for scenario in SCENARIOS)
    found = next((result for result in results if result.violation), None)

    # Then the model has a counterexample, whose trace is short
    assert found, f"no counterexample without: {rule.value}"
    sys.stdout.write(f"without: {rule.value}\n{found}\n")
    assert len(found.steps) <= 16
