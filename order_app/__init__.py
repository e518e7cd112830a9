"""The order service: accepts orders over HTTP and maintains their status."""
