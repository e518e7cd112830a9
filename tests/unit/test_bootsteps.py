"""The event loop's own steps, on a real hub."""

import os
from types import SimpleNamespace

import pytest
from kombu.asynchronous import Hub

from common.bootsteps import PromptStep


@pytest.mark.timeout(5)
def test_a_callback_that_asks_for_another_one_does_not_wait_for_the_network() -> None:
    # Given a loop with nothing to read, and no timer for a minute
    hub = Hub()
    silent, other_end = os.pipe()
    hub.add_reader(silent, lambda: None)
    hub.timer.call_after(60, lambda: None)
    step = PromptStep(SimpleNamespace())
    step.start(SimpleNamespace(hub=hub))

    # When a callback asks for another one
    ran: list[str] = []

    def second() -> None:
        ran.append("second")
        hub.call_soon(lambda: None)  # lets this turn end as well

    hub.call_soon(lambda: hub.call_soon(second))
    loop = hub.create_loop()
    next(loop)
    next(loop)

    # Then that one runs at the loop's next turn
    assert ran == ["second"]
    step.stop(SimpleNamespace())
    hub.close()
    os.close(silent)
    os.close(other_end)
