"""`orderctl`, killed at the N-th call to a step of a redrive: `python -m … STEP N ARGUMENTS…`."""

import sys
from collections.abc import Callable
from typing import Any

from console.broker.parking_lot import ParkingLot
from console.orderctl import main
from console.parking.redrive.progress import Progress
from console.parking.redrive.stage import Stage
from testkit.programs.crashing import die

#: The steps, each with the method at which the process is killed, and whether the method still
#: runs.
STEPS: dict[str, tuple[type, str, bool]] = {
    "recorded as begun, nothing published": (Progress, "begin", True),
    "published, still parked": (ParkingLot, "discard", False),
    "published and removed": (ParkingLot, "discard", True),
    "all published, outcomes unknown": (Stage, "_read_inbox", False),
    "outcomes recorded": (Stage, "_record", True),
    "messages read, not returned": (ParkingLot, "close", False),
    "all handled, the plan not ended": (Progress, "end", False),
}


def dying(method: Callable[..., Any], call: int, *, runs: bool) -> Callable[..., Any]:
    """Return a method that kills the process at one of its calls, before or after it runs."""
    calls = iter(range(1, call))

    def call_and_die(*arguments: Any, **options: Any) -> Any:
        is_last = next(calls, None) is None
        if is_last and not runs:
            die()
        result = method(*arguments, **options)
        if is_last:
            die()
        return result

    return call_and_die


if __name__ == "__main__":
    owner, name, runs = STEPS[sys.argv[1]]
    setattr(owner, name, dying(getattr(owner, name), int(sys.argv[2]), runs=runs))
    main(sys.argv[3:])
