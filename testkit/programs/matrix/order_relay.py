"""The order relay."""

from order_app.relay import app  # noqa: F401
from testkit.programs.matrix import arm

arm()
