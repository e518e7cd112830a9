"""The order service's worker with a planted bug."""

from order_app.worker import app  # noqa: F401
from testkit.programs.planted import plant

plant()
