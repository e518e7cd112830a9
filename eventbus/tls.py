"""TLS from a client's side: whom to trust, and whose name to insist on."""

import ssl
from pathlib import Path
from typing import Any

from eventbus.settings.broker import BrokerSettings


def amqp_options(ca_file: Path, server_hostname: str) -> dict[str, Any]:
    """Return kombu's `ssl` options: a chain to this authority, this host name, TLS 1.2 or later."""
    return {
        "ca_certs": str(ca_file),
        "cert_reqs": ssl.CERT_REQUIRED,
        # Without it the chain is checked and the name is not: any certificate of ours would do.
        "server_hostname": server_hostname,
        "tls_minimum_version": ssl.TLSVersion.TLSv1_2,
    }


def broker_options(settings: BrokerSettings) -> dict[str, Any]:
    """Return kombu's `ssl` options for the process's broker."""
    options = amqp_options(settings.broker_ca_file, str(settings.broker_server_hostname))
    if settings.broker_client_certificate_file:
        # Read at each connect: a renewed one needs no restart.
        options["certfile"] = str(settings.broker_client_certificate_file)
    return options


def database_options(ca_file: Path) -> dict[str, str]:
    """Return libpq's options: a chain to this authority, the server's host name, TLS 1.2."""
    return {
        "sslmode": "verify-full",
        "sslrootcert": str(ca_file),
        "ssl_min_protocol_version": "TLSv1.2",
    }


def http_context(ca_file: Path) -> ssl.SSLContext:
    """Return what an HTTPS client trusts: a chain to this authority, and the URL's host name."""
    return ssl.create_default_context(cafile=str(ca_file))
