"""Concurrent queries within a time limit: a page shows the results that arrived in time."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from sqlalchemy.exc import DBAPIError

from console import errors
from eventbus.errors import ExpectedError

T = TypeVar("T")

log = logging.getLogger(__name__)

#: Maximum seconds for which a page waits for all its queries together.
PATIENCE = 6.0

#: Maximum number of concurrent queries. A sample of the overview has about twenty queries, each of
#: which ends within its own limits.
_THREADS = 24


@dataclass(frozen=True)
class Result(Generic[T]):
    """The result of a query, or its problem in one line."""

    value: T | None = None
    problem: str = ""


class Queries:
    """Threads that run queries for as long as the process lives."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="query")

    def start(self, query: Callable[[], T]) -> "Future[T]":
        """Start a query."""
        return self._threads.submit(query)


class Latest(Generic[T]):
    """The latest result of an expensive query, which its viewers share for a few seconds."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._lock = threading.Lock()
        self._value: tuple[float, T] | None = None

    def get(self, query: Callable[[], T]) -> T:
        """Return the latest result or, if it is too old, the result of a new query."""
        with self._lock:
            if self._value is None or time.monotonic() - self._value[0] > self._seconds:
                value = query()
                self._value = (time.monotonic(), value)
            return self._value[1]

    def expire(self) -> None:
        """Make the next viewer start a new query."""
        with self._lock:
            self._value = None


def results(futures: "list[Future[T]]") -> "list[Result[T]]":
    """Return the results of queries, waiting at most `PATIENCE` seconds."""
    done, late = wait(futures, timeout=PATIENCE)
    for future in late:
        future.cancel()
    return [
        _result(future)
        if future in done
        else Result(problem=f"no response within {PATIENCE:g} seconds")
        for future in futures
    ]


def problem(error: BaseException) -> str:
    """Return the problem in one line, and log an unexpected error."""
    if isinstance(error, ExpectedError | DBAPIError):
        return errors.problem(error)
    log.error("page section failed", exc_info=error)
    return f"{type(error).__name__}; see the console's log"


def _result(future: "Future[T]") -> Result[T]:
    error = future.exception()
    return Result(problem=problem(error)) if error else Result(future.result())
