"""Roles of PostgreSQL: for each database an owner that cannot log in, and the service's role."""

import base64
import hashlib
import hmac
import os
import re
from collections.abc import Iterator

from sqlalchemy import Connection, text

from console.databases.change import Change


def owner(connection: Connection, role: str) -> Iterator[Change]:
    """Yield the change that creates a role that owns objects and cannot log in."""
    query = text("SELECT rolcanlogin FROM pg_authid WHERE rolname = :role")
    can_login = connection.scalar(query, {"role": role})
    if can_login is None:
        yield Change(text=f"role {role}: created", statement=f"CREATE ROLE {role} NOLOGIN")
    elif can_login:
        yield Change(
            text=f"role {role}: login removed", statement=f"ALTER ROLE {role} NOLOGIN PASSWORD NULL"
        )


def login(connection: Connection, role: str, password: str) -> Iterator[Change]:
    """Yield the changes that create a role with a password and no administrative attributes."""
    query = text(
        "SELECT rolpassword, rolcanlogin,"
        " rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls AS powerful"
        " FROM pg_authid WHERE rolname = :role"
    )
    row = connection.execute(query, {"role": role}).one_or_none()
    if row is None:
        yield Change(text=f"role {role}: created", statement=_password("CREATE", role, password))
        return
    if not (row.rolcanlogin and _is_password(row.rolpassword, password)):
        statement = _password("ALTER", role, password)
        yield Change(text=f"role {role}: password changed", statement=statement)
    if row.powerful:
        attributes = "NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        yield Change(
            text=f"role {role}: administrative attributes removed",
            statement=f"ALTER ROLE {role} {attributes}",
        )


def _password(verb: str, role: str, password: str) -> str:
    # Only the verifier leaves this process: a statement may appear in the server's log.
    verifier = _verifier(password, salt=os.urandom(16), iterations=4096)
    return f"{verb} ROLE {role} LOGIN PASSWORD '{verifier}'"


def _is_password(verifier: str | None, password: str) -> bool:
    parts = re.fullmatch(r"SCRAM-SHA-256\$(\d+):([^$]+)\$.+", verifier or "")
    if not verifier or not parts:
        return False
    salt = base64.b64decode(parts[2])
    return hmac.compare_digest(verifier, _verifier(password, salt=salt, iterations=int(parts[1])))


def _verifier(password: str, *, salt: bytes, iterations: int) -> str:
    # RFC 5803, as PostgreSQL stores it in pg_authid.
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored_key = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    salt_64, stored_64, server_64 = (
        base64.b64encode(value).decode() for value in (salt, stored_key, server_key)
    )
    return f"SCRAM-SHA-256${iterations}:{salt_64}${stored_64}:{server_64}"
