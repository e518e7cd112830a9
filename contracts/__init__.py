"""The contracts as documents; `make docs` generates them from the events and the topology."""
