"""The recorded spans of an order, read from the span store."""

from common.kombu_topology import SPAN_STORE
from console.databases.service_database import transaction
from console.errors import ActionError
from console.settings import DatabaseServer
from span_store import store
from span_store.models import SpanRow


def find(settings: DatabaseServer, order_or_trace: str) -> list[SpanRow]:
    """Return the spans of an order's traces, or of one trace, sorted by start time.

    Raises `ActionError` if no spans are recorded.
    """
    with transaction(settings, SPAN_STORE) as session:
        spans = store.find(session, order_or_trace)
    if not spans:
        raise ActionError(f"order or trace {order_or_trace!r} has no spans")
    return spans
