"""A wait ends when its condition holds, and raises the last error after a timeout."""

from types import SimpleNamespace

import pytest
from sqlalchemy.exc import NoResultFound

from testkit.eventually import eventually


@pytest.mark.parametrize(
    "error",
    [AssertionError, IndexError, StopIteration, NoResultFound, ValueError, TypeError, OSError],
)
def test_a_wait_continues_whatever_exception_its_claim_raises(error: type[Exception]) -> None:
    # Given a claim that fails twice
    failures = [error(), error()]

    def claim() -> str:
        if failures:
            raise failures.pop()
        return "there"

    # When it is waited for, then its value is returned
    assert eventually(claim) == "there"


def test_a_wait_that_times_out_raises_the_last_error() -> None:
    def claim() -> None:
        raise KeyError("missing")

    with pytest.raises(KeyError, match="missing"):
        eventually(claim, within=0)


def test_a_long_wait_calls_its_claim_rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a clock that only sleeping advances, and a claim that never holds
    now, calls = 0.0, list[float]()

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    def claim() -> None:
        calls.append(now)
        raise AssertionError

    clock = SimpleNamespace(monotonic=lambda: now, sleep=sleep)
    monkeypatch.setattr("testkit.eventually.time", clock)

    # When it is waited for during a minute
    with pytest.raises(AssertionError):
        eventually(claim, within=60)

    # Then it is called often at first, and twice a second later
    assert len([at for at in calls if at < 1]) > 10
    assert len([at for at in calls if at >= 10]) <= 102
