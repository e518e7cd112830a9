"""The inventory's worker, whose handler also fails as an order's e-mail address specifies."""

from testkit.programs.failing.inventory_worker import app  # noqa: F401
from testkit.programs.matrix import arm

arm()
