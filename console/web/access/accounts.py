"""Checking of names and passwords, of people and of the login in the settings."""

import hmac
from dataclasses import dataclass, field
from datetime import timedelta

from flask import Request

from common.kombu_topology import CONSOLE
from console.access import logins, passwords, people
from console.access.logins import Limits
from console.access.models import Role
from console.access.rights import Person
from console.databases.service_database import pooled
from console.settings import ConsoleSettings
from console.web import csrf
from console.web.access import attempts
from console.web.access.attempts import Attempts
from eventbus.database.db import Sessions, transaction

#: Maximum number of connections to the console's database. A request uses a connection for about a
#: millisecond.
_POOL = 4


class TooManyAttempts(Exception):
    """Logins with this name or from this address have failed too often."""


@dataclass(frozen=True)
class Accounts:
    """The people who can log in to a console.

    The login of the settings is an administrator without a row in a table: it works while the
    console's database is unavailable. Methods raise `SQLAlchemyError` if they need the database.
    """

    settings: ConsoleSettings
    database: Sessions
    _attempts: Attempts = field(default_factory=Attempts)

    @classmethod
    def of(cls, settings: ConsoleSettings) -> "Accounts":
        """Return the people of a console; the database is accessed later."""
        return cls(settings, pooled(settings, CONSOLE, pool_size=_POOL))

    @property
    def fallback(self) -> Person:
        """The person of the login in the settings."""
        return Person(name=self.settings.console_user, role=Role.ADMIN)

    @property
    def limits(self) -> Limits:
        """The limits of a login in a browser."""
        return Limits(
            idle=timedelta(seconds=self.settings.console_login_idle),
            lifetime=timedelta(seconds=self.settings.console_login_lifetime),
        )

    def check(self, request: Request, name: str, password: str) -> Person | None:
        """Return the person with this name and password, or None.

        An unknown name and a wrong password take the same time. Raises `TooManyAttempts` after too
        many failures, even if the password is correct.
        """
        address = attempts.origin(request)
        # Failures of other clients must not block the emergency login, whose password has at least
        # 16 characters.
        counted = None if name == self.settings.console_user else name
        if self._attempts.are_exhausted(counted, address):
            raise TooManyAttempts
        if self._is_fallback(name, password):
            return self.fallback
        with transaction(self.database) as session:
            # A person with the name of the emergency login would be mistaken for that login.
            row = people.find(session, name) if counted else None
        # The password is checked outside the transaction, which would occupy a connection.
        is_right = passwords.is_right(password, row.password_hash if row else None)
        if is_right and row:
            return people.person_of(row)
        self._attempts.failed(name, address)
        return None

    def knows(self, name: str) -> bool:
        """Return whether this is the name of a person who can log in."""
        if name == self.settings.console_user:
            return True
        with transaction(self.database) as session:
            return people.find(session, name) is not None

    def start(self, token: str, person: Person) -> None:
        """Store a login in a browser under a new token."""
        name = None if person == self.fallback else person.name
        with transaction(self.database) as session:
            logins.start(session, self.hash_of(token), name, self.limits)

    def find(self, token: str, *, touch: bool) -> Person | None:
        """Return the person of a token, or None. `touch` records that the login is in use."""
        token_hash = self.hash_of(token)
        with transaction(self.database) as session:
            person = logins.find(session, token_hash, self.limits, otherwise=self.fallback)
            if person and touch:
                logins.touch(session, token_hash)
        return person

    def end(self, token: str) -> None:
        """End the login of a token."""
        with transaction(self.database) as session:
            logins.end(session, self.hash_of(token))

    def hash_of(self, token: str) -> bytes:
        """Return the stored form of a token. A new password in the settings ends all logins."""
        return hmac.digest(csrf.key(self.settings, "login"), token.encode(), "sha256")

    def _is_fallback(self, name: str, password: str) -> bool:
        expected = (self.settings.console_user, self.settings.console_password.get_secret_value())
        # Both are always compared, because the duration would otherwise reveal whether the name is
        # correct.
        matches = [
            hmac.compare_digest(one.encode(), other.encode(errors="replace"))
            for one, other in zip(expected, (name, password), strict=True)
        ]
        return all(matches)
