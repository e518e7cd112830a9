"""Settings of the span store."""

from pydantic import Field

from eventbus.settings.database import DatabaseSettings


class SpanStoreSettings(DatabaseSettings):
    """The settings of the span store: its database, and the retention of spans."""

    #: Seconds. A week of past orders; traces are for questions about the present.
    span_retention: float = Field(7 * 86_400.0, ge=60, le=3650 * 86_400)
