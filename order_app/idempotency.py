"""Idempotency keys: a request that is sent again places no second order."""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import OrderSystemError
from order_app.models import IdempotencyKey


class KeyReused(OrderSystemError):
    """The key was used before, for another order."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A client's name for one request: the same key of another client is another key."""

    #: The client, by the public part of its API key.
    api_key: str
    key: str
    fingerprint: str

    @classmethod
    def of(cls, api_key: str, key: str, request: str) -> "Claim":
        """Return the claim of a request, which is given in one canonical form."""
        return cls(api_key, key, hashlib.sha256(request.encode()).hexdigest())


def order_of(session: Session, claim: Claim) -> UUID:
    """Return the id of the order that stands behind a key that was claimed before.

    Raises `KeyReused` if it was another request that placed it.
    """
    columns = select(IdempotencyKey.fingerprint, IdempotencyKey.order_id)
    own = (IdempotencyKey.api_key == claim.api_key, IdempotencyKey.key == claim.key)
    known = session.execute(columns.where(*own)).one()
    if known.fingerprint != claim.fingerprint:
        raise KeyReused
    order_id: UUID = known.order_id
    return order_id
