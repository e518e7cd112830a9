"""The number of pages that statements read, which does not depend on the machine's load."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.event import listen, remove

from eventbus.database.db import Sessions, engine_of


@contextmanager
def counted(sessions: Sessions) -> Iterator[list[int]]:
    """Count the pages that each statement in the block reads, by running it a second time."""
    engine = engine_of(sessions)
    pages: list[int] = []

    def explain(_c: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.lstrip().upper().startswith(("SELECT", "WITH", "DELETE")):
            return
        cursor.execute("SAVEPOINT explained")
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}", parameters or None)
        explained = cursor.fetchone()[0]
        cursor.execute("ROLLBACK TO SAVEPOINT explained")
        document = explained if isinstance(explained, list) else json.loads(explained)
        plan = document[0]["Plan"]
        pages.append(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])

    listen(engine, "before_cursor_execute", explain)
    try:
        yield pages
    finally:
        remove(engine, "before_cursor_execute", explain)
