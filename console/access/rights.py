"""The rights of each role, and the rights of a person on each service."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from console.access.models import Role


class Right(StrEnum):
    """Permission for one kind of action in the console. Every person can read every page."""

    #: The right to read customers' addresses, which are otherwise masked.
    REVEAL = "reveal"
    REDRIVE = "redrive"
    #: The right to edit a parked message.
    EDIT = "edit"
    #: The right to change the note, the owner and the mute of a failure group.
    TRIAGE = "triage"
    DISCARD = "discard"
    RESTORE = "restore"
    STOCK = "stock"
    #: The right to cancel an order.
    CANCEL = "cancel"
    #: The right to mark an order as shipped.
    SHIP = "ship"
    #: The right to pause and resume the consumption of a service.
    PAUSE = "pause"
    #: The right to read the audit log.
    AUDIT = "audit"
    #: The right to list and to disable people.
    PEOPLE = "people"


_OPERATOR = frozenset(
    {
        Right.REVEAL,
        Right.REDRIVE,
        Right.EDIT,
        Right.TRIAGE,
        Right.DISCARD,
        Right.RESTORE,
        Right.STOCK,
        Right.CANCEL,
        Right.SHIP,
        Right.PAUSE,
    }
)

#: The rights of each role.
RIGHTS: Mapping[Role, frozenset[Right]] = MappingProxyType(
    {Role.VIEWER: frozenset(), Role.OPERATOR: _OPERATOR, Role.ADMIN: frozenset(Right)}
)


@dataclass(frozen=True, kw_only=True)
class Person:
    """A person who is logged in."""

    name: str
    role: Role
    #: The services on which the person may act; None means all.
    services: tuple[str, ...] | None = None

    def may(self, right: Right, service: str | None = None) -> bool:
        """Return whether the person has a right, on a service if the action concerns one."""
        on_service = service is None or self.services is None or service in self.services
        return right in RIGHTS[self.role] and on_service
