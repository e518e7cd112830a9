"""Makes, registers, shows and revokes the keys to the API, with the order service's own rights."""

from collections.abc import Sequence

from common.kombu_topology import ORDER
from console.databases.service_database import transaction
from console.errors import ActionError
from console.settings import DatabaseSettings
from order_app.storage import api_keys
from order_app.storage.api_keys import ApiKey, Scope


def create(settings: DatabaseSettings, name: str, scopes: Sequence[Scope]) -> str:
    """Make a key and return it: nobody can read it later. Raises `ActionError` for a bad name."""
    try:
        with transaction(settings, ORDER) as session:
            return api_keys.create(session, name, scopes)
    except ValueError as error:
        raise ActionError(str(error)) from None


def register(settings: DatabaseSettings, key: str, name: str, scopes: Sequence[Scope]) -> bool:
    """Store a key that exists; return whether it is new. Raises `ActionError` for a wrong one."""
    try:
        with transaction(settings, ORDER) as session:
            return api_keys.register(session, key, name, scopes)
    except ValueError as error:
        raise ActionError(str(error)) from None


def show(settings: DatabaseSettings) -> list[ApiKey]:
    """Return every key there ever was, oldest first, without its secret."""
    with transaction(settings, ORDER) as session:
        return api_keys.all_keys(session)


def revoke(settings: DatabaseSettings, prefix: str) -> ApiKey:
    """Make a key useless for ever and return it. Raises `UnknownKey`."""
    with transaction(settings, ORDER) as session:
        return api_keys.revoke(session, prefix)
