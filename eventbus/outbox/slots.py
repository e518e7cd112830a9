"""Slots, which divide an outbox among several relays.

The hash of an event's subject determines its slot, so one relay publishes all events of a subject.
The relay of a part owns every n-th slot. It publishes a slot only while its connection holds the
slot's lock, so two relays never publish the same slot, even with different numbers of parts.

A relay of the whole outbox holds one lock exclusively; the relays of parts hold the same lock in
shared mode.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from psycopg2.errors import LockNotAvailable
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from eventbus.settings.outbox import SLOTS

#: The slot of an event, in SQL. The index of unsent events contains this expression. Only relays of
#: one database compare slots, so the hash need not be the same in other versions of PostgreSQL.
SLOT = f"(uuid_hash(subject) & {SLOTS - 1})"

_OUTBOX = "hashtext('outbox')"
_LOCK_WHOLE = f"SELECT pg_try_advisory_lock({_OUTBOX})"
_HOLD = (
    "SET lock_timeout = {milliseconds}; SET statement_timeout = 0;"
    f" SELECT pg_advisory_lock({_OUTBOX})"
)
_LOCK_SHARED = f"SELECT pg_try_advisory_lock_shared({_OUTBOX})"
_LOCK_SLOTS = f"""
SELECT slot FROM unnest(%s::int[]) AS own (slot) WHERE pg_try_advisory_lock({_OUTBOX}, slot)
"""  # noqa: S608, a constant of this module


@dataclass(frozen=True)
class Part:
    """Part `number` of `parts` of an outbox; by default the whole outbox."""

    number: int = 0
    parts: int = 1

    @property
    def is_whole(self) -> bool:
        """Whether the part is the whole outbox."""
        return self.parts == 1

    @property
    def slots(self) -> Sequence[int]:
        """The slots of this part."""
        return range(self.number, SLOTS, self.parts)

    def lock(self, connection: Connection) -> Sequence[int]:
        """Lock the slots of this part that no other relay holds, and return the locked slots.

        The locks end with the connection, or when it releases its advisory locks.
        """
        if self.is_whole:
            is_free = connection.exec_driver_sql(_LOCK_WHOLE).scalar()
            return self.slots if is_free else ()
        if not connection.exec_driver_sql(_LOCK_SHARED).scalar():
            return ()
        return connection.exec_driver_sql(_LOCK_SLOTS, (list(self.slots),)).scalars().all()


WHOLE = Part()


def hold_outbox(connection: Connection, seconds: float) -> None:
    """Keep every relay of an outbox from publishing until the connection ends.

    Wait for at most `seconds` until the relays have settled their events and released their slots.
    During the wait, relays cannot acquire additional slots. Raises `TimeoutError`.
    """
    try:
        connection.exec_driver_sql(_HOLD.format(milliseconds=int(seconds * 1000)))
    except OperationalError as error:
        if not isinstance(error.orig, LockNotAvailable):
            raise
        raise TimeoutError(f"the outbox was not released for {seconds:g} seconds") from None
