"""Stock movements are append-only and sum to the level; a count accepts any stock."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError
from uuid_utils.compat import uuid7

from common.events import StockRejected
from common.kombu_topology import INVENTORY
from console.orderctl import main
from console.settings import DatabaseSettings, load_operator
from eventbus.database import db, migrations
from eventbus.database.db import Sessions, transaction
from inventory_worker import stock_import
from testkit.data.warehouse import Warehouse
from testkit.servers.databases import Databases, TestDatabase, service_url
from testkit.versions.downgrade import downgrade

Orderctl = Callable[..., Result]


@pytest.fixture
def orderctl(migrated_env: dict[str, str]) -> Orderctl:
    """`orderctl` on migrated databases."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, arguments, env=migrated_env)

    return run


@pytest.fixture
def warehouse(
    orderctl: Orderctl, operator_env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Warehouse]:
    """The inventory that `orderctl` changes."""
    for name, value in operator_env.items():
        monkeypatch.setenv(name, value)
    url = service_url(load_operator(DatabaseSettings), "inventory")
    engine = create_engine(url)
    yield Warehouse(db.sessions(engine))
    engine.dispose()


def moves(orderctl: Orderctl, sku: str) -> list[dict[str, Any]]:
    """Return the movements of a SKU, the oldest first."""
    newest_first: list[dict[str, Any]] = json.loads(
        orderctl("stock", "movements", sku, "--json").stdout
    )
    return newest_first[::-1]


def test_every_change_of_a_level_is_a_movement(orderctl: Orderctl, warehouse: Warehouse) -> None:
    # Given received stock and two orders
    orderctl("stock", "receive", "TEA", "20", "--reason", "delivery", "--reference", "DN-1")
    kept, cancelled = warehouse.created(TEA=3), warehouse.created(TEA=2)

    # When one order is cancelled, one is shipped, and stock is corrected and counted
    warehouse.handle(kept, cancelled, warehouse.cancelled(cancelled), warehouse.shipped(kept))
    orderctl("stock", "correct", "TEA", "-1", "--reason", "broken")
    orderctl("stock", "count", "TEA", "15", "--reason", "annual count")

    # Then each change is a movement, and their sum is the level
    movements = [(m["kind"], m["on_hand"], m["reserved"]) for m in moves(orderctl, "TEA")]
    assert sorted(movements) == sorted(
        [
            ("receive", 20, 0),
            ("reserve", 0, 3),
            ("reserve", 0, 2),
            ("release", 0, -2),
            ("ship", -3, -3),
            ("correct", -1, 0),
            ("count", -1, 0),
        ]
    )
    assert warehouse.level("TEA") == (15, 0)
    assert sum(on_hand for _, on_hand, _ in movements) == 15
    assert orderctl("stock", "check").exit_code == 0


def test_a_movement_records_its_reason_reference_and_author(
    orderctl: Orderctl, warehouse: Warehouse
) -> None:
    orderctl("stock", "receive", "TEA", "20", "--reason", "delivery", "--reference", "DN-1")
    order = warehouse.created(TEA=3)
    warehouse.handle(order)

    received, reserved = moves(orderctl, "TEA")

    assert (received["reason"], received["reference"]) == ("delivery", "DN-1")
    assert received["by"]
    assert reserved["reference"] == str(order.subject)


def test_a_document_entered_twice_has_one_effect(orderctl: Orderctl, warehouse: Warehouse) -> None:
    for command, pieces in (("receive", "20"), ("count", "7"), ("correct", "-2")):
        arguments = ("stock", command, "TEA", pieces, "--reason", "r", "--reference", "DOC-1")
        assert orderctl(*arguments).exit_code == 0
        level = warehouse.level("TEA")

        repeated = orderctl(*arguments)

        assert repeated.exit_code == 0
        assert "nothing changed" in repeated.stdout
        assert warehouse.level("TEA") == level


def test_a_changed_document_is_rejected(orderctl: Orderctl) -> None:
    orderctl("stock", "receive", "TEA", "20", "--reference", "DN-1")

    rejected = orderctl("stock", "receive", "TEA", "21", "--reference", "DN-1")

    assert rejected.exit_code == 1
    assert "DN-1" in rejected.stderr
    assert json.loads(orderctl("stock", "show", "--json").stdout)[0]["on_hand"] == 20


def test_a_count_below_the_reserved_stock_names_affected_orders(
    orderctl: Orderctl, warehouse: Warehouse
) -> None:
    # Given three orders of two units each
    orderctl("stock", "receive", "TEA", "6")
    orders = [warehouse.created(TEA=2) for _ in range(3)]
    warehouse.handle(*orders)

    # When a count finds stock for one of them
    counted = orderctl("stock", "count", "TEA", "3", "--reason", "annual count")

    # Then the two newest orders are named
    assert counted.exit_code == 0, counted.stderr
    assert "3 on hand, 6 reserved, -3 available" in counted.stdout
    assert "available is -3: 3 units of 2 orders cannot be delivered" in counted.stdout
    named = [str(order.subject) in counted.stdout for order in orders]
    assert named == [False, True, True]


def test_no_stock_is_available_after_a_count_below_the_reserved(
    orderctl: Orderctl, warehouse: Warehouse
) -> None:
    orderctl("stock", "receive", "TEA", "6")
    warehouse.handle(warehouse.created(TEA=6))
    orderctl("stock", "count", "TEA", "1")
    late = warehouse.created(TEA=1)

    warehouse.handle(late)

    (answer,) = warehouse.events_about(late)
    assert isinstance(answer.data, StockRejected)
    assert [(s.requested, s.available) for s in answer.data.shortages] == [(1, 0)]


def test_a_count_agrees_after_a_shipment(orderctl: Orderctl, warehouse: Warehouse) -> None:
    orderctl("stock", "set", "SHIP", "10")
    order = warehouse.created(SHIP=10)
    warehouse.handle(order)

    warehouse.handle(warehouse.shipped(order))
    counted = orderctl("stock", "set", "SHIP", "0")

    assert counted.stdout == "SHIP: 0 on hand, 0 reserved, 0 available\n"


def test_an_import_with_a_short_line_counts_all_other_lines(
    orderctl: Orderctl, warehouse: Warehouse, tmp_path: Path
) -> None:
    orderctl("stock", "receive", "TEA", "6")
    warehouse.handle(warehouse.created(TEA=3))
    file = tmp_path / "stock.csv"
    file.write_text("sku,on_hand\nTEA,2\nCUP,9\n")

    result = orderctl("stock", "import", str(file))

    assert result.exit_code == 0, result.stderr
    assert "TEA: 2 on hand, 3 reserved, -1 available" in result.stdout
    assert (warehouse.level("TEA"), warehouse.level("CUP")) == ((2, 3), (9, 0))
    assert orderctl("stock", "check").exit_code == 0


def test_an_import_repeated_under_its_reference_has_no_effect(
    orderctl: Orderctl, warehouse: Warehouse, tmp_path: Path
) -> None:
    # Given an import, followed by a shipment
    file = tmp_path / "stock.csv"
    file.write_text("sku,on_hand\nTEA,10\n")
    orderctl("stock", "import", str(file), "--reference", "C-1")
    order = warehouse.created(TEA=4)
    warehouse.handle(order, warehouse.shipped(order))

    # When the import is repeated
    assert orderctl("stock", "import", str(file), "--reference", "C-1").exit_code == 0

    # Then it does not count the shipped goods again
    assert warehouse.level("TEA") == (6, 0)
    file.write_text("sku,on_hand\nTEA,11\n")
    assert "C-1" in orderctl("stock", "import", str(file), "--reference", "C-1").stderr


def test_a_failed_import_resumes_under_its_reference(
    orderctl: Orderctl, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given an import of two chunks, of which the second waits for a lock
    monkeypatch.setattr(stock_import, "CHUNK", 2)
    warehouse.receive(A=1, B=1, C=1, D=1)
    file = tmp_path / "stock.csv"
    file.write_text("sku,on_hand\nD,9\nC,9\nB,9\nA,9\n")
    command = ("stock", "import", str(file), "--reference", "C-1")
    blocker = warehouse.sessions()
    blocker.execute(text("SELECT FROM stock WHERE sku = 'D' FOR UPDATE"))

    # When it fails, and goods are shipped
    failed = orderctl(*command)
    blocker.rollback()
    order = warehouse.created(A=4)
    warehouse.handle(order, warehouse.shipped(order))

    # Then it reports its progress, and a repetition completes it
    assert failed.exit_code == 1
    assert "2 of 4 SKUs were counted, all up to B" in failed.stderr
    assert "--reference C-1" in failed.stderr
    assert orderctl(*command).exit_code == 0
    assert [warehouse.level(sku) for sku in "ABCD"] == [(5, 0), (9, 0), (9, 0), (9, 0)]
    assert warehouse.differences() == []


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE stock_entries SET on_hand = 1",
        "DELETE FROM stock_entries",
        "UPDATE reservation_lines SET quantity = 1",
        "DELETE FROM reservation_lines",
        "DELETE FROM reservations",
        "UPDATE reservations SET created_at = now()",
        "UPDATE reservations SET status = 'CANCELLED'",
    ],
)
def test_the_database_rejects_changes_to_a_movement(
    inventory_database: Sessions, statement: str
) -> None:
    warehouse = Warehouse(inventory_database)
    warehouse.receive(TEA=5)
    warehouse.handle(warehouse.created(TEA=2))

    with pytest.raises(IntegrityError), transaction(inventory_database) as session:
        session.execute(text(statement))


def test_a_migrated_stock_level_gets_an_opening_movement(databases: Databases) -> None:
    with databases.fresh() as database_of:
        # Given a database of the previous release, with reservations in each state
        database: TestDatabase = database_of("inventory")
        engine = db.engine(database.service_settings)
        downgrade(INVENTORY, database.url, "0005")
        ids: list[UUID] = [uuid7() for _ in range(3)]
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO stock VALUES ('TEA', 10, 4), ('CUP', 3, 0)"))
            for order_id, status in zip(ids, ("RESERVED", "RELEASED", "REJECTED"), strict=True):
                values = {"id": order_id, "status": status}
                connection.execute(
                    text("INSERT INTO reservations (order_id, status) VALUES (:id, :status)"),
                    values,
                )
            for order_id in ids[:2]:
                connection.execute(
                    text("INSERT INTO reservation_lines VALUES (:id, 'TEA', 4)"), {"id": order_id}
                )

        # When it is upgraded
        assert migrations.upgrade(INVENTORY, database.url)[:2] == ["0006", "0007"]

        # Then the level has an opening movement, and all sums agree
        warehouse = Warehouse(db.sessions(engine))
        assert warehouse.differences() == []
        movements = warehouse.movements("TEA")
        assert [(m.kind, m.on_hand, m.reserved) for m in movements if m.kind == "opening"] == [
            ("opening", 10, 0)
        ]
        assert sum(m.reserved for m in movements) == 4
        engine.dispose()
