"""Intake groups: orders that arrive while others are being written are written together, next.

Nobody waits for a group to fill: an order that comes alone is written at once, by the thread of its
own request. While it is, others gather; then one of their threads writes all of them. So a busy
process needs one commit for many orders, and one connection.
"""

from collections.abc import Callable
from threading import Lock

from flask import Flask
from sqlalchemy import Connection
from sqlalchemy.exc import TimeoutError as PoolTimeout

from order_app.domain import Order
from order_app.storage import intake
from order_app.storage.intake import Placing
from order_app.storage.models import db

_EXTENSION = "intake_groups"


class _Member:
    """An order in a group, as its request's thread waits for it."""

    def __init__(self, placing: Placing) -> None:
        self.placing = placing
        #: As it is stored; None if its key was claimed before.
        self.placed: Order | None = None
        self.error: BaseException | None = None
        #: Its thread is to write: the next group, or this order `alone`.
        self.leads = False
        self.alone = False
        self._called = Lock()
        self._called.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait until it is called; False if nobody did in time."""
        return self._called.acquire(timeout=seconds)

    def call(self) -> None:
        """Let its thread go on."""
        self._called.release()


class IntakeGroups:
    """The orders that one process takes; at most one group at a time is being written.

    A group is no larger than the process has threads: each waits for its own order.
    """

    def __init__(self, connect: Callable[[], Connection], *, patience: float) -> None:
        self._connect = connect
        #: Seconds for which an order waits for its turn.
        self._patience = patience
        self._lock = Lock()
        self._gathered: list[_Member] = []
        self._busy = False

    def place(self, placing: Placing) -> Order | None:
        """Write a new order, commit, and return it; None if its key was claimed before.

        Raises what the database raises, and `PoolTimeout` if the turn does not come in time.
        """
        member = self._join(placing)
        if not member.leads:
            self._wait(member)
        if member.leads:
            self._lead(member)
        if member.alone:
            with self._connect() as connection:
                return intake.write(connection, [placing]).get(placing.order.id)
        if member.error is not None:
            raise member.error
        return member.placed

    def _join(self, placing: Placing) -> _Member:
        member = _Member(placing)
        with self._lock:
            self._gathered.append(member)
            if not self._busy:
                self._busy = member.leads = True
        return member

    def _wait(self, member: _Member) -> None:
        if member.wait(self._patience):
            return
        with self._lock:
            if member in self._gathered and not member.leads:
                self._gathered.remove(member)
                raise PoolTimeout("the turn to write an order did not come in time")
        # It is called this moment, or being written: nobody may be told before that has ended.
        if not member.wait(self._patience):
            raise PoolTimeout("the database did not answer in time")

    def _lead(self, member: _Member) -> None:
        with self._lock:
            group, self._gathered = self._gathered, []
        try:
            self._write(group)
        except BaseException as error:
            for each in group:
                each.error = error
        finally:
            self._hand_over()
            for each in group:
                if each is not member:
                    each.call()

    def _write(self, group: list[_Member]) -> None:
        with self._connect() as connection:
            try:
                placed = intake.write(connection, [each.placing for each in group])
            except Exception as error:
                # Without the connection nobody knows whether it was committed: not once more.
                if len(group) == 1 or getattr(error, "connection_invalidated", False):
                    raise
                # Nothing is written. Each alone, so that what fails hurts no other.
                for each in group:
                    each.alone = True
                return
        for each in group:
            each.placed = placed.get(each.placing.order.id)

    def _hand_over(self) -> None:
        with self._lock:
            self._busy = bool(self._gathered)
            if self._busy:
                first = self._gathered[0]
                first.leads = True
                first.call()


def install(app: Flask, *, patience: float) -> None:
    """Give the app its groups; they need an app context."""
    app.extensions[_EXTENSION] = IntakeGroups(_connect, patience=patience)


def of(app: Flask) -> IntakeGroups:
    """Return the app's groups."""
    groups: IntakeGroups = app.extensions[_EXTENSION]
    return groups


def _connect() -> Connection:
    return db.engines[intake.BIND].connect()
