"""Backups of one service's database, taken while its processes run, and restored without them."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import URL, create_engine, pool, text

from console.settings import owner_name
from deploy.local.servers.database import programs


@dataclass(frozen=True)
class Backup:
    """The content of a database at one moment."""

    service: str
    url: URL
    file: Path

    @classmethod
    def of(cls, service: str, url: URL, directory: Path) -> "Backup":
        """Dump a database with `pg_dump`, while processes use it."""
        file = directory / f"{service}.dump"
        _run("pg_dump", url, "--format=custom", f"--file={file}", str(url.database))
        return cls(service, url, file)

    def restore(self) -> None:
        """Replace the database with the backup, and end all connections to it."""
        self.lose()
        _run("pg_restore", self.url, f"--dbname={self.url.database}", str(self.file))

    def lose(self) -> None:
        """Replace the database with an empty database without tables."""
        name, server = self.url.database, self.url.set(database="postgres")
        engine = create_engine(server, poolclass=pool.NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
            owner = owner_name(self.service)
            connection.execute(
                text(f"CREATE DATABASE {name} TEMPLATE template0 LOCALE 'C' OWNER {owner}")
            )


def _run(program: str, url: URL, *arguments: str) -> None:
    environment = {
        "PGHOST": str(url.host),
        "PGPORT": str(url.port),
        "PGUSER": str(url.username),
        "PGPASSWORD": str(url.password),
        **{f"PG{name.upper()}": str(value) for name, value in url.query.items() if "ssl" in name},
    }
    command = [str(programs() / program), *arguments]
    subprocess.run(command, check=True, env=os.environ | environment)
