"""Load: orders, events and history."""
