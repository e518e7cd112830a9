"""Orders, as rows of the order service."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from eventbus.database.db import Sessions, transaction
from order_app.storage.models import LineRow, OrderRow


def stored(sessions: Sessions, **values: Any) -> UUID:
    """Store an order of two units of tea, PENDING by default, and return its id."""
    now, order_id = datetime.now(UTC), uuid7()
    row: dict[str, Any] = {
        "id": order_id,
        "customer_email": "ann@example.com",
        "currency": "EUR",
        "status": "PENDING",
        "total": 2500,
        "created_at": now,
        "deadline_at": now + timedelta(minutes=15),
        "sequence": 1,
        "lines": [LineRow(position=1, sku="TEA", quantity=2, unit_price=1250)],
    }
    with transaction(sessions) as session:
        session.add(OrderRow(**(row | values)))
    return order_id
