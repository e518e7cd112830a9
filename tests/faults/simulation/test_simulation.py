"""Seeded runs of the real relay, consumer runtime and retention, with faults at every point."""

from collections.abc import Mapping

from sqlalchemy import text

from eventbus.database.db import transaction
from testkit.simulation.database import SimulatedDatabase
from testkit.simulation.simulation import run_seed
from testkit.simulation.verdict import Verdict, never_reached, totals

#: Enough to reach each situation; `make chaos` runs more.
SEEDS = 25


def test_no_seed_violates_an_invariant(simulated: Mapping[str, SimulatedDatabase]) -> None:
    # When the seeds are run
    verdicts = [run_seed(simulated, seed) for seed in range(1, SEEDS + 1)]

    # Then no event is lost, doubled or stuck
    assert {v.seed: v.problems for v in verdicts if v.problems} == {}

    # And every situation has occurred
    assert never_reached(verdicts) == []


def test_no_seed_lets_an_event_pass_a_parked_one(
    simulated: Mapping[str, SimulatedDatabase],
) -> None:
    # When seeds are run with services that park in sequence
    seeds = range(1, SEEDS // 5 + 1)
    verdicts = [run_seed(simulated, seed, parks_in_sequence=True) for seed in seeds]

    # Then no event passes a parked one, and none is lost, doubled or stuck
    assert {v.seed: v.problems for v in verdicts if v.problems} == {}
    assert sum(v.seen["waited"] for v in verdicts) > 0


def test_a_seed_decides_everything(simulated: Mapping[str, SimulatedDatabase]) -> None:
    first, other, second = (run_seed(simulated, seed) for seed in (7, 8, 7))

    assert first == second
    assert first.next_choice != other.next_choice


def test_a_seed_does_not_depend_on_what_earlier_runs_have_prepared(
    simulated: Mapping[str, SimulatedDatabase],
) -> None:
    # Given connections on which the statements are prepared
    first = run_seed(simulated, 7)

    # When the seed is run again on new connections
    for database in simulated.values():
        for engine in database._engines.values():
            engine.dispose()
    second = run_seed(simulated, 7)

    # Then it makes the same choices
    assert first == second


def test_a_commit_sends_no_notification(simulated: Mapping[str, SimulatedDatabase]) -> None:
    # When a session that listens notifies itself
    with transaction(simulated["order"].sessions("listener")) as session:
        driver = session.connection().connection.driver_connection
        session.execute(text("LISTEN outbox"))
        session.execute(text("SELECT pg_notify('outbox', '')"))

    # Then nothing has arrived with the commit, which would have locked the whole server
    assert driver is not None
    assert driver.notifies == []


def test_the_totals_contain_each_count() -> None:
    verdicts = [Verdict(1, orders=3, events=1_000, faults=2, lost=1), Verdict(2, orders=4)]

    assert totals(verdicts) == "seeds 2 orders 7 events 1,000 faults 2 lost 1 doubled 0 stuck 0"


def test_a_situation_that_no_seed_has_reached_is_named() -> None:
    first, second = Verdict(1), Verdict(2)
    first.seen["nacked"] = 2

    assert "nacked" not in never_reached([first, second])
    assert "returned" in never_reached([first, second])
