"""Limits on failed logins, counted in this process."""

from ipaddress import IPv6Address, ip_address, ip_network

from flask import Request
from throttled import MemoryStore, RateLimiterType, Throttled, rate_limiter

from order_app.http import client_address

#: Limit of failed logins with one name: ten in succession, to allow for typing errors, and then one
#: per minute.
_OF_A_NAME = rate_limiter.per_min(1, burst=10)

#: Limit of failed logins from one address, which all people in an office may share.
_OF_AN_ADDRESS = rate_limiter.per_min(3, burst=30)

#: Seconds after which a refused client may log in again.
WAIT = 60


class Attempts:
    """The failed logins of each name and each address, in memory of a bounded size."""

    def __init__(self) -> None:
        self._names, self._addresses = _limiter(_OF_A_NAME), _limiter(_OF_AN_ADDRESS)

    def are_exhausted(self, name: str | None, address: str) -> bool:
        """Return whether logins with a name or from an address have failed too often.

        Without a name, only the address counts.
        """
        if name is not None and self._names.peek(_key(name)).remaining <= 0:
            return True
        return self._addresses.peek(_key(address)).remaining <= 0

    def failed(self, name: str, address: str) -> None:
        """Count a failed login."""
        self._names.limit(_key(name))
        self._addresses.limit(_key(address))


def origin(request: Request) -> str:
    """Return the client's address or, for IPv6, the /64 network, which belongs to one client."""
    address = client_address.of(request) or ""
    if address and isinstance(ip_address(address), IPv6Address):
        return str(ip_network(f"{address}/64", strict=False))
    return address


def _key(value: str) -> str:
    # The key of the limit must not be empty, and no name is longer than this.
    return f"of {value[:100]}"


def _limiter(quota: rate_limiter.Quota) -> Throttled:
    return Throttled(using=RateLimiterType.GCRA.value, quota=quota, store=MemoryStore())
