"""The attempts of a batch, reported together when the batch succeeds or fails."""

from collections.abc import Callable, Iterable

from eventbus.consumer.attempt import Attempt
from eventbus.consumer.receive import Item
from eventbus.consumer.task_run import has_receivers

#: A function that creates the attempt of an item.
Make = Callable[[Item], Attempt]


def attempt_all(items: list[Item], make: Make, work: Callable[[], None]) -> None:
    """Handle the items with `work`, and report each item as a separate attempt.

    Each attempt starts before `work` and ends after it, and therefore after the commit. If `work`
    raises, a single item is reported as failed; several items are reported as rolled back, because
    each is then handled alone.
    """
    if not has_receivers():
        work()
        return
    first_items, copies = _split_copies(items)
    attempts = [make(item) for item in first_items]
    for attempt in attempts:
        attempt.begin()
    try:
        if len(items) == 1:
            attempts[0].inside(work)
        else:
            work()
    except Exception as error:
        for attempt in attempts:
            if len(items) == 1:
                attempt.fail(error)
            else:
                attempt.roll_back()
        raise
    for attempt in attempts:
        attempt.end(len(items))
    for attempt in map(make, copies):
        attempt.begin()
        attempt.end(len(items))


def _split_copies(items: Iterable[Item]) -> tuple[list[Item], list[Item]]:
    # Receivers identify a run by its event id, so two runs with one id must not overlap: the second
    # copy of a message runs after the first.
    first: dict[str, Item] = {}
    copies = []
    for item in items:
        if first.setdefault(item.delivery.event_id, item) is not item:
            copies.append(item)
    return list(first.values()), copies
