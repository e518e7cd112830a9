"""Processes that a signal of the test stalls."""
