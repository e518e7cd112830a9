"""`orderctl database` and `orderctl stock` on a real database."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import URL, create_engine, pool, text
from sqlalchemy.exc import OperationalError

from console.errors import ActionError
from console.orderctl import main
from console.settings import DatabaseSettings, load_operator
from console.stock import csv_file
from testkit.servers.databases import service_url


def orderctl(env: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env=env)


@pytest.fixture
def applied(migrated_env: dict[str, str]) -> dict[str, str]:
    """The environment of migrated databases."""
    return migrated_env


@pytest.fixture
def inventory_url(applied: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> URL:
    for name, value in applied.items():
        monkeypatch.setenv(name, value)
    return service_url(load_operator(DatabaseSettings), "inventory")


def execute(url: URL, statement: str) -> None:
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.begin() as connection:
        connection.execute(text(statement))


def levels(env: dict[str, str]) -> dict[str, int]:
    result = orderctl(env, "stock", "show", "--json")
    return {level["sku"]: level["on_hand"] for level in json.loads(result.stdout)}


def assert_rejected(result: Result, *parts: str) -> None:
    assert (result.exit_code, result.stdout) == (1, "")
    assert all(part in result.stderr for part in parts), result.stderr
    assert result.stderr.count("\n") == 1


def test_a_second_database_apply_changes_nothing(operator_env: dict[str, str]) -> None:
    first = orderctl(operator_env, "database", "apply")
    assert first.exit_code == 0, first.output

    result = orderctl(operator_env, "database", "apply")

    assert (result.exit_code, result.stdout) == (0, "databases: nothing to change\n")


def test_a_database_is_closed_to_other_services(
    applied: dict[str, str], inventory_url: URL
) -> None:
    assert orderctl(applied, "database", "apply").exit_code == 0
    order_url = service_url(load_operator(DatabaseSettings), "order")

    with pytest.raises(OperationalError, match="permission denied"):
        execute(order_url.set(database=inventory_url.database), "SELECT 1")


def test_no_stock_is_an_empty_list(applied: dict[str, str]) -> None:
    assert json.loads(orderctl(applied, "stock", "show", "--json").stdout) == []


def test_stock_is_set_added_to_and_shown(applied: dict[str, str]) -> None:
    orderctl(applied, "stock", "set", "TEA", "5")
    orderctl(applied, "stock", "add", "TEA", "3")
    orderctl(applied, "stock", "add", "CUP", "1")

    shown = orderctl(applied, "stock", "show", "TEA", "--json")

    assert json.loads(shown.stdout) == [{"sku": "TEA", "on_hand": 8, "reserved": 0, "available": 8}]
    assert levels(applied) == {"CUP": 1, "TEA": 8}
    assert "TEA" in orderctl(applied, "stock", "show").stdout


def test_an_unknown_sku_is_an_error(applied: dict[str, str]) -> None:
    assert_rejected(orderctl(applied, "stock", "show", "NOPE"), "NOPE")


@pytest.mark.parametrize("pieces", ["-1", "1.5", "many", "1000000000001"])
def test_an_invalid_quantity_is_rejected(pieces: str) -> None:
    result = orderctl({}, "stock", "set", "TEA", "--", pieces)

    assert result.exit_code == 64
    assert pieces in result.stderr
    assert result.stderr.count("\n") == 1


def test_an_invalid_sku_is_rejected(applied: dict[str, str]) -> None:
    assert_rejected(orderctl(applied, "stock", "set", "GREEN TEA", "1"), "GREEN TEA")


@pytest.mark.parametrize(
    "content",
    [
        b"sku,on_hand\nTEA,5\nCUP,0\n",
        b"\xef\xbb\xbfsku,on_hand\r\nTEA,5\r\nCUP,0\r\n",
        b'on_hand,note,SKU\n5,"two\nlines",TEA\n\n0,,CUP',
    ],
    ids=["plain", "bom-crlf", "other-columns"],
)
def test_a_stock_file_is_read(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "stock.csv"
    file.write_bytes(content)

    assert csv_file.read(file) == {"TEA": 5, "CUP": 0}


@pytest.mark.parametrize(
    ("content", "place", "part"),
    [
        (b"", ":1:", "sku,on_hand"),
        (b"sku,on_hand\n", ":", "contains no stock"),
        (b"sku,quantity\nTEA,5\n", ":1:", "on_hand"),
        (b"sku;on_hand\nTEA;5\n", ":1:", "sku,on_hand"),
        (b"sku,on_hand\nTEA,5\nCUP,-1\n", ":3:", "-1"),
        (b"sku,on_hand\nTEA,5\nCUP,many\n", ":3:", "many"),
        (b"sku,on_hand\nTEA,5\nCUP,1_0\n", ":3:", "1_0"),
        (b"sku,on_hand\nTEA,5\nCUP,\n", ":3:", "''"),
        (b"sku,on_hand\nTEA,5\nCUP,99999999999999999999\n", ":3:", "99999999999999999999"),
        (b"sku,on_hand\nTEA,5\n,1\n", ":3:", "sku is ''"),
        (b"sku,on_hand\nTEA,5\nCUP\n", ":3:", "1 columns"),
        (b"sku,on_hand\nTEA,5\nTEA,6\n", ":3:", "already in line 2"),
        (b"sku,on_hand\nTEA,5\nC\xff,6\n", ":3:", "UTF-8"),
        (b"sku,on_hand\nTEA,5\nC\x00P,6\n", ":3:", "sku is"),
        (b'sku,on_hand\nTEA,5\n"CUP,6\n', ":3:", "end of data"),
    ],
)
def test_a_rejected_stock_file_names_the_line(
    tmp_path: Path, content: bytes, place: str, part: str
) -> None:
    file = tmp_path / "stock.csv"
    file.write_bytes(content)

    with pytest.raises(ActionError) as error:
        csv_file.read(file)

    assert str(error.value).startswith(f"{file}{place}")
    assert part in str(error.value)


def test_no_line_of_a_rejected_stock_file_is_applied(
    applied: dict[str, str], tmp_path: Path
) -> None:
    file = tmp_path / "stock.csv"
    file.write_text("sku,on_hand\nTEA,5\nCUP,-1\n")

    assert_rejected(orderctl(applied, "stock", "import", str(file)), f"{file}:3:", "-1")
    assert levels(applied) == {}


def test_a_large_stock_file_is_imported_in_batches(applied: dict[str, str], tmp_path: Path) -> None:
    file = tmp_path / "stock.csv"
    file.write_text("sku,on_hand\n" + "".join(f"SKU-{n},{n}\n" for n in range(2_500)))

    result = orderctl(applied, "stock", "import", str(file))

    assert (result.exit_code, result.stderr) == (0, "")
    assert levels(applied) == {f"SKU-{n}": n for n in range(2_500)}


def test_an_unreachable_database_is_reported_in_one_line(operator_env: dict[str, str]) -> None:
    env = operator_env | {"DATABASE_HOST": "127.0.0.1", "DATABASE_PORT": "1"}

    assert_rejected(orderctl(env, "stock", "show"), "PostgreSQL")


def test_a_missing_setting_is_named(operator_env: dict[str, str], tmp_path: Path) -> None:
    empty = tmp_path / "empty.env"
    empty.touch()

    result = orderctl({"ORDERS_ENV_FILE": str(empty)}, "stock", "show")

    assert result.exit_code == 1
    assert "SECRETS_DIR" in result.output
