"""The patience of a test's own connections: the machine may stand still for seconds."""

import pytest

from console.actions import database as administration
from console.broker import connection as operators
from eventbus.database import db, migrations
from testkit.eventually import PATIENCE

#: The constants with the seconds within which a server must accept a connection.
_LIMITS = (
    (db, "CONNECT_TIMEOUT"),
    (migrations, "_CONNECT_TIMEOUT"),
    (administration, "_CONNECT_TIMEOUT"),
    (operators, "_CONNECT_TIMEOUT"),
)


def wait_for_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process, but no other, wait long for new connections."""
    for module, name in _LIMITS:
        monkeypatch.setattr(module, name, int(PATIENCE))
