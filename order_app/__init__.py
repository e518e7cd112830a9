"""The order service, which accepts orders over HTTP and maintains their status."""
