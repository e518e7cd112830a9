"""API keys, each with its scopes. Functions run in the transaction that is their first argument.

A key has the form `ok_<prefix>_<secret>`. The prefix identifies it in lists and logs; only a hash
of the key is stored. SHA-256 suffices, because 192 random bits cannot be guessed at any speed. A
slow hash is necessary only for passwords that people choose, and would slow down every request.
"""

import hashlib
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum

from sqlalchemy import or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from eventbus.errors import ExpectedError
from order_app.storage.models import ApiKeyRow

_FORM = re.compile(r"ok_(?P<prefix>[0-9a-f]{8})_[0-9a-f]{48}")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")


class Scope(StrEnum):
    """A permission of an API key."""

    READ = "orders:read"
    WRITE = "orders:write"
    #: The permission to ship and cancel orders in the name of an operator.
    OPERATE = "orders:operate"
    #: The permission to monitor the service.
    OPS = "ops"


class UnknownKey(ExpectedError):
    """No key has this prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A stored key, which can verify a client's key but cannot be used to call the API."""

    prefix: str
    name: str
    hash: str
    scopes: frozenset[Scope]
    #: Scopes that only another release defines. In this release, they have no effect.
    unknown_scopes: frozenset[str] = frozenset()
    #: The prefixes of all keys with this name, oldest first. All keys of a client have the same
    #: name, so a client with a new key remains the same client.
    of_client: tuple[str, ...] = ()
    created_at: datetime
    revoked_at: datetime | None
    last_used_on: date | None


def create(session: Session, name: str, scopes: Iterable[Scope]) -> str:
    """Store a new key and return it; it cannot be read again later.

    Raises `ValueError` if the name is not 1 to 64 letters, digits, spaces and `._@-`.
    """
    key = generate()
    if not register(session, key, name, scopes):
        raise ValueError("the prefix of the generated key is already in use; try again")
    return key


def generate() -> str:
    """Return a new key, which is not stored yet."""
    return f"ok_{secrets.token_hex(4)}_{secrets.token_hex(24)}"


def register(session: Session, key: str, name: str, scopes: Iterable[Scope]) -> bool:
    """Store a key that was generated elsewhere, and return whether it is new; idempotent.

    Raises `ValueError` if the text is not a key, if the name is invalid (see `create`), or if the
    key is stored with a different secret, name or scope.
    """
    prefix = prefix_of(key)
    if prefix is None:
        raise ValueError("not an API key")
    if not _NAME.fullmatch(name):
        raise ValueError("a key's name must be 1 to 64 letters, digits, spaces and . _ @ -")
    columns = {"name": name, "hash": digest(key), "scopes": sorted(set(scopes))}
    new = insert(ApiKeyRow).values(prefix=prefix, **columns).on_conflict_do_nothing()
    if session.execute(new.returning(ApiKeyRow.prefix)).first():
        return True
    stored = session.get_one(ApiKeyRow, prefix)
    if any(getattr(stored, column) != value for column, value in columns.items()):
        raise ValueError(
            f"the key {prefix} is already stored, with a different secret, name or scope"
        )
    return False


def all_keys(session: Session) -> list[ApiKey]:
    """Return all keys, including revoked keys, oldest first."""
    rows = session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.created_at, ApiKeyRow.prefix))
    keys = [_key(row) for row in rows]
    of_client: dict[str, list[str]] = {}
    for key in keys:
        of_client.setdefault(key.name, []).append(key.prefix)
    return [replace(key, of_client=tuple(of_client[key.name])) for key in keys]


def _key(row: ApiKeyRow) -> ApiKey:
    known, stored = frozenset(Scope), frozenset(row.scopes)
    return ApiKey(
        prefix=row.prefix,
        name=row.name,
        hash=row.hash,
        scopes=frozenset(Scope(scope) for scope in stored & known),
        unknown_scopes=stored - known,
        created_at=row.created_at,
        revoked_at=row.revoked_at,
        last_used_on=row.last_used_on,
    )


def revoke(session: Session, prefix: str) -> ApiKey:
    """Revoke a key permanently and return it; idempotent. Raises `UnknownKey`."""
    session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.prefix == prefix, ApiKeyRow.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
    )
    revoked = [key for key in all_keys(session) if key.prefix == prefix]
    if not revoked:
        raise UnknownKey(f"there is no key with the prefix {prefix!r}")
    return revoked[0]


def note_use(session: Session, prefix: str, day: date) -> None:
    """Record that a key was used on this day."""
    older = or_(ApiKeyRow.last_used_on.is_(None), ApiKeyRow.last_used_on < day)
    session.execute(
        update(ApiKeyRow).where(ApiKeyRow.prefix == prefix, older).values(last_used_on=day)
    )


def prefix_of(key: str) -> str | None:
    """Return the prefix of a key, or None if the text does not have the form of a key."""
    match = _FORM.fullmatch(key)
    return match["prefix"] if match else None


def digest(key: str) -> str:
    """Return the hash of a key, which is stored instead of it."""
    return hashlib.sha256(key.encode()).hexdigest()
