"""The headers of a message contain its last failure and the number of attempts."""

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventbus.consumer.cause import TEXT_LIMIT, Cause
from eventbus.consumer.failure import Failure
from eventbus.errors import Permanent, Transient

HEADERS: dict[str, Any] = {"id": "1", "task": "order.created", "traceparent": "00-1-2-01"}


def fail(error: BaseException, headers: dict[str, Any], release: str = "r1") -> dict[str, Any]:
    failure = Failure.of(Cause.of(error), service="inventory", release=release, headers=headers)
    return headers | failure.to_headers()


def test_the_first_failure_has_the_error_and_the_time() -> None:
    before = datetime.now(UTC)

    failure = Failure.of(
        Cause.of(Transient("no route")), service="inventory", release="r1", headers=HEADERS
    )

    assert (failure.service, failure.release) == ("inventory", "r1")
    assert (failure.exception, failure.text) == ("Transient", "no route")
    assert failure.attempts == 1
    assert failure.first_at == failure.last_at
    # Microseconds are truncated, not rounded.
    assert abs((datetime.fromisoformat(failure.first_at) - before).total_seconds()) < 5


def test_a_later_failure_keeps_the_time_of_the_first() -> None:
    # Given a message that failed long ago
    first = fail(Transient("no route"), HEADERS)
    first["x-failure-first-at"] = first["x-failure-last-at"] = "2025-01-01T00:00:00.000+00:00"

    # When it fails twice more, the last time in another release
    second = fail(Transient("no route"), first)
    third = fail(Permanent("no such order"), second, release="r2")

    # Then the failure has three attempts and the first time
    failure = Failure.from_headers(third)
    assert failure is not None
    assert failure.attempts == 3
    assert (failure.exception, failure.text, failure.release) == (
        "Permanent",
        "no such order",
        "r2",
    )
    assert failure.first_at == "2025-01-01T00:00:00.000+00:00"
    assert failure.last_at > failure.first_at


def test_a_long_text_is_truncated() -> None:
    failure = Failure.of(Cause.of(Transient("é" * 9000)), service="order", release="r", headers={})

    assert failure.text == "é" * TEXT_LIMIT


def test_a_message_that_never_failed_has_no_failure() -> None:
    assert Failure.from_headers(HEADERS) is None


@pytest.mark.parametrize("name", ["x-failure-attempts", "x-failure-service", "x-failure-first-at"])
def test_incomplete_headers_are_not_a_failure(name: str) -> None:
    headers = fail(Transient(), HEADERS)
    del headers[name]

    assert Failure.from_headers(headers) is None


def test_a_failure_of_an_earlier_release_has_no_frame() -> None:
    headers = fail(Transient(), HEADERS)
    del headers["x-failure-frame"]

    failure = Failure.from_headers(headers)

    assert failure is not None
    assert failure.frame == ""


def test_the_frame_is_the_last_function_of_own_code() -> None:
    def on_event() -> None:
        json.loads("a secret value")

    with pytest.raises(ValueError, match="Expecting") as raised:
        on_event()

    assert fail(raised.value, HEADERS)["x-failure-frame"] == "worker/test_failure.py:on_event"


def test_the_frame_without_own_code_is_the_last_one() -> None:
    with ThreadPoolExecutor(1) as threads:
        error = threads.submit(json.loads, "a secret value").exception()

    assert error is not None
    assert Cause.of(error).frame == "json/decoder.py:raw_decode"
    assert Cause.of(Permanent("never raised")).frame == ""


@pytest.mark.parametrize("attempts", ["3", None, 2.0, [1]])
def test_an_invalid_number_of_attempts_restarts_at_one(attempts: object) -> None:
    headers = fail(Transient(), HEADERS) | {"x-failure-attempts": attempts}

    assert fail(Transient(), headers)["x-failure-attempts"] == 1


@given(st.text(max_size=50), st.text(max_size=50), st.text(max_size=50))
def test_a_failure_is_unchanged_after_its_headers(text: str, service: str, release: str) -> None:
    failure = Failure.of(Cause.of(Transient(text)), service=service, release=release, headers={})

    assert Failure.from_headers(failure.to_headers()) == failure
