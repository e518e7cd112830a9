"""Proxies and clients below the protocols."""
