"""Idempotency keys: a repeated request does not place a second order."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from eventbus.errors import ExpectedError
from order_app.storage.models import IdempotencyKey

#: The format of this release's fingerprints. Other releases may store other formats, prefixed with
#: a version.
_FINGERPRINT = re.compile("[0-9a-f]{64}")


class KeyReused(ExpectedError):
    """The key was already used, for a different order."""


@dataclass(frozen=True, slots=True)
class Claim:
    """The idempotency key of a request. Keys of different clients are unrelated."""

    #: The prefixes of all API keys that the client has had, oldest first. The claim is stored under
    #: the oldest prefix, but may also be stored under another.
    api_keys: tuple[str, ...]
    key: str
    fingerprint: str

    @classmethod
    def of(cls, api_keys: Sequence[str], key: str, request: Any) -> "Claim":
        """Return the claim of a request, which is a dataclass."""
        return cls(tuple(api_keys), key, fingerprint(request))

    def matches(self, stored: str) -> bool:
        """Return whether a stored fingerprint may belong to the same request.

        The format of another release cannot be compared, and counts as equal: the client then
        receives the stored order, which is correct for a retry and harmless for a reused key.
        """
        return stored == self.fingerprint or not _FINGERPRINT.fullmatch(stored)


def fingerprint(request: Any) -> str:
    """Return the fingerprint of a request, which is a dataclass.

    A field that a later release adds, with a default, does not change the fingerprints of requests
    without that field.
    """
    return hashlib.sha256(json.dumps(_canonical(request)).encode()).hexdigest()


def order_of(session: Session, claim: Claim) -> UUID:
    """Return the id of the order that an earlier request with this key placed.

    Raises `KeyReused` if that request was different.
    """
    columns = select(IdempotencyKey.fingerprint, IdempotencyKey.order_id)
    same_key = (IdempotencyKey.api_key.in_(claim.api_keys), IdempotencyKey.key == claim.key)
    earliest = columns.where(*same_key).order_by(IdempotencyKey.created_at)
    stored = session.execute(earliest).first()
    if stored is None:
        # Retention has just deleted the key. The client's next attempt places a new order.
        raise KeyReused("The key has just expired.")
    if not claim.matches(stored.fingerprint):
        raise KeyReused
    order_id: UUID = stored.order_id
    return order_id


def _canonical(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_canonical(item) for item in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    values = {field.name: getattr(value, field.name) for field in fields(value)}
    defaults = {field.name: field.default for field in fields(value)}
    return {
        name: _canonical(part)
        for name, part in values.items()
        if defaults[name] is MISSING or part != defaults[name]
    }
