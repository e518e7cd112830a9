"""The HTTP server of the API, the console and the span store, and the rules for their requests."""
