"""The keys as one API process knows them: read now and then, so that a request need not."""

import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date

from order_app.keys import ApiKey, digest, prefix_of

#: Seconds between two reads for the sake of keys that are not known here: a new key works almost at
#: once, and a flood of wrong ones costs ten small queries a second.
_UNKNOWN_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class _Known:
    """All keys, as they were at one moment."""

    read_at: float = float("-inf")
    keys: dict[str, ApiKey] = field(default_factory=dict)


class Keyring:
    """All keys, at most `lifetime` seconds old: so long a revoked one may still be taken."""

    def __init__(self, read: Callable[[], Iterable[ApiKey]], *, lifetime: float) -> None:
        self._read = read
        self._lifetime = lifetime
        # Replaced as a whole: threads need no lock, and none waits for another's query.
        self._known = _Known()

    def find(self, text: str) -> ApiKey | None:
        """Return the key that this text is, unless it is none, or revoked."""
        prefix = prefix_of(text)
        if prefix is None:
            return None
        key = self._by_prefix(prefix)
        # In constant time: how long it takes must not tell how much of it is right.
        if key is None or not hmac.compare_digest(key.hash, digest(text)):
            return None
        return key if key.revoked_at is None else None

    def used(self, key: ApiKey, day: date) -> None:
        """Remember, in this process, that a key's use on this day is noted."""
        self._known.keys[key.prefix] = replace(key, last_used_on=day)

    def _by_prefix(self, prefix: str) -> ApiKey | None:
        lifetime = self._lifetime
        if prefix not in self._known.keys:
            lifetime = min(lifetime, _UNKNOWN_INTERVAL)
        if time.monotonic() - self._known.read_at >= lifetime:
            # The time before the query: a key that is revoked meanwhile is not kept for longer.
            read_at = time.monotonic()
            self._known = _Known(read_at, {key.prefix: key for key in self._read()})
        return self._known.keys.get(prefix)
