"""The sources of the overview, with connections that are kept open between samples."""

from threading import Lock

from console.broker.management import Management
from console.databases.service_database import Databases
from console.monitoring.prometheus import Prometheus
from console.settings import ConsoleSettings

#: Maximum number of connections to each database.
_POOL = 2


class Sources:
    """The databases, the broker's API and Prometheus, without a TLS handshake for each sample."""

    def __init__(self, settings: ConsoleSettings) -> None:
        """Connect with the first sample."""
        self._settings = settings
        self._lock = Lock()
        self._broker: Management | None = None
        self._prometheus: Prometheus | None = None
        self.databases = Databases(settings, pool_size=_POOL)

    def broker(self) -> Management:
        """Return the session with the broker's API."""
        with self._lock:
            if self._broker is None:
                # The session is created at its first use, because it reads the CA's certificate,
                # and the console must start without the file.
                self._broker = Management(self._settings)
            return self._broker

    def prometheus(self) -> Prometheus | None:
        """Return the session with Prometheus, or None if none is configured."""
        with self._lock:
            if self._prometheus is None and self._settings.prometheus_url is not None:
                self._prometheus = Prometheus(self._settings.prometheus_url)
            return self._prometheus

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for session in (self._broker, self._prometheus):
                if session:
                    session.close()
        self.databases.close()
