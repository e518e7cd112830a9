"""Who is at the other end: the client's address, as the connection or a trusted proxy tells it."""

from ipaddress import IPv6Address, ip_address

from flask import Flask, Request
from werkzeug.middleware.proxy_fix import ProxyFix


def install(app: Flask, *, trusted_proxies: int) -> None:
    """Let the address be what the last of so many proxies' `X-Forwarded-For` says, if any."""
    if trusted_proxies:
        fixed = ProxyFix(
            app.wsgi_app, x_for=trusted_proxies, x_proto=0, x_host=0, x_port=0, x_prefix=0
        )
        app.wsgi_app = fixed  # type: ignore[method-assign]


def of(request: Request) -> str | None:
    """Return the client's address, the same text for the same address; None if none is told.

    A Unix socket has none, and a proxy may pass on what is no address.
    """
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return str(address)
