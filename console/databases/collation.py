"""The collation of a database: by code point, independent of the system's C library."""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, text

#: Options for CREATE DATABASE. An administrator may have changed template1, but not template0;
#: PostgreSQL's default provider may be ICU, which `LC_COLLATE` alone does not replace.
OPTIONS = "TEMPLATE template0 ENCODING 'UTF8' LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"

#: Collations of the C library that compare code points, as PostgreSQL spells them.
_CODE_POINTS = {"C", "POSIX", "C.UTF-8", "C.utf8", "C.UTF8"}

_QUERY = text(
    "SELECT datcollate, datlocprovider::text AS provider, datcollversion,"
    " pg_database_collation_actual_version(oid) AS actual"
    " FROM pg_database WHERE datname = :name"
)


@dataclass(frozen=True, kw_only=True)
class Collation:
    """A database's collation, with its versions at the database's creation and now."""

    name: str
    #: The provider, as in `pg_database`: `c` is the C library, `i` is ICU, `b` is PostgreSQL
    #: itself.
    provider: str
    created_with: str | None
    runs_with: str | None

    @property
    def is_by_code_point(self) -> bool:
        """Whether text is sorted as in Python, with any version of the server's libraries."""
        return self.provider == "b" or (self.provider == "c" and self.name in _CODE_POINTS)


def of(connection: Connection, database: str) -> Collation | None:
    """Return the collation of a database, or None if the database does not exist."""
    row = connection.execute(_QUERY, {"name": database}).one_or_none()
    if row is None:
        return None
    return Collation(
        name=row.datcollate,
        provider=row.provider,
        created_with=row.datcollversion,
        runs_with=row.actual,
    )


def problems(connection: Connection, database: str) -> Iterator[str]:
    """Yield the problems of a database's collation, which do not stop the database."""
    found = of(connection, database)
    if found is None or found.is_by_code_point:
        return
    yield (
        f"database {database}: its collation is {found.name}, not C;"
        " see docs/operations/databases-and-backups.md#collation"
    )
    if found.created_with != found.runs_with:
        yield (
            f"database {database}: created with version {found.created_with} of its collation,"
            f" runs with {found.runs_with}: its text indexes may be corrupt; REINDEX it"
        )
