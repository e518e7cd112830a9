"""HTTP without TLS, to the programs of a system on this machine."""

import ssl
from typing import Any

import httpx

#: A TLS context that trusts no certificate. By default, each new client loads all public CA
#: certificates, which takes longer than its requests.
_NO_CERTIFICATES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client(**options: Any) -> httpx.Client:
    """Return a client with these options, which has no connection yet."""
    return httpx.Client(verify=_NO_CERTIFICATES, trust_env=False, **options)


def get(url: str, **options: Any) -> httpx.Response:
    """Request a page over a new connection."""
    return httpx.get(url, verify=_NO_CERTIFICATES, trust_env=False, **options)
