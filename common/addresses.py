"""Addresses of servers of which any one will do: `host` or `host:port`, with commas between."""

import re
from typing import Annotated

from pydantic import AfterValidator

_ADDRESS = re.compile(
    r"(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)(?::(?P<port>\d{1,5}))?"
)


def addresses(hosts: str, port: int) -> tuple[tuple[str, int], ...]:
    """Return host and port of each; `port` is that of those who name none.

    Raises `ValueError` for what is no address, without showing it.
    """
    found = [_ADDRESS.fullmatch(part.strip()) for part in hosts.split(",")]
    pairs = tuple((m["host"], int(m["port"] or port)) for m in found if m)
    if len(pairs) < len(found) or not all(0 < number < 2**16 for _, number in pairs):
        raise ValueError("each must be HOST or HOST:PORT, with commas between")
    return pairs


def _checked(hosts: str) -> str:
    addresses(hosts, 1)
    return hosts


#: One address or several.
Hosts = Annotated[str, AfterValidator(_checked)]
