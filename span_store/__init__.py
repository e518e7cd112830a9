"""The store for the spans of a local run: an OTLP/HTTP receiver in front of a table."""
