"""Finds what was recorded of an order's way, with the span store's own rights."""

from common import db
from common.kombu_topology import SPAN_STORE
from common.settings import DatabaseSettings as ServiceDatabase
from console.errors import ActionError
from console.settings import DatabaseSettings, role_name
from span_store import store
from span_store.models import SpanRow


def find(settings: DatabaseSettings, order_or_trace: str) -> list[SpanRow]:
    """Return the spans of an order's traces, or of one trace, in the order of their start.

    Raises `ActionError` when there are none.
    """
    engine = db.engine(
        ServiceDatabase(
            database_host=settings.database_host,
            database_port=settings.database_port,
            database_name=settings.database_name(SPAN_STORE.name),
            database_user=role_name(SPAN_STORE.name),
            database_password=settings.database_password(SPAN_STORE.name),
        )
    )
    try:
        with db.transaction(db.sessions(engine)) as session:
            found = store.find(session, order_or_trace)
    finally:
        engine.dispose()
    if not found:
        raise ActionError(f"no span of an order or a trace {order_or_trace!r}")
    return found
