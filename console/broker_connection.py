"""The operator's own connection to the broker, over AMQP."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import AMQPError
from kombu.connection import Connection

from common import tls
from console.errors import ActionError, first_line
from console.settings import BrokerAdminSettings

#: Seconds to wait for a connection.
_CONNECT_TIMEOUT = 5


@contextmanager
def connected(settings: BrokerAdminSettings, **transport_options: Any) -> Iterator[Connection]:
    """Give the block a connection, which opens at its first use.

    Raises `ActionError` when the broker cannot be reached, or fails the block.
    """
    host = settings.broker_admin_url.host
    connection = Connection(
        transport="amqps",
        ssl=tls.amqp_options(settings.broker_ca_file, settings.broker_server_hostname or str(host)),
        hostname=host,
        port=settings.broker_port,
        userid=settings.broker_admin_user,
        password=settings.broker_admin_password.get_secret_value(),
        virtual_host=settings.broker_vhost,
        connect_timeout=_CONNECT_TIMEOUT,
        transport_options=transport_options,
    )
    try:
        with connection:
            yield connection
    except (AMQPError, OSError) as error:
        address = f"{host}:{settings.broker_port}"
        raise ActionError(f"the broker at {address}, AMQP: {first_line(error)}") from None
