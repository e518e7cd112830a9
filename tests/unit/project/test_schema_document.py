"""The document of the database schema lists every table and column of every database."""

import re

import pytest

from common.kombu_topology import DATABASES
from eventbus.topology.service import Service
from tests.support.database_schema import columns, library_tables, own_tables
from tests.support.documents import quoted, rows, section, text

DOCUMENT = "docs/schema.md"

#: The headings of the databases whose names differ from those of the services.
_HEADINGS = {"fraud": "Fraud check", "trace": "Span store"}

SECTIONS = {
    **{_HEADINGS.get(each.name, each.name.capitalize()): own_tables(each) for each in DATABASES},
    "Tables of the library": library_tables(),
}


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_document_of_the_schema_lists_each_column_with_its_type(heading: str) -> None:
    # Given the tables of the models
    tables = {table.name: columns(table) for table in SECTIONS[heading]}

    # When the tables in the document are collected
    _, *parts = section(DOCUMENT, f"## {heading}").split("\n### ")
    listed = {
        part.partition("\n")[0]: [(quoted(name)[0], kind) for name, kind, _ in list(rows(part))[1:]]
        for part in parts
    }

    # Then they are the same
    assert listed == tables


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_document_of_the_schema_names_the_file_of_each_table(heading: str) -> None:
    for part in section(DOCUMENT, f"## {heading}").split("\n### ")[1:]:
        table = part.partition("\n")[0]
        file = re.search(r"Defined\sin\s`([^`]+)`\.", part)
        assert file is not None, table
        assert f'"{table}"' in text(file[1]), table


@pytest.mark.parametrize("service", DATABASES, ids=lambda service: service.name)
def test_the_document_of_the_schema_lists_the_tables_of_each_database(service: Service) -> None:
    # Given the rows of the databases
    listed = {quoted(row[0])[0]: row[1:] for row in list(rows(text(DOCUMENT)))[1:] if len(row) == 4}

    # When the row of a database is read
    own, library, migrations = map(quoted, listed[f"{service.name}_service"])

    # Then it has the service's and the library's tables, and the folder of the revisions
    assert own == [table.name for table in own_tables(service)]
    assert library == list(service.library_tables)
    assert migrations == [f"{service.package}/migrations/"]
