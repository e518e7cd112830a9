"""A CSV file of stock levels, with the columns `sku` and `on_hand`."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from console.errors import ActionError
from eventbus.errors import ExpectedError
from inventory_worker.stock import check_on_hand, check_sku

_COLUMNS = ("sku", "on_hand")


def read(path: Path) -> dict[str, int]:
    """Return the stock on hand of each SKU in the file.

    Other columns and empty lines are ignored. Raises `ActionError` naming the file and the line
    of the first error.
    """
    pieces: dict[str, int] = {}
    lines: dict[str, int] = {}
    for line, sku, on_hand in _rows(path):
        if sku in lines:
            raise ActionError(f"{path}:{line}: sku {sku} is already in line {lines[sku]}")
        lines[sku] = line
        try:
            pieces[check_sku(sku)] = check_on_hand(_number(on_hand))
        except ExpectedError as error:
            raise ActionError(f"{path}:{line}: {error}") from None
    if not pieces:
        raise ActionError(f"{path}: contains no stock")
    return pieces


def _rows(path: Path) -> Iterator[tuple[int, str, str]]:
    reader = csv.reader(_text(path).splitlines(keepends=True), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        sku, on_hand = (_position(path, header, column) for column in _COLUMNS)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) != len(header):
                raise ActionError(
                    f"{path}:{reader.line_num}: {len(row)} columns, the header has {len(header)}"
                )
            yield reader.line_num, row[sku].strip(), row[on_hand].strip()
    except csv.Error as error:
        raise ActionError(f"{path}:{reader.line_num}: {error}") from None


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise ActionError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ActionError(f"{path}:{line}: is not UTF-8") from None


def _position(path: Path, header: list[str], column: str) -> int:
    if header.count(column) != 1:
        raise ActionError(
            f"{path}:1: must have the columns {','.join(_COLUMNS)} once, is {','.join(header)!r}"
        )
    return header.index(column)


def _number(text: str) -> int:
    # int() would also accept other forms, such as 1_000.
    if not re.fullmatch(r"-?[0-9]{1,30}", text):
        raise ActionError(f"on_hand is {text!r}: must be a whole number")
    return int(text)
