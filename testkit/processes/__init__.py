"""The real processes, and their parts within a test's process."""
