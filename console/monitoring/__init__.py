"""Prometheus and traces, as the web console reads them."""
