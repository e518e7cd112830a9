"""Idempotency keys: a request that is sent again places no second order."""

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

#: The form of this release's fingerprints. Another release may store others, with a version of
#: their own before them.
_FINGERPRINT = re.compile("[0-9a-f]{64}")


class KeyReused(ExpectedError):
    """The key was used before, for another order."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A client's name for one request: the same key of another client is another key."""

    #: The prefixes of all API keys that the client ever had, its oldest first: the claim is stored
    #: under that one, whichever the request came with. Earlier releases stored it under the latter.
    api_keys: tuple[str, ...]
    key: str
    fingerprint: str

    @classmethod
    def of(cls, api_keys: Sequence[str], key: str, request: Any) -> "Claim":
        """Return the claim of a request, which is a dataclass."""
        return cls(tuple(api_keys), key, fingerprint(request))

    def matches(self, stored: str) -> bool:
        """Return whether a stored fingerprint may be that of the same request.

        One in the form of another release cannot be compared: to show the order that was placed is
        right for a repetition, and harmless for a mistake.
        """
        return stored == self.fingerprint or not _FINGERPRINT.fullmatch(stored)


def fingerprint(request: Any) -> str:
    """Return what is stored of a request, which is a dataclass.

    A field that a later release adds, with a default, changes the fingerprint of no request that
    leaves it out.
    """
    return hashlib.sha256(json.dumps(_canonical(request)).encode()).hexdigest()


def order_of(session: Session, claim: Claim) -> UUID:
    """Return the id of the order that stands behind a key that was claimed before.

    Raises `KeyReused` if it was another request that placed it.
    """
    columns = select(IdempotencyKey.fingerprint, IdempotencyKey.order_id)
    own = (IdempotencyKey.api_key.in_(claim.api_keys), IdempotencyKey.key == claim.key)
    known = session.execute(columns.where(*own).order_by(IdempotencyKey.created_at)).first()
    if known is None:
        # Retention has removed it this moment: the client's next attempt is a new order.
        raise KeyReused("The key has just expired.")
    if not claim.matches(known.fingerprint):
        raise KeyReused
    order_id: UUID = known.order_id
    return order_id


def _canonical(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_canonical(item) for item in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    given = {field.name: getattr(value, field.name) for field in fields(value)}
    defaults = {field.name: field.default for field in fields(value)}
    return {
        name: _canonical(part)
        for name, part in given.items()
        if defaults[name] is MISSING or part != defaults[name]
    }
