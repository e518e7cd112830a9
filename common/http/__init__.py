"""The HTTP server of the API, the console and the span store, with the rules of its edge."""
