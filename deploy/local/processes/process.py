"""What the supervisor must know about one process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import REPOSITORY
from deploy.local.processes.health import Check
from deploy.local.servers.account import Account, invoking


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that is kept alive, with all that is needed to start, judge and stop it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: What is wrong with it, or None; asked only while it runs.
    check: Check
    #: Variable that sets it, to port: everything it listens on.
    ports: Mapping[str, int] = field(default_factory=dict)
    directory: Path = REPOSITORY
    #: Files and directories of its last run that would mislead this one; deleted before a start.
    transient: tuple[Path, ...] = ()
    account: Account = field(default_factory=invoking)
    #: Where a person looks at it.
    url: str = ""
    stop_signal: str = "TERM"
    #: Seconds between asking it to stop and killing it.
    stop_seconds: int = 20
