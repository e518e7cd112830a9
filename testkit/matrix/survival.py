"""The run of a cell: the system survives the interruption, and no invariant is violated."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx

from testkit.campaign.evidence import gather
from testkit.campaign.history import Action, History, Outcome, Request
from testkit.campaign.invariants import check
from testkit.campaign.rest import PATIENCE, wait_until_at_rest
from testkit.campaign.system import System
from testkit.eventually import eventually
from testkit.matrix.points import REDRIVE, STEPS, Cell, Way
from testkit.matrix.redrive import Redrive

#: The units that the warehouse receives.
_STOCK = {"TEA": 1_000_000}

#: Minimum number of orders that are placed before the program is interrupted.
_ORDERS = 3

#: Seconds for which a process is suspended.
_SUSPENDED = 5.0

#: Seconds between two attempts to place an order.
_PAUSE = 0.2


@dataclass(frozen=True)
class _Crash:
    """The interruption of one cell, and its files."""

    cell: Cell
    directory: Path

    @property
    def armed(self) -> Path:
        """The file that must exist for an interruption."""
        return self.directory / "armed"

    @property
    def done(self) -> Path:
        """The file that exists from the interruption on."""
        return self.directory / "done"

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of the program that is interrupted."""
        return {
            "CRASH_AT": f"{self.cell.step}:{self.cell.moment}",
            "CRASH_BY": self.cell.way,
            "CRASH_ARMED": str(self.armed),
            "CRASH_DONE": str(self.done),
        }


@dataclass
class Matrix:
    """A running system, in which the cells are run one after another."""

    system: System
    #: The environment of `orderctl` for the system.
    operator: Mapping[str, str]
    history: History = field(default_factory=History)
    _numbers: "count[int]" = field(default_factory=count)

    def start(self) -> None:
        """Start the system."""
        self.system.start()
        self.system.stack.stock(**_STOCK)

    def violations(self, cell: Cell) -> list[str]:
        """Run a cell, and return the violations of invariants after it."""
        if cell.program == REDRIVE:
            self._interrupt_redrive(cell)
        else:
            self._interrupt_program(cell)
        wait_until_at_rest(self.system)
        evidence = gather(self.system, self.history.requests, [], _STOCK, is_at_rest=True)
        found = [str(violation) for violation in check(evidence, is_at_rest=True)]
        statuses = {order.status for order in evidence.orders} - {"CONFIRMED"}
        return found + [f"orders are {status}" for status in sorted(statuses)]

    def _interrupt_program(self, cell: Cell) -> None:
        crash = self._crash(cell)
        self._start_variant(cell, crash)

        def interrupted() -> None:
            time.sleep(_PAUSE)
            self._place(STEPS[cell.step].customer)
            self.system.supervise()
            assert crash.done.exists(), f"{cell}: the point was not reached"

        with self._resuming(cell, crash, lambda: self.system.signal(cell.program, signal.SIGCONT)):
            for _ in range(_ORDERS):
                self._place(STEPS[cell.step].customer)
            eventually(interrupted)

    def _interrupt_redrive(self, cell: Cell) -> None:
        crash = self._crash(cell)
        redrive = Redrive(self.system, self.operator)
        redrive.park(lambda: self._place(STEPS[cell.step].customer), _ORDERS)
        plan = redrive.plan()
        crash.armed.touch()
        running = redrive.start(plan, cell.module, crash.environment, crash.directory / "log")
        with self._resuming(cell, crash, lambda: os.kill(running.pid, signal.SIGCONT)):
            status = running.wait(PATIENCE)
            assert crash.done.exists(), f"{cell}: the point was not reached"
        if status:
            redrive.finish(plan)
        redrive.check_empty()

    def _crash(self, cell: Cell) -> _Crash:
        directory = self.system.stack.directory / "cells" / str(cell).replace(" ", "-")
        directory.mkdir(parents=True)
        return _Crash(cell, directory)

    def _start_variant(self, cell: Cell, crash: _Crash) -> None:
        """Start the program so that it is interrupted."""
        system, stack = self.system, self.system.stack
        stack.extra |= {**crash.environment, "ATTEMPTS": str(crash.directory)}
        system.modules = {cell.program: cell.module}
        system.kill(cell.program, keep_down=True)
        system.release(cell.program)
        system.launch(cell.program, cell.program)
        stack.wait_until_healthy(cell.program)
        # The next start runs the real program.
        system.modules = {}
        crash.armed.touch()

    @contextmanager
    def _resuming(self, cell: Cell, crash: _Crash, resume: Callable[[], object]) -> Iterator[None]:
        """Resume a suspended process after some seconds, and wait for this after the block.

        This takes place on a separate thread, because the order that the process is handling waits
        for the resumption.
        """
        ended = threading.Event()

        def resume_later() -> None:
            while not crash.done.exists():
                if ended.wait(_PAUSE):
                    return
            time.sleep(_SUSPENDED)
            resume()

        resuming = threading.Thread(target=resume_later)
        if cell.way is Way.STOP:
            resuming.start()
        try:
            yield
        finally:
            ended.set()
            if cell.way is Way.STOP:
                resuming.join()

    def _place(self, customer: str) -> None:
        """Place an order, regardless of how often the API fails."""
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
