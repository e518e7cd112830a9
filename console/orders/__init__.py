"""Orders for operators: found by address, status and time, and followed through all services."""
