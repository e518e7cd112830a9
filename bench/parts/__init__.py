"""The parts of `make bench`, each measured against the usual way."""
