"""A cache of all API keys in each API process, which saves a query per request."""

import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from threading import Event, Lock

from eventbus.database.outages import NoResponse
from eventbus.errors import ExpectedError
from order_app.storage.api_keys import ApiKey, digest, prefix_of

#: Minimum seconds between reads that are caused by unknown keys. A new key therefore works almost
#: immediately, and a flood of invalid keys causes only ten small queries per second.
_UNKNOWN_INTERVAL = 0.1

#: The fraction of the lifetime after which one request reads the keys again, while all other
#: requests use the cached keys.
_EARLY = 0.8

#: The maximum number of requests with unknown keys that wait for a read. It is sufficient for the
#: client of a new key; a higher number would occupy the threads of other requests.
_MOST_WAITING = 4

#: Seconds after the start of a read during which other requests wait for it. A read takes
#: milliseconds, or up to a second with a new connection on a busy machine. Later requests do not
#: wait: if the read hangs, waiting requests would occupy all threads, including the threads of
#: probes.
_PATIENCE = 2.0

#: Seconds after which another request reads the keys, although the read has not ended.
_LIMIT = 20.0


class KeysUnavailable(ExpectedError):
    """The API keys could not be read."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """All keys, as read at one time."""

    #: The time before the query: a key that is revoked during the query must not be
    #: cached for longer.
    read_at: float = float("-inf")
    keys: dict[str, ApiKey] = field(default_factory=dict)


class _Read:
    """A read in progress, and the requests that wait for it."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.done = Event()
        self.error: BaseException | None = None
        self.waiting = 0


class KeyCache:
    """A cache of all keys for `lifetime` seconds, during which a revoked key may be accepted.

    At most one request at a time reads the keys, unless a read takes longer than `limit` seconds.
    """

    def __init__(
        self, read: Callable[[], Iterable[ApiKey]], *, lifetime: float, limit: float = _LIMIT
    ) -> None:
        self._read = read
        self._lifetime = lifetime
        self._limit = limit
        # The snapshot is replaced rather than changed, so most requests need no lock.
        self._snapshot = _Snapshot()
        self._lock = Lock()
        self._current_read: _Read | None = None

    def find(self, text: str) -> ApiKey | None:
        """Return the key of a client's text, or None if the text is not a valid, unrevoked key.

        Raises the errors of the read, and `KeysUnavailable` if another request's read has failed or
        takes too long.
        """
        prefix = prefix_of(text)
        if prefix is None:
            return None
        key = self._by_prefix(prefix)
        # The comparison takes constant time, so that its duration does not reveal how much of the
        # key matches.
        if key is None or not hmac.compare_digest(key.hash.encode(), digest(text).encode()):
            return None
        return key if key.revoked_at is None else None

    def used(self, key: ApiKey, day: date) -> None:
        """Record in the cache that a key was used on this day."""
        # The current entry is changed: the key may have been revoked since the request found it.
        keys = self._snapshot.keys
        if current := keys.get(key.prefix):
            keys[key.prefix] = replace(current, last_used_on=day)

    def _by_prefix(self, prefix: str) -> ApiKey | None:
        snapshot = self._snapshot
        age = time.monotonic() - snapshot.read_at
        if age >= self._lifetime:
            self._refresh(snapshot, most_waiting=None)
        elif prefix not in snapshot.keys:
            if age >= _UNKNOWN_INTERVAL:
                self._refresh(snapshot, most_waiting=_MOST_WAITING)
        elif age >= _EARLY * self._lifetime:
            self._refresh(snapshot, most_waiting=0)
        return self._snapshot.keys.get(prefix)

    def _refresh(self, expired: _Snapshot, *, most_waiting: int | None) -> None:
        """Read the keys, or wait for another read if fewer than `most_waiting` requests wait.

        `expired` is the snapshot to replace; another request may have replaced it in the meantime.
        """
        with self._lock:
            if self._snapshot is not expired:
                return
            read, leads = self._current_read, False
            if read is None or time.monotonic() - read.began >= self._limit:
                read, leads = _Read(), True
                self._current_read = read
            elif most_waiting is not None and read.waiting >= most_waiting:
                return
            else:
                read.waiting += 1
        if leads:
            self._lead(read)
        else:
            _follow(read)

    def _lead(self, read: _Read) -> None:
        try:
            keys = {key.prefix: key for key in self._read()}
        except BaseException as error:
            read.error = error
            raise
        else:
            self._keep(_Snapshot(read.began, keys))
        finally:
            with self._lock:
                if self._current_read is read:
                    self._current_read = None
            read.done.set()

    def _keep(self, snapshot: _Snapshot) -> None:
        with self._lock:
            # A read that hung may end after a later read.
            if snapshot.read_at > self._snapshot.read_at:
                self._snapshot = snapshot


def _follow(read: _Read) -> None:
    if not read.done.wait(read.began + _PATIENCE - time.monotonic()):
        raise KeysUnavailable from NoResponse()
    if read.error is not None:
        raise KeysUnavailable from read.error
