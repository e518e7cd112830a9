"""The analytics' reader."""

from analytics_worker.reader import app  # noqa: F401
from testkit.programs.matrix import arm

arm()
