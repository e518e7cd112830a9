"""The inventory service's relay with a planted bug."""

from inventory_worker.relay import app  # noqa: F401
from testkit.programs.planted import plant

plant()
