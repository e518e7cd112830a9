"""Settings of the span store."""

from pydantic import Field

from eventbus.settings.database import DatabaseSettings


class SpanStoreSettings(DatabaseSettings):
    """The settings of the span store: its database, and the retention of spans."""

    #: Seconds for which spans are kept. The default is a week, because traces are used for recent
    #: orders.
    span_retention: float = Field(7 * 86_400.0, ge=60, le=3650 * 86_400)
