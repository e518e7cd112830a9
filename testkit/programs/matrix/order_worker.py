"""The order service's worker."""

from order_app.worker import app  # noqa: F401
from testkit.programs.matrix import arm

arm()
