"""Group commit: orders that arrive while one group is being written form the next group.

Orders do not wait for a group to fill: a single order is written immediately, by the thread of its
request. Orders that arrive in the meantime accumulate, and one of their threads then writes all of
them. A busy process therefore needs one commit for many orders, and only one connection.
"""

import math
import time
from collections.abc import Callable
from threading import Lock

from flask import Flask
from sqlalchemy import Connection
from sqlalchemy.exc import TimeoutError as PoolTimeout

from eventbus.database.outages import NoResponse
from order_app.domain import Order
from order_app.storage import intake
from order_app.storage.intake import Placing
from order_app.storage.models import db

_EXTENSION = "group_commit"


class _Member:
    """An order in a group, for which the thread of its request waits."""

    def __init__(self, placing: Placing) -> None:
        self.placing = placing
        #: The stored order; None if an earlier request has claimed its idempotency key.
        self.placed: Order | None = None
        self.error: BaseException | None = None
        #: Whether its thread writes the next group.
        self.leads = False
        #: Whether its thread writes this order separately.
        self.alone = False
        self._woken = Lock()
        self._woken.acquire()

    def wait(self, seconds: float) -> bool:
        """Wait for `wake`, and return whether it was called in time."""
        return self._woken.acquire(timeout=seconds)

    def wake(self) -> None:
        """Let its thread continue."""
        self._woken.release()


class GroupCommit:
    """The group commit of one process, with at most one group being written at a time.

    Each thread waits for its own order, so a group has at most as many orders as the process has
    threads. After the time limit of a write, the next group is written on another connection,
    although the write has not ended.
    """

    def __init__(self, connect: Callable[[], Connection], *, patience: float, limit: float) -> None:
        """`patience` and `limit` are the seconds within which a group must start and be written."""
        self._connect = connect
        self._patience = patience
        self._limit = limit
        self._lock = Lock()
        self._gathered: list[_Member] = []
        #: The member whose thread writes the current group, or is about to write it.
        self._leader: _Member | None = None
        #: The time from which the current write is overdue, by the monotonic clock.
        self._overdue_at = math.inf

    def place(self, placing: Placing) -> Order | None:
        """Write and commit a new order; return the order, or None if its key was claimed earlier.

        Raises the database's errors, `PoolTimeout` if its group does not start in time, and
        `NoResponse` if its group is not written in time, in which case the outcome is unknown.
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
            if self._is_free():
                self._appoint(member)
        return member

    def _is_free(self) -> bool:
        """Return whether the next group may be written: the current write is over or overdue."""
        return self._leader is None or time.monotonic() >= self._overdue_at

    def _appoint(self, member: _Member) -> None:
        self._leader, self._overdue_at = member, math.inf
        member.leads = True

    def _wait(self, member: _Member) -> None:
        """Wait until the member is written, or leads."""
        if member.wait(self._patience):
            return
        with self._lock:
            if member in self._gathered and not member.leads:
                if self._is_free():
                    self._appoint(member)
                    return
                self._gathered.remove(member)
                raise PoolTimeout("the group commit of an order did not start in time")
            remaining = self._overdue_at - time.monotonic()
        # The order is about to lead, or its group is being written: the outcome is not known yet.
        if not member.wait(min(max(remaining, 0), self._limit)):
            raise NoResponse

    def _lead(self, leader: _Member) -> None:
        with self._lock:
            group, self._gathered = self._gathered, []
            # The time limit starts only now, because this leader also writes the orders that have
            # arrived until now.
            self._overdue_at = time.monotonic() + self._limit
        try:
            self._write(group)
        except BaseException as error:
            for member in group:
                member.error = error
        finally:
            self._hand_over(leader)
            for member in group:
                if member is not leader:
                    member.wake()

    def _write(self, group: list[_Member]) -> None:
        with self._connect() as connection:
            try:
                placed = intake.write(connection, [member.placing for member in group])
            except Exception as error:
                # After a lost connection the outcome of the commit is unknown: do not retry.
                if len(group) == 1 or getattr(error, "connection_invalidated", False):
                    raise
                # The group was not written. Write each order separately: only invalid orders fail.
                for member in group:
                    member.alone = True
                return
        for member in group:
            member.placed = placed.get(member.placing.order.id)

    def _hand_over(self, leader: _Member) -> None:
        with self._lock:
            if self._leader is not leader:
                # The write of this thread was overdue, and another thread leads.
                return
            self._leader = None
            if self._gathered:
                first = self._gathered[0]
                self._appoint(first)
                first.wake()


def install(app: Flask, *, patience: float, limit: float) -> None:
    """Add the group commit to the app; it needs an app context. See `GroupCommit`."""
    app.extensions[_EXTENSION] = GroupCommit(_connect, patience=patience, limit=limit)


def of(app: Flask) -> GroupCommit:
    """Return the group commit of the app."""
    group_commit: GroupCommit = app.extensions[_EXTENSION]
    return group_commit


def _connect() -> Connection:
    return db.engines[intake.BIND].connect()
