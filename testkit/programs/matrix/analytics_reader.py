"""The reader of the analytics service."""

from analytics_worker.reader import app  # noqa: F401
from testkit.programs.matrix import arm

arm()
