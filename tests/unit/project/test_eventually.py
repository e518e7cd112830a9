"""A wait ends when its condition holds, and raises the last error after a timeout."""

import pytest
from sqlalchemy.exc import NoResultFound

from testkit.eventually import eventually


@pytest.mark.parametrize(
    "error", [AssertionError, KeyError, IndexError, StopIteration, NoResultFound]
)
def test_a_wait_continues_while_a_lookup_fails(error: type[Exception]) -> None:
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


def test_an_error_of_another_kind_ends_a_wait_at_once() -> None:
    calls = []

    def claim() -> None:
        calls.append(1)
        raise TypeError

    with pytest.raises(TypeError):
        eventually(claim)
    assert calls == [1]
