"""The operating system user who runs a command, recorded with each change."""

import getpass
import os


def operator_name() -> str:
    """Return the name of the operating system's user or, if it has none, the user's number."""
    try:
        # The environment may contain another encoding, which the databases do not store.
        return getpass.getuser().encode(errors="replace").decode()
    except (KeyError, OSError):
        # In a container, a user may have a number and no name.
        return f"uid {os.getuid()}"
