"""A cell of the matrix, run: the system survives the interruption, and no invariant is violated."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx

from testkit.campaign.evidence import gather
from testkit.campaign.history import Action, History, Outcome, Request
from testkit.campaign.invariants import check
from testkit.campaign.rest import wait_until_at_rest
from testkit.campaign.system import System
from testkit.eventually import eventually
from testkit.matrix.points import STEPS, Cell, Way

#: Units that the warehouse receives.
_STOCK = {"TEA": 1_000_000}

#: Orders that are placed before the program is interrupted, at least.
_ORDERS = 3

#: Seconds for which a process is suspended.
_SUSPENDED = 5.0

#: Seconds between two attempts to place an order.
_PAUSE = 0.2


@dataclass
class Matrix:
    """A running system, in which one cell after the other is run."""

    system: System
    history: History = field(default_factory=History)
    _numbers: "count[int]" = field(default_factory=count)

    def start(self) -> None:
        """Start the system."""
        self.system.start()
        self.system.stack.stock(**_STOCK)

    def violations(self, cell: Cell) -> list[str]:
        """Run a cell; return the violations of invariants after it."""
        done = self._start_variant(cell)

        def interrupted() -> None:
            time.sleep(_PAUSE)
            self._place(STEPS[cell.step].customer)
            self.system.supervise()
            assert done.exists(), f"{cell}: the point was not reached"

        with self._resuming(cell, done):
            for _ in range(_ORDERS):
                self._place(STEPS[cell.step].customer)
            eventually(interrupted)
        wait_until_at_rest(self.system)
        evidence = gather(self.system, self.history.requests, [], _STOCK)
        found = [str(violation) for violation in check(evidence, is_at_rest=True)]
        statuses = {order.status for order in evidence.orders} - {"CONFIRMED"}
        return found + [f"orders are {status}" for status in sorted(statuses)]

    def _start_variant(self, cell: Cell) -> Path:
        """Start the program so that it is interrupted; return the file that it creates then."""
        system, stack = self.system, self.system.stack
        directory = stack.directory / "cells" / str(cell).replace(" ", "-")
        directory.mkdir(parents=True)
        armed, done = directory / "armed", directory / "done"
        stack.extra |= {
            "CRASH_AT": f"{cell.step}:{cell.moment}",
            "CRASH_BY": cell.way,
            "CRASH_ARMED": str(armed),
            "CRASH_DONE": str(done),
            "ATTEMPTS": str(directory),
        }
        system.modules = {cell.program: cell.module}
        system.kill(cell.program, keep_down=True)
        system.release(cell.program)
        system.launch(cell.program, cell.program)
        stack.wait_until_healthy(cell.program)
        # The next start is that of the real program.
        system.modules = {}
        armed.touch()
        return done

    @contextmanager
    def _resuming(self, cell: Cell, done: Path) -> Iterator[None]:
        """Let a suspended process continue after some seconds; wait for that after the block.

        In a thread of its own, because the order that the process is handling waits for it.
        """
        ended = threading.Event()

        def resume() -> None:
            while not done.exists():
                if ended.wait(_PAUSE):
                    return
            time.sleep(_SUSPENDED)
            self.system.signal(cell.program, signal.SIGCONT)

        resuming = threading.Thread(target=resume)
        if cell.way is Way.STOP:
            resuming.start()
        try:
            yield
        finally:
            ended.set()
            if cell.way is Way.STOP:
                resuming.join()

    def _place(self, customer: str) -> None:
        """Place an order, however often the API fails."""
        number = next(self._numbers)
        email, key = f"{customer}+{number}@matrix.example", {"Idempotency-Key": str(number)}
        began = time.time()

        def placed() -> str:
            self.system.supervise()
            try:
                response = self.system.stack.post_order(("TEA", 1), email=email, headers=key)
            except httpx.TransportError as error:
                time.sleep(_PAUSE)
                raise AssertionError("the API does not respond") from error
            assert response.status_code == 201, response.text
            return str(response.json()["id"])

        order_id = eventually(placed)
        request = Request(
            action=Action.PLACE,
            outcome=Outcome.OK,
            email=email,
            order_id=order_id,
            began=began,
            ended=time.time(),
        )
        self.history.append(request)
