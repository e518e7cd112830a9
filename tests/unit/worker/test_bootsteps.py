"""The steps of the event loop, on a real hub."""

import os
from threading import Timer
from types import SimpleNamespace

from kombu.asynchronous import Hub

from eventbus.worker.bootsteps import WakeEventLoopStep


def test_a_callback_from_a_callback_does_not_wait_for_the_network() -> None:
    # Given a loop with nothing to read for half a second
    hub = Hub()
    read_end, write_end = os.pipe()
    ran: list[str] = []
    hub.add_reader(read_end, lambda: ran.append(f"read {len(os.read(read_end, 1))}"))
    hub.timer.call_after(60, lambda: None)
    step = WakeEventLoopStep(SimpleNamespace())
    step.start(SimpleNamespace(hub=hub))
    writer = Timer(0.5, os.write, (write_end, b"x"))
    writer.start()

    # When a callback schedules another one
    hub.call_soon(lambda: hub.call_soon(ran.append, "called"))
    loop = hub.create_loop()
    while len(ran) < 2:
        next(loop)

    # Then the other one runs before the loop waits
    assert ran == ["called", "read 1"]
    writer.join()
    step.stop(SimpleNamespace())
    hub.close()
    os.close(read_end)
    os.close(write_end)
