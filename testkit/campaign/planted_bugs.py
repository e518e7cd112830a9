"""The simulator's planted bugs that campaigns must also find, and the programs with them."""

from collections.abc import Mapping

#: The programs in which a bug is planted, by the bug's name.
BUGS: Mapping[str, tuple[str, ...]] = {
    "mark_before_confirm": ("order-relay", "inventory-relay"),
    "ack_before_commit": ("order-worker", "inventory-worker", "notification-worker"),
    "released_twice": ("inventory-worker",),
}

#: The faults that make a bug visible.
REVEALING: Mapping[str, tuple[str, ...]] = {
    "mark_before_confirm": ("broker-kill", "half-open"),
    "ack_before_commit": ("hang",),
    "released_twice": ("kill",),
}


def modules_of(bug: str) -> Mapping[str, str]:
    """Return the modules that replace the programs' modules, or none without a bug."""
    return {
        program: f"testkit.programs.planted.{program.replace('-', '_')}"
        for program in BUGS.get(bug, ())
    }
