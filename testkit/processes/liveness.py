"""Whether a process has exited."""

from pathlib import Path


def is_running(pid: int) -> bool:
    """Return whether a process is still running; a zombie counts as exited."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
