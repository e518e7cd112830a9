"""A record of the calls to some functions, by every process of a system, in one file.

Each call appends one line before the function runs. Appending a line is atomic, and an event
reaches another process only after the calls that publish it, so the lines are in the order of the
calls.
"""

import os
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from deploy.local import REPOSITORY

_FILE, _FUNCTIONS = "CALL_RECORD_FILE", "CALL_RECORD_FUNCTIONS"


@dataclass(frozen=True)
class CallRecord:
    """A file, and the functions whose calls it contains.

    A function is `path:name`, such as `eventbus/loop.py:Loop.start`.
    """

    file: Path
    functions: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables of a program whose calls are recorded."""
        return {_FILE: str(self.file), _FUNCTIONS: ",".join(self.functions)}

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "CallRecord | None":
        """Return the record that a program's environment variables require, if any."""
        if _FILE not in environment:
            return None
        return cls(Path(environment[_FILE]), tuple(environment[_FUNCTIONS].split(",")))

    def begin(self) -> None:
        """Record the calls of this thread, and of later threads and forks, from now on."""
        wanted = set(self.functions)
        names = {function.rpartition(":")[2].rpartition(".")[2] for function in wanted}
        file = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

        def trace(frame: FrameType, _event: str, _argument: object) -> None:
            # This function is called with each call of a Python function. It returns None, because
            # lines are not traced.
            code = frame.f_code
            if code.co_name in names:
                path = code.co_filename.removeprefix(f"{REPOSITORY}/")
                if (function := f"{path}:{code.co_qualname}") in wanted:
                    os.write(file, f"{function}\n".encode())

        threading.settrace(trace)
        sys.settrace(trace)

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record the calls of this thread, and of threads that it starts, during the block."""
        previous = sys.gettrace()
        self.begin()
        try:
            yield
        finally:
            sys.settrace(previous)
            threading.settrace(previous)

    def calls(self) -> list[str]:
        """Return the functions that were called, in the order of the calls."""
        return self.file.read_text().splitlines()


def assert_called_in_order(functions: Iterable[str], calls: Iterable[str]) -> None:
    """Require that the calls contain these functions in this order, among other calls."""
    later = iter(calls)
    for function in functions:
        assert function in later, f"{function} is not called after the function before it"
