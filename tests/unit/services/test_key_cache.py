"""An API process rarely reads the keys from the database, regardless of its requests."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from threading import Barrier, Event, Lock

import pytest

from eventbus.database import outages
from order_app.http import key_cache
from order_app.http.key_cache import KeyCache, KeysUnavailable
from order_app.storage import api_keys
from order_app.storage.api_keys import ApiKey, Scope
from testkit.eventually import eventually

MANY = 50


class Table:
    """The stored keys, with a count of reads."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reads = 0
        self.failure: Exception | None = None
        self.may_go_on = Event()
        self.may_go_on.set()
        self._lock = Lock()

    def add(self) -> str:
        text = api_keys.generate()
        self.texts.append(text)
        return text

    def read(self) -> list[ApiKey]:
        with self._lock:
            self.reads += 1
        assert self.may_go_on.wait(30)
        if self.failure:
            raise self.failure
        return [key(text) for text in self.texts]


def key(text: str) -> ApiKey:
    prefix = api_keys.prefix_of(text)
    assert prefix
    return ApiKey(
        prefix=prefix,
        name="shop",
        hash=api_keys.digest(text),
        scopes=frozenset(Scope),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        revoked_at=None,
        last_used_on=None,
    )


@pytest.fixture
def table() -> Table:
    """A table with one key."""
    table = Table()
    table.add()
    return table


def concurrently(call: Callable[[int], object], number: int = MANY) -> list[object]:
    """Return the results of calls in threads that start at the same time."""
    barrier = Barrier(number)

    def begin(n: int) -> object:
        barrier.wait()
        return call(n)

    with ThreadPoolExecutor(number) as pool:
        return list(pool.map(begin, range(number)))


def test_many_first_requests_read_the_keys_once(table: Table) -> None:
    cache = KeyCache(table.read, lifetime=300)

    keys = concurrently(lambda _: cache.find(table.texts[0]))

    assert keys == [key(table.texts[0])] * MANY
    assert table.reads == 1


def test_an_unknown_key_does_not_wait_for_another_read(table: Table) -> None:
    # Given a slow read for an unknown key
    cache = KeyCache(table.read, lifetime=300)
    assert cache.find(table.texts[0])
    time.sleep(2 * key_cache._UNKNOWN_INTERVAL)
    table.may_go_on.clear()
    with ThreadPoolExecutor(MANY) as pool:
        requests = [pool.submit(cache.find, api_keys.generate()) for _ in range(MANY)]

        # Then most unknown keys are rejected in the meantime, and a known one is found
        eventually(lambda: _assert_done(requests, MANY - 1 - key_cache._MOST_WAITING))
        assert cache.find(table.texts[0])
        table.may_go_on.set()

    # And the keys were read once more
    assert [a.result() for a in requests] == [None] * MANY
    assert table.reads == 2


def test_a_new_key_works_at_once(table: Table) -> None:
    cache = KeyCache(table.read, lifetime=300)
    assert cache.find(api_keys.generate()) is None
    new = table.add()
    time.sleep(2 * key_cache._UNKNOWN_INTERVAL)

    keys = concurrently(lambda _: cache.find(new), key_cache._MOST_WAITING)

    assert keys == [key(new)] * key_cache._MOST_WAITING


def test_known_keys_are_found_while_they_are_reloaded(table: Table) -> None:
    # Given keys that are about to expire
    cache = KeyCache(table.read, lifetime=300)
    assert cache.find(table.texts[0])
    cache._snapshot = replace(cache._snapshot, read_at=time.monotonic() - 290)
    table.may_go_on.clear()

    # When one request reloads them
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.find, table.texts[0])
        eventually(lambda: _assert_reads(table, 2))

        # Then the others do not wait for it
        assert cache.find(table.texts[0])
        assert not first.done()
        table.may_go_on.set()


def test_a_failed_read_fails_all_waiting_requests(table: Table) -> None:
    table.failure = OSError("no database")
    table.may_go_on.clear()
    cache = KeyCache(table.read, lifetime=300)
    with ThreadPoolExecutor(2) as pool:
        requests = [pool.submit(cache.find, table.texts[0]) for _ in range(2)]
        eventually(lambda: _assert_waiting(cache))
        table.may_go_on.set()

    errors = {type(a.exception()) for a in requests}
    assert errors == {OSError, KeysUnavailable}
    # The next request reads again.
    table.failure = None
    assert cache.find(table.texts[0])


class Hanging:
    """A table whose first read hangs until `ends` is set."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._hangs = True
        self.ends = Event()

    def read(self) -> list[ApiKey]:
        hangs, self._hangs = self._hangs, False
        keys = self._table.read()
        if hangs:
            assert self.ends.wait(60)
        return keys


def test_requests_do_not_wait_for_a_read_that_hangs(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a read that hangs
    monkeypatch.setattr(key_cache, "_PATIENCE", 0.2)
    hanging = Hanging(table)
    cache = KeyCache(hanging.read, lifetime=300)
    with ThreadPoolExecutor(MANY) as pool:
        first = pool.submit(cache.find, table.texts[0])
        eventually(lambda: _assert_reads(table, 1))

        # When other requests arrive in the meantime
        others = [pool.submit(cache.find, table.texts[0]) for _ in range(MANY - 1)]

        # Then all of them fail while the read hangs, because of an outage
        eventually(lambda: _assert_done(others, MANY - 1))
        assert not first.done()
        errors = [other.exception() for other in others]
        assert {type(error) for error in errors} == {KeysUnavailable}
        reasons = {outages.reason(error) for error in errors if error}
        assert reasons == {"the database does not respond"}

        # And the read finds the key
        hanging.ends.set()
        assert first.result() == key(table.texts[0])


def test_a_late_request_does_not_wait_at_all(table: Table) -> None:
    # Given a read that began long ago
    hanging = Hanging(table)
    cache = KeyCache(hanging.read, lifetime=300)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(cache.find, table.texts[0])
        eventually(lambda: _assert_reads(table, 1))
        read = cache._current_read
        assert read is not None
        read.began -= key_cache._PATIENCE
        done = read.done = Waits()

        # When another request arrives
        with pytest.raises(KeysUnavailable):
            cache.find(table.texts[0])

        # Then the limit of its wait has passed
        assert max(done.limits) <= 0
        hanging.ends.set()


class Waits(Event):
    """An event that records the limits of the waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.limits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.limits.append(timeout)
        return super().wait(timeout)


def test_a_read_that_hangs_is_replaced(table: Table) -> None:
    # Given a read that takes longer than its limit
    hanging = Hanging(table)
    cache = KeyCache(hanging.read, lifetime=300, limit=0.2)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(cache.find, table.texts[0])
        eventually(lambda: _assert_reads(table, 1))
        old = cache._current_read
        assert old is not None

        # When a key is created, and a request uses it
        new = table.add()
        eventually(lambda: _assert_overdue(old, 0.2))
        assert cache.find(new) == key(new)

        # Then the keys were read again, and the first read has no effect when it ends
        assert table.reads == 2
        snapshot = cache._snapshot
        hanging.ends.set()
        assert first.result() == key(table.texts[0])
        assert cache._snapshot is snapshot
        assert cache._current_read is None


def _assert_overdue(read: key_cache._Read, limit: float) -> None:
    assert time.monotonic() - read.began > limit


def test_a_stored_hash_of_another_form_matches_no_key(table: Table) -> None:
    text = table.texts[0]
    odd = replace(key(text), hash="argon2:é")
    cache = KeyCache(lambda: [odd], lifetime=300)

    assert cache.find(text) is None


def _assert_done(requests: list[object], number: int) -> None:
    assert sum(a.done() for a in requests) >= number  # type: ignore[attr-defined]


def _assert_reads(table: Table, number: int) -> None:
    assert table.reads == number


def _assert_waiting(cache: KeyCache) -> None:
    assert cache._current_read is not None
    assert cache._current_read.waiting == 1


def test_a_use_that_is_recorded_late_does_not_restore_a_revoked_key() -> None:
    # Given a request that has found its key
    text = api_keys.generate()
    stored = [key(text)]
    cache = KeyCache(lambda: stored, lifetime=0)
    found = cache.find(text)
    assert found

    # When another request reads that it was revoked, before the use is recorded
    stored[0] = replace(stored[0], revoked_at=datetime(2026, 1, 2, tzinfo=UTC))
    assert cache.find(text) is None
    cache.used(found, date(2026, 1, 2))

    # Then it stays revoked
    assert cache._snapshot.keys[found.prefix].revoked_at
    assert cache._snapshot.keys[found.prefix].last_used_on == date(2026, 1, 2)
