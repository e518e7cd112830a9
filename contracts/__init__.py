"""The contracts as documents; `make docs` writes them from the events and the topology."""
