"""Variants of the real processes, each interrupted once at the point that `$CRASH_AT` names."""

import os
import signal
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from testkit.matrix.points import STEPS, Moment, Way


class Interrupted(Exception):
    """The exception that a step raises."""


def arm() -> None:
    """Interrupt this process at a call to the step, once the file `$CRASH_ARMED` exists.

    `$CRASH_AT` is `STEP:MOMENT`, and `$CRASH_BY` the way. The file `$CRASH_DONE` is created first:
    of several processes, only one is interrupted, and only once.
    """
    step, moment = os.environ["CRASH_AT"].split(":")
    module, _, path = STEPS[step].function.partition(":")
    *owners, name = path.split(".")
    owner = resolve_name(":".join((module, ".".join(owners))) if owners else module)
    setattr(owner, name, _interrupting(getattr(owner, name), Moment(moment)))


def _interrupting(function: Callable[..., Any], moment: Moment) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        if moment is Moment.BEFORE:
            _interrupt()
        result = function(*arguments, **options)
        if moment is Moment.AFTER:
            _interrupt()
        return result

    return call


def _interrupt() -> None:
    if not Path(os.environ["CRASH_ARMED"]).exists():
        return
    try:
        Path(os.environ["CRASH_DONE"]).touch(exist_ok=False)
    except FileExistsError:
        return
    match Way(os.environ["CRASH_BY"]):
        case Way.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Way.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Way.RAISE:
            raise Interrupted(os.environ["CRASH_AT"])
