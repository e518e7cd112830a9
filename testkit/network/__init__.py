"""Proxies, servers and clients that work on bytes, below the protocols."""
