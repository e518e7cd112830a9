"""The users that own the processes and files of a local run."""

import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy.local.problem import Problem


@dataclass(frozen=True)
class Account:
    """A user of this machine; only the user and root can read what it owns."""

    name: str
    uid: int
    gid: int

    def directory(self, path: Path) -> Path:
        """Create a directory that only this user can enter; return its path."""
        path.mkdir(parents=True, exist_ok=True)
        self._own(path, 0o700)
        return path

    def file(self, path: Path, text: str, mode: int = 0o600) -> Path:
        """Write a file that only this user can read, atomically; return its path."""
        partial = path.with_name(f"{path.name}.partial")
        partial.unlink(missing_ok=True)
        partial.touch(0o600)
        partial.write_text(text)
        self._own(partial, mode)
        return partial.replace(path)

    def subprocess_arguments(self) -> dict[str, Any]:
        """Return the arguments that make `subprocess.run` run as this user."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def _own(self, path: Path, mode: int) -> None:
        if path.stat().st_uid != self.uid:
            os.chown(path, self.uid, self.gid)
        path.chmod(mode)


def invoking() -> Account:
    """Return the user that runs this command."""
    return Account(name_of(os.geteuid()), os.geteuid(), os.getegid())


def name_of(uid: int) -> str:
    """Return a user's name, or the id of a user without a name."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def unprivileged(name: str) -> Account:
    """Return the invoking user or, if that is root, this user: servers refuse to run as root.

    Raises `Problem` if the user does not exist.
    """
    if os.geteuid() != 0:
        return invoking()
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise Problem(f"the user {name} is missing; its Debian package creates it") from None
    return Account(name, entry.pw_uid, entry.pw_gid)
