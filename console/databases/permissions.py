"""The owner of a database and its tables, and the permissions of the service's role."""

from collections.abc import Iterator

from sqlalchemy import Connection, text

from console.databases.change import Change
from eventbus.database.migrations import LIBRARY_VERSION, SERVICE_VERSION

#: Permissions of the service's role by the kind of relation. They concern rows, but not table
#: definitions.
_TABLE, _VIEW, _SEQUENCE = ("DELETE", "INSERT", "SELECT", "UPDATE"), ("SELECT",), ("USAGE",)

#: The permissions by `pg_class.relkind`.
_BY_KIND = {"S": _SEQUENCE, "v": _VIEW, "m": _VIEW}

#: Tables on which the service's role has fewer permissions. It can read but not change the applied
#: revisions, and it can add lines to the audit log, but not change or delete them.
_BY_NAME = {
    SERVICE_VERSION: _VIEW,
    LIBRARY_VERSION: _VIEW,
    "audit_log": ("INSERT", "SELECT"),
}

_OWNED = text(
    """
    SELECT EXISTS (
        SELECT FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
        JOIN pg_database b ON b.datname = current_database()
        WHERE d.refclassid = 'pg_authid'::regclass AND d.deptype = 'o' AND r.rolname = :role
        AND (d.dbid = b.oid OR d.classid = 'pg_database'::regclass AND d.objid = b.oid)
    )
    """
)

# A server may contain databases of several installations, which share the roles. REASSIGN OWNED
# would also change the owner of the other databases, and lock out their processes.
_REASSIGN = """
DO $$
DECLARE
    other name;
    others name[] := ARRAY(
        SELECT datname FROM pg_database
        WHERE pg_get_userbyid(datdba) = '{role}' AND datname <> current_database()
    );
BEGIN
    -- Later queries wait behind a lock that waits: fail early, and be run again.
    PERFORM set_config('lock_timeout', '5s', true);
    REASSIGN OWNED BY {role} TO {owner};
    FOREACH other IN ARRAY others LOOP
        EXECUTE 'ALTER DATABASE ' || quote_ident(other) || ' OWNER TO {role}';
    END LOOP;
END $$
"""

_RIGHTS = text(
    """
    SELECT c.relname AS name, c.relkind::text AS kind,
        ARRAY(
            SELECT a.privilege_type FROM aclexplode(c.relacl) a
            WHERE a.grantee = to_regrole(:role) ORDER BY 1
        ) AS rights
    FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
    ORDER BY c.relname
    """
)

_DEFAULTS = text(
    """
    SELECT count(*) FROM pg_default_acl d, aclexplode(d.defaclacl) a
    WHERE d.defaclrole = to_regrole(:owner) AND a.grantee = to_regrole(:role)
    AND d.defaclnamespace = 'public'::regnamespace
    """
)


def ownership(connection: Connection, database: str, *, owner: str, role: str) -> Iterator[Change]:
    """Yield the changes that give a database to its owner, and access to the service's role.

    `connection` is an administrator's connection to that database. Each change is one transaction,
    so running processes always have their permissions. New tables receive the permissions
    automatically.
    """
    if connection.scalar(_OWNED, {"role": role}):
        grants = [
            _REASSIGN.format(role=role, owner=owner),
            f"GRANT CONNECT ON DATABASE {database} TO {role}",
            f"GRANT {', '.join(_TABLE)} ON ALL TABLES IN SCHEMA public TO {role}",
            f"GRANT {', '.join(_SEQUENCE)} ON ALL SEQUENCES IN SCHEMA public TO {role}",
        ]
        yield Change(
            text=f"database {database}: objects of role {role} transferred to role {owner}",
            statement=";\n".join(grants),
        )
    connect = text("SELECT has_database_privilege(:role, :database, 'CONNECT')")
    if not connection.scalar(connect, {"role": role, "database": database}):
        yield Change(
            text=f"database {database}: access granted to role {role}",
            statement=f"GRANT CONNECT ON DATABASE {database} TO {role}",
        )
    if connection.scalar(_DEFAULTS, {"owner": owner, "role": role}) != len(_TABLE + _SEQUENCE):
        prefix = f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public"
        yield Change(
            text=f"database {database}: access to new tables granted to role {role}",
            statement=(
                f"{prefix} GRANT {', '.join(_TABLE)} ON TABLES TO {role};"
                f"{prefix} GRANT {', '.join(_SEQUENCE)} ON SEQUENCES TO {role}"
            ),
        )


def rights(connection: Connection, database: str, *, role: str) -> Iterator[Change]:
    """Yield the changes that give the service's role exactly its permissions on each table."""
    for name, kind, actual in connection.execute(_RIGHTS, {"role": role}).all():
        wanted = _BY_NAME.get(name, _BY_KIND.get(kind, _TABLE))
        if tuple(actual) != wanted:
            object_type, listed = "SEQUENCE" if kind == "S" else "TABLE", ", ".join(wanted)
            yield Change(
                text=f"database {database}: {listed} on {name} granted to role {role}",
                statement=(
                    f'REVOKE ALL ON {object_type} "{name}" FROM {role};'
                    f'GRANT {listed} ON {object_type} "{name}" TO {role}'
                ),
            )
