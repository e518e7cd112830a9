"""Migrations create exactly the tables of the models, once, even if they run concurrently."""

import json
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import URL, MetaData, Table, create_engine, pool, text

import analytics_worker.models
import fraud_worker.models
import inventory_worker.models
import notification_worker.models
import order_app.storage.models
from common.kombu_topology import SERVICES
from eventbus.catch_up.overflow import overflow
from eventbus.consumer.inbox import inbox
from eventbus.consumer.operator_pause import operator_pause
from eventbus.consumer.parked_events import parked_events
from eventbus.consumer.poison import suspects
from eventbus.database import db, migrations
from eventbus.outbox.table import outbox, relay_state
from testkit.servers.databases import TestDatabase
from testkit.versions.downgrade import downgrade

REPOSITORY = Path(__file__).parents[3]

DatabaseOf = Callable[[str], TestDatabase]

#: The tables of each service: its own, and the shared ones that it uses.
PACKAGES = {service.name: service.package for service in SERVICES}

TABLES: dict[str, tuple[MetaData, list[Table]]] = {
    "order": (
        order_app.storage.models.Base.metadata,
        [outbox, inbox, relay_state, suspects, operator_pause, parked_events],
    ),
    "inventory": (
        inventory_worker.models.Base.metadata,
        [outbox, inbox, relay_state, suspects, operator_pause, parked_events],
    ),
    "notification": (
        notification_worker.models.Base.metadata,
        [inbox, suspects, operator_pause, parked_events, overflow],
    ),
    "fraud": (
        fraud_worker.models.Base.metadata,
        [outbox, inbox, relay_state, suspects, operator_pause, parked_events, overflow],
    ),
    "analytics": (analytics_worker.models.Base.metadata, [inbox]),
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
    return [description for description in descriptions if "alembic_version" not in description]


def revisions(package: str) -> list[str]:
    folder = REPOSITORY / package / "migrations" / "versions"
    return sorted(path.name.split("_")[0] for path in folder.glob("[0-9]*.py"))


def test_every_service_is_covered() -> None:
    assert set(TABLES) == set(PACKAGES)


@pytest.mark.parametrize("service", PACKAGES)
def test_models_and_migrations_agree(database_of: DatabaseOf, service: str) -> None:
    assert migrations.check(PACKAGES[service], database_of(service).url) == []


@pytest.mark.parametrize("service", PACKAGES)
def test_a_migrated_schema_equals_that_of_the_models(database_of: DatabaseOf, service: str) -> None:
    # Given a database that was created from the models
    own, common = TABLES[service]
    created = emptied(database_of(service))
    engine = create_engine(created, poolclass=pool.NullPool)
    own.create_all(engine)
    db.metadata.create_all(engine, tables=common)

    # When another is created by migrations
    migrated = database_of(service).url

    # Then both are equal; Alembic's comparison ignores checks, comments and constraint names
    assert schema(migrated) == schema(created)


@pytest.mark.parametrize("service", PACKAGES)
def test_a_difference_is_detected(database_of: DatabaseOf, service: str) -> None:
    # Given a column that the models do not have
    url = database_of(service).url
    execute(url, "ALTER TABLE inbox ADD COLUMN colour text")

    # When the models are compared
    ((kind, _, table, column),) = migrations.check(PACKAGES[service], url)

    # Then the column is the difference
    assert (kind, table, column.name) == ("remove_column", "inbox", "colour")


@pytest.mark.parametrize("service", PACKAGES)
def test_a_second_upgrade_changes_nothing(database_of: DatabaseOf, service: str) -> None:
    # Given a migrated database
    url = database_of(service).url
    before = schema(url)

    # When it is upgraded again
    applied = migrations.upgrade(PACKAGES[service], url)

    # Then the schema is the same
    assert applied == []
    assert schema(url) == before
    assert migrations.pending(PACKAGES[service], url) == []


@pytest.mark.parametrize("service", PACKAGES)
def test_an_empty_database_gets_every_revision_in_order(
    database_of: DatabaseOf, service: str
) -> None:
    # Given an empty database
    expected = schema(database_of(service).url)
    url = emptied(database_of(service))
    assert migrations.pending(PACKAGES[service], url) == revisions(PACKAGES[service])
    assert schema(url) == []

    # When it is upgraded
    applied = migrations.upgrade(PACKAGES[service], url)

    # Then every revision was applied
    assert applied == revisions(PACKAGES[service]) != []
    assert schema(url) == expected


def test_only_one_of_several_concurrent_migrations_runs(database_of: DatabaseOf) -> None:
    # Given an empty database of each service
    expected = {service: schema(database_of(service).url) for service in PACKAGES}
    urls = {service: emptied(database_of(service)) for service in PACKAGES}

    # When three processes upgrade each of them (the context of Alembic is global to a process)
    with ThreadPoolExecutor(3) as threads:
        runs = list(threads.map(lambda _: upgrade_in_a_process(urls), range(3)))

    # Then one of them applied all revisions
    for service, package in PACKAGES.items():
        applied = sorted((run[service] for run in runs), key=len)
        assert applied == [[], [], revisions(package)]
        assert schema(urls[service]) == expected[service]


def upgrade_in_a_process(urls: dict[str, URL]) -> dict[str, list[str]]:
    """Upgrade databases, one after the other, and return each one's applied revisions."""
    program = (
        "import json, sys; from eventbus.database import migrations; "
        "print(json.dumps({s: migrations.upgrade(*db) for s, db in json.load(sys.stdin).items()}))"
    )
    databases = {
        service: (PACKAGES[service], url.render_as_string(hide_password=False))
        for service, url in urls.items()
    }
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


@pytest.mark.parametrize("service", PACKAGES)
def test_every_revision_can_be_reverted(database_of: DatabaseOf, service: str) -> None:
    # Given a migrated database
    url = database_of(service).url

    # When it is downgraded to its base
    downgrade(PACKAGES[service], url, "base")

    # Then it is empty, and can be upgraded again
    assert schema(url) == []
    assert migrations.upgrade(PACKAGES[service], url) == revisions(PACKAGES[service])
