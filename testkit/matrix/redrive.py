"""The redrive of a cell: messages are parked, and an operator's command puts them back."""

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.kombu_topology import INVENTORY
from testkit.campaign.system import System
from testkit.eventually import eventually
from testkit.processes.launcher import INTERPRETERS, Launched, launcher
from testkit.processes.orderctl import orderctl
from testkit.programs.mended import INVENTORY_WORKER

_WORKER = "inventory-worker"


@dataclass(frozen=True)
class Redrive:
    """The operator of a system, and the environment of the operator's commands."""

    system: System
    environment: Mapping[str, str]

    def park(self, place: Callable[[], object], count: int) -> None:
        """Place orders whose events are parked by a bug, and fix the bug."""
        system, stack = self.system, self.system.stack
        bug = stack.directory / "bug"
        stack.extra["BUG"] = str(bug)
        bug.touch()
        system.modules = {_WORKER: INVENTORY_WORKER}
        system.kill(_WORKER, keep_down=True)
        system.release(_WORKER)
        system.launch(_WORKER, _WORKER)
        stack.wait_until_healthy(_WORKER)
        for _ in range(count):
            place()
        eventually(lambda: self._has_parked(count))
        bug.unlink()

    def plan(self) -> str:
        """Make a plan of all parked messages, and return its number."""
        made = orderctl(self.environment, "parked", "plan", INVENTORY.name, "--json")
        assert made.exit_code == 0, made.output
        return str(json.loads(made.stdout)["id"])

    def start(self, plan: str, module: str, environment: Mapping[str, str], log: Path) -> Launched:
        """Start the run of a plan with a variant of `orderctl`."""
        command = [sys.executable, "-m", module, "parked", "run", plan]
        inherited = {"PATH": os.environ["PATH"], **INTERPRETERS}
        return launcher().start(command, {**inherited, **self.environment, **environment}, log)

    def finish(self, plan: str) -> None:
        """Run a plan to its end, unless its interrupted run has recorded the end."""
        done = orderctl(self.environment, "parked", "run", plan)
        assert done.exit_code == 0 or f"plan {plan} is done" in done.output, done.output

    def check_empty(self) -> None:
        """Check that no message is parked."""
        eventually(lambda: self._has_parked(0))

    def _has_parked(self, count: int) -> None:
        depth = self.system.stack.vhost.depth(INVENTORY.parking_lot)
        assert depth == count, f"{depth} messages are parked"
