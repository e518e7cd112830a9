"""The keys as one API process knows them: read now and then, so that a request need not."""

import hmac
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from threading import Event, Lock

from eventbus.errors import ExpectedError
from order_app.storage.api_keys import ApiKey, digest, prefix_of

#: Seconds between two reads for the sake of keys that are not known here: a new key works almost at
#: once, and a flood of wrong ones costs ten small queries a second.
_UNKNOWN_INTERVAL = 0.1

#: The part of the lifetime after which one request reads the keys anew while the others go on.
_EARLY = 0.8

#: Requests with unknown keys that may wait for a read: those of a new key's owner. Further ones
#: would take the threads of all others.
_WAITING = 4

#: Seconds for which a request waits for another one's read.
_PATIENCE = 10.0


class KeysUnread(ExpectedError):
    """The API keys could not be read."""


@dataclass(frozen=True, slots=True)
class _Known:
    """All keys, as they were at one moment."""

    read_at: float = float("-inf")
    keys: dict[str, ApiKey] = field(default_factory=dict)


class _Read:
    """A read that is under way, and the requests that wait for it."""

    def __init__(self) -> None:
        self.done = Event()
        self.error: BaseException | None = None
        self.waiting = 0


class Keyring:
    """All keys, at most `lifetime` seconds old: a revoked one is taken for no longer than that.

    One request at a time reads them.
    """

    def __init__(self, read: Callable[[], Iterable[ApiKey]], *, lifetime: float) -> None:
        self._read = read
        self._lifetime = lifetime
        # Replaced as a whole, so that most requests need no lock.
        self._known = _Known()
        self._lock = Lock()
        self._under_way: _Read | None = None

    def find(self, text: str) -> ApiKey | None:
        """Return the key that this text is, unless it is none, or revoked.

        Raises what the read raises, and `KeysUnread` where another request's read has failed.
        """
        prefix = prefix_of(text)
        if prefix is None:
            return None
        key = self._by_prefix(prefix)
        # In constant time: how long it takes must not tell how much of it is right.
        if key is None or not hmac.compare_digest(key.hash.encode(), digest(text).encode()):
            return None
        return key if key.revoked_at is None else None

    def used(self, key: ApiKey, day: date) -> None:
        """Remember, in this process, that a key's use on this day is noted."""
        self._known.keys[key.prefix] = replace(key, last_used_on=day)

    def _by_prefix(self, prefix: str) -> ApiKey | None:
        known = self._known
        age = time.monotonic() - known.read_at
        if age >= self._lifetime:
            self._refresh(known, most_waiting=None)
        elif prefix not in known.keys:
            if age >= _UNKNOWN_INTERVAL:
                self._refresh(known, most_waiting=_WAITING)
        elif age >= _EARLY * self._lifetime:
            self._refresh(known, most_waiting=0)
        return self._known.keys.get(prefix)

    def _refresh(self, known: _Known, *, most_waiting: int | None) -> None:
        """Read the keys, or wait for the request that does, unless so many wait already.

        `known` is what is too old; another request may have replaced it meanwhile.
        """
        with self._lock:
            if self._known is not known:
                return
            read, leads = self._under_way, self._under_way is None
            if read is None:
                read = self._under_way = _Read()
            elif most_waiting is not None and read.waiting >= most_waiting:
                return
            else:
                read.waiting += 1
        if leads:
            self._lead(read)
        else:
            _follow(read)

    def _lead(self, read: _Read) -> None:
        # The time before the query: a key that is revoked meanwhile is not kept for longer.
        read_at = time.monotonic()
        try:
            self._known = _Known(read_at, {key.prefix: key for key in self._read()})
        except BaseException as error:
            read.error = error
            raise
        finally:
            with self._lock:
                self._under_way = None
            read.done.set()


def _follow(read: _Read) -> None:
    if not read.done.wait(_PATIENCE):
        raise KeysUnread
    if read.error is not None:
        raise KeysUnread from read.error
