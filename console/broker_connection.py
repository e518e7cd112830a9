"""An operator's AMQP connection."""

from collections.abc import Iterator
from contextlib import contextmanager

from amqp.exceptions import AMQPError
from kombu.connection import Connection

from common import tls
from console.errors import ActionError, first_line
from console.settings import BrokerAdminSettings

#: Seconds to wait for a connection, and for an answer.
_CONNECT_TIMEOUT, _ANSWER_TIMEOUT = 5, 15


@contextmanager
def broker_connection(settings: BrokerAdminSettings) -> Iterator[Connection]:
    """Connect for the block; raises `ActionError` when the broker cannot be reached.

    Its end puts back what was looked at, after all else has reached the broker.
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
        transport_options={"confirm_publish": True, "read_timeout": _ANSWER_TIMEOUT},
    )
    try:
        with connection:
            yield connection
    except (AMQPError, OSError) as error:
        address = f"{host}:{settings.broker_port}"
        raise ActionError(f"the broker at {address}, AMQP: {first_line(error)}") from None
