"""Migrations create exactly the tables of the models, once, even if they run concurrently."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, MetaData, create_engine, pool, text

import analytics_worker.models
import fraud_worker.models
import inventory_worker.models
import notification_worker.models
import order_app.storage.models
from common.kombu_topology import FRAUD, SERVICES, SPAN_STORE
from common.kombu_topology import service as find
from eventbus.database import db, migrations
from eventbus.topology.service import Service
from testkit.servers.databases import TestDatabase
from testkit.versions.downgrade import downgrade

REPOSITORY = Path(__file__).parents[3]

DatabaseOf = Callable[[str], TestDatabase]

SERVICE_NAMES = [service.name for service in SERVICES]

#: The models of each service's own tables.
MODELS: dict[str, MetaData] = {
    "order": order_app.storage.models.Base.metadata,
    "inventory": inventory_worker.models.Base.metadata,
    "notification": notification_worker.models.Base.metadata,
    "fraud": fraud_worker.models.Base.metadata,
    "analytics": analytics_worker.models.Base.metadata,
}

#: The content of a schema: a text for each column, index and constraint.
_SCHEMA = text(
    """
    SELECT format('column %s.%s %s null=%s default=%s identity=%s comment=%s',
                  c.table_name, c.column_name, c.data_type, c.is_nullable, c.column_default,
                  c.identity_generation,
                  col_description(format('%I', c.table_name)::regclass, c.ordinal_position))
    FROM information_schema.columns c WHERE table_schema = 'public'
    UNION ALL
    SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL
    SELECT format('constraint %s %s %s', conrelid::regclass, conname, pg_get_constraintdef(oid))
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    ORDER BY 1
    """
)


_TRIGGERS = "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal ORDER BY 1"


def execute(url: URL, *statements: str) -> None:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def emptied(database: TestDatabase) -> URL:
    """Drop everything in a database, and return its URL."""
    execute(database.url, "DROP SCHEMA public CASCADE", "CREATE SCHEMA public")
    return database.url


def schema(url: URL) -> list[str]:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        descriptions = connection.scalars(_SCHEMA).all()
    return [text for text in descriptions if not re.search(r"\b(alembic|eventbus)_version", text)]


def revisions(service: Service) -> list[str]:
    """Return the service's own revisions, and then those of each of its library tables."""
    own = (REPOSITORY / service.package / "migrations" / "versions").glob("[0-9]*.py")
    library = REPOSITORY / "eventbus" / "migrations" / "versions"
    return [
        *sorted(path.name.split("_")[0] for path in own),
        *(p.stem for table in service.library_tables for p in sorted(library.glob(f"{table}_0*"))),
    ]


def test_every_service_is_covered() -> None:
    assert set(MODELS) == set(SERVICE_NAMES)


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_models_and_migrations_agree(database_of: DatabaseOf, service: str) -> None:
    assert migrations.check(find(service), database_of(service).url) == []


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_a_migrated_schema_equals_that_of_the_models(database_of: DatabaseOf, service: str) -> None:
    # Given a database that was created from the models
    created = emptied(database_of(service))
    engine = create_engine(created, poolclass=pool.NullPool)
    MODELS[service].create_all(engine)
    library = [db.metadata.tables[name] for name in find(service).library_tables]
    db.metadata.create_all(engine, tables=library)

    # When another is created by migrations
    migrated = database_of(service).url

    # Then both are equal; Alembic's comparison ignores checks, comments and constraint names
    assert schema(migrated) == schema(created)


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_a_difference_is_detected(database_of: DatabaseOf, service: str) -> None:
    # Given a column that the models do not have
    url = database_of(service).url
    execute(url, "ALTER TABLE inbox ADD COLUMN colour text")

    # When the models are compared
    ((kind, _, table, column),) = migrations.check(find(service), url)

    # Then the column is the difference
    assert (kind, table, column.name) == ("remove_column", "inbox", "colour")


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_a_second_upgrade_changes_nothing(database_of: DatabaseOf, service: str) -> None:
    # Given a migrated database
    url = database_of(service).url
    before = schema(url)

    # When it is upgraded again
    applied = migrations.upgrade(find(service), url)

    # Then the schema is the same
    assert applied == []
    assert schema(url) == before
    assert migrations.pending(find(service), url) == []


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_an_empty_database_gets_every_revision_in_order(
    database_of: DatabaseOf, service: str
) -> None:
    # Given an empty database
    expected = schema(database_of(service).url)
    url = emptied(database_of(service))
    assert migrations.pending(find(service), url) == revisions(find(service))
    assert schema(url) == []

    # When it is upgraded
    applied = migrations.upgrade(find(service), url)

    # Then every revision was applied
    assert applied == revisions(find(service)) != []
    assert schema(url) == expected


def test_only_one_of_several_concurrent_migrations_runs(database_of: DatabaseOf) -> None:
    # Given an empty database of each service
    expected = {service: schema(database_of(service).url) for service in SERVICE_NAMES}
    urls = {service: emptied(database_of(service)) for service in SERVICE_NAMES}

    # When three processes upgrade each of them (the context of Alembic is global to a process)
    with ThreadPoolExecutor(3) as threads:
        runs = list(threads.map(lambda _: upgrade_in_a_process(urls), range(3)))

    # Then one of them applied all revisions
    for service in SERVICE_NAMES:
        applied = sorted((run[service] for run in runs), key=len)
        assert applied == [[], [], revisions(find(service))]
        assert schema(urls[service]) == expected[service]


def upgrade_in_a_process(urls: dict[str, URL]) -> dict[str, list[str]]:
    """Upgrade databases, one after the other, and return each one's applied revisions."""
    program = (
        "import json, sys; from eventbus.database.migrations import upgrade; "
        "from common.kombu_topology import service; urls = json.load(sys.stdin); "
        "print(json.dumps({name: upgrade(service(name), url) for name, url in urls.items()}))"
    )
    databases = {name: url.render_as_string(hide_password=False) for name, url in urls.items()}
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=REPOSITORY,
        input=json.dumps(databases),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    applied: dict[str, list[str]] = json.loads(result.stdout)
    return applied


@pytest.mark.parametrize("service", SERVICE_NAMES)
def test_every_revision_can_be_reverted(database_of: DatabaseOf, service: str) -> None:
    # Given a migrated database
    url = database_of(service).url

    # When it is downgraded to its base
    downgrade(find(service), url, "base")

    # Then it is empty, and can be upgraded again
    assert schema(url) == []
    assert migrations.upgrade(find(service), url) == revisions(find(service))


def test_a_service_gets_the_tables_that_its_declaration_requires(database_of: DatabaseOf) -> None:
    # Given the database of a service without events
    url = database_of("trace").url
    assert library_tables(url) == set()

    # When it consumes events, and in a later release also publishes some
    consumer = replace(SPAN_STORE, consumes=("order.created",))
    assert migrations.upgrade(consumer, url) == [
        "inbox_0001",
        "operator_pause_0001",
        "operator_pause_0002",
        "suspects_0001",
        "parked_events_0001",
        "overflow_0001",
    ]
    publisher = replace(consumer, publishes=("trace.stored",))
    assert migrations.pending(publisher, url) == ["outbox_0001", "relay_state_0001"]
    assert migrations.upgrade(publisher, url) == ["outbox_0001", "relay_state_0001"]

    # Then it has all tables of the library, as the models define them
    assert library_tables(url) == set(publisher.library_tables)
    assert migrations.check(publisher, url) == []
    other = schema(database_of("fraud").url)
    assert [line for line in schema(url) if "outbox" in line] == [
        line for line in other if "outbox" in line
    ]
    assert rows(url, _TRIGGERS) == rows(database_of("fraud").url, _TRIGGERS) != []


def test_a_database_of_an_earlier_release_keeps_its_rows(database_of: DatabaseOf) -> None:
    # Given a database whose tables were all created by the service's own revisions
    url = database_of("fraud").url
    before = schema(url)
    execute(
        url, "DROP TABLE eventbus_version", "INSERT INTO suspects VALUES (gen_random_uuid(), 3)"
    )

    # When it is upgraded
    applied = migrations.upgrade(FRAUD, url)

    # Then the library's revisions are recorded, and have changed nothing
    firsts = [revision for revision in applied if revision.endswith("_0001")]
    assert firsts == [f"{table}_0001" for table in FRAUD.library_tables]
    assert schema(url) == before
    assert rows(url, "SELECT begun FROM suspects") == [3]


def library_tables(url: URL) -> set[str]:
    names = rows(url, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return set(names) & set(db.metadata.tables)


def rows(url: URL, query: str) -> list[Any]:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        return [*connection.scalars(text(query))]
