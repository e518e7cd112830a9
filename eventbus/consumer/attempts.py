"""The attempts of a batch: what is told of its events, and what is not if it fails."""

from collections.abc import Callable, Iterable

from eventbus.consumer.attempt import Attempt
from eventbus.consumer.receive import Item
from eventbus.consumer.task_run import is_heard

#: Makes the attempt of an item.
Make = Callable[[Item], Attempt]


def attempt_all(items: list[Item], make: Make, work: Callable[[], None]) -> None:
    """Handle the items by `work`, and tell of each of them as of an attempt of its own.

    Each begins before `work` and ends after it, so after the commit. If `work` raises, a single
    item has failed; of several nothing is told but that they ran: they are tried alone.
    """
    if not is_heard():
        work()
        return
    attempts, copies = _apart(items)
    begun = [make(item) for item in attempts]
    for attempt in begun:
        attempt.begin()
    try:
        if len(items) == 1:
            begun[0].inside(work)
        else:
            work()
    except Exception as error:
        for attempt in begun:
            if len(items) == 1:
                attempt.fail(error)
            else:
                attempt.roll_back()
        raise
    for attempt in begun:
        attempt.end(len(items))
    for attempt in map(make, copies):
        attempt.begin()
        attempt.end(len(items))


def _apart(items: Iterable[Item]) -> tuple[list[Item], list[Item]]:
    # Receivers know a run by its id, of which two must not be open at once: the second copy of a
    # message runs after the first.
    first: dict[str, Item] = {}
    copies = []
    for item in items:
        if first.setdefault(item.delivery.event_id, item) is not item:
            copies.append(item)
    return list(first.values()), copies
