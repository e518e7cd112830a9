"""A guard for instrumentation, which must not affect the work that it observes."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

log = logging.getLogger(__name__)


def harmless(method: Callable[..., None]) -> Callable[..., None]:
    """Return a method that logs exceptions instead of raising them."""

    @wraps(method)
    def call(*args: Any) -> None:
        try:
            method(*args)
        except Exception:
            log.exception("observation failed")

    return call
