"""Operators' AMQP connections, with one-line errors and a limit on every wait."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from amqp.exceptions import AMQPError
from kombu.exceptions import OperationalError

from console.errors import ActionError, first_line
from console.settings import BrokerAdminSettings
from eventbus import tls
from eventbus.messaging.amqps import Connection

#: Seconds to wait for a connection, and for a response.
_CONNECT_TIMEOUT = 5
ANSWER_TIMEOUT = 15


@contextmanager
def connected(
    settings: BrokerAdminSettings,
    user: str | None = None,
    password: str | None = None,
    **options: Any,
) -> Iterator[Connection]:
    """Yield a connection, as the operator or as another user.

    Raises `ActionError` if the broker cannot be reached, or fails during the block.
    """
    connection = _connect(settings, user, password, options)
    try:
        with connection:
            yield connection
    except (AMQPError, OperationalError, OSError) as error:
        raise ActionError(_problem(connection, error)) from None


def _connect(
    settings: BrokerAdminSettings, user: str | None, password: str | None, options: dict[str, Any]
) -> Connection:
    # The nodes are tried here, because each node may have its own name in its certificate, but
    # kombu has one set of TLS options for all hosts.
    problems = []
    # An IPv6 address is in brackets in a URL, but not in a socket's address or a certificate.
    for host in (str(url.host).strip("[]") for url in settings.broker_admin_url):
        connection = Connection(
            transport="amqps",
            ssl=tls.amqp_options(settings.broker_ca_file, settings.broker_server_hostname or host),
            hostname=host,
            port=settings.broker_port,
            userid=user or settings.broker_admin_user,
            password=password or settings.broker_admin_password.get_secret_value(),
            virtual_host=settings.broker_vhost,
            connect_timeout=_CONNECT_TIMEOUT,
            transport_options=options,
        )
        try:
            connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
        except (AMQPError, OSError) as error:
            problems.append(_problem(connection, error))
        else:
            return connection
    raise ActionError("; ".join(problems))


def _problem(connection: Connection, error: Exception) -> str:
    return f"the broker at {connection.hostname}:{connection.port}, AMQP: {first_line(error)}"
