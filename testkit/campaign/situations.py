"""Situations that campaigns must reach: a property whose situation never occurs is not tested."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from testkit.campaign.faults.processes import TwoRelays
from testkit.campaign.history import Action, History
from testkit.campaign.nemesis import Injection
from testkit.processes.stack import Stack

#: The text in the logs of each situation.
_LOGGED: Mapping[str, str] = {
    "returned": '"message":"event unroutable"',
    "nacked": '"message":"events refused',
    "duplicate dropped": '"outcome":"duplicate"',
    "batch isolated": '"message":"batch failed; events handled individually"',
    "retried": '"outcome":"retry"',
    "consumption paused": '"message":"consumption paused"',
    "consumption resumed": '"message":"consumption resumed"',
    "parked by the delivery limit": '"exception":"CrashedTooOften"',
}

# A reservation that is CANCELLED was made before `order.created` arrived.
_TOMBSTONES = "SELECT count(*) FROM reservations WHERE status = 'CANCELLED'"
_LATE_REPLIES = """
SELECT count(*) FROM inbox JOIN orders ON orders.id = subject
WHERE type = 'stock.reserved' AND status = 'CANCELLED' AND handled_at > decided_at
"""
_SENT_BETWEEN = """
SELECT count(*) FROM outbox WHERE extract(epoch FROM sent_at) BETWEEN :began AND :ended
"""

SITUATIONS = (
    *_LOGGED,
    "tombstone used",
    "late reply after CANCELLED",
    "another relay took over",
    "group commit failed",
)


def situations(stack: Stack, history: History, injected: list[Injection]) -> Counter[str]:
    """Return how often each situation occurred, according to logs, databases and the history."""
    seen = _logged(stack.directory)
    seen["tombstone used"] = _count(stack, "inventory", _TOMBSTONES)
    seen["late reply after CANCELLED"] = _count(stack, "order", _LATE_REPLIES)
    seen["another relay took over"] = sum(_taken_over(stack, each) for each in injected)
    statuses = Counter(status for each in history.of(Action.PLACE) for status in each.statuses)
    seen["group commit failed"] = statuses[503]
    return +seen


def _logged(directory: Path) -> Counter[str]:
    seen = Counter[str]()
    for log in directory.glob("*.log"):
        text = log.read_text(errors="replace")
        for situation, sign in _LOGGED.items():
            seen[situation] += text.count(sign)
    return seen


def _taken_over(stack: Stack, injection: Injection) -> int:
    """Return how many events were sent while only the second relay of an outbox ran."""
    if not isinstance(injection.fault, TwoRelays):
        return 0
    service = injection.fault.detail.removesuffix("-relay")
    return _count(stack, service, _SENT_BETWEEN, began=injection.began, ended=injection.ended)


def _count(stack: Stack, service: str, query: str, **values: object) -> int:
    (count,) = stack.execute(service, query, **values)
    return int(count)
