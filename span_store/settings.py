"""What the receiver of spans reads."""

from pydantic import Field

from eventbus.settings.database import DatabaseSettings


class SpanStoreSettings(DatabaseSettings):
    """Its database, and for how long it keeps what it gets."""

    #: Seconds. A week of orders to look back at; traces are for questions about now.
    span_retention: float = Field(7 * 86_400.0, gt=0)
