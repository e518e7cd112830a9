"""The rights of each role, and the rights of a person on each service."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from console.access.models import Role


class Right(StrEnum):
    """Permission for one kind of action in the console. Every person can read every page."""

    #: To read addresses of customers, which are masked otherwise.
    REVEAL = "reveal"
    REDRIVE = "redrive"
    #: To edit a parked message.
    EDIT = "edit"
    #: To change the note, the owner and the mute of a failure group.
    TRIAGE = "triage"
    DISCARD = "discard"
    RESTORE = "restore"
    STOCK = "stock"
    #: To cancel an order.
    CANCEL = "cancel"
    #: To mark an order as shipped.
    SHIP = "ship"
    #: To pause and resume the consumption of a service.
    PAUSE = "pause"
    #: To read the audit log.
    AUDIT = "audit"
    #: To list and to disable people.
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
    #: The services on which the person may act; None: all.
    services: tuple[str, ...] | None = None

    def may(self, right: Right, service: str | None = None) -> bool:
        """Return whether the person has a right, on a service if the action concerns one."""
        on_service = service is None or self.services is None or service in self.services
        return right in RIGHTS[self.role] and on_service
