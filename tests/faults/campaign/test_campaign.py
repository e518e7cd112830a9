"""A short campaign on the real processes, and its checker, which must detect each kind of loss."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from console.ledger.account import OpenEvent
from testkit.campaign.campaign import Campaign, Plan
from testkit.campaign.evidence import Evidence
from testkit.campaign.invariants import check
from testkit.campaign.verdict import Verdict
from testkit.mail.mailbox import Mailbox
from testkit.processes.stack import Stack
from testkit.servers.databases import Databases
from testkit.servers.infrastructure import Infrastructure
from testkit.servers.vhosts import fresh_vhost

#: Two faults that need no private server; the long runs are those of `make chaos`.
PLAN = Plan(seed=44, orders=60, faults=2, names=("kill", "resend"))

Change = Callable[[Evidence], Evidence]


@pytest.fixture(scope="module")
def run(
    servers: Infrastructure, databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Campaign, Verdict]]:
    """A campaign that has ended, and its verdict."""
    with (
        databases.fresh() as database_of,
        fresh_vhost(servers) as vhost,
        Mailbox.running() as mailbox,
        Stack.on(servers, database_of, vhost, mailbox, tmp_path_factory.mktemp("run")) as stack,
    ):
        campaign = Campaign(PLAN, stack)
        yield campaign, campaign.run()


def test_a_campaign_violates_no_invariant(run: tuple[Campaign, Verdict]) -> None:
    _, verdict = run

    assert [str(violation) for violation in verdict.violations] == []
    assert len(verdict.faults) == PLAN.faults
    assert verdict.orders >= PLAN.orders
    assert verdict.seen["duplicate dropped"]


def an_order_is_missing(evidence: Evidence) -> Evidence:
    return replace(evidence, orders=evidence.orders[1:])


def an_order_is_placed_twice(evidence: Evidence) -> Evidence:
    return replace(evidence, orders=[*evidence.orders, replace(evidence.orders[0], id="another")])


def an_order_is_decided_late(evidence: Evidence) -> Evidence:
    first = evidence.orders[0]
    late = replace(first, decided_at=first.deadline_at + 60)
    return replace(evidence, orders=[late, *evidence.orders[1:]])


def an_event_is_missing(evidence: Evidence) -> Evidence:
    accounts = deepcopy(evidence.accounts)
    event = OpenEvent(UUID(int=1), "order.created", "order", datetime.now(UTC))
    accounts[0].missing.append(event)
    return replace(evidence, accounts=accounts)


def stock_is_reserved_twice(evidence: Evidence) -> Evidence:
    on_hand, reserved = evidence.levels["TEA"]
    return replace(evidence, levels={**evidence.levels, "TEA": (on_hand, reserved + 1)})


def a_mail_is_missing(evidence: Evidence) -> Evidence:
    return replace(evidence, mails=dict(list(evidence.mails.items())[1:]))


def a_mail_is_repeated(evidence: Evidence) -> Evidence:
    return replace(evidence, mails=dict.fromkeys(evidence.mails, 2))


def an_event_is_overtaken(evidence: Evidence) -> Evidence:
    return replace(evidence, published=evidence.published[::-1])


def figures_count_an_order_twice(evidence: Evidence) -> Evidence:
    placed, *others = evidence.figures
    return replace(evidence, figures=(placed + 1, *others))


def a_cause_is_missing(evidence: Evidence) -> Evidence:
    causes = {event.cause for event in evidence.events}
    return replace(evidence, events=[e for e in evidence.events if e.id not in causes])


def a_response_is_an_internal_error(evidence: Evidence) -> Evidence:
    first, *others = evidence.requests
    return replace(evidence, requests=[replace(first, statuses=(500,)), *others])


def events_are_published_endlessly(evidence: Evidence) -> Evidence:
    return replace(evidence, published=[*evidence.published] * 100)


@pytest.mark.parametrize(
    ("change", "invariant"),
    [
        (an_order_is_missing, "I1 lost"),
        (an_order_is_placed_twice, "I1 doubled"),
        (an_order_is_decided_late, "I2 stuck"),
        (an_event_is_missing, "I3 lost"),
        (stock_is_reserved_twice, "I4 doubled"),
        (a_mail_is_missing, "I5 lost"),
        (a_mail_is_repeated, "I5 doubled"),
        (an_event_is_overtaken, "I6 wrong"),
        (figures_count_an_order_twice, "I7 doubled"),
        (a_cause_is_missing, "I8 lost"),
        (a_response_is_an_internal_error, "I10 wrong"),
        (events_are_published_endlessly, "I11 doubled"),
    ],
)
def test_the_checker_notices(run: tuple[Campaign, Verdict], change: Change, invariant: str) -> None:
    # Given the evidence of a campaign without violations
    campaign, _ = run
    assert campaign.evidence

    # When a part of it differs
    violations = check(change(campaign.evidence), is_at_rest=True)

    # Then the invariant is reported as violated
    assert any(str(violation).startswith(f"{invariant}:") for violation in violations)
