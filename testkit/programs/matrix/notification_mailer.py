"""The mailer."""

from notification_worker.mailer import app  # noqa: F401
from testkit.programs.matrix import arm

arm()
