"""Processes whose event loop stands still while a test wants it."""
