"""The inventory relay."""

from inventory_worker.relay import app  # noqa: F401
from testkit.programs.matrix import arm

arm()
