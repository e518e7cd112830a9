"""The real processes, started, stopped and killed."""
