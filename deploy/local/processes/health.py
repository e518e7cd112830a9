"""How to tell that a process does its work: a check returns what is wrong, or None."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import psycopg2

from eventbus import tls

Check = Callable[[], str | None]

#: Seconds a check may take before the process counts as unhealthy.
PATIENCE = 2.0

#: Seconds after which a worker that did not touch its health file counts as unhealthy.
HEARTBEAT = 10.0


def runs() -> str | None:
    """Find nothing wrong: for a process that the supervisor alone can judge."""
    return None


def answers(
    url: str, user: str | None = None, password: str = "", *, ca_file: Path | None = None
) -> Check:
    """Return a check that an HTTP server answers 200 here; `ca_file` signs an HTTPS server's."""

    def check() -> str | None:
        try:
            auth = httpx.BasicAuth(user, password) if user else None
            trust = tls.http_context(ca_file) if ca_file else False
            response = httpx.get(url, auth=auth, timeout=PATIENCE, trust_env=False, verify=trust)
        except httpx.HTTPError:
            return "does not answer"
        return None if response.status_code == httpx.codes.OK else f"HTTP {response.status_code}"

    return check


def beats(file: Path) -> Check:
    """Return a check that a worker has touched its health file lately, and is ready.

    The file's text is `ready`, or what keeps the worker from working; of one without, its age
    tells all.
    """

    def check() -> str | None:
        try:
            age, state = time.time() - file.stat().st_mtime, file.read_text().strip()
        except FileNotFoundError:
            return "no heartbeat yet"
        # Either way: a file from the future is one that a clock has stepped away from, and proves
        # nothing until it is touched again.
        if abs(age) >= HEARTBEAT:
            return f"last heartbeat {age:.0f} s ago"
        return None if state in ("", "ready") else state

    return check


def accepts_connections(port: int, user: str, password: str, *, ca_file: Path) -> Check:
    """Return a check that PostgreSQL lets this user in, over TLS."""

    def check() -> str | None:
        try:
            psycopg2.connect(
                host="127.0.0.1",
                port=port,
                user=user,
                password=password,
                dbname="postgres",
                connect_timeout=int(PATIENCE),
                **tls.database_options(ca_file),
            ).close()
        except psycopg2.OperationalError as error:
            lines = str(error).strip().splitlines()
            return lines[-1].strip() if lines else "does not answer"
        return None

    return check
