"""The order service, which accepts orders over HTTP and tracks their status."""
