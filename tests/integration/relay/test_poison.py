"""An event that repeatedly crashes its worker is rejected; other events of its batches are not."""

from contextlib import ExitStack, suppress
from uuid import uuid4

import pytest

from eventbus.consumer.poison import POISON_LIMIT, handling
from eventbus.database.db import Sessions
from eventbus.errors import CrashedTooOften


def test_an_event_that_crashes_its_worker_is_rejected_alone(
    inventory_database: Sessions,
) -> None:
    killer, neighbour = uuid4(), uuid4()
    with ExitStack() as unended:
        # Given an event that was being handled at each crash, and another at one of them
        unended.enter_context(handling(inventory_database, neighbour))
        for _ in range(POISON_LIMIT):
            unended.enter_context(handling(inventory_database, killer))

        # Then only the first one is rejected
        with pytest.raises(CrashedTooOften), handling(inventory_database, killer):
            pass
        with handling(inventory_database, neighbour):
            pass


def test_completed_attempts_are_not_counted(inventory_database: Sessions) -> None:
    event = uuid4()

    for _ in range(POISON_LIMIT + 1):
        # By success or by failure.
        with suppress(ValueError), handling(inventory_database, event):
            raise ValueError("broken")
        with handling(inventory_database, event):
            pass
