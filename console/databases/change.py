"""A change to a PostgreSQL server, and the statement that makes it."""

from dataclasses import dataclass

from sqlalchemy import Connection


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change that this release requires; without a statement, it is left to the operator."""

    text: str
    #: One or more statements, which PostgreSQL runs in one transaction.
    statement: str | None = None

    def make(self, connection: Connection) -> None:
        """Run the statement. Raises the database's errors; then nothing is changed."""
        if self.statement:
            # Names come from the code and verifiers are base64: nothing here needs quoting.
            connection.exec_driver_sql(self.statement)
