"""The failures of a message, in headers that it carries from attempt to attempt and when parked."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from eventbus.consumer.cause import TEXT_LIMIT, Cause
from eventbus.messaging.untrusted import text

#: The exclusive upper limit of an attempt count, which is a signed 32-bit integer.
ATTEMPTS_LIMIT = 2**31 - 1

_PREFIX = "x-failure-"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The failures of one message. `attempts` is their number; times are in ISO 8601 and UTC."""

    service: str
    exception: str
    text: str
    attempts: int
    first_at: str
    last_at: str
    release: str
    #: The function that raised the last failure, as returned by `privacy.frame_of`, if known.
    frame: str = ""

    @classmethod
    def of(
        cls, cause: Cause, *, service: str, release: str, headers: Mapping[str, Any]
    ) -> "Failure":
        """Return the failure in the message's headers, if any, updated by a cause.

        A message that only waits behind a parked message is not charged an attempt.
        """
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        earlier = cls.from_headers(headers)
        return cls(
            service=service,
            exception=cause.exception,
            text=cause.text,
            attempts=(earlier.attempts if earlier else 0) + (not cause.is_wait),
            first_at=earlier.first_at if earlier else now,
            last_at=now,
            release=release,
            frame=cause.frame,
        )

    @classmethod
    def from_headers(cls, headers: Mapping[str, Any]) -> "Failure | None":
        """Return the failure in a message's headers, or None."""
        values = {name: headers.get(_header(name)) for name in cls.__dataclass_fields__}
        values["frame"] = values["frame"] or ""
        attempts = values.pop("attempts")
        # A publisher may have set these headers, so any value is accepted here, but only values
        # that can be sent again are returned.
        if type(attempts) is not int or not 0 <= attempts < ATTEMPTS_LIMIT:
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
        """Return this failure as message headers."""
        return {_header(name): getattr(self, name) for name in self.__dataclass_fields__}


def _header(name: str) -> str:
    return _PREFIX + name.replace("_", "-")
