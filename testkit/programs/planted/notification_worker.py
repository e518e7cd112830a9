"""The notification service's worker with a planted bug."""

from notification_worker.worker import app  # noqa: F401
from testkit.programs.planted import plant

plant()
