"""Idempotency keys: a request that is sent again places no second order."""

import hashlib
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from common.errors import OrderSystemError
from order_app.models import IdempotencyKey


class KeyReused(OrderSystemError):
    """The key was used before, for another order."""


def claim(session: Session, api_key: str, key: str, request: str, order_id: UUID) -> UUID:
    """Return the id of the order that the key stands for: `order_id`, if the key is new.

    `api_key` is the client's: the same key of another client is another key. `request` is what
    the client asks for, in one canonical form. Of two requests with the same key at once, the
    second waits here for the first's commit. Raises `KeyReused` if the key stands for another
    request.
    """
    fingerprint = hashlib.sha256(request.encode()).hexdigest()
    row = insert(IdempotencyKey).values(
        api_key=api_key, key=key, fingerprint=fingerprint, order_id=order_id
    )
    claimed = row.on_conflict_do_nothing().returning(IdempotencyKey.key)
    if session.execute(claimed).first():
        return order_id
    columns = select(IdempotencyKey.fingerprint, IdempotencyKey.order_id)
    own = (IdempotencyKey.api_key == api_key, IdempotencyKey.key == key)
    earlier = session.execute(columns.where(*own)).one()
    if earlier.fingerprint != fingerprint:
        raise KeyReused
    order: UUID = earlier.order_id
    return order
