"""The termination of a process whose loop no longer makes progress."""

import logging
import os
from contextlib import suppress
from threading import Thread
from typing import NoReturn

#: Maximum seconds to write the last line. If the reader of standard output has stopped, which may
#: also be why the loop stopped, a write to the full pipe never returns.
_LINE_LIMIT = 1.0


def terminate(log: logging.Logger, message: str, **line: object) -> NoReturn:
    """Log a last line and end the process, even if the line cannot be written.

    `line` contains additional arguments of `log.critical`. The end is immediate: a hung step may
    hold any lock that an orderly exit would wait for. Its uncommitted work is rolled back.
    """
    # If the system refuses to start a thread, the line is not written.
    with suppress(Exception):
        writer = Thread(target=log.critical, args=(message,), kwargs=line, daemon=True)
        writer.start()
        writer.join(_LINE_LIMIT)
    os._exit(os.EX_SOFTWARE)
