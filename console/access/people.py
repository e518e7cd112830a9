"""The people who may log in to the console, managed by an operator."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from console.access import passwords
from console.access.models import LoginRow, PersonRow, Role
from console.access.rights import Person
from console.errors import ActionError

#: Maximum number of people in the list.
LISTED = 1_000

#: The form of a name. `@` is not allowed, because pages mask email addresses and would mask such a
#: name.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A person in the list, without the password's hash."""

    name: str
    role: Role
    services: tuple[str, ...] | None
    created_at: datetime
    disabled_at: datetime | None


def add(session: Session, name: str, role: Role, services: Sequence[str] = ()) -> str:
    """Add a person and return the generated password, of which only the hash is stored.

    An operator may act on these `services` or, if there are none, on all services. Raises
    `ActionError` for an invalid name, a name that was used before, or services of another role.
    """
    if not _NAME.fullmatch(name):
        raise ActionError(
            f"name {name!r} must have 1 to 64 letters, digits, dots, hyphens or underscores,"
            " and start with a letter or a digit"
        )
    password = passwords.generated()
    row = insert(PersonRow).values(
        name=name,
        role=role,
        services=_services(role, services),
        password_hash=passwords.hashed(password),
    )
    if not session.execute(row.on_conflict_do_nothing().returning(PersonRow.name)).first():
        raise ActionError(f"person {name} exists already, possibly disabled")
    return password


def everyone(session: Session) -> list[Entry]:
    """Return the people by name, at most `LISTED`."""
    rows = session.scalars(select(PersonRow).order_by(PersonRow.name).limit(LISTED))
    return [
        Entry(
            name=row.name,
            role=Role(row.role),
            services=_tuple(row.services),
            created_at=row.created_at,
            disabled_at=row.disabled_at,
        )
        for row in rows
    ]


def change_role(session: Session, name: str, role: Role, services: Sequence[str] = ()) -> None:
    """Change a person's role and services, from the next request on. Raises `ActionError`."""
    row = _locked(session, name)
    row.role, row.services = role, _services(role, services)


def change_password(session: Session, name: str) -> str:
    """Replace a person's password, end their logins, and return the generated password.

    Raises `ActionError`.
    """
    row, password = _locked(session, name), passwords.generated()
    row.password_hash = passwords.hashed(password)
    _end_logins(session, name)
    return password


def disable(session: Session, name: str) -> None:
    """End a person's logins and reject their password. Raises `ActionError`."""
    row = _locked(session, name)
    row.disabled_at = row.disabled_at or func.now()
    _end_logins(session, name)


def enable(session: Session, name: str) -> None:
    """Accept a disabled person's password again. Raises `ActionError`."""
    _locked(session, name).disabled_at = None


def find(session: Session, name: str) -> PersonRow | None:
    """Return a person who is not disabled, or None."""
    if not _NAME.fullmatch(name):
        return None
    row = session.get(PersonRow, name)
    return None if row is None or row.disabled_at else row


def person_of(row: PersonRow) -> Person:
    """Return the person of a row, with the rights of the role."""
    return Person(name=row.name, role=Role(row.role), services=_tuple(row.services))


def _services(role: Role, services: Sequence[str]) -> list[str] | None:
    if services and role is not Role.OPERATOR:
        raise ActionError(f"only an operator can be limited to services, not a person as {role}")
    return sorted(set(services)) or None


def _tuple(services: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if services is None else tuple(services)


def _locked(session: Session, name: str) -> PersonRow:
    row = select(PersonRow).where(PersonRow.name == name).with_for_update()
    if found := session.scalars(row).one_or_none():
        return found
    raise ActionError(f"person {name} does not exist; see: orderctl people list")


def _end_logins(session: Session, name: str) -> None:
    session.execute(delete(LoginRow).where(LoginRow.person == name))
