"""API keys: who may use the API and for what, in the caller's transaction, the first argument.

A key reads `ok_<prefix>_<secret>`. The prefix names it in lists and logs; of the secret only a
hash is stored. SHA-256 is right for it: the secret has 192 random bits, which nobody guesses at
any speed, and a slow hash, made for the passwords that people invent, would cost each request.
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
    """What a key is good for."""

    READ = "orders:read"
    WRITE = "orders:write"
    #: To watch the service itself.
    OPS = "ops"


class UnknownKey(ExpectedError):
    """There is no key with this prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key as it is stored: enough to recognize it, not enough to use it."""

    prefix: str
    name: str
    hash: str
    scopes: frozenset[Scope]
    #: Scopes that another release has given it; they grant nothing here.
    unknown_scopes: frozenset[str] = frozenset()
    #: The prefixes of all keys of its name, the oldest first: a client's keys have one name, and
    #: the client is the same when it is given a new one.
    of_client: tuple[str, ...] = ()
    created_at: datetime
    revoked_at: datetime | None
    last_used_on: date | None


def create(session: Session, name: str, scopes: Iterable[Scope]) -> str:
    """Store a new key and return it; this is the only moment at which anybody can read it.

    Raises `ValueError` for a name that is not one to 64 letters, digits, spaces and `._@-`.
    """
    key = generate()
    if not register(session, key, name, scopes):
        raise ValueError("by chance there was a key with the same prefix; try again")
    return key


def generate() -> str:
    """Return a new key, which nobody knows yet, the database neither."""
    return f"ok_{secrets.token_hex(4)}_{secrets.token_hex(24)}"


def register(session: Session, key: str, name: str, scopes: Iterable[Scope]) -> bool:
    """Store a key that somebody else has generated; to repeat it is harmless.

    Returns whether it is new. Raises `ValueError` for what is no key, for a bad name (see `create`)
    and for a key that is stored differently.
    """
    prefix = prefix_of(key)
    if prefix is None:
        raise ValueError("this is not a key")
    if not _NAME.fullmatch(name):
        raise ValueError("a key's name has 1 to 64 letters, digits, spaces and . _ @ -")
    told = {"name": name, "hash": digest(key), "scopes": sorted(set(scopes))}
    new = insert(ApiKeyRow).values(prefix=prefix, **told).on_conflict_do_nothing()
    if session.execute(new.returning(ApiKeyRow.prefix)).first():
        return True
    stored = session.get_one(ApiKeyRow, prefix)
    if any(getattr(stored, column) != value for column, value in told.items()):
        raise ValueError(f"the key {prefix} is stored already, with another secret, name or scope")
    return False


def all_keys(session: Session) -> list[ApiKey]:
    """Return every key there ever was, oldest first."""
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
    """Make a key useless for ever and return it; to repeat it is harmless. Raises `UnknownKey`."""
    session.execute(
        update(ApiKeyRow)
        .where(ApiKeyRow.prefix == prefix, ApiKeyRow.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
    )
    found = [key for key in all_keys(session) if key.prefix == prefix]
    if not found:
        raise UnknownKey(f"there is no key with the prefix {prefix!r}")
    return found[0]


def note_use(session: Session, prefix: str, day: date) -> None:
    """Remember that a key was used on this day."""
    older = or_(ApiKeyRow.last_used_on.is_(None), ApiKeyRow.last_used_on < day)
    session.execute(
        update(ApiKeyRow).where(ApiKeyRow.prefix == prefix, older).values(last_used_on=day)
    )


def prefix_of(key: str) -> str | None:
    """Return the prefix of what may be a key, or None if it has not the form of one."""
    match = _FORM.fullmatch(key)
    return match["prefix"] if match else None


def digest(key: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
