"""The inventory's worker, whose handler also fails as an order's email address specifies."""

from testkit.programs.failing.inventory_worker import app  # noqa: F401
from testkit.programs.matrix import arm

arm()
