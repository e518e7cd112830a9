"""TLS options of clients: the trusted certificate authority (CA) and the server's name."""

import ssl
from pathlib import Path
from typing import Any

from eventbus.settings.broker import BrokerSettings


def amqp_options(ca_file: Path, server_hostname: str) -> dict[str, Any]:
    """Return kombu's `ssl` options: this CA, this host name, and TLS 1.2 or later."""
    return {
        "ca_certs": str(ca_file),
        "cert_reqs": ssl.CERT_REQUIRED,
        # Without a name, any certificate of this CA would be accepted.
        "server_hostname": server_hostname,
        "tls_minimum_version": ssl.TLSVersion.TLSv1_2,
    }


def broker_options(settings: BrokerSettings) -> dict[str, Any]:
    """Return kombu's `ssl` options for the broker in the settings."""
    options = amqp_options(settings.broker_ca_file, str(settings.broker_server_hostname))
    if settings.broker_client_certificate_file:
        # The certificate is read at each connect, so a renewed certificate requires no restart.
        options["certfile"] = str(settings.broker_client_certificate_file)
    return options


def database_options(ca_file: Path) -> dict[str, str]:
    """Return libpq's options: this CA, the server's host name, and TLS 1.2 or later."""
    return {
        "sslmode": "verify-full",
        "sslrootcert": str(ca_file),
        "ssl_min_protocol_version": "TLSv1.2",
    }


def http_context(ca_file: Path) -> ssl.SSLContext:
    """Return an HTTPS client's TLS context: this CA, and the URL's host name."""
    return ssl.create_default_context(cafile=str(ca_file))
