"""A change to a PostgreSQL server, and the statement that makes it."""

from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change that this release requires. A change without a statement is left to the operator."""

    text: str
    #: One or more statements, which PostgreSQL runs in one transaction.
    statement: str | None = None

    def make(self, connection: Connection) -> None:
        """Run the statement. If it fails, raise the database's error and change nothing."""
        if self.statement:
            # Names come from the code and verifiers are base64, so quoting is not required.
            connection.exec_driver_sql(self.statement)
