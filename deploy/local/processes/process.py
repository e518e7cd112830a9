"""The description of one process for the supervisor."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local import REPOSITORY
from deploy.local.processes.health import Check, runs
from deploy.local.servers.account import Account, invoking


@dataclass(frozen=True, kw_only=True)
class Process:
    """A supervised process, with everything that is needed to start, check and stop it."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    #: A function that returns the problem of the process, or None; called only while it runs.
    check: Check
    #: A function that returns the remark of the process while it is healthy, or None.
    remark: Check = runs
    #: Every port on which it listens, by the variable that sets the port.
    ports: Mapping[str, int] = field(default_factory=dict)
    directory: Path = REPOSITORY
    #: Files and directories of its last run that would mislead the next; deleted before a start.
    transient: tuple[Path, ...] = ()
    account: Account = field(default_factory=invoking)
    #: The address for a browser.
    url: str = ""
    stop_signal: str = "TERM"
    #: Seconds between the stop signal and the kill.
    stop_seconds: int = 20
