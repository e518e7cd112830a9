"""The inventory's worker, killed after a commit, before the acknowledgement."""

from typing import Any

from eventbus.worker.acknowledgements import Acknowledgements
from inventory_worker.worker import app  # noqa: F401
from testkit.programs.crashing import die


def _die_instead(*_: Any, **__: Any) -> None:
    die()


Acknowledgements.acknowledge = _die_instead
