"""Addresses of interchangeable servers: `host` or `host:port`, separated by commas.

An IPv6 address is enclosed in brackets, `[::1]` or `[::1]:5671`, because it contains colons.
"""

import re
from contextlib import suppress
from ipaddress import IPv6Address
from typing import Annotated

from pydantic import AfterValidator

_ADDRESS = re.compile(
    r"(?:(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])"
    r"(?::(?P<port>\d{1,5}))?"
)


def addresses(hosts: str, port: int) -> tuple[tuple[str, int], ...]:
    """Return the host and port of each address; `port` is the default.

    Hosts are without brackets, as in sockets and certificates. Raises `ValueError` for an invalid
    address, without quoting it.
    """
    parts = [part.strip() for part in hosts.split(",")]
    matches = [_ADDRESS.fullmatch(part) for part in parts]
    pairs = tuple((m["host"] or _ipv6(m["ipv6"]), int(m["port"] or port)) for m in matches if m)
    valid = all(host and 0 < number < 2**16 for host, number in pairs)
    if len(pairs) < len(parts) or not valid:
        raise ValueError("each must be HOST, HOST:PORT or [IPV6]:PORT, separated by commas")
    return pairs


def in_url(host: str) -> str:
    """Return a host in the form that URLs require: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def _ipv6(text: str) -> str:
    with suppress(ValueError):
        return str(IPv6Address(text))
    return ""


def _checked(hosts: str) -> str:
    addresses(hosts, 1)
    return hosts


#: One or more addresses.
Hosts = Annotated[str, AfterValidator(_checked)]
