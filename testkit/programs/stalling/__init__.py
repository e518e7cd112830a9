"""Processes that stall when the test sends a signal."""
