"""The client's address, from the connection or from a trusted proxy."""

from ipaddress import IPv6Address, ip_address

from flask import Flask, Request
from werkzeug.middleware.proxy_fix import ProxyFix


def install(app: Flask, *, trusted_proxies: int) -> None:
    """Take the client's address from `X-Forwarded-For`, behind this many trusted proxies."""
    if trusted_proxies:
        fixed = ProxyFix(
            app.wsgi_app, x_for=trusted_proxies, x_proto=0, x_host=0, x_port=0, x_prefix=0
        )
        app.wsgi_app = fixed  # type: ignore[method-assign]


def of(request: Request) -> str | None:
    """Return the client's address in canonical form, or None.

    A Unix socket has no address, and a proxy may pass on a value that is not an address.
    """
    try:
        address = ip_address(request.remote_addr or "")
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        # The zone of a link-local address, which may be any text, is removed.
        address = address.ipv4_mapped or IPv6Address(int(address))
    return str(address)
