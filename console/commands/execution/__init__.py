"""The execution of every command: its declared effect, the read-only mode, JSON and completion."""
