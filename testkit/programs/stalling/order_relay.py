"""The order relay, whose drain hangs after SIGUSR2, with a stall limit of two seconds."""

import signal
import time
from collections.abc import Sequence
from threading import Event
from typing import Any

from celery.signals import worker_init

from eventbus.loop import Loop
from eventbus.outbox.relay import Relay
from order_app import relay
from order_app.relay import app

_hangs = Event()
_drain = Relay.drain


def _drain_or_hang(self: Relay, until: float) -> None:
    if _hangs.is_set():
        time.sleep(3_600)
    _drain(self, until)


Relay.drain = _drain_or_hang  # type: ignore[method-assign]


def _impatient(settings: Any) -> Sequence[Loop]:
    loops = relay.start(settings)
    for loop in loops:
        loop.limit = 2.0
    return loops


app._make_loops = _impatient


@worker_init.connect
def _init(**_: Any) -> None:
    signal.signal(signal.SIGUSR2, lambda *_: _hangs.set())
