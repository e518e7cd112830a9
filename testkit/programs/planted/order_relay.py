"""The order service's relay with a planted bug."""

from order_app.relay import app  # noqa: F401
from testkit.programs.planted import plant

plant()
