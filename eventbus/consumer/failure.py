"""Why a message failed, carried in its headers from attempt to attempt and into the parking lot."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eventbus.consumer.cause import TEXT_LIMIT, Cause
from eventbus.messaging.untrusted import text

#: A count beyond which a header is not a service's own: it must fit into 32 bits.
ATTEMPTS_LIMIT = 2**31 - 1

_PREFIX = "x-failure-"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """One message's failures so far; `attempts` counts them, the times are ISO 8601 in UTC."""

    service: str
    exception: str
    text: str
    attempts: int
    first_at: str
    last_at: str
    release: str

    @classmethod
    def of(
        cls, cause: Cause, *, service: str, release: str, headers: Mapping[str, Any]
    ) -> "Failure":
        """Return what a cause adds to the failures that the message's headers tell of."""
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        earlier = cls.from_headers(headers)
        return cls(
            service=service,
            exception=cause.exception,
            text=cause.text,
            attempts=earlier.attempts + 1 if earlier else 1,
            first_at=earlier.first_at if earlier else now,
            last_at=now,
            release=release,
        )

    @classmethod
    def from_headers(cls, headers: Mapping[str, Any]) -> "Failure | None":
        """Return the failure that a message's headers tell of, or None if they tell of none."""
        values = {name: headers.get(_header(name)) for name in cls.__dataclass_fields__}
        attempts = values.pop("attempts")
        # A publisher may have written them: anything is read, and what is read can be sent again.
        if type(attempts) is not int or not 0 < attempts < ATTEMPTS_LIMIT:
            return None
        if None in values.values():
            return None
        return cls(
            attempts=attempts,
            **{
                name: value[:TEXT_LIMIT] if isinstance(value, str) else text(value, TEXT_LIMIT)
                for name, value in values.items()
            },
        )

    def to_headers(self) -> dict[str, str | int]:
        """Return the headers that tell of this failure."""
        return {_header(name): getattr(self, name) for name in self.__dataclass_fields__}


def _header(name: str) -> str:
    return _PREFIX + name.replace("_", "-")
