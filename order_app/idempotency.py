"""Idempotency keys: a request that is sent again places no second order."""

import hashlib
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from common.errors import OrderSystemError
from order_app.models import IdempotencyKey


class KeyReused(OrderSystemError):
    """The key was used before, for another order."""


def fingerprint(request: str) -> str:
    """Return what tells requests apart, of what a client asks for in one canonical form."""
    return hashlib.sha256(request.encode()).hexdigest()


def order_of(session: Session, key: str, fingerprint: str) -> UUID:
    """Return the id of the order that a known key stands for.

    Raises `KeyReused` if it was another request that placed it.
    """
    columns = select(IdempotencyKey.fingerprint, IdempotencyKey.order_id)
    known = session.execute(columns.where(IdempotencyKey.key == key)).one()
    if known.fingerprint != fingerprint:
        raise KeyReused
    order_id: UUID = known.order_id
    return order_id
