"""Browser logins, stored under the hash of their cookie."""

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from console.access.models import LoginRow, PersonRow
from console.access.people import person_of
from console.access.rights import Person

#: Age at which `used_at` is written again, so that not every page view causes a write.
_PRECISION = timedelta(minutes=1)

#: Maximum number of ended logins that are deleted in one transaction, which is therefore short. The
#: next login deletes more.
_DELETED_TOGETHER = 1_000


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The longest time between two requests of a login, and its longest duration."""

    idle: timedelta
    lifetime: timedelta


def start(session: Session, token_hash: bytes, name: str | None, limits: Limits) -> None:
    """Store a login of a person or, if `name` is None, of the account in the settings."""
    old = select(LoginRow.token_hash).where(LoginRow.started_at < func.now() - limits.lifetime)
    old = old.order_by(LoginRow.started_at).limit(_DELETED_TOGETHER)
    session.execute(delete(LoginRow).where(LoginRow.token_hash.in_(old)))
    session.add(LoginRow(token_hash=token_hash, person=name))


def find(
    session: Session, token_hash: bytes, limits: Limits, *, otherwise: Person
) -> Person | None:
    """Return the person of a valid login, `otherwise` for a login without a name, or None."""
    query = (
        select(LoginRow.person, PersonRow)
        .outerjoin(PersonRow, PersonRow.name == LoginRow.person)
        .where(
            LoginRow.token_hash == token_hash,
            LoginRow.used_at > func.now() - limits.idle,
            LoginRow.started_at > func.now() - limits.lifetime,
            PersonRow.disabled_at.is_(None),
        )
    )
    row = session.execute(query).one_or_none()
    if row is None:
        return None
    name, person = row
    return otherwise if name is None else person_of(person)


def touch(session: Session, token_hash: bytes) -> None:
    """Record that a login was used, at most once a minute."""
    row = update(LoginRow).where(LoginRow.token_hash == token_hash)
    stale = LoginRow.used_at < func.now() - _PRECISION
    session.execute(row.where(stale).values(used_at=func.now()))


def end(session: Session, token_hash: bytes) -> None:
    """End a login, if it exists."""
    session.execute(delete(LoginRow).where(LoginRow.token_hash == token_hash))
