"""Management of API keys, with the order service's own permissions."""

from collections.abc import Sequence

from common.kombu_topology import ORDER
from console.databases.service_database import transaction
from console.errors import ActionError
from console.settings import DatabaseSettings
from order_app.storage import api_keys
from order_app.storage.api_keys import ApiKey, Scope


def create(settings: DatabaseSettings, name: str, scopes: Sequence[Scope]) -> str:
    """Create a key and return it; it cannot be read later. Raises `ActionError` on a bad name."""
    try:
        with transaction(settings, ORDER) as session:
            return api_keys.create(session, name, scopes)
    except ValueError as error:
        raise ActionError(str(error)) from None


def register(settings: DatabaseSettings, key: str, name: str, scopes: Sequence[Scope]) -> bool:
    """Store an existing key; return whether it is new. Raises `ActionError` if it is invalid."""
    try:
        with transaction(settings, ORDER) as session:
            return api_keys.register(session, key, name, scopes)
    except ValueError as error:
        raise ActionError(str(error)) from None


def show(settings: DatabaseSettings) -> list[ApiKey]:
    """Return every key that was ever created, oldest first, without its secret."""
    with transaction(settings, ORDER) as session:
        return api_keys.all_keys(session)


def revoke(settings: DatabaseSettings, prefix: str) -> ApiKey:
    """Revoke a key permanently and return it. Raises `UnknownKey`."""
    with transaction(settings, ORDER) as session:
        return api_keys.revoke(session, prefix)
